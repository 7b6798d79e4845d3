//! `conex cp`: files between a container and the host.
//!
//! What is copied under which name depends on what is there at both ends and on
//! the slash or `/.` at the end of either path; the rules are in [`plan`].
//!
//! Source: docker/cli `cli/command/container/cp.go`, moby `pkg/archive/copy.go`.

mod download;
mod pipe;
mod plan;
mod progress;
mod upload;

use std::process::ExitCode;

use conex_api::container::{PATH_STAT_HEADER, PathStat};
use conex_client::{Answer, query, segment};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Copies files.
pub static COMMAND: Command = Command {
    about: "Copy files/folders between a container and the local filesystem",
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-
	conex cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    spellings: &["container cp", "cp"],
    flags: &[FLAGS],
    args: Args::Exactly(2),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("archive", "Archive mode (copy all uid/gid information)").short('a'),
    Flag::bool("follow-link", "Always follow symbol link in SRC_PATH").short('L'),
    Flag::bool(
        "quiet",
        "Suppress progress output during copy. Progress\noutput is automatically suppressed if no terminal\nis attached",
    )
    .short('q'),
];

/// What was asked for, without the two paths.
struct Job<'a> {
    container: &'a str,
    follow_link: bool,
    archive: bool,
    quiet: bool,
}

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let [source, destination] = matches.args() else {
        return Err(CliError::message("two paths are needed"));
    };
    for (path, what) in [(source, "source"), (destination, "destination")] {
        if path.is_empty() {
            return Err(CliError::message(format!("{what} can not be empty")));
        }
    }
    let quiet = match matches.is_set("quiet") {
        true => matches.bool("quiet"),
        false => !ctx.err.is_terminal(),
    };
    let job = |container| Job {
        container,
        follow_link: matches.bool("follow-link"),
        archive: matches.bool("archive"),
        quiet,
    };
    match (split(source), split(destination)) {
        ((Some(_), _), (Some(_), _)) => Err(CliError::message(
            "copying between containers is not supported",
        )),
        ((Some(container), from), (None, to)) => download::run(ctx, &job(container), from, to),
        ((None, from), (Some(container), to)) => upload::run(ctx, &job(container), from, to),
        ((None, _), (None, _)) => Err(CliError::message(
            "must specify at least one container source",
        )),
    }
}

/// `container:path`, or a path of the host: absolute, or beginning with a dot,
/// or without a colon.
fn split(arg: &str) -> (Option<&str>, &str) {
    match arg.split_once(':') {
        Some((container, path)) if !arg.starts_with('/') && !container.starts_with('.') => {
            (Some(container), path)
        }
        _ => (None, arg),
    }
}

/// The archive of a path of a container.
fn archive_path(container: &str, path: &str, more: &[(&str, &str)]) -> String {
    let mut pairs = vec![("path", path)];
    pairs.extend_from_slice(more);
    format!(
        "/containers/{}/archive{}",
        segment(container),
        query(&pairs)
    )
}

/// What the header of an answer says of the path.
fn stat_of(answer: &Answer) -> Result<PathStat, CliError> {
    use base64::Engine as _;
    answer
        .header(PATH_STAT_HEADER)
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| {
            CliError::message(format!(
                "unable to decode container path stat header {PATH_STAT_HEADER}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_names_a_container_unless_the_path_says_otherwise() {
        for (arg, container, path) in [
            ("web:/etc", Some("web"), "/etc"),
            ("web:etc", Some("web"), "etc"),
            ("web:", Some("web"), ""),
            ("/abs:olute", None, "/abs:olute"),
            ("./file:name", None, "./file:name"),
            ("plain", None, "plain"),
            ("-", None, "-"),
        ] {
            assert_eq!(split(arg), (container, path), "{arg}");
        }
    }
}
