//! `conex search`: asks an index for images.

use std::process::ExitCode;

use conex_api::image::SearchResult;
use conex_client::query;
use conex_spec::reference::Reference;
use serde_json::{Value, json};

use crate::command::image::remote::authorized;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::filter;
use crate::flag::{Flag, Matches};
use crate::listing::{self, Listing, ellipsis};
use crate::template::Row;

/// Searches.
pub static COMMAND: Command = Command {
    about: "Search Docker Hub for images",
    usage: "[OPTIONS] TERM",
    spellings: &["search"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    filter::FLAG,
    Flag::string("format", "Pretty-print search using a Go template"),
    Flag::int("limit", "Max number of search results"),
    Flag::bool("no-trunc", "Don't truncate output"),
];

const HEADERS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

const TABLE: &str = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
/// A description's width in a table.
const WIDTH: usize = 45;

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let term = matches
        .args()
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let limit = matches.int("limit").to_string();
    let mut pairs = vec![("term", term)];
    if matches.int("limit") != 0 {
        pairs.push(("limit", &limit));
    }
    let filters = filter::to_query(matches.list("filter"));
    pairs.extend(filters.as_deref().map(|filters| ("filters", filters)));
    let path = format!("/images/search{}", query(&pairs));
    let format = match matches.str("format") {
        "" | listing::TABLE => TABLE,
        custom => custom,
    };
    let listing = Listing::new(format)?;
    // The term begins with its registry as an image's name would.
    let client = match Reference::parse(term) {
        Ok(reference) => authorized(ctx, &reference)?,
        Err(_) => (*ctx.client()?).clone(),
    };
    let results: Vec<SearchResult> = ctx.block_on(client.get_json(&path))?;
    let full = matches.bool("no-trunc");
    let rows: Vec<Found> = results
        .into_iter()
        .map(|result| Found { result, full })
        .collect();
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// A line of the list.
struct Found {
    result: SearchResult,
    full: bool,
}

impl Found {
    fn description(&self) -> String {
        let line = self.result.description.replace(['\n', '\r'], " ");
        match self.full {
            true => line,
            false => ellipsis(&line, WIDTH),
        }
    }

    fn yes(given: bool) -> &'static str {
        if given { "[OK]" } else { "" }
    }
}

impl Row for Found {
    fn type_name(&self) -> &'static str {
        "*formatter.SearchContext"
    }

    fn field(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        Some(Ok(match name {
            "Name" => self.result.name.clone().into(),
            "Description" => self.description().into(),
            "StarCount" => self.result.star_count.to_string().into(),
            "IsOfficial" => Self::yes(self.result.is_official).into(),
            "IsAutomated" => Self::yes(self.result.is_automated).into(),
            _ => return None,
        }))
    }

    fn to_json(&self) -> Value {
        json!({
            "Description": self.description(),
            "IsAutomated": self.result.is_automated.to_string(),
            "IsOfficial": self.result.is_official.to_string(),
            "Name": self.result.name,
            "StarCount": self.result.star_count.to_string(),
        })
    }
}
