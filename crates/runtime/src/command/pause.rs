//! `pause`: stops every process of a container where it is.

use std::process::ExitCode;

use conex_spec::runtime::Status;

use super::record::Container;
use super::{Error, Given, Globals, Verb};

pub(super) const VERB: Verb = Verb {
    name: "pause",
    about: "suspend all processes of a container",
    usage: "ID",
    flags: &[],
    run,
};

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    let container = Container::open(globals, given.id()?)?;
    match container.status()? {
        Status::Created | Status::Running => {}
        status => return Err(Error::cannot("pause", &container.record.id, status)),
    }
    container.cgroup()?.ok_or(Error::NotRunning)?.freeze()?;
    Ok(ExitCode::SUCCESS)
}
