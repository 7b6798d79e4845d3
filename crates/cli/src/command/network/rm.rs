//! `conex network rm`: removes networks.

use std::io::Write;
use std::process::ExitCode;

use conex_client::segment;

use crate::command::inspect::join_failures;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::{CliError, EXIT_FAILURE};
use crate::flag::{Flag, Matches};

/// Removes networks.
pub static COMMAND: Command = Command {
    about: "Remove one or more networks",
    usage: "NETWORK [NETWORK...]",
    spellings: &["network rm", "network remove"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] =
    &[Flag::bool("force", "Do not error if the network does not exist").short('f')];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let force = matches.bool("force");
    let client = ctx.client()?;
    let mut failures = Vec::new();
    for name in matches.args() {
        match ctx.block_on(client.delete_empty(&format!("/networks/{}", segment(name)))) {
            Ok(()) => writeln!(ctx.out, "{name}")?,
            Err(error) if force && error.is_not_found() => {}
            Err(error) => failures.push(error),
        }
    }
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::Status {
        code: EXIT_FAILURE,
        text: join_failures(&failures),
    })
}
