//! `conex context create`: saves an engine's address under a name.

use std::io::Write;
use std::process::ExitCode;

use super::{DESCRIPTION_FLAG, DOCKER_FLAG};
use crate::command::{Args, Command};
use crate::connect::DEFAULT_CONTEXT;
use crate::context::Context;
use crate::contexts::{Certificates, DOCKER, Endpoints, Stored};
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
    super::check_new(ctx, name)?;
    let asked = matches.list("docker");
    let from = matches.opt_str("from").filter(|from| !from.is_empty());
    let (mut stored, certificates) = match from {
        Some(_) if !asked.is_empty() => {
            return Err(CliError::message(
                "cannot use --docker flag when --from is set",
            ));
        }
        None if !asked.is_empty() => {
            let (endpoint, files) = super::endpoint(ctx, asked)?;
            let stored = Stored {
                endpoints: Endpoints {
                    docker: Some(endpoint),
                    ..Endpoints::default()
                },
                ..Stored::default()
            };
            (stored, Certificates::from([(DOCKER.to_owned(), files)]))
        }
        // Of nothing it is a copy of the one in use.
        _ => {
            let from = from.map_or_else(|| ctx.context_name(), str::to_owned);
            let (mut stored, certificates) = super::copy_of(ctx, &from)?;
            if from == DEFAULT_CONTEXT {
                super::DEFAULT_DESCRIPTION.clone_into(&mut stored.metadata.description);
            }
            (stored, certificates)
        }
    };
    stored.name.clone_from(name);
    if let Some(description) = matches.opt_str("description") {
        description.clone_into(&mut stored.metadata.description);
    }
    let store = super::store(ctx);
    // The certificates first: a context that is there is whole.
    store.save_certificates(name, &certificates)?;
    store.save(&stored)?;
    writeln!(ctx.out, "{name}")?;
    writeln!(ctx.err, "Successfully created context \"{name}\"")?;
    Ok(ExitCode::SUCCESS)
}
