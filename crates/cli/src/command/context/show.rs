//! `conex context show`: the name of the context in use.

use std::io::Write;
use std::process::ExitCode;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Names the current context.
pub static COMMAND: Command = Command {
    about: "Print the name of the current context",
    usage: "",
    spellings: &[],
    flags: &[],
    args: Args::None,
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, _: &Matches) -> Result<ExitCode, CliError> {
    let name = ctx.context_name();
    writeln!(ctx.out, "{name}")?;
    Ok(ExitCode::SUCCESS)
}
