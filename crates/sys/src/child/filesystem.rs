//! What the child does to its mount table and file tree. Paths are resolved by
//! the kernel inside the root the child has pivoted to; magic links are never
//! followed, as they lead to descriptors of the host.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree,
};

use super::run::{Result, check};

pub(super) fn propagation(path: &CStr, flags: u64) -> Result<()> {
    let none: *const c_char = std::ptr::null();
    // SAFETY: a change of propagation reads the target path only.
    check(unsafe { libc::syscall(libc::SYS_mount, none, path.as_ptr(), none, flags, none) })
}

/// Attaches the root over `/`, makes it the root and lets go of the old one.
///
/// Both in one: as long as the old root is stacked on the new one, `/..` leads
/// to it. Source: pivot_root(2), "pivot_root(".", ".")".
pub(super) fn pivot_to(mount: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = fs::open(c"/", flags, Mode::empty())?;
    attach(mount, old.as_fd())?;
    rustix::process::fchdir(mount)?;
    rustix::process::pivot_root(c".", c".")?;
    rustix::process::fchdir(&old)?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

/// A new file system instance, not attached yet.
pub(super) fn make_mount(
    filesystem: &CStr,
    parameters: &[(CString, Option<CString>)],
    attributes: u32,
) -> Result<OwnedFd> {
    let context = fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in parameters {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_c_str(), value.as_c_str())?,
            None => fsconfig_set_flag(&context, key.as_c_str())?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// An empty directory that stays so, to hide another.
pub(super) fn empty_directory() -> Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"mode", c"755")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

pub(super) fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<()> {
    move_mount(
        tree,
        c"",
        at,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

pub(super) fn clone_tree(of: BorrowedFd<'_>) -> Result<OwnedFd> {
    open_tree(
        of,
        c"",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )
}

pub(super) fn open_target(path: &CStr, no_symlinks: bool) -> Result<OwnedFd> {
    let mut resolve = ResolveFlags::NO_MAGICLINKS;
    if no_symlinks {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    fs::openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )
}

/// Changes directory, but never through a magic link: `/proc/self/fd/7` is a
/// directory of the host while this child still has descriptors
/// (CVE-2024-21626).
pub(super) fn change_directory(path: &CStr) -> Result<()> {
    rustix::process::fchdir(open_directory(CWD, path)?)
}

fn open_directory(at: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::openat2(at, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

/// The part of a prefix that the one before it does not have.
fn last_name(prefix: &CStr, parent_length: usize) -> Result<&CStr> {
    // Skips the slash, of which the root's own is the only one not before a name.
    let bytes = prefix
        .to_bytes_with_nul()
        .get(parent_length + 1..)
        .ok_or(Errno::INVAL)?;
    CStr::from_bytes_with_nul(bytes).map_err(|_| Errno::INVAL)
}

pub(super) fn make_dirs(prefixes: &[CString]) -> Result<()> {
    let Some(last) = prefixes.last() else {
        return Ok(());
    };
    match open_directory(CWD, last) {
        Err(Errno::NOENT) => {}
        // It is there; whether it can be entered is seen when it is used.
        Ok(_) | Err(Errno::ACCESS) => return Ok(()),
        Err(e) => return Err(e),
    }
    let mut parent = open_directory(CWD, c"/")?;
    let mut parent_length = 0;
    for prefix in prefixes {
        let name = last_name(prefix, parent_length)?;
        match fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A read-only file system: what is there need not be made.
            Err(Errno::ROFS) if fs::statat(&parent, name, AtFlags::empty()).is_ok() => {}
            Err(e) => return Err(e),
        }
        parent = open_directory(parent.as_fd(), name)?;
        parent_length = prefix.to_bytes().len();
    }
    Ok(())
}

/// Makes an empty file in a directory that [`make_dirs`] has made.
pub(super) fn make_file(prefixes: &[CString]) -> Result<()> {
    let Some((path, parents)) = prefixes.split_last() else {
        return Err(Errno::INVAL);
    };
    match open_target(path, false) {
        Err(Errno::NOENT) => {}
        other => return other.map(drop),
    }
    make_dirs(parents)?;
    let parent = parents.last().map_or(c"/", CString::as_c_str);
    let parent_length = parents.last().map_or(0, |p| p.to_bytes().len());
    let parent = open_directory(CWD, parent)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o755);
    fs::openat(&parent, last_name(path, parent_length)?, flags, mode).map(drop)
}

pub(super) fn make_device(path: &CStr, mode: u32, device: u64, uid: u32, gid: u32) -> Result<()> {
    let kind = FileType::from_raw_mode(mode);
    let bits = Mode::from_raw_mode(mode & 0o7777);
    match fs::mknodat(CWD, path, kind, bits, device) {
        Ok(()) => {}
        Err(Errno::EXIST) => return same_device(path, kind, device),
        Err(e) => return Err(e),
    }
    // The umask was subtracted above.
    fs::chmodat(CWD, path, bits, AtFlags::empty())?;
    let owner = Some(rustix::process::Uid::from_raw(uid));
    let group = Some(rustix::process::Gid::from_raw(gid));
    fs::chownat(CWD, path, owner, group, AtFlags::SYMLINK_NOFOLLOW)
}

/// Something that is there already serves only if it is that very device.
fn same_device(path: &CStr, kind: FileType, device: u64) -> Result<()> {
    let stat = fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    let numbered = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let same =
        FileType::from_raw_mode(stat.st_mode) == kind && (!numbered || stat.st_rdev == device);
    if same { Ok(()) } else { Err(Errno::EXIST) }
}
