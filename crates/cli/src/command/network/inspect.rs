//! `conex network inspect`: networks as the engine describes them.

use std::process::ExitCode;

use conex_client::segment;

use crate::command::inspect::{self, FORMAT_FLAG};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Describes networks.
pub static COMMAND: Command = Command {
    about: "Display detailed information on one or more networks",
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    FORMAT_FLAG,
    Flag::bool("verbose", "Verbose output for diagnostics").short('v'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let options = match matches.bool("verbose") {
        true => "?verbose=true",
        false => "",
    };
    inspect::describe(ctx, matches, |ctx, name| {
        inspect::get(ctx, &format!("/networks/{}{options}", segment(name)))
    })
}
