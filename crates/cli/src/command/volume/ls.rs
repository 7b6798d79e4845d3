//! `conex volume ls`: lists volumes.

use std::process::ExitCode;

use conex_api::volume::{ListResponse, Volume};
use conex_client::query;
use serde_json::Value;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::listing::{self, Listing};
use crate::template::Row;
use crate::{filter, units};

/// Lists volumes.
pub static COMMAND: Command = Command {
    about: "List volumes",
    usage: "[OPTIONS]",
    spellings: &["volume ls", "volume list"],
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
        "Provide filter values (e.g. \"dangling=true\")",
    )
    .short('f'),
    Flag::string("format", listing::FORMAT_HELP),
    Flag::bool("quiet", "Only display volume names").short('q'),
];

const HEADERS: &[(&str, &str)] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let quiet = matches.bool("quiet");
    let mut asked = matches.str("format").to_owned();
    if asked.is_empty() {
        asked = ctx.config().volumes_format.clone();
    }
    let format = match asked.as_str() {
        listing::RAW if quiet => "name: {{.Name}}",
        listing::RAW => "name: {{.Name}}\ndriver: {{.Driver}}\n",
        "" | listing::TABLE if quiet => "{{.Name}}",
        "" | listing::TABLE => "table {{.Driver}}\t{{.Name}}",
        custom => custom,
    };
    let listing = Listing::new(format)?;
    let filters = filter::to_query(matches.list("filter"));
    let pairs: Vec<(&str, &str)> = filters.iter().map(|f| ("filters", f.as_str())).collect();
    let path = format!("/volumes{}", query(&pairs));
    let client = ctx.client()?;
    let answer: ListResponse = ctx.block_on(client.get_json(&path))?;
    let rows: Vec<VolumeRow> = answer.volumes.into_iter().map(VolumeRow).collect();
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints volumes as a table of `system df -v`.
pub(in crate::command) fn print_usage(
    ctx: &mut Context,
    volumes: Vec<Volume>,
    format: &str,
) -> Result<(), CliError> {
    let rows: Vec<VolumeRow> = volumes.into_iter().map(VolumeRow).collect();
    Listing::new(format)?.print(&mut ctx.out, HEADERS, &rows)
}

struct VolumeRow(Volume);

impl Row for VolumeRow {
    fn type_name(&self) -> &'static str {
        "*formatter.volumeContext"
    }

    fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let volume = &self.0;
        let not_known = || "N/A".to_owned();
        let text = match name {
            "Name" => volume.name.clone(),
            "Driver" => volume.driver.clone(),
            "Scope" => volume.scope.clone(),
            "Mountpoint" => volume.mountpoint.clone(),
            "Labels" => {
                let pairs = volume.labels.iter().flatten();
                let pairs: Vec<String> = pairs.map(|(k, v)| format!("{k}={v}")).collect();
                pairs.join(",")
            }
            "Label" => {
                let key = args.first().and_then(Value::as_str).unwrap_or_default();
                let labels = volume.labels.as_ref();
                labels
                    .and_then(|it| it.get(key))
                    .cloned()
                    .unwrap_or_default()
            }
            "Links" => match &volume.usage_data {
                Some(usage) => usage.ref_count.to_string(),
                None => not_known(),
            },
            "Size" => match &volume.usage_data {
                Some(usage) => units::human_size(usage.size as f64),
                None => not_known(),
            },
            // Of volumes of a cluster.
            "Availability" | "Group" | "Status" => not_known(),
            _ => return None,
        };
        Some(Ok(Value::String(text)))
    }

    fn arguments(&self, name: &str) -> usize {
        usize::from(name == "Label")
    }

    fn to_json(&self) -> Value {
        let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
        listing::row_json(self, &names)
    }
}
