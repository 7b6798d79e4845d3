//! Copying what a file or directory says of itself to another one.

use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::attribute;

/// Attributes that belong to the union file system itself: never taken from
/// an archive and never copied, or a layer could redirect lookups.
pub(crate) fn is_overlay_attribute(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Gives `to` the owner, mode, extended attributes and times of `from`; both
/// are files or directories, opened. Owner first: its change takes set-id bits
/// and file capabilities away.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let status = rustix::fs::fstat(from)?;
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(status.st_uid)),
        Some(Gid::from_raw(status.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(status.st_mode & 0o7777))?;
    copy_attributes(from, to)?;
    rustix::fs::futimens(to, &times(&status))
}

/// The times of a file, as they are set.
pub(crate) fn times(status: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    Timestamps {
        last_access: time(status.st_atime, status.st_atime_nsec),
        last_modification: time(status.st_mtime, status.st_mtime_nsec),
    }
}

/// Takes the extended attributes of a file or directory away, except those
/// that are the host's to give.
pub(crate) fn clear_attributes(of: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut names = vec![0u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(of, &mut *names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || name.starts_with(b"security.selinux") {
            continue;
        }
        match rustix::fs::fremovexattr(of, name) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Those that the other file has no place for are left out.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    for (name, value) in attribute::of_opened(from)? {
        match rustix::fs::fsetxattr(to, &*name, &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
