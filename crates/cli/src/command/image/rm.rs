//! `conex image rm`, also `conex rmi`: removes names of images, and images without names.

use std::io::Write;
use std::process::ExitCode;

use conex_client::{query, segment};
use serde::Deserialize;

use crate::command::inspect::join_failures;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::{CliError, EXIT_FAILURE};
use crate::flag::{Flag, Kind, Matches};

/// Removes images.
pub static COMMAND: Command = Command {
    about: "Remove one or more images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    spellings: &["image rm", "image remove", "rmi"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("force", "Force removal of the image").short('f'),
    Flag::bool("no-prune", "Do not delete untagged parents"),
    Flag::new(
        Kind::CommaList,
        "platform",
        "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

/// One step the engine took.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Step {
    deleted: String,
    untagged: String,
}

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let force = matches.bool("force");
    let platforms = matches
        .list("platform")
        .iter()
        .map(|text| super::platform_json(text))
        .collect::<Result<Vec<_>, _>>()?;
    let mut pairs = Vec::new();
    if force {
        pairs.push(("force", "1"));
    }
    if matches.bool("no-prune") {
        pairs.push(("noprune", "1"));
    }
    pairs.extend(
        platforms
            .iter()
            .map(|platform| ("platforms", platform.as_str())),
    );
    let options = query(&pairs);
    let client = ctx.client()?;
    let mut failures = Vec::new();
    for name in matches.args() {
        let path = format!("/images/{}{options}", segment(name));
        match ctx.block_on(client.delete_json::<Vec<Step>>(&path)) {
            Ok(steps) => {
                for step in steps {
                    if step.deleted.is_empty() {
                        writeln!(ctx.out, "Untagged: {}", step.untagged)?;
                    } else {
                        writeln!(ctx.out, "Deleted: {}", step.deleted)?;
                    }
                }
            }
            Err(error) => failures.push(error),
        }
    }
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // Forced, an image that is not there is as good as removed.
    let forgiven = force && failures.iter().all(conex_client::Error::is_not_found);
    let code = if forgiven { 0 } else { EXIT_FAILURE };
    Err(CliError::Status {
        code,
        text: join_failures(&failures),
    })
}
