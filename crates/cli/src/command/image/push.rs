//! `conex image push`, also `conex push`: sends an image to its registry.

use std::io::Write;
use std::process::ExitCode;

use conex_api::progress::Message;
use conex_client::{query, segment};

use super::pull::{authorized, parse, platform};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::progress;

/// Sends an image.
pub static COMMAND: Command = Command {
    about: "Upload an image to a registry",
    usage: "[OPTIONS] NAME[:TAG]",
    spellings: &["image push", "push"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all-tags", "Push all tags of an image to the repository").short('a'),
    Flag::bool("disable-content-trust", "Skip image signing")
        .default("true")
        .hidden(),
    Flag::string(
        "platform",
        "Push a platform-specific manifest as a single-platform image to the registry",
    ),
    Flag::bool("quiet", "Suppress verbose output").short('q'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let name = matches
        .args()
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let mut reference = parse(name)?;
    let (all, quiet) = (matches.bool("all-tags"), matches.bool("quiet"));
    if all && reference.tag().is_some() {
        return Err(CliError::message("tag can't be used with --all-tags/-a"));
    }
    if !all && reference.tag().is_none() {
        reference = reference.with_default_tag();
        if !quiet {
            let tag = reference.tag().unwrap_or_default();
            writeln!(ctx.out, "Using default tag: {tag}")?;
            ctx.out.flush()?;
        }
    }
    let platform = platform(matches);
    let mut pairs = Vec::new();
    pairs.extend(reference.tag().map(|tag| ("tag", tag)));
    if !platform.is_empty() {
        pairs.push(("platform", platform.as_str()));
    }
    let path = format!(
        "/images/{}/push{}",
        segment(reference.familiar_name()),
        query(&pairs)
    );
    let client = authorized(ctx, &reference)?;
    let runtime = ctx.runtime();
    runtime.block_on(async {
        let mut messages = client.post_messages::<Message>(&path).await?;
        match quiet {
            true => progress::wait(&mut messages).await,
            false => progress::show(&mut messages, &mut ctx.out).await.map(drop),
        }
    })?;
    if quiet {
        writeln!(ctx.out, "{reference}")?;
    }
    Ok(ExitCode::SUCCESS)
}
