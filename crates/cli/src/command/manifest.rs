//! `conex manifest …`: manifests as registries have them, and lists of them put together here. No engine is asked.

pub mod annotate;
pub mod create;
pub mod inspect;
pub mod push;
mod remote;
pub mod rm;

use conex_spec::reference::Reference;

use crate::context::Context;
use crate::error::CliError;
use crate::flag::Flag;
use crate::manifests::Manifests;

const INSECURE: Flag = Flag::bool("insecure", "Allow communication with an insecure registry");

/// The lists of the configuration directory.
fn store(ctx: &Context) -> Manifests {
    Manifests::of(&ctx.globals.config_dir)
}

/// A name with its default tag.
fn named(text: &str) -> Result<Reference, CliError> {
    let reference = Reference::parse(text).map_err(|e| CliError::message(e.to_string()))?;
    Ok(match reference.digest() {
        Some(_) => reference,
        None => reference.with_default_tag(),
    })
}

/// What Docker says of a list that is not here.
fn no_list(name: &Reference) -> CliError {
    CliError::message(format!("No such manifest: {name}"))
}
