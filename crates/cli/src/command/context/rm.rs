//! `conex context rm`: forgets contexts.

use std::io::Write;
use std::process::ExitCode;

use crate::command::{Args, Command};
use crate::connect::DEFAULT_CONTEXT;
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Removes contexts.
pub static COMMAND: Command = Command {
    about: "Remove one or more contexts",
    usage: "[OPTIONS] CONTEXT [CONTEXT...]",
    spellings: &["context rm", "context remove"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[Flag::bool("force", "Force the removal of a context in use").short('f')];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let force = matches.bool("force");
    let current = ctx.config().current_context.clone();
    let mut failures = Vec::new();
    for name in matches.args() {
        match remove(ctx, name, force, &current) {
            Ok(()) => writeln!(ctx.out, "{name}")?,
            Err(error) => failures.extend(error.text()),
        }
    }
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CliError::message(failures.join("\n"))),
    }
}

fn remove(ctx: &Context, name: &str, force: bool, current: &str) -> Result<(), CliError> {
    if name == DEFAULT_CONTEXT {
        return Err(CliError::message("context \"default\" cannot be removed"));
    }
    let store = super::store(ctx);
    if store.get(name).is_none() && !force {
        return Err(CliError::message(format!("context \"{name}\" not found")));
    }
    if name == current || name == ctx.context_name() {
        if !force {
            return Err(CliError::message(format!(
                "context \"{name}\" is in use, set -f flag to force remove"
            )));
        }
        super::r#use::set(ctx, DEFAULT_CONTEXT)?;
    }
    store.remove(name)
}
