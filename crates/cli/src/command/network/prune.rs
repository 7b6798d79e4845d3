//! `conex network prune`: removes networks nobody is on.

use std::io::Write;
use std::process::ExitCode;

use conex_api::network::PruneResponse;
use conex_client::query;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::{filter, prompt};

/// Removes unused networks.
pub static COMMAND: Command = Command {
    about: "Remove all unused networks",
    usage: "[OPTIONS]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::checked_list(
        "filter",
        "filter",
        filter::check,
        "Provide filter values (e.g. \"until=<timestamp>\")",
    ),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
];

const WARNING: &str =
    "WARNING! This will remove all custom networks not used by at least one container.";

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    if !matches.bool("force") && !prompt::confirm(ctx, WARNING)? {
        return Err(CliError::message("network prune has been cancelled"));
    }
    let filters = filter::to_query(matches.list("filter"));
    let pairs: Vec<(&str, &str)> = filters.iter().map(|f| ("filters", f.as_str())).collect();
    let client = ctx.client()?;
    let path = format!("/networks/prune{}", query(&pairs));
    let pruned: PruneResponse = ctx.block_on(client.post_json(&path, None::<&()>))?;
    let names = pruned.networks_deleted.unwrap_or_default();
    if !names.is_empty() {
        writeln!(ctx.out, "Deleted Networks:\n{}\n", names.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
