//! Copying what a directory says of itself to another directory.

use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// Attributes that belong to the union file system itself: never taken from
/// an archive and never copied, or a layer could redirect lookups.
pub(crate) fn is_overlay_attribute(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Gives the directory `to` the owner, mode, extended attributes and times of
/// `from`; both opened for reading.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let status = rustix::fs::fstat(from)?;
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(status.st_uid)),
        Some(Gid::from_raw(status.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(status.st_mode & 0o7777))?;
    copy_attributes(from, to)?;
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    rustix::fs::futimens(
        to,
        &Timestamps {
            last_access: time(status.st_atime, status.st_atime_nsec),
            last_modification: time(status.st_mtime, status.st_mtime_nsec),
        },
    )
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    // The kernel's own bounds of a list and of a value.
    let mut names = vec![0u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(from, &mut *names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error),
    };
    if length == 0 {
        return Ok(());
    }
    let mut value = vec![0u8; 64 * 1024];
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || is_overlay_attribute(name) {
            continue;
        }
        let length = match rustix::fs::fgetxattr(from, name, &mut *value) {
            Ok(length) => length,
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error),
        };
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
