//! `conex image load`, also `conex load`: the images of an archive.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use conex_client::query;

use super::platform_json;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::transfer::{chunks, show};

/// Takes images in from an archive.
pub static COMMAND: Command = Command {
    about: "Load an image from a tar archive or STDIN",
    usage: "[OPTIONS]",
    spellings: &["image load", "load"],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string("input", "Read from tar archive file, instead of STDIN").short('i'),
    Flag::string(
        "platform",
        "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    Flag::bool("quiet", "Suppress the load output").short('q'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let file = open(matches.opt_str("input").filter(|path| !path.is_empty()))?;
    let platform = matches.opt_str("platform").filter(|text| !text.is_empty());
    let platform = platform.map(platform_json).transpose()?;
    // Counters are for terminals, and so is asking the engine for them.
    let quiet = matches.bool("quiet") || !ctx.out.is_terminal();
    let mut pairs = vec![("quiet", if quiet { "1" } else { "0" })];
    pairs.extend(platform.iter().map(|json| ("platform", json.as_str())));
    let path = format!("/images/load{}", query(&pairs));
    let client = ctx.client()?;
    let runtime = ctx.runtime();
    let out = &mut ctx.out;
    runtime.block_on(async {
        let mut progress = client
            .post_stream(&path, "application/x-tar", chunks(file))
            .await?;
        show(&mut progress, out).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn open(input: Option<&str>) -> Result<File, CliError> {
    if let Some(path) = input {
        return File::open(path).map_err(|error| CliError::open(path, error));
    }
    if io::stdin().is_terminal() {
        return Err(CliError::message(
            "requested load from stdin, but stdin is empty",
        ));
    }
    let stdin = rustix::io::dup(rustix::stdio::stdin())
        .map_err(|error| CliError::open("/dev/stdin", error.into()))?;
    Ok(File::from(stdin))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_missing_archive_is_said_as_the_system_says_it() {
        let error = open(Some("/nosuch")).err().unwrap();
        assert_eq!(
            error.text().unwrap(),
            "open /nosuch: no such file or directory"
        );
    }
}
