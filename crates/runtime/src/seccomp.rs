//! System call filters: from an OCI `linux.seccomp` to one classic BPF program,
//! the default profile, and profiles in Docker's JSON. It must not know when a
//! container gets a filter, or who asked for none.
//!
//! ```text
//!  profile ──resolve──► rules per architecture ──► ranges of numbers ──► program
//!  (names)   (numbers)   0 ─ default ─┬─ allow ─┬─ by argument ─┬─ ENOSYS ─ 2³²
//! ```
//!
//! A number above every one the profile names is younger than the profile and
//! fails with `ENOSYS`, so that programs fall back to the call they used before;
//! any other errno would make C libraries give up.

mod arch;
mod assemble;
mod compile;
mod json;
mod profile;

pub use arch::Arch;
pub use compile::{Filter, compile, compile_for};
pub use json::{Conditions, KernelVersion, from_json};
pub use profile::default_profile;

/// Why a profile cannot become a filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a profile.
    #[error("decoding seccomp profile failed")]
    Decode(#[source] serde_json::Error),
    /// A rule has both of two members that exclude each other.
    #[error(
        "both '{first}' and '{second}' are specified in the seccomp profile, \
         use either '{first}' or '{second}'"
    )]
    Both {
        /// One member.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// There are rules but nothing for calls that none of them names.
    #[error("the seccomp profile has rules but no defaultAction")]
    NoDefaultAction,
    /// `minKernel` is not of the form `4.8`.
    #[error("invalid kernel version: {0:?}, expected \"<kernel>.<major>\"")]
    KernelVersion(String),
    /// A condition is on an argument that does not exist.
    #[error("the seccomp rule for {syscall} has a condition on argument {index}, the last is 5")]
    Argument {
        /// The system call.
        syscall: String,
        /// The argument.
        index: u32,
    },
    /// An errno that the kernel cannot return.
    #[error("the seccomp profile returns errno {0}, the greatest is 4095")]
    Errno(u32),
    /// A flag nobody has defined.
    #[error("unknown seccomp flag {0:?}")]
    Flag(String),
    /// The listener could never be handed over.
    #[error("SCMP_ACT_NOTIFY cannot be used {0}")]
    Notify(&'static str),
    /// The kernel would not take the program.
    #[error("the seccomp profile needs {0} instructions, the kernel takes 4096")]
    TooLong(usize),
}
