//! `resume`: lets the processes of a paused container go on.

use std::process::ExitCode;

use conex_spec::runtime::Status;

use super::record::Container;
use super::{Error, Given, Globals, Verb};

pub(super) const VERB: Verb = Verb {
    name: "resume",
    about: "resume all processes of a container",
    usage: "ID",
    flags: &[],
    run,
};

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    let container = Container::open(globals, given.id()?)?;
    match container.status()? {
        Status::Paused => container.cgroup()?.ok_or(Error::NotRunning)?.thaw()?,
        _ => return Err(Error::State("container not paused".into())),
    }
    Ok(ExitCode::SUCCESS)
}
