//! `conex context create`: saves an engine's address under a name.

use std::io::Write;
use std::process::ExitCode;

use super::{DESCRIPTION_FLAG, DOCKER_FLAG};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::contexts::{Endpoints, Metadata, Stored};
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Saves a context.
pub static COMMAND: Command = Command {
    about: "Create a context",
    usage: "[OPTIONS] CONTEXT",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    DESCRIPTION_FLAG,
    DOCKER_FLAG,
    Flag::string("from", "create context from a named context"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let name = &matches.args()[0];
    super::check_name(name)?;
    let store = super::store(ctx);
    if store.get(name).is_some() {
        return Err(CliError::message(format!(
            "context \"{name}\" already exists"
        )));
    }
    let mut asked = matches.list("docker").to_vec();
    match matches.opt_str("from") {
        Some("default") => {
            let current = crate::connect::endpoint(ctx)?;
            asked.insert(0, format!("host={}", current.host));
        }
        Some(from) => asked.insert(0, format!("from={from}")),
        None if asked.is_empty() => {
            return Err(CliError::message(
                "docker endpoint configuration is required",
            ));
        }
        None => {}
    }
    let (endpoint, files) = super::endpoint(ctx, &asked)?;
    // The certificates first: a context that is there is whole.
    store.save_tls(name, &files)?;
    store.save(&Stored {
        name: name.clone(),
        metadata: Metadata {
            description: matches.str("description").to_owned(),
            ..Metadata::default()
        },
        endpoints: Endpoints {
            docker: Some(endpoint),
            ..Endpoints::default()
        },
    })?;
    writeln!(ctx.out, "{name}")?;
    writeln!(ctx.err, "Successfully created context \"{name}\"")?;
    Ok(ExitCode::SUCCESS)
}
