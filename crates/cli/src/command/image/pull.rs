//! `conex image pull`, also `conex pull`: fetches an image from its registry.

use std::io::Write;
use std::process::ExitCode;

use conex_client::{Client, query};
use conex_spec::reference::Reference;

use super::remote;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::output::Output;

/// Fetches an image.
pub static COMMAND: Command = Command {
    about: "Download an image from a registry",
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    spellings: &["image pull", "pull"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all-tags", "Download all tagged images in the repository").short('a'),
    remote::content_trust("Skip image verification"),
    Flag::string(
        "platform",
        "Set platform if server is multi-platform capable",
    ),
    Flag::bool("quiet", "Suppress verbose output").short('q'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let reference = remote::named(ctx, matches)?;
    let platform = remote::platform(matches);
    let client = remote::authorized(ctx, &reference)?;
    let runtime = ctx.runtime();
    let out = (!matches.bool("quiet")).then_some(&mut ctx.out);
    runtime.block_on(pull(&client, &reference, &platform, out))?;
    writeln!(ctx.out, "{reference}")?;
    Ok(ExitCode::SUCCESS)
}

/// Has the engine pull; without a place for its progress nothing is printed.
pub(crate) async fn pull(
    client: &Client,
    reference: &Reference,
    platform: &str,
    out: Option<&mut Output>,
) -> Result<(), CliError> {
    let version = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or_default().to_owned(),
    };
    let mut pairs = vec![("fromImage", reference.familiar_name())];
    if !version.is_empty() {
        pairs.push(("tag", &version));
    }
    if !platform.is_empty() {
        pairs.push(("platform", platform));
    }
    let path = format!("/images/create{}", query(&pairs));
    remote::transfer(client, &path, out).await
}
