//! `conex container prune`: removes containers that do not run.

use std::io::Write;
use std::process::ExitCode;

use conex_api::container::PruneReport;
use conex_client::query;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::{filter, prompt, units};

/// Removes stopped containers.
pub static COMMAND: Command = Command {
    about: "Remove all stopped containers",
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

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let warning = "WARNING! This will remove all stopped containers.";
    if !matches.bool("force") && !prompt::confirm(ctx, warning)? {
        return Err(CliError::message("container prune has been cancelled"));
    }
    let filters = filter::to_query(matches.list("filter"));
    let pairs: Vec<(&str, &str)> = filters.iter().map(|f| ("filters", f.as_str())).collect();
    let client = ctx.client()?;
    let path = format!("/containers/prune{}", query(&pairs));
    let report: PruneReport = ctx.block_on(client.post_json(&path, None::<&()>))?;
    if let Some(ids) = report.containers_deleted.filter(|ids| !ids.is_empty()) {
        writeln!(ctx.out, "Deleted Containers:\n{}\n", ids.join("\n"))?;
    }
    let reclaimed = units::human_size(report.space_reclaimed as f64);
    writeln!(ctx.out, "Total reclaimed space: {reclaimed}")?;
    Ok(ExitCode::SUCCESS)
}
