//! `conex restart`: ends containers as `stop` does, and starts them again.

use std::process::ExitCode;

use conex_client::segment;

use super::{several, stop};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Restarts containers.
pub static COMMAND: Command = Command {
    about: "Restart one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    spellings: &["container restart", "restart"],
    flags: &[stop::FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let options = stop::options(matches)?;
    let call = |client: conex_client::Client, name: String| {
        let path = format!("/containers/{}/restart{options}", segment(&name));
        async move { client.post_empty(&path).await }
    };
    several::each(ctx, matches.args(), call, |_| false)
}
