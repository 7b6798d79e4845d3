//! `delete`: removes what is left of a container.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::Duration;

use conex_spec::runtime::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::record::Container;
use super::{Error, Given, Globals, Verb, switch};
use crate::launch::hook;

/// How long a killed process may take to end: one in the middle of a system
/// call that cannot be interrupted ends when the call does.
const BOUND: Duration = Duration::from_secs(10);

pub(super) const VERB: Verb = Verb {
    name: "delete",
    about: "remove a stopped container",
    usage: "[--force] ID",
    flags: &[switch("force").short('f')],
    run,
};

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    let id = given.id()?;
    let force = given.on("force")?;
    let container = match Container::open(globals, id) {
        Err(Error::NotFound(_)) if force => {
            // A creation that was killed may have left a directory without a record.
            remove_remains(globals, id)?;
            return Ok(ExitCode::SUCCESS);
        }
        other => other?,
    };
    match container.status()? {
        Status::Stopped => {}
        // Its program never ran, so nothing of it is lost.
        Status::Created => kill(&container)?,
        _ if force => kill(&container)?,
        status => {
            return Err(Error::State(format!(
                "cannot delete container {id} that is not stopped: {status}"
            )));
        }
    }
    delete(globals, &container)?;
    Ok(ExitCode::SUCCESS)
}

fn remove_remains(globals: &Globals, id: &str) -> Result<(), Error> {
    let path = globals.root.join(id);
    match std::fs::remove_dir_all(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Removes the cgroup, the directory, and runs the hooks of the end.
pub(super) fn delete(globals: &Globals, container: &Container) -> Result<(), Error> {
    if let Some(cgroup) = container.cgroup()? {
        // Without a pid namespace others may have outlived the first process.
        if cgroup.is_populated()? {
            cgroup.kill()?;
        }
        cgroup.remove()?;
    }
    let hooks = match container.spec() {
        Ok(spec) => spec.hooks.unwrap_or_default(),
        Err(error) => {
            globals.log.warn(&error.report());
            Default::default()
        }
    };
    container.forget()?;
    // runtime-spec, "Poststop": a failure is told, and the rest goes on.
    let state = container.state(Status::Stopped);
    for error in hook::run_all("poststop", &hooks.poststop, &state, &hook::Place::Host) {
        globals.log.warn(&error.report());
    }
    Ok(())
}

/// Kills every process and waits for the end of the first.
fn kill(container: &Container) -> Result<(), Error> {
    let process = container.process();
    if let Some(cgroup) = container.cgroup()? {
        cgroup.kill()?;
    }
    let Some((pid, pidfd)) = process else {
        return Ok(());
    };
    // It may have left its cgroup.
    conex_sys::process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).ok();
    if ends_within(pidfd.as_fd(), BOUND) {
        Ok(())
    } else {
        Err(Error::State(format!(
            "process {pid} does not end though it was killed"
        )))
    }
}

fn ends_within(pidfd: BorrowedFd<'_>, bound: Duration) -> bool {
    let timeout = Timespec::try_from(bound).ok();
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(0) => return false,
            Ok(_) | Err(_) => return true,
        }
    }
}
