//! `conex rm`: removes containers.

use std::process::ExitCode;

use conex_client::{Error, query, segment};

use super::several;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Removes containers.
pub static COMMAND: Command = Command {
    about: "Remove one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    spellings: &["container rm", "container remove", "rm"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool(
        "force",
        "Force the removal of a running container (uses SIGKILL)",
    )
    .short('f'),
    Flag::bool("link", "Remove the specified link").short('l'),
    Flag::bool(
        "volumes",
        "Remove anonymous volumes associated with the container",
    )
    .short('v'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let mut pairs = Vec::new();
    for (flag, key) in [("volumes", "v"), ("link", "link"), ("force", "force")] {
        if matches.bool(flag) {
            pairs.push((key, "1"));
        }
    }
    let options = query(&pairs);
    if matches
        .args()
        .iter()
        .any(|name| name.trim_matches('/').is_empty())
    {
        return Err(CliError::message("container name cannot be empty"));
    }
    let call = |client: conex_client::Client, name: String| {
        let path = format!("/containers/{}{options}", segment(name.trim_matches('/')));
        async move { client.delete_empty(&path).await }
    };
    // With --force, a container that is not there is what was asked for.
    let force = matches.bool("force");
    several::each(ctx, matches.args(), call, |error: &Error| {
        force && error.is_not_found()
    })
}
