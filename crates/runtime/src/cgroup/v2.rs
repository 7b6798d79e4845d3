//! What only version 2 has: controllers handed down by parents, events, kill.
//! It must not know limits.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Error;
use super::file::{Dir, value_of};

/// Lets the children of every directory between the mount and a cgroup have controllers.
///
/// Does what can be done: a parent that holds processes itself cannot hand
/// anything down (`EBUSY`), and what is missing then shows where it is needed.
pub(super) fn hand_down(mount: &Path, dir: &Path, controllers: &[String]) -> Result<(), Error> {
    let Ok(below) = dir.strip_prefix(mount) else {
        return Ok(());
    };
    let mut parent = mount.to_owned();
    for component in below {
        let handed = Dir(&parent).read("cgroup.subtree_control")?;
        let missing: Vec<String> = controllers
            .iter()
            .filter(|controller| !handed.split_whitespace().any(|name| name == *controller))
            .map(|controller| format!("+{controller}"))
            .collect();
        // One that is refused takes the others of the same write with it.
        let all = missing.join(" ");
        if !missing.is_empty()
            && Dir(&parent)
                .write_raw("cgroup.subtree_control", &all)
                .is_err()
        {
            for controller in &missing {
                Dir(&parent)
                    .write_raw("cgroup.subtree_control", controller)
                    .ok();
            }
        }
        parent.push(component);
    }
    Ok(())
}

/// Waits until a key of `cgroup.events` has a value; `false` if it had not in time.
pub(super) fn wait_event(
    dir: Dir<'_>,
    key: &str,
    value: u64,
    bound: Duration,
) -> Result<bool, Error> {
    let path = dir.0.join("cgroup.events");
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let mut events = File::open(&path).map_err(failed)?;
    let deadline = Instant::now() + bound;
    loop {
        // Read before each wait: the kernel marks the file changed since the last read.
        let mut text = String::new();
        events.rewind().map_err(failed)?;
        match events.read_to_string(&mut text) {
            Ok(_) => {}
            // Removed, so nothing is in it any more.
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {
                return Ok(key == "populated" && value == 0);
            }
            Err(error) => return Err(failed(error)),
        }
        if value_of(&text, key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)];
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// Kills everything in a cgroup at once; `false` before Linux 5.14.
pub(super) fn kill(dir: Dir<'_>) -> Result<bool, Error> {
    dir.write_if_supported("cgroup.kill", 1)
}
