//! `conex container inspect`: containers as the engine describes them.

use std::process::ExitCode;

use conex_client::segment;

use crate::command::inspect::{self, FORMAT_FLAG};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Describes containers.
pub static COMMAND: Command = Command {
    about: "Display detailed information on one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    spellings: &[],
    flags: &[&[
        FORMAT_FLAG,
        Flag::bool("size", "Display total file sizes").short('s'),
    ]],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let size = if matches.bool("size") { "?size=1" } else { "" };
    inspect::describe(ctx, matches, |ctx, name| {
        inspect::get(ctx, &format!("/containers/{}/json{size}", segment(name)))
    })
}
