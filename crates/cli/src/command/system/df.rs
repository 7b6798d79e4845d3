//! `conex system df`: what images, containers and volumes take on disk.

use std::io::Write;
use std::process::ExitCode;

use conex_api::volume::Volume;
use serde::Deserialize;
use serde_json::Value;

use crate::command::{Args, Command, container, image, volume};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::listing::{self, Listing};
use crate::template::Row;
use crate::units;

/// Shows disk usage.
pub static COMMAND: Command = Command {
    about: "Show docker disk usage",
    usage: "[OPTIONS]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string("format", listing::FORMAT_HELP),
    Flag::bool("verbose", "Show detailed information on space usage").short('v'),
];

const HEADERS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t\
                      {{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t\
                          {{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let verbose = matches.bool("verbose");
    let asked = matches.str("format");
    let is_table = matches!(asked, "" | listing::TABLE);
    let client = ctx.client()?;
    let path = match verbose {
        true => "/system/df?verbose=1",
        false => "/system/df",
    };
    let usage: DiskUsage = ctx.block_on(client.get_json(path))?;
    if verbose && is_table {
        return in_detail(ctx, usage);
    }
    let format = match asked {
        _ if is_table => {
            "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
        }
        custom => custom,
    };
    let listing = Listing::new(format)?;
    let rows = [
        KindRow::of("Images", &usage.image_usage),
        KindRow::of("Containers", &usage.container_usage),
        KindRow::of("Local Volumes", &usage.volume_usage),
        KindRow::of("Build Cache", &usage.build_cache_usage),
    ];
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn in_detail(ctx: &mut Context, usage: DiskUsage) -> Result<ExitCode, CliError> {
    write!(ctx.out, "Images space usage:\n\n")?;
    image::ls::print_usage(ctx, usage.image_usage.items, IMAGES)?;
    write!(ctx.out, "\nContainers space usage:\n\n")?;
    container::ls::print_usage(ctx, usage.container_usage.items, CONTAINERS)?;
    write!(ctx.out, "\nLocal Volumes space usage:\n\n")?;
    volume::ls::print_usage(ctx, usage.volume_usage.items, VOLUMES)?;
    let cache = units::human_size(usage.build_cache_usage.total_size as f64);
    write!(ctx.out, "\nBuild cache usage: {cache}\n\n")?;
    writeln!(
        ctx.out,
        "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The engine's answer; entries are read by those who show them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DiskUsage {
    image_usage: Usage<Value>,
    container_usage: Usage<Value>,
    volume_usage: Usage<Volume>,
    build_cache_usage: Usage<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Usage<T> {
    active_count: i64,
    total_count: i64,
    reclaimable: i64,
    total_size: i64,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

impl<T> Default for Usage<T> {
    fn default() -> Self {
        Self {
            active_count: 0,
            total_count: 0,
            reclaimable: 0,
            total_size: 0,
            items: Vec::new(),
        }
    }
}

/// A line of the summary.
struct KindRow {
    kind: &'static str,
    active: i64,
    total: i64,
    size: i64,
    reclaimable: i64,
}

impl KindRow {
    fn of<T>(kind: &'static str, usage: &Usage<T>) -> Self {
        Self {
            kind,
            active: usage.active_count,
            total: usage.total_count,
            size: usage.total_size,
            reclaimable: usage.reclaimable,
        }
    }
}

impl Row for KindRow {
    fn type_name(&self) -> &'static str {
        "*formatter.diskUsageContext"
    }

    fn field(&self, name: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        let text = match name {
            "Type" => self.kind.to_owned(),
            "TotalCount" => self.total.to_string(),
            "Active" => self.active.to_string(),
            "Size" => units::human_size(self.size as f64),
            "Reclaimable" => {
                let reclaimable = units::human_size(self.reclaimable as f64);
                match self.size {
                    size if size > 0 => {
                        format!("{reclaimable} ({}%)", self.reclaimable * 100 / size)
                    }
                    _ => reclaimable,
                }
            }
            _ => return None,
        };
        Some(Ok(Value::String(text)))
    }

    fn to_json(&self) -> Value {
        let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
        listing::row_json(self, &names)
    }
}
