//! `conex rename`: gives a container another name.

use std::process::ExitCode;

use conex_client::{Client, query, segment};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Renames a container.
pub static COMMAND: Command = Command {
    about: "Rename a container",
    usage: "CONTAINER NEW_NAME",
    spellings: &["container rename", "rename"],
    flags: &[],
    args: Args::Exactly(2),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let [old, new] = [0, 1].map(|at: usize| matches.args()[at].trim());
    if old.is_empty() || new.is_empty() {
        return Err(CliError::message(
            "Error: Neither old nor new names may be empty",
        ));
    }
    let client = Client::clone(&*ctx.client()?);
    let path = format!(
        "/containers/{}/rename{}",
        segment(old),
        query(&[("name", new)])
    );
    match ctx.block_on(client.post_empty(&path)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(CliError::message(format!(
            "{error}\nError: failed to rename container named {old}"
        ))),
    }
}
