//! Freezing and thawing. It must not know why a container is paused.

use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::file::Dir;
use super::v2;

/// How long tasks may take to stop: one in the middle of a system call that
/// cannot be interrupted stops when the call ends.
const BOUND: Duration = Duration::from_secs(5);
/// Version 1 tells nobody when the last task has stopped.
const V1_INTERVAL: Duration = Duration::from_millis(1);

/// Where a container is frozen.
pub(super) enum Freezer<'a> {
    V1(Dir<'a>),
    /// Preferred where there is a choice: what is frozen there can be killed.
    V2(Dir<'a>),
}

impl Freezer<'_> {
    /// Stops every task, or thaws those that did and fails.
    pub(super) fn freeze(&self) -> Result<(), Error> {
        match self {
            Freezer::V2(dir) => {
                dir.write("cgroup.freeze", 1)?;
                if v2::wait_event(*dir, "frozen", 1, BOUND)? {
                    return Ok(());
                }
                dir.write("cgroup.freeze", 0)?;
            }
            Freezer::V1(dir) => {
                let deadline = Instant::now() + BOUND;
                while Instant::now() < deadline {
                    // Written again and again: a task that was being forked may have been missed.
                    dir.write("freezer.state", "FROZEN")?;
                    if dir.read("freezer.state")?.trim() == "FROZEN" {
                        return Ok(());
                    }
                    thread::sleep(V1_INTERVAL);
                }
                dir.write("freezer.state", "THAWED")?;
            }
        }
        let (Freezer::V1(dir) | Freezer::V2(dir)) = self;
        Err(Error::NotFrozen(dir.0.to_owned()))
    }

    pub(super) fn thaw(&self) -> Result<(), Error> {
        match self {
            Freezer::V2(dir) => dir.write("cgroup.freeze", 0),
            Freezer::V1(dir) => dir.write("freezer.state", "THAWED"),
        }
    }

    pub(super) fn frozen(&self) -> Result<bool, Error> {
        match self {
            Freezer::V2(dir) => Ok(dir.keyed("cgroup.events", "frozen")? == Some(1)),
            Freezer::V1(dir) => Ok(dir.read("freezer.state")?.trim() != "THAWED"),
        }
    }
}
