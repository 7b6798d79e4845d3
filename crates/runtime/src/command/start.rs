//! `start`: lets the program of a created container run.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitCode;

use conex_spec::runtime::{Spec, Status};
use conex_sys::child::{Outcome, read_outcome};

use super::record::Container;
use super::{Error, Given, Globals, Verb};
use crate::launch::exec::Target;
use crate::launch::{LaunchError, hook, start_failure};

pub(super) const VERB: Verb = Verb {
    name: "start",
    about: "run the program of a created container",
    usage: "ID",
    flags: &[],
    run,
};

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    start(globals, &Container::open(globals, given.id()?)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the hooks of the start and connects to the process that waits.
pub(super) fn start(globals: &Globals, container: &Container) -> Result<(), Error> {
    let id = &container.record.id;
    match container.status()? {
        Status::Created => {}
        Status::Running | Status::Paused => {
            return Err(Error::State(
                "cannot start an already running container".into(),
            ));
        }
        Status::Stopped => {
            return Err(Error::State(
                "cannot start a container that has stopped".into(),
            ));
        }
        status @ Status::Creating => return Err(Error::cannot("start", id, status)),
    }
    let stopped = || Error::State("cannot start a container that has stopped".into());
    let spec = container.spec()?;
    if let Some(hooks) = spec
        .hooks
        .as_ref()
        .filter(|hooks| !hooks.start_container.is_empty())
    {
        let (pid, pidfd) = container.process().ok_or_else(stopped)?;
        let cgroup = container.cgroup()?;
        let place = hook::Place::Inside {
            container: Target {
                pid,
                pidfd: pidfd.as_fd(),
            },
            cgroup: cgroup.as_ref(),
        };
        let state = container.state(Status::Created);
        hook::run("startContainer", &hooks.start_container, &state, &place)?;
    }
    let connection = container.connect().map_err(|_nobody_listens| stopped())?;
    match read_outcome(File::from(connection)).map_err(LaunchError::from)? {
        Outcome::Failed(failure) => {
            let record = &container.record;
            return Err(start_failure(&spec, record.steps, record.preserve_fds, failure).into());
        }
        Outcome::Running => {}
        Outcome::Waiting | Outcome::Created | Outcome::Vanished => {
            return Err(LaunchError::Vanished.into());
        }
    }
    poststart(globals, container, &spec);
    Ok(())
}

/// Runs the hooks of a program that runs.
pub(super) fn poststart(globals: &Globals, container: &Container, spec: &Spec) {
    let Some(hooks) = &spec.hooks else { return };
    // runtime-spec, "Poststart": a failure is told, and life goes on.
    let state = container.state(Status::Running);
    for error in hook::run_all("poststart", &hooks.poststart, &state, &hook::Place::Host) {
        globals.log.warn(&error.report());
    }
}
