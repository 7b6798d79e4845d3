//! `conex system prune`: removes what is unused, of every kind.

use std::io::Write;
use std::process::ExitCode;

use conex_client::query;
use serde::Deserialize;

use crate::command::{Args, Command, image};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::{filter, prompt, units};

/// Removes unused data.
pub static COMMAND: Command = Command {
    about: "Remove unused data",
    usage: "[OPTIONS]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Remove all unused images not just dangling ones").short('a'),
    Flag::checked_list(
        "filter",
        "filter",
        filter::check,
        "Provide filter values (e.g. \"label=<key>=<value>\")",
    ),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
    Flag::bool("volumes", "Prune anonymous volumes"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let (all, volumes) = (matches.bool("all"), matches.bool("volumes"));
    let filters = matches.list("filter");
    if volumes && filters.iter().any(|filter| filter.starts_with("until=")) {
        return Err(CliError::message(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    if !matches.bool("force") && !prompt::confirm(ctx, &warning(all, volumes, filters))? {
        return Err(CliError::message("system prune has been cancelled"));
    }
    let mut text = String::new();
    let mut reclaimed = 0;
    for kind in [&CONTAINERS, &NETWORKS, &VOLUMES] {
        if kind.path == VOLUMES.path && !volumes {
            continue;
        }
        let (lines, bytes) = prune(ctx, kind, filters)?;
        text.push_str(&lines);
        reclaimed += bytes;
    }
    let (lines, bytes) = image::prune::prune(ctx, all, filters)?;
    text.push_str(&lines);
    reclaimed += bytes;
    let reclaimed = units::human_size(reclaimed as f64);
    writeln!(ctx.out, "{text}Total reclaimed space: {reclaimed}")?;
    Ok(ExitCode::SUCCESS)
}

/// What is about to go, in Docker's words.
fn warning(all: bool, volumes: bool, filters: &[String]) -> String {
    let mut lines = vec!["all stopped containers"];
    lines.push("all networks not used by at least one container");
    if volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(match all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    });
    lines.push(match all {
        true => "all build cache",
        false => "unused build cache",
    });
    let mut text = String::from("WARNING! This will remove:\n");
    for line in lines {
        text.push_str(&format!("  - {line}\n"));
    }
    if !filters.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        for filter in filters {
            text.push_str(&format!("  - {filter}\n"));
        }
    }
    text
}

/// A kind of object whose prune answers with names.
struct Kind {
    path: &'static str,
    heading: &'static str,
}

static CONTAINERS: Kind = Kind {
    path: "/containers/prune",
    heading: "Deleted Containers:",
};
static NETWORKS: Kind = Kind {
    path: "/networks/prune",
    heading: "Deleted Networks:",
};
static VOLUMES: Kind = Kind {
    path: "/volumes/prune",
    heading: "Deleted Volumes:",
};

/// The three reports have one member each.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Report {
    containers_deleted: Option<Vec<String>>,
    networks_deleted: Option<Vec<String>>,
    volumes_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

fn prune(ctx: &mut Context, kind: &Kind, filters: &[String]) -> Result<(String, u64), CliError> {
    let filters = filter::to_query(filters);
    let pairs: Vec<(&str, &str)> = filters.iter().map(|f| ("filters", f.as_str())).collect();
    let client = ctx.client()?;
    let path = format!("{}{}", kind.path, query(&pairs));
    let report: Report = ctx.block_on(client.post_json(&path, None::<&()>))?;
    let mut text = String::new();
    let names = [
        report.containers_deleted,
        report.networks_deleted,
        report.volumes_deleted,
    ];
    let names: Vec<String> = names.into_iter().flatten().flatten().collect();
    if !names.is_empty() {
        text = format!("{}\n{}\n\n", kind.heading, names.join("\n"));
    }
    Ok((text, report.space_reclaimed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_everything_that_goes() {
        assert_eq!(
            warning(false, false, &[]),
            "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by \
             at least one container\n  - all dangling images\n  - unused build cache\n"
        );
        let all = warning(true, true, &["label=a".to_owned()]);
        assert!(all.contains("  - all anonymous volumes not used by at least one container\n"));
        assert!(all.contains("  - all images without at least one container associated to them\n"));
        assert!(all.ends_with("filtered with:\n  - label=a\n"));
    }
}
