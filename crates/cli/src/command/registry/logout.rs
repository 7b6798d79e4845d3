//! `conex logout`: forgets a registry's credentials.

use std::io::Write;
use std::process::ExitCode;

use super::server;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::credential::Credentials;
use crate::error::CliError;
use crate::flag::Matches;

/// Logs out.
pub static COMMAND: Command = Command {
    about: "Log out from a registry",
    usage: "[SERVER]",
    spellings: &["logout"],
    flags: &[],
    args: Args::AtMost(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let server = server(matches.args().first());
    let mut store = Credentials::open(&ctx.globals.config_dir)?;
    writeln!(ctx.out, "Removing login credentials for {server}")?;
    if !store.erase(&server)? {
        writeln!(ctx.out, "Not logged in to {server}")?;
    }
    Ok(ExitCode::SUCCESS)
}
