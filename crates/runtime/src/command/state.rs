//! `state`: what a container is doing, as JSON.

use std::path::PathBuf;
use std::process::ExitCode;

use conex_spec::runtime::{State, Status};
use serde::Serialize;

use super::record::Container;
use super::{Error, Given, Globals, Verb, print_json};

pub(super) const VERB: Verb = Verb {
    name: "state",
    about: "show what a container is doing",
    usage: "ID",
    flags: &[],
    run,
};

/// The specification's state and what runc adds.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    pub(super) state: State,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) owner: String,
}

impl Answer {
    pub(super) fn of(container: &Container, status: Status) -> Answer {
        let record = &container.record;
        Answer {
            state: container.state(status),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            owner: if record.owner == 0 {
                "root".into()
            } else {
                record.owner.to_string()
            },
        }
    }
}

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    let container = Container::open(globals, given.id()?)?;
    let status = container.status()?;
    print_json(&Answer::of(&container, status))
}
