//! `conex manifest push`: sends a list to its registry.

use std::io::Write;
use std::process::ExitCode;

use super::remote::Remote;
use super::{named, no_list, store};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::manifests::list_of;

/// Sends a list.
pub static COMMAND: Command = Command {
    about: "Push a manifest list to a repository",
    usage: "[OPTIONS] MANIFEST_LIST",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("insecure", "Allow push to an insecure registry"),
    Flag::bool("purge", "Remove the local manifest list after push").short('p'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let list = named(
        matches
            .args()
            .first()
            .map(String::as_str)
            .unwrap_or_default(),
    )?;
    let store = store(ctx);
    let entries = store.list(&list)?.ok_or_else(|| no_list(&list))?;
    if entries.is_empty() {
        return Err(CliError::message(format!("{list} not found")));
    }
    for entry in &entries {
        let platform = entry.descriptor.platform.as_ref();
        if platform.is_none_or(|p| p.os.is_empty() || p.architecture.is_empty()) {
            return Err(CliError::message(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                entry.name
            )));
        }
    }
    let remote = Remote::new(ctx, matches.bool("insecure"));
    let (images, digest) = ctx.block_on(remote.push(&list, &entries, list_of(&entries)))?;
    for image in images {
        let own = image.digest().map(ToString::to_string).unwrap_or_default();
        writeln!(ctx.out, "Pushed ref {image} with digest: {own}")?;
    }
    writeln!(ctx.out, "{digest}")?;
    if matches.bool("purge") {
        store.remove(&list)?;
    }
    Ok(ExitCode::SUCCESS)
}
