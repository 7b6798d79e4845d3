//! The exit record: how a container ended, on disk before anybody is told.

use std::path::Path;

use conex_store::persist::{self, Durability};
use serde::{Deserialize, Serialize};

/// How a container ended. Written as `exit.json` in its run directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Container id.
    pub id: String,
    /// PID 1 as the host knew it.
    pub pid: i32,
    /// Exit code, or 128 + signal.
    pub exit_code: i32,
    /// The kernel's out-of-memory killer struck in the container.
    pub oom_killed: bool,
    /// Nanoseconds since the epoch.
    pub started_ns: i64,
    /// Nanoseconds since the epoch.
    pub finished_ns: i64,
}

impl ExitRecord {
    /// The file's name in the run directory.
    pub const FILE: &'static str = "exit.json";

    /// Writes the record atomically. The run directory is in memory on most
    /// hosts and gone after a reboot, as the container is: no fsync.
    pub(crate) fn write(&self, run_dir: &Path) -> Result<(), persist::PersistError> {
        let json = serde_json::to_vec(self).expect("an exit record is plain data");
        persist::write_atomic(&run_dir.join(Self::FILE), &json, Durability::Unsynced)
    }

    /// Reads a record; `None` when there is none or it makes no sense.
    pub fn read(run_dir: &Path) -> Option<ExitRecord> {
        let json = persist::read_limited(&run_dir.join(Self::FILE), 64 * 1024).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

/// Nanoseconds since the epoch.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
