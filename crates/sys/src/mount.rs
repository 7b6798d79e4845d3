//! Detached copies of mounts, and mount_setattr(2), which rustix lacks.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const AT_RECURSIVE: u32 = 0x8000;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Changes attributes and propagation (`MS_PRIVATE`, …; 0 leaves it) of a
/// mount, attached or not.
///
/// Errors: `EINVAL` for attributes the mount's file system refuses, `ENOSYS`
/// before Linux 5.12. Source: mount_setattr(2).
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    set_attributes_at(mount, c"", set, clear, propagation, recursive, true)
}

pub(crate) fn set_attributes_at(
    at: BorrowedFd<'_>,
    path: &CStr,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
    empty_path: bool,
) -> Result<(), Errno> {
    let attributes = MountAttr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: 0,
    };
    let mut flags = 0;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    if empty_path {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    call(at, path, flags, &attributes)
}

/// Maps the owners of a detached mount through a user namespace
/// (`MOUNT_ATTR_IDMAP`). Source: mount_setattr(2), "ID-mapped mounts".
pub fn set_idmap(
    mount: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    let recursive = if recursive { AT_RECURSIVE } else { 0 };
    call(
        mount,
        c"",
        recursive | libc::AT_EMPTY_PATH as u32,
        &attributes,
    )
}

fn call(at: BorrowedFd<'_>, path: &CStr, flags: u32, attr: &MountAttr) -> Result<(), Errno> {
    // SAFETY: path is a C string and attr a struct of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            std::mem::size_of::<MountAttr>(),
        )
    };
    if result < 0 {
        Err(crate::last_errno())
    } else {
        Ok(())
    }
}

/// A detached copy of the mount tree at a path: what a bind mount attaches.
///
/// `recursive` takes the mounts below along (`rbind`). Source: open_tree(2).
pub fn clone_tree(at: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(at, path, flags)
}

/// A detached copy of what is at `path` in `base`, found without leaving `base`
/// by `..` or a link, whoever changes it meanwhile.
///
/// Errors: `XDEV` where the path leads out, and those of openat2(2) and open_tree(2).
pub fn clone_beneath(base: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    let found = loop {
        match rustix::fs::openat2(&base, path, flags, Mode::empty(), resolve) {
            // Some rename or mount on the machine crossed a "..".
            Err(Errno::AGAIN) if tries < 64 => tries += 1,
            result => break result?,
        }
    };
    clone_tree(found, c"", recursive)
}
