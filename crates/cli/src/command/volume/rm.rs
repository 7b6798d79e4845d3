//! `conex volume rm`: removes volumes with their content.

use std::io::Write;
use std::process::ExitCode;

use conex_client::{query, segment};

use crate::command::inspect::join_failures;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Removes volumes.
pub static COMMAND: Command = Command {
    about: "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    spellings: &["volume rm", "volume remove"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] =
    &[Flag::bool("force", "Force the removal of one or more volumes").short('f')];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let options = match matches.bool("force") {
        true => query(&[("force", "1")]),
        false => String::new(),
    };
    let client = ctx.client()?;
    let mut failures = Vec::new();
    for name in matches.args() {
        let path = format!("/volumes/{}{options}", segment(name));
        match ctx.block_on(client.delete_empty(&path)) {
            Ok(()) => writeln!(ctx.out, "{name}")?,
            Err(error) => failures.push(error),
        }
    }
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CliError::message(join_failures(&failures))),
    }
}
