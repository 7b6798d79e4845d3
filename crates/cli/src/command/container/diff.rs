//! `conex diff`: what a container changed on its file system.

use std::io::Write;
use std::process::ExitCode;

use conex_api::container::FilesystemChange;
use conex_client::{Client, segment};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Lists changed files.
pub static COMMAND: Command = Command {
    about: "Inspect changes to files or directories on a container's filesystem",
    usage: "CONTAINER",
    spellings: &["container diff", "diff"],
    flags: &[],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let client = Client::clone(&*ctx.client()?);
    let path = format!("/containers/{}/changes", segment(&matches.args()[0]));
    // Older engines answer null for no changes.
    let changes: Option<Vec<FilesystemChange>> = ctx.block_on(client.get_json(&path))?;
    for change in changes.unwrap_or_default() {
        writeln!(ctx.out, "{} {}", letter(change.kind), change.path)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn letter(kind: u8) -> char {
    match kind {
        0 => 'C',
        1 => 'A',
        2 => 'D',
        _ => '?',
    }
}
