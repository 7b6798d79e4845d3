//! `conex volume prune`: removes volumes no container has.

use std::io::Write;
use std::process::ExitCode;

use conex_api::volume::PruneReport;
use conex_client::query;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::{filter, prompt, units};

/// Removes unused volumes.
pub static COMMAND: Command = Command {
    about: "Remove unused local volumes",
    usage: "[OPTIONS]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Remove all unused volumes, not just anonymous ones").short('a'),
    Flag::checked_list(
        "filter",
        "filter",
        filter::check,
        "Provide filter values (e.g. \"label=<label>\")",
    ),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let all = matches.bool("all");
    let mut filters = matches.list("filter").to_vec();
    if all {
        if filters.iter().any(|filter| filter.starts_with("all=")) {
            return Err(CliError::message(
                "conflicting options: cannot specify both --all and --filter all=1",
            ));
        }
        filters.push("all=true".to_owned());
    }
    let what = if all { "all" } else { "anonymous" };
    let warning = format!(
        "WARNING! This will remove {what} local volumes not used by at least one container."
    );
    if !matches.bool("force") && !prompt::confirm(ctx, &warning)? {
        return Err(CliError::message("volume prune has been cancelled"));
    }
    let filters = filter::to_query(&filters);
    let pairs: Vec<(&str, &str)> = filters.iter().map(|f| ("filters", f.as_str())).collect();
    let client = ctx.client()?;
    let path = format!("/volumes/prune{}", query(&pairs));
    let report: PruneReport = ctx.block_on(client.post_json(&path, None::<&()>))?;
    if !report.volumes_deleted.is_empty() {
        let names = report.volumes_deleted.join("\n");
        writeln!(ctx.out, "Deleted Volumes:\n{names}\n")?;
    }
    let reclaimed = units::human_size(report.space_reclaimed as f64);
    writeln!(ctx.out, "Total reclaimed space: {reclaimed}")?;
    Ok(ExitCode::SUCCESS)
}
