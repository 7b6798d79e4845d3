//! Walking and removing directory trees of any depth.
//!
//! A container can nest directories deeper than a path can name and than the
//! process has descriptors. So a walk holds one descriptor and a stack of
//! names, goes up by `..`, and checks that it arrived where it came from.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a directory by one name, never through a symbolic link.
pub(crate) fn open_directory(
    parent: impl AsFd,
    name: impl rustix::path::Arg,
) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// Opens a directory by a path that cannot leave `root`, not through a
/// symbolic link at its end.
pub(crate) fn open_directory_in(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), resolve)
}

/// Removes whatever is at a path of the host, with everything below; nothing
/// there is fine. Only the end of the path may be a stranger's.
pub fn remove_path(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    match rustix::fs::open(parent, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => Ok(()),
        parent => Ok(remove(parent?.as_fd(), name.as_bytes())?),
    }
}

/// Removes whatever `name` is, with everything below; nothing there is fine.
pub fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let top = open_directory(parent, name)?;
    descend(
        top,
        &mut |directory, name, kind| match kind {
            FileType::Directory => Ok(()),
            _ => rustix::fs::unlinkat(directory, name, AtFlags::empty()),
        },
        &mut |parent, name| rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR),
    )?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Shows everything below `top` with its status, directories before their
/// content. What vanishes meanwhile is left out; `ESTALE` when a directory is
/// moved away under the walk.
pub fn walk(top: OwnedFd, visit: &mut dyn FnMut(&Stat)) -> Result<(), Errno> {
    descend(
        top,
        &mut |directory, name, _| {
            match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) => visit(&status),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
            Ok(())
        },
        &mut |_, _| Ok(()),
    )
}

/// Shows everything below `top` by the directory it is in, its name and kind.
pub(crate) fn visit(
    top: OwnedFd,
    visit: &mut dyn FnMut(BorrowedFd<'_>, &CStr, FileType) -> Result<(), Errno>,
) -> Result<(), Errno> {
    descend(top, visit, &mut |_, _| Ok(()))
}

type Enter<'a> = dyn FnMut(BorrowedFd<'_>, &CStr, FileType) -> Result<(), Errno> + 'a;
type Leave<'a> = dyn FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno> + 'a;

/// One directory on the way down.
struct Level {
    identity: (u64, u64),
    /// Its directories still to be visited.
    left: Vec<CString>,
    /// The one being visited.
    inside: Option<CString>,
}

impl Level {
    /// Reads a directory: `enter` sees each entry, then its directories wait.
    fn read(directory: &OwnedFd, enter: &mut Enter<'_>) -> Result<Self, Errno> {
        let status = rustix::fs::fstat(directory)?;
        let mut left = Vec::new();
        for_each(directory.as_fd(), &mut |name, kind| {
            enter(directory.as_fd(), name, kind)?;
            if kind == FileType::Directory {
                left.push(name.to_owned());
            }
            Ok(())
        })?;
        Ok(Self {
            identity: (status.st_dev, status.st_ino),
            left,
            inside: None,
        })
    }
}

fn descend(top: OwnedFd, enter: &mut Enter<'_>, leave: &mut Leave<'_>) -> Result<(), Errno> {
    let mut stack = vec![Level::read(&top, enter)?];
    let mut current = top;
    while let Some(level) = stack.last_mut() {
        if let Some(name) = level.left.pop() {
            match open_directory(&current, &*name) {
                Ok(child) => {
                    let below = Level::read(&child, enter)?;
                    level.inside = Some(name);
                    stack.push(below);
                    current = child;
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error),
            }
            continue;
        }
        stack.pop();
        let Some(above) = stack.last_mut() else {
            break;
        };
        current = open_directory(&current, "..")?;
        let status = rustix::fs::fstat(&current)?;
        if (status.st_dev, status.st_ino) != above.identity {
            return Err(Errno::STALE);
        }
        let name = above
            .inside
            .take()
            .expect("a level above another knows which");
        leave(current.as_fd(), &name)?;
    }
    Ok(())
}

/// Shows the entries of one directory with their kinds, without `.` and `..`.
pub(crate) fn for_each(
    directory: BorrowedFd<'_>,
    show: &mut dyn FnMut(&CStr, FileType) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut buffer: Vec<u8> = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(status.st_mode)
            }
            kind => kind,
        };
        show(name, kind)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_deeper_than_descriptors_and_paths_allow_is_walked_and_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let base = open_directory(rustix::fs::CWD, temporary.path()).unwrap();
        rustix::fs::mkdirat(&base, "top", Mode::RWXU).unwrap();
        let mut current = open_directory(&base, "top").unwrap();
        let depth = 3000;
        for _ in 0..depth {
            rustix::fs::mkdirat(&current, "d", Mode::RWXU).unwrap();
            current = open_directory(&current, "d").unwrap();
        }
        drop(current);
        let mut seen = 0;
        walk(open_directory(&base, "top").unwrap(), &mut |_| seen += 1).unwrap();
        assert_eq!(seen, depth);
        remove(base.as_fd(), b"top").unwrap();
        assert!(!temporary.path().join("top").exists());
    }

    #[test]
    fn removal_does_not_follow_links_and_forgives_what_is_missing() {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir_all(temporary.path().join("gone/a/b")).unwrap();
        fs::create_dir(temporary.path().join("kept")).unwrap();
        fs::write(temporary.path().join("kept/file"), b"x").unwrap();
        std::os::unix::fs::symlink("../../kept", temporary.path().join("gone/a/link")).unwrap();
        std::os::unix::fs::symlink("kept", temporary.path().join("link")).unwrap();
        let base = open_directory(rustix::fs::CWD, temporary.path()).unwrap();
        for name in [&b"gone"[..], b"link", b"never-was"] {
            remove(base.as_fd(), name).unwrap();
        }
        let left: Vec<_> = fs::read_dir(temporary.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["kept"]);
        assert!(temporary.path().join("kept/file").exists());
    }
}
