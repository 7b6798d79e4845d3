//! `conex kill`: sends a signal to containers.

use std::process::ExitCode;

use conex_client::{query, segment};

use super::several;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Kills containers.
pub static COMMAND: Command = Command {
    about: "Kill one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    spellings: &["container kill", "kill"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[Flag::string("signal", "Signal to send to the container").short('s')];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let options = match matches.str("signal") {
        "" => String::new(),
        signal => query(&[("signal", signal)]),
    };
    let call = |client: conex_client::Client, name: String| {
        let path = format!("/containers/{}/kill{options}", segment(&name));
        async move { client.post_empty(&path).await }
    };
    several::each(ctx, matches.args(), call, |_| false)
}
