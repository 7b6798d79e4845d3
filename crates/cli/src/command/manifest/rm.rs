//! `conex manifest rm`: forgets lists.

use std::process::ExitCode;

use super::{named, no_list, store};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Removes lists.
pub static COMMAND: Command = Command {
    about: "Delete one or more manifest lists from local storage",
    usage: "MANIFEST_LIST [MANIFEST_LIST...]",
    spellings: &[],
    flags: &[],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let store = store(ctx);
    let mut failures = Vec::new();
    for name in matches.args() {
        let removed = named(name).and_then(|list| match store.list(&list)? {
            Some(_) => store.remove(&list),
            None => Err(no_list(&list)),
        });
        failures.extend(removed.err().and_then(|error| error.text()));
    }
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CliError::message(failures.join("\n"))),
    }
}
