//! Extended attributes of a file, as far as they are its content.
//!
//! Left out are the union file system's own marks and the host's labels
//! (`security.selinux`), which say where a file lies and not what it is.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::metadata::is_overlay_attribute;

/// Names and values, sorted by name.
pub(crate) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The kernel's own bound of a list and of a value.
const MAX_BYTES: usize = 64 * 1024;

/// Of something opened for reading.
pub(crate) fn of_opened(file: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    collect(
        rustix::fs::flistxattr_query(file),
        |list| rustix::fs::flistxattr(file, list),
        |name, value| rustix::fs::fgetxattr(file, name, value),
    )
}

/// Of something that must not be opened or followed.
pub(crate) fn of_named(parent: BorrowedFd<'_>, name: &CStr) -> Result<Attributes, Errno> {
    let path = place(parent, name);
    collect(
        rustix::fs::llistxattr_query(&path),
        |list| rustix::fs::llistxattr(&path, list),
        |name, value| rustix::fs::lgetxattr(&path, name, value),
    )
}

/// Whether it has this one, of any name.
pub(crate) fn has_named(
    parent: BorrowedFd<'_>,
    name: &CStr,
    attribute: &CStr,
) -> Result<bool, Errno> {
    match rustix::fs::lgetxattr(place(parent, name), attribute, &mut [0u8; 0]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the file system has a place for this one there.
pub(crate) fn may_have(parent: BorrowedFd<'_>, name: &CStr, attribute: &[u8]) -> bool {
    let asked = rustix::fs::lgetxattr(place(parent, name), attribute, &mut [0u8; 0]);
    asked != Err(Errno::NOTSUP)
}

/// Sets one of something that must not be opened or followed.
pub(crate) fn set_named(
    parent: BorrowedFd<'_>,
    name: &CStr,
    attribute: &[u8],
    value: &[u8],
) -> Result<(), Errno> {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(place(parent, name), attribute, value, flags)
}

/// There is no `lgetxattrat` before Linux 6.13.
fn place(parent: BorrowedFd<'_>, name: &CStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
    path.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
    path
}

fn collect(
    list_bytes: Result<usize, Errno>,
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Attributes, Errno> {
    match list_bytes {
        // Most files have none, and the question is cheap.
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Attributes::new()),
        Ok(_) => {}
        Err(error) => return Err(error),
    }
    let mut names = vec![0; MAX_BYTES];
    let length = list(&mut names)?;
    let mut value = vec![0; MAX_BYTES];
    let mut attributes = Attributes::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || is_overlay_attribute(name) || name == b"security.selinux" {
            continue;
        }
        let length = match get(name, &mut value) {
            Ok(length) => length,
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error),
        };
        attributes.push((name.to_vec(), value[..length].to_vec()));
    }
    attributes.sort_unstable();
    Ok(attributes)
}
