//! `conex manifest create`: begins a list of images, or adds to one.

use std::io::Write;
use std::process::ExitCode;

use super::remote::{Found, Remote};
use super::{INSECURE, named, store};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Makes a list.
pub static COMMAND: Command = Command {
    about: "Create a local manifest list for annotating and pushing to a registry",
    usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::AtLeast(2),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("amend", "Amend an existing manifest list").short('a'),
    INSECURE,
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let [list, images @ ..] = matches.args() else {
        return Err(CliError::message("a list needs images"));
    };
    let list = named(list).map_err(|error| {
        let text = error.text().unwrap_or_default();
        CliError::message(format!(
            "error parsing name for manifest list {list}: {text}"
        ))
    })?;
    let store = store(ctx);
    if store.list(&list)?.is_some() && !matches.bool("amend") {
        return Err(CliError::message(
            "refusing to amend an existing manifest list with no --amend flag",
        ));
    }
    let remote = Remote::new(ctx, matches.bool("insecure"));
    for image in images {
        let image = named(image)?;
        let entry = match store.get(&list, &image)? {
            Some(entry) => entry,
            None => match ctx.block_on(remote.get(&image))? {
                Found::Image(entry) => *entry,
                Found::List(_) => {
                    return Err(CliError::message(format!("{image} is a manifest list")));
                }
            },
        };
        store.put(&list, &image, &entry)?;
    }
    writeln!(ctx.out, "Created manifest list {list}")?;
    Ok(ExitCode::SUCCESS)
}
