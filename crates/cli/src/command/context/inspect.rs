//! `conex context inspect`: contexts as they are saved.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::command::inspect::{self, FORMAT_FLAG};
use crate::command::{Args, Command};
use crate::connect::DEFAULT_CONTEXT;
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
    let (stored, certificates) = super::copy_of(ctx, name)?;
    let material: BTreeMap<_, Vec<_>> = certificates
        .iter()
        .map(|(endpoint, files)| (endpoint, files.keys().collect()))
        .collect();
    let storage = match name {
        DEFAULT_CONTEXT => json!({"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"}),
        _ => {
            let store = super::store(ctx);
            json!({"MetadataPath": store.meta_dir(name), "TLSPath": store.tls_dir(name)})
        }
    };
    Ok(json!({
        "Name": name,
        "Metadata": stored.metadata,
        "Endpoints": stored.endpoints,
        "TLSMaterial": material,
        "Storage": storage,
    }))
}
