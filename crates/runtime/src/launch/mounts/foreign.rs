//! Mounts that only another process's mount namespace shows: the kernel clones what
//! the caller's own namespace holds, so a thread goes there for the clone.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use crate::launch::c_path;

/// A path such as `/proc/7/root/dev/shm`: whose namespace, and the path there.
pub(super) struct Foreign {
    process: u32,
    path: CString,
}

impl Foreign {
    /// `None` for paths of this process's own namespace.
    pub(super) fn of(path: &Path) -> Option<Foreign> {
        let (process, below) = path
            .to_str()?
            .strip_prefix("/proc/")?
            .split_once("/root/")?;
        Some(Foreign {
            process: process.parse().ok()?,
            path: c_path(&Path::new("/").join(below)).ok()?,
        })
    }

    /// A detached copy of the mount there, the path resolved within that namespace.
    pub(super) fn clone(&self, recursive: bool) -> Result<OwnedFd, Errno> {
        let file = format!("/proc/{}/ns/mnt", self.process);
        let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let namespace = File::open(file).map_err(failed)?;
        std::thread::scope(|scope| {
            let clone = || {
                // A thread may leave for another mount namespace when its root and
                // directory are nobody else's. It ends there.
                conex_sys::process::unshare(libc::CLONE_FS)?;
                conex_sys::process::enter_namespace(namespace.as_fd(), libc::CLONE_NEWNS)?;
                conex_sys::mount::clone_tree(rustix::fs::CWD, &self.path, recursive)
            };
            let thread = std::thread::Builder::new().name("foreign-mount".to_owned());
            match thread.spawn_scoped(scope, clone) {
                Ok(thread) => thread.join().unwrap_or(Err(Errno::IO)),
                Err(error) => Err(failed(error)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_below_another_processs_root_is_told_from_others() {
        let found = Foreign::of(Path::new("/proc/7/root/dev/shm")).unwrap();
        assert_eq!((found.process, found.path.as_c_str()), (7, c"/dev/shm"));
        for own in [
            "/dev/shm",
            "/proc/self/root/x",
            "/proc/7/cwd/x",
            "/proc/7/root",
        ] {
            assert!(Foreign::of(Path::new(own)).is_none(), "{own}");
        }
    }
}
