//! `conex network disconnect`: takes a container off a network.

use std::process::ExitCode;

use conex_api::network::DisconnectRequest;
use conex_client::segment;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Disconnects a container.
pub static COMMAND: Command = Command {
    about: "Disconnect a container from a network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::Exactly(2),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] =
    &[Flag::bool("force", "Force the container to disconnect from a network").short('f')];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let request = DisconnectRequest {
        container: matches.args()[1].clone(),
        force: matches.bool("force"),
    };
    let client = ctx.client()?;
    let path = format!("/networks/{}/disconnect", segment(&matches.args()[0]));
    ctx.block_on(client.post_discard(&path, &request))?;
    Ok(ExitCode::SUCCESS)
}
