//! The messages about execs: one more program in a running container.
//!
//! ```text
//!  daemon ── Exec (memfd, attacher's socket) ──► monitor
//!         ◄── ExecStarted or ExecFailed ────────
//!         ◄── ExecExited ───────────────────────   kept until
//!         ── ExecTaken ────────────────────────►   this arrives
//! ```
//!
//! A daemon that connects later is told of every exec again: `ExecStarted`,
//! and `ExecExited` where that was not taken before.

use conex_spec::runtime::{Process, Seccomp};
use serde::{Deserialize, Serialize};

use super::{Attach, StartFailure};

/// The longest [`ExecRequest::note`] in bytes, so that it fits into a message.
pub const MAX_NOTE: usize = 32 * 1024;

/// What to run. Its JSON travels in a memfd, the attacher's socket beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The exec's id.
    pub id: String,
    /// The program, complete.
    pub process: Process,
    /// The container's system call filter; the monitor keeps no copy.
    pub seccomp: Option<Seccomp>,
    /// What the attacher wants; `None` when there is none and the streams go
    /// nowhere. Input ends with the attacher's.
    pub attach: Option<Attach>,
    /// The attacher gets bytes as they are, otherwise frames.
    pub raw: bool,
    /// Words of the daemon's own, said again to the next one; at most
    /// [`MAX_NOTE`] bytes.
    pub note: String,
}

/// An exec that runs, or ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStarted {
    /// The exec's id.
    pub id: String,
    /// Its process in the daemon's pid namespace.
    pub pid: i32,
    /// [`ExecRequest::note`].
    pub note: String,
}

/// An exec that could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFailed {
    /// The exec's id.
    pub id: String,
    /// Why.
    pub failure: StartFailure,
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    /// The exec's id.
    pub id: String,
    /// Exit code, or 128 + signal.
    pub exit_code: i32,
    /// Nanoseconds since the epoch.
    pub finished_ns: i64,
}
