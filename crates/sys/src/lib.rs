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

/// strerror(3) as Go writes it, since clients match the texts: the first letter
/// small, and without the number that Rust appends.
pub fn describe(errno: rustix::io::Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// The calling thread's errno.
pub(crate) fn last_errno() -> rustix::io::Errno {
    // SAFETY: errno's location is valid for the life of the thread.
    rustix::io::Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
