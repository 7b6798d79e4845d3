//! `conex export`: a container's file system as a tar archive.

use std::process::ExitCode;

use conex_client::{Client, segment};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::transfer::Destination;

/// Exports a file system.
pub static COMMAND: Command = Command {
    about: "Export a container's filesystem as a tar archive",
    usage: "[OPTIONS] CONTAINER",
    spellings: &["container export", "export"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[Flag::string("output", "Write to a file, instead of STDOUT").short('o')];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let output = matches.opt_str("output").filter(|path| !path.is_empty());
    if output.is_none() && ctx.out.is_terminal() {
        // Docker's words, which are those of save.
        return Err(CliError::message(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let destination = Destination::of(output, "export", "container")?;
    let client = Client::clone(&*ctx.client()?);
    let path = format!("/containers/{}/export", segment(&matches.args()[0]));
    ctx.block_on(async { destination.receive(client.get_stream(&path).await?).await })?;
    Ok(ExitCode::SUCCESS)
}
