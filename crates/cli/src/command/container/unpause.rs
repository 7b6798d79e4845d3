//! `conex unpause`: lets paused containers go on.

use std::process::ExitCode;

use conex_client::segment;

use super::several;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Unpauses containers.
pub static COMMAND: Command = Command {
    about: "Unpause all processes within one or more containers",
    usage: "CONTAINER [CONTAINER...]",
    spellings: &["container unpause", "unpause"],
    flags: &[],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let call = |client: conex_client::Client, name: String| {
        let path = format!("/containers/{}/unpause", segment(&name));
        async move { client.post_empty(&path).await }
    };
    several::each(ctx, matches.args(), call, |_| false)
}
