//! `conex context use`: which context commands use that name none.

use std::io::Write;
use std::process::ExitCode;

use crate::command::{Args, Command};
use crate::config::file::File;
use crate::connect::DEFAULT_CONTEXT;
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Sets the current context.
pub static COMMAND: Command = Command {
    about: "Set the current docker context",
    usage: "CONTEXT",
    spellings: &[],
    flags: &[],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let name = &matches.args()[0];
    if name != DEFAULT_CONTEXT {
        super::stored(ctx, name)?;
    }
    set(ctx, name)?;
    writeln!(ctx.out, "{name}")?;
    writeln!(ctx.err, "Current context is now \"{name}\"")?;
    if name != DEFAULT_CONTEXT {
        super::warn_of_host(ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the current context into the settings.
pub(super) fn set(ctx: &Context, name: &str) -> Result<(), CliError> {
    let mut file = File::open(&ctx.globals.config_dir)?;
    match name {
        DEFAULT_CONTEXT => file.root_mut().remove("currentContext"),
        name => file
            .root_mut()
            .insert("currentContext".to_owned(), name.into()),
    };
    file.save("the current context")
}
