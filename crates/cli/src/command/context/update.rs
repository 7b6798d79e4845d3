//! `conex context update`: changes what was saved under a name.

use std::io::Write;
use std::process::ExitCode;

use super::{DESCRIPTION_FLAG, DOCKER_FLAG};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::contexts::DOCKER;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Changes a context.
pub static COMMAND: Command = Command {
    about: "Update a context",
    usage: "[OPTIONS] CONTEXT",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[DESCRIPTION_FLAG, DOCKER_FLAG];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let name = &matches.args()[0];
    super::check_name(name)?;
    let mut stored = super::stored(ctx, name)?;
    let store = super::store(ctx);
    if let Some(description) = matches.opt_str("description") {
        description.clone_into(&mut stored.metadata.description);
    }
    if matches.is_set("docker") {
        let (endpoint, files) = super::endpoint(ctx, matches.list("docker"))?;
        stored.endpoints.docker = Some(endpoint);
        let mut certificates = store.certificates(name)?;
        certificates.insert(DOCKER.to_owned(), files);
        store.save_certificates(name, &certificates)?;
    }
    store.save(&stored)?;
    writeln!(ctx.out, "{name}")?;
    writeln!(ctx.err, "Successfully updated context \"{name}\"")?;
    Ok(ExitCode::SUCCESS)
}
