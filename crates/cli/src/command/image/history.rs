//! `conex history`: how an image came to be.

use std::process::ExitCode;

use conex_api::image::HistoryItem;
use conex_client::segment;
use serde_json::Value;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::listing::{self, Listing, ellipsis, short_id};
use crate::template::Row;
use crate::{time, units};

/// Shows the history of an image.
pub static COMMAND: Command = Command {
    about: "Show the history of an image",
    usage: "[OPTIONS] IMAGE",
    spellings: &["image history", "history"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string("format", listing::FORMAT_HELP),
    Flag::bool("human", "Print sizes and dates in human readable format")
        .short('H')
        .default("true"),
    Flag::bool("no-trunc", "Don't truncate output"),
    Flag::string(
        "platform",
        "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    Flag::bool("quiet", "Only show image IDs").short('q'),
];

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let human = matches.bool("human");
    let format = match matches.str("format") {
        "" | listing::TABLE if matches.bool("quiet") => "{{.ID}}",
        "" | listing::TABLE if human => {
            "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
        }
        "" | listing::TABLE => {
            "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
        }
        custom => custom,
    };
    let listing = Listing::new(format)?;
    let client = ctx.client()?;
    let platform = super::platform_query(matches)?;
    let path = format!("/images/{}/history{platform}", segment(&matches.args()[0]));
    let steps: Vec<HistoryItem> = ctx.block_on(client.get_json(&path))?;
    let now_s = time::now_s();
    let rows: Vec<StepRow> = steps
        .into_iter()
        .map(|step| StepRow {
            step,
            shorten: !matches.bool("no-trunc"),
            human,
            now_s,
        })
        .collect();
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

struct StepRow {
    step: HistoryItem,
    shorten: bool,
    human: bool,
    now_s: f64,
}

impl Row for StepRow {
    fn type_name(&self) -> &'static str {
        "*formatter.historyContext"
    }

    fn field(&self, name: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        let step = &self.step;
        let text = match name {
            "ID" if self.shorten => short_id(&step.id).to_owned(),
            "ID" => step.id.clone(),
            // A time before 1970 is none.
            "CreatedSince" | "CreatedAt" if step.created <= 0 => "N/A".to_owned(),
            "CreatedSince" if self.human => {
                let span = units::human_duration(self.now_s - step.created as f64);
                format!("{span} ago")
            }
            "CreatedSince" | "CreatedAt" => time::zoned(step.created),
            "CreatedBy" => {
                let flat = step.created_by.replace('\t', " ");
                match self.shorten {
                    true => ellipsis(&flat, 45),
                    false => flat,
                }
            }
            "Size" if self.human => units::short_size(step.size as f64),
            "Size" => step.size.to_string(),
            "Comment" => step.comment.clone(),
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn field(row: &StepRow, name: &str) -> String {
        let value = row.field(name, &[]).unwrap().unwrap();
        value.as_str().unwrap().to_owned()
    }

    #[test]
    fn long_commands_are_cut_and_missing_images_are_named_so() {
        let mut row = StepRow {
            step: HistoryItem {
                id: "<missing>".into(),
                created: 1_000,
                created_by: format!("RUN\t{}", "x".repeat(60)),
                size: 2_039_808,
                ..HistoryItem::default()
            },
            shorten: true,
            human: true,
            now_s: 4_600.0,
        };
        assert_eq!(field(&row, "ID"), "<missing>");
        assert_eq!(field(&row, "CreatedBy"), format!("RUN {}…", "x".repeat(40)));
        assert_eq!(field(&row, "Size"), "2.04MB");
        assert_eq!(field(&row, "CreatedSince"), "About an hour ago");
        (row.shorten, row.human) = (false, false);
        assert_eq!(field(&row, "CreatedBy").len(), 64);
        assert_eq!(field(&row, "Size"), "2039808");
        assert!(field(&row, "CreatedAt").starts_with("1970-01-01T"));
    }
}
