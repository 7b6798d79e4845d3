//! The layer between image and container: mount points and files that every
//! container needs and an image may lack or have as something else.
//!
//! What is here is not the container's doing, so `diff` and `commit` compare
//! with this layer and do not show it. The same names as Docker's (its
//! `daemon/initlayer`), because bind mounts of `/etc/hosts` and its siblings
//! need a file to cover, not a symbolic link into the image.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::{metadata, tree};

#[derive(Clone, Copy)]
enum Wanted {
    Directory,
    File,
    Symlink(&'static str),
}

/// At most one directory deep, parents in order.
const WANTED: [(&str, Wanted); 10] = [
    (".dockerenv", Wanted::File),
    ("dev/console", Wanted::File),
    ("dev/pts", Wanted::Directory),
    ("dev/shm", Wanted::Directory),
    ("etc/hostname", Wanted::File),
    ("etc/hosts", Wanted::File),
    ("etc/mtab", Wanted::Symlink("/proc/mounts")),
    ("etc/resolv.conf", Wanted::File),
    ("proc", Wanted::Directory),
    ("sys", Wanted::Directory),
];

/// Something of the init layer could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path} in the init layer")]
pub struct Error {
    action: &'static str,
    path: &'static str,
    source: Errno,
}

/// Fills the new layer `out` with what the image seen in `view` lacks; both
/// are root directories opened for reading. `out` is empty, or a copy of the
/// image for a driver whose layers are whole.
///
/// A directory that the image has and that must be repeated in `out`, because
/// something goes into it, gets the image's owner, mode, attributes and times,
/// so that the merged one does not change. Nothing here follows a symbolic
/// link: an image whose `/etc` is one gets a directory instead, as in Docker.
pub fn build(view: BorrowedFd<'_>, out: BorrowedFd<'_>) -> Result<(), Error> {
    let mut repeated: Vec<(&'static str, OwnedFd)> = Vec::new();
    for (path, wanted) in WANTED {
        let failed = |action| {
            move |source| Error {
                action,
                path,
                source,
            }
        };
        if suffices(view, path, wanted).map_err(failed("examine"))? {
            continue;
        }
        match path.split_once('/') {
            None => make(out, path, wanted).map_err(failed("create"))?,
            Some((parent, name)) => {
                let known = repeated.last().is_some_and(|(last, _)| *last == parent);
                if !known {
                    let made = make_directory(out, parent).map_err(failed("create"))?;
                    repeated.push((parent, made));
                }
                let (_, directory) = repeated.last().expect("pushed above");
                make(directory.as_fd(), name, wanted).map_err(failed("create"))?;
            }
        }
    }
    // Last, because making something in a directory changes its time.
    for (path, directory) in &repeated {
        let failed = |source| Error {
            action: "copy the image's metadata to",
            path,
            source,
        };
        adopt(view, path, directory.as_fd()).map_err(failed)?;
    }
    adopt(view, ".", out).map_err(|source| Error {
        action: "copy the image's metadata to",
        path: "/",
        source,
    })
}

/// Whether the image has it in a form that will do.
fn suffices(view: BorrowedFd<'_>, path: &str, wanted: Wanted) -> Result<bool, Errno> {
    let (parent, name) = path.split_once('/').unwrap_or((".", path));
    let parent = match open(view, parent) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(error) => return Err(error),
    };
    let status = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => status,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(match (wanted, FileType::from_raw_mode(status.st_mode)) {
        // Whatever is a directory in the image stays one.
        (_, FileType::Directory) => true,
        (Wanted::File, FileType::RegularFile) => true,
        (Wanted::Symlink(target), FileType::Symlink) => {
            let present = rustix::fs::readlinkat(&parent, name, Vec::new())?;
            present.as_bytes() == target.as_bytes()
        }
        _ => false,
    })
}

fn make(parent: BorrowedFd<'_>, name: &str, wanted: Wanted) -> Result<(), Errno> {
    match wanted {
        Wanted::Directory => make_directory(parent, name).map(drop),
        Wanted::Symlink(target) => {
            replacing(parent, name, || rustix::fs::symlinkat(target, parent, name))
        }
        Wanted::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = replacing(parent, name, || {
                rustix::fs::openat(parent, name, flags, Mode::RWXU)
            })?;
            set_owner_and_mode(file.as_fd())
        }
    }
}

/// Makes a directory. One that a copy of the image has stays, with its content.
fn make_directory(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    match tree::open_directory(parent, name) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
        opened => return opened,
    }
    replacing(parent, name, || {
        rustix::fs::mkdirat(parent, name, Mode::RWXU)
    })?;
    let directory = tree::open_directory(parent, name)?;
    set_owner_and_mode(directory.as_fd())?;
    Ok(directory)
}

/// Makes something in the place of what a copy of the image has there, which
/// will not do.
fn replacing<T>(
    parent: BorrowedFd<'_>,
    name: &str,
    make: impl Fn() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match make() {
        Err(Errno::EXIST) => {
            tree::remove(parent, name.as_bytes())?;
            make()
        }
        result => result,
    }
}

/// Explicitly, since the umask and a set-group-ID parent have their say too.
fn set_owner_and_mode(made: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fchown(made, Some(Uid::ROOT), Some(Gid::ROOT))?;
    rustix::fs::fchmod(made, Mode::from_raw_mode(0o755))
}

fn adopt(view: BorrowedFd<'_>, path: &str, made: BorrowedFd<'_>) -> Result<(), Errno> {
    match open(view, path) {
        Ok(directory) => metadata::copy(directory.as_fd(), made),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(error) => Err(error),
    }
}

fn open(view: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(
        view,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

#[cfg(test)]
mod tests;
