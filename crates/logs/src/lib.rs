//! Container log drivers: the write side for the monitor, the read side for the daemon.
//!
//! This crate knows files and bytes; it must not know containers, the API, or an async
//! runtime. The monitor feeds [`json_file::Writer`] with what it reads from the
//! container's pipes, the daemon reads the same files back with [`json_file::Reader`],
//! and the two never talk to each other: the files and inotify are all they share.

pub mod driver;
pub mod frame;
pub mod json_file;
pub mod timestamp;

use serde::{Deserialize, Serialize};

/// The output stream of a container that a message came from.
///
/// A container with a terminal has only `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

impl Stream {
    /// The word used in log files and in the API: `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}
