//! `conex image ls`, also `conex images`: lists images.

use std::io::Write;
use std::process::ExitCode;

use conex_client::query;
use conex_spec::reference::Reference;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::filter;
use crate::flag::{Flag, Matches};
use crate::listing::{self, Listing, short_id};
use crate::template::Row;
use crate::{time, units};

/// Lists images.
pub static COMMAND: Command = Command {
    about: "List images",
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    spellings: &["image ls", "image list", "images"],
    flags: &[FLAGS],
    args: Args::AtMost(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Show all images (default hides intermediate images)").short('a'),
    Flag::bool("digests", "Show digests"),
    filter::FLAG,
    Flag::string("format", listing::FORMAT_HELP),
    Flag::bool("no-trunc", "Don't truncate output"),
    Flag::bool("quiet", "Only show image IDs").short('q'),
];

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let quiet = matches.bool("quiet");
    let mut asked = matches.str("format").to_owned();
    if asked.is_empty() {
        asked = ctx.config().images_format.clone();
    } else if quiet {
        writeln!(
            ctx.err,
            "WARNING: Ignoring custom format, because both --format and --quiet are set."
        )?;
    }
    let listing = Listing::new(&full_format(&asked, quiet, matches.bool("digests")))?;
    let path = request(matches);
    let client = ctx.client()?;
    let summaries: Vec<Summary> = ctx.block_on(client.get_json(&path))?;
    let digests = Digests {
        of_tags: matches.bool("digests") || asked.contains("{{.Digest}}"),
        alone: matches.bool("digests"),
    };
    let look = Look {
        shorten: !matches.bool("no-trunc"),
        now_s: time::now_s(),
    };
    let rows: Vec<ImageRow<'_>> = summaries
        .iter()
        .flat_map(|summary| rows(summary, digests, look))
        .collect();
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints images as a table of `system df -v`.
pub(in crate::command) fn print_usage(
    ctx: &mut Context,
    images: Vec<Value>,
    format: &str,
) -> Result<(), CliError> {
    let summaries: Vec<Summary> = images
        .into_iter()
        .map(|image| serde_json::from_value(image).unwrap_or_default())
        .collect();
    let digests = Digests {
        of_tags: false,
        alone: false,
    };
    let look = Look {
        shorten: true,
        now_s: time::now_s(),
    };
    let rows: Vec<ImageRow<'_>> = summaries
        .iter()
        .flat_map(|summary| rows(summary, digests, look))
        .collect();
    Listing::new(format)?.print(&mut ctx.out, HEADERS, &rows)
}

/// The format as a template, `table` and `raw` spelt out.
fn full_format(asked: &str, quiet: bool, with_digests: bool) -> String {
    const CREATED_AND_SIZE: &str =
        "{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
    let digest_column = if with_digests { "{{.Digest}}\t" } else { "" };
    match asked {
        listing::RAW if quiet => "image_id: {{.ID}}".to_owned(),
        listing::RAW => {
            let digest = if with_digests {
                "digest: {{.Digest}}\n"
            } else {
                ""
            };
            format!(
                "repository: {{{{.Repository}}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\ncreated_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
            )
        }
        _ if quiet => "{{.ID}}".to_owned(),
        "" | listing::TABLE => {
            format!(
                "table {{{{.Repository}}}}\t{{{{.Tag}}}}\t{digest_column}{{{{.ID}}}}\t{CREATED_AND_SIZE}"
            )
        }
        // A custom table is given a digest column when one was asked for.
        custom
            if with_digests
                && custom.starts_with(listing::TABLE)
                && !custom.contains("{{.Digest}}") =>
        {
            format!("{custom}\t{{{{.Digest}}}}")
        }
        custom => custom.to_owned(),
    }
}

/// The path and query that ask for the list.
fn request(matches: &Matches) -> String {
    let mut filters = matches.list("filter").to_vec();
    if let Some(name) = matches.args().first() {
        filters.push(format!("reference={name}"));
    }
    let filters = filter::to_query(&filters);
    let mut pairs = Vec::new();
    if let Some(filters) = &filters {
        pairs.push(("filters", filters.as_str()));
    }
    if matches.bool("all") {
        pairs.push(("all", "1"));
    }
    format!("/images/json{}", query(&pairs))
}

/// What a list needs of an engine's entry; the rest is skipped while reading.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Summary {
    id: String,
    containers: i64,
    created: i64,
    repo_digests: Option<Vec<String>>,
    repo_tags: Option<Vec<String>>,
    shared_size: i64,
    size: i64,
}

