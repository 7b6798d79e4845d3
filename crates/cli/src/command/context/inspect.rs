//! `conex context inspect`: contexts as they are saved.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::command::inspect::{self, FORMAT_FLAG};
use crate::command::{Args, Command};
use crate::connect::{self, DEFAULT_CONTEXT};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Describes contexts.
pub static COMMAND: Command = Command {
    about: "Display detailed information on one or more contexts",
    usage: "[OPTIONS] [CONTEXT] [CONTEXT...]",
    spellings: &[],
    flags: &[&[FORMAT_FLAG]],
    args: Args::Any,
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let current = [ctx.context_name()];
    let names = match matches.args() {
        [] => &current,
        names => names,
    };
    inspect::describe_these(ctx, matches.str("format"), names, |ctx, name| {
        describe(ctx, name)
    })
}

fn describe(ctx: &Context, name: &str) -> Result<Value, CliError> {
    if name == DEFAULT_CONTEXT {
        let endpoint = connect::default_endpoint(ctx)?;
        return Ok(json!({
            "Name": name,
            "Metadata": {},
            "Endpoints": {"docker": {"Host": endpoint.host.to_string(), "SkipTLSVerify": false}},
            "TLSMaterial": {},
            "Storage": {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"},
        }));
    }
    let stored = super::stored(ctx, name)?;
    let store = super::store(ctx);
    let files = store.tls_files(name);
    let material = match files.is_empty() {
        true => json!({}),
        false => json!({"docker": files}),
    };
    Ok(json!({
        "Name": name,
        "Metadata": stored.metadata,
        "Endpoints": stored.endpoints,
        "TLSMaterial": material,
        "Storage": {"MetadataPath": store.meta_dir(name), "TLSPath": store.tls_dir(name)},
    }))
}
