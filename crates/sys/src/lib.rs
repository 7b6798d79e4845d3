//! The kernel: what rustix does not wrap, and the child between clone and
//! exec. The only crate in which `unsafe` is allowed; it must not know what a
//! container is.
#![allow(unsafe_code)]

pub mod bpf;
pub mod btrfs;
pub mod child;
pub mod datagram;
pub mod memfd;
pub mod memory;
pub mod mount;
pub mod process;
pub mod seccomp;
pub mod socket;

/// The calling thread's errno.
pub(crate) fn last_errno() -> rustix::io::Errno {
    // SAFETY: errno's location is valid for the life of the thread.
    rustix::io::Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