/// Where digests are shown.
#[derive(Clone, Copy)]
struct Digests {
    /// Beside each tag.
    of_tags: bool,
    /// In rows of their own where a repository has no tag.
    alone: bool,
}

/// How values are shown.
#[derive(Clone, Copy)]
struct Look {
    /// Whether ids are cut.
    shorten: bool,
    now_s: f64,
}

/// A line of the list: one name of an image.
struct ImageRow<'a> {
    summary: &'a Summary,
    repository: String,
    tag: String,
    digest: String,
    look: Look,
}

const NONE: &str = "<none>";

/// The lines of one image, one per name.
fn rows(summary: &Summary, digests: Digests, look: Look) -> Vec<ImageRow<'_>> {
    let row = |repository: &str, tag: &str, digest: &str| ImageRow {
        summary,
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
        look,
    };
    let names = |list: &Option<Vec<String>>| -> Vec<Reference> {
        list.iter()
            .flatten()
            .filter_map(|name| Reference::parse(name).ok())
            .collect()
    };
    let (tags, with_digests) = (names(&summary.repo_tags), names(&summary.repo_digests));
    if tags.is_empty() && with_digests.is_empty() {
        return vec![row(NONE, NONE, NONE)];
    }
    // Repository → its tags and its digests, in the engine's order.
    let mut repositories: IndexMap<&str, (Vec<&str>, Vec<String>)> = IndexMap::new();
    for reference in &tags {
        if let Some(tag) = reference.tag() {
            repositories
                .entry(reference.familiar_name())
                .or_default()
                .0
                .push(tag);
        }
    }
    for reference in &with_digests {
        if let Some(digest) = reference.digest() {
            repositories
                .entry(reference.familiar_name())
                .or_default()
                .1
                .push(digest.to_string());
        }
    }
    let mut rows = Vec::new();
    for (repository, (tags, its_digests)) in &repositories {
        for tag in tags {
            if !digests.of_tags || its_digests.is_empty() {
                rows.push(row(repository, tag, NONE));
            } else {
                rows.extend(
                    its_digests
                        .iter()
                        .map(|digest| row(repository, tag, digest)),
                );
            }
        }
    }
    for (repository, (tags, its_digests)) in &repositories {
        if tags.is_empty() {
            if digests.alone {
                rows.extend(
                    its_digests
                        .iter()
                        .map(|digest| row(repository, NONE, digest)),
                );
            } else {
                rows.push(row(repository, NONE, ""));
            }
        }
    }
    rows
}

impl Row for ImageRow<'_> {
    fn type_name(&self) -> &'static str {
        "*formatter.imageContext"
    }

    fn field(&self, name: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        let summary = self.summary;
        let text = match name {
            "ID" if self.look.shorten => short_id(&summary.id).to_owned(),
            "ID" => summary.id.clone(),
            "Repository" => self.repository.clone(),
            "Tag" => self.tag.clone(),
            "Digest" => self.digest.clone(),
            "CreatedSince" if summary.created <= 0 => String::new(),
            "CreatedSince" => {
                format!(
                    "{} ago",
                    units::human_duration(self.look.now_s - summary.created as f64)
                )
            }
            "CreatedAt" if summary.created <= 0 => String::new(),
            "CreatedAt" => time::list_time(summary.created),
            "Size" => units::short_size(summary.size as f64),
            "VirtualSize" => units::human_size(summary.size as f64),
            "Containers" if summary.containers < 0 => "N/A".to_owned(),
            "Containers" => summary.containers.to_string(),
            "SharedSize" | "UniqueSize" if summary.shared_size < 0 => "N/A".to_owned(),
            "SharedSize" => units::human_size(summary.shared_size as f64),
            "UniqueSize" => units::human_size((summary.size - summary.shared_size) as f64),
            _ => return None,
        };
        Some(Ok(Value::String(text)))
    }

    fn to_json(&self) -> Value {
        let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
        listing::row_json(self, &names)
    }
}

#[cfg(test)]
mod tests;
