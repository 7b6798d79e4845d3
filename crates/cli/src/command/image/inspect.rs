//! `conex image inspect`: images as the engine describes them.

use std::process::ExitCode;

use conex_client::segment;

use crate::command::inspect::{self, FORMAT_FLAG};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Describes images.
pub static COMMAND: Command = Command {
    about: "Display detailed information on one or more images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    FORMAT_FLAG,
    Flag::string(
        "platform",
        "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let platform = super::platform_query(matches)?;
    inspect::describe(ctx, matches, |ctx, name| {
        inspect::get(ctx, &format!("/images/{}/json{platform}", segment(name)))
    })
}
