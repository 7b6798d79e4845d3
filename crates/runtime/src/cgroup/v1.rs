//! What version 1 needs for want of `cgroup.kill` and `cgroup.events`: killing
//! process by process, and waiting for the ends of processes. It must not know limits.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::Error;
use super::file::Dir;
use super::freezer::Freezer;

/// How often the processes are listed anew where they could not be frozen: one
/// that forks while it is killed leaves children.
const ROUNDS: usize = 16;

/// Kills everything in a cgroup.
///
/// Frozen, so that nothing is born meanwhile, and thawed, since the frozen
/// ignore even SIGKILL.
pub(super) fn kill(dir: Dir<'_>, freezer: Option<&Freezer<'_>>) -> Result<(), Error> {
    if let Some(freezer) = freezer
        && freezer.freeze().is_ok()
    {
        let killed = kill_all(dir);
        freezer.thaw()?;
        return killed.map(drop);
    }
    for _ in 0..ROUNDS {
        if !kill_all(dir)? {
            break;
        }
    }
    Ok(())
}

/// Kills what is listed; tells whether anything was.
fn kill_all(dir: Dir<'_>) -> Result<bool, Error> {
    let pids = dir.pids()?;
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        match kill_process(pid, Signal::KILL) {
            // It has ended by itself.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                return Err(Error::Kill {
                    pid: pid.as_raw_nonzero().get(),
                    source: error.into(),
                });
            }
        }
    }
    Ok(!pids.is_empty())
}

/// Waits until every process of a cgroup has ended; `false` if some had not in time.
pub(super) fn wait_empty(dir: Dir<'_>, bound: Duration) -> Result<bool, Error> {
    let deadline = Instant::now() + bound;
    loop {
        let pids = dir.pids()?;
        if pids.is_empty() {
            return Ok(true);
        }
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            // One that cannot be opened has just ended.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            if !wait_exit(&process, deadline) {
                return Ok(false);
            }
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
}

fn wait_exit(process: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}
