//! `conex volume inspect`: volumes as the engine describes them.

use std::process::ExitCode;

use conex_client::segment;

use crate::command::inspect::{self, FORMAT_FLAG};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Describes volumes.
pub static COMMAND: Command = Command {
    about: "Display detailed information on one or more volumes",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    spellings: &[],
    flags: &[&[FORMAT_FLAG]],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    inspect::describe(ctx, matches, |ctx, name| {
        inspect::get(ctx, &format!("/volumes/{}", segment(name)))
    })
}
