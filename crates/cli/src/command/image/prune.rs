//! `conex image prune`: removes images no container has.

use std::io::Write;
use std::process::ExitCode;

use conex_api::image::PruneReport;
use conex_client::query;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::{filter, prompt, units};

/// Removes unused images.
pub static COMMAND: Command = Command {
    about: "Remove unused images",
    usage: "[OPTIONS]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Remove all unused images, not just dangling ones").short('a'),
    Flag::checked_list(
        "filter",
        "filter",
        filter::check,
        "Provide filter values (e.g. \"until=<timestamp>\")",
    ),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let all = matches.bool("all");
    let warning = match all {
        true => {
            "WARNING! This will remove all images without at least one container associated to \
             them."
        }
        false => "WARNING! This will remove all dangling images.",
    };
    if !matches.bool("force") && !prompt::confirm(ctx, warning)? {
        return Err(CliError::message("image prune has been cancelled"));
    }
    let (text, reclaimed) = prune(ctx, all, matches.list("filter"))?;
    let reclaimed = units::human_size(reclaimed as f64);
    writeln!(ctx.out, "{text}Total reclaimed space: {reclaimed}")?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the engine, and words what went: lines that end with an empty one, or
/// nothing; and how many bytes it was.
pub(in crate::command) fn prune(
    ctx: &mut Context,
    all: bool,
    filters: &[String],
) -> Result<(String, u64), CliError> {
    let mut filters = filters.to_vec();
    if all || !filters.iter().any(|filter| filter.starts_with("dangling=")) {
        filters.push(format!("dangling={}", !all));
    }
    let filters = filter::to_query(&filters);
    let pairs: Vec<(&str, &str)> = filters.iter().map(|f| ("filters", f.as_str())).collect();
    let client = ctx.client()?;
    let path = format!("/images/prune{}", query(&pairs));
    let report: PruneReport = ctx.block_on(client.post_json(&path, None::<&()>))?;
    let items = report.images_deleted.unwrap_or_default();
    let mut text = String::new();
    if !items.is_empty() {
        text.push_str("Deleted Images:\n");
        for item in &items {
            match item.untagged.is_empty() {
                false => text.push_str(&format!("untagged: {}\n", item.untagged)),
                true => text.push_str(&format!("deleted: {}\n", item.deleted)),
            }
        }
        text.push('\n');
    }
    Ok((text, report.space_reclaimed))
}
