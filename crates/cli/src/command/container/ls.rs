//! `conex container ls`, also `conex ps`: lists containers.

use std::process::ExitCode;

use conex_client::query;
use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::ports;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::{CliError, EXIT_FAILURE};
use crate::filter;
use crate::flag::{Flag, Matches};
use crate::listing::{self, Listing, ellipsis, short_id};
use crate::template::{Row, Template};
use crate::{time, units};

/// Lists containers.
pub static COMMAND: Command = Command {
    about: "List containers",
    usage: "[OPTIONS]",
    spellings: &["container ls", "container list", "container ps", "ps"],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Show all containers (default shows just running)").short('a'),
    filter::FLAG,
    Flag::string("format", listing::FORMAT_HELP),
    Flag::int(
        "last",
        "Show n last created containers (includes all states)",
    )
    .short('n')
    .default("-1"),
    Flag::bool(
        "latest",
        "Show the latest created container (includes all states)",
    )
    .short('l'),
    Flag::bool("no-trunc", "Don't truncate output"),
    Flag::bool("quiet", "Only display container IDs").short('q'),
    Flag::bool("size", "Display total file sizes").short('s'),
];

const DEFAULT_TABLE: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let quiet = matches.bool("quiet");
    let mut asked = matches.str("format").to_owned();
    let mut with_size = matches.bool("size");
    if !with_size && !asked.is_empty() {
        with_size = check_template(&asked)?;
    }
    if asked.is_empty() {
        asked = ctx.config().ps_format.clone();
    } else if quiet {
        use std::io::Write;
        writeln!(
            ctx.err,
            "WARNING: Ignoring custom format, because both --format and --quiet are set."
        )?;
    }
    let listing = Listing::new(&full_format(&asked, quiet, matches.bool("size")))?;
    let path = request(matches, with_size);
    let client = ctx.client()?;
    let summaries: Vec<Summary> = ctx.block_on(client.get_json(&path))?;
    let now_s = time::now_s();
    let shorten = !matches.bool("no-trunc");
    let rows: Vec<ContainerRow> = summaries
        .into_iter()
        .map(|summary| ContainerRow {
            summary,
            shorten,
            now_s,
        })
        .collect();
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints containers as a table of `system df -v`.
pub(in crate::command) fn print_usage(
    ctx: &mut Context,
    containers: Vec<Value>,
    format: &str,
) -> Result<(), CliError> {
    let now_s = time::now_s();
    let rows: Vec<ContainerRow> = containers
        .into_iter()
        .map(|container| ContainerRow {
            summary: serde_json::from_value(container).unwrap_or_default(),
            shorten: true,
            now_s,
        })
        .collect();
    Listing::new(format)?.print(&mut ctx.out, HEADERS, &rows)
}

/// Refuses a template that cannot work, before the engine is asked; true when it reads `.Size`.
fn check_template(text: &str) -> Result<bool, CliError> {
    let template = Template::parse(text).map_err(|source| CliError::Template {
        prefix: "failed to parse template: ",
        source,
        code: EXIT_FAILURE,
    })?;
    let empty = ContainerRow {
        summary: Summary::default(),
        shorten: true,
        now_s: 0.0,
    };
    template
        .execute_row(&empty)
        .map_err(|source| CliError::Template {
            prefix: "failed to execute template: ",
            source,
            code: EXIT_FAILURE,
        })?;
    Ok(template.reads("Size"))
}

/// The format as a template, `table` and `raw` spelt out.
fn full_format(asked: &str, quiet: bool, with_size: bool) -> String {
    match asked {
        listing::RAW if quiet => "container_id: {{.ID}}".to_owned(),
        listing::RAW if with_size => format!("{RAW}size: {{{{.Size}}}}\n"),
        listing::RAW => RAW.to_owned(),
        _ if quiet => "{{.ID}}".to_owned(),
        "" | listing::TABLE if with_size => format!("{DEFAULT_TABLE}\t{{{{.Size}}}}"),
        "" | listing::TABLE => DEFAULT_TABLE.to_owned(),
        _ => asked.to_owned(),
    }
}

/// The path and query that ask for the list.
fn request(matches: &Matches, with_size: bool) -> String {
    let last = matches.int("last");
    let limit = if matches.bool("latest") && last <= 0 {
        1
    } else {
        last
    };
    let limit_text = limit.to_string();
    let filters = filter::to_query(matches.list("filter"));
    let mut pairs = Vec::new();
    if matches.bool("all") {
        pairs.push(("all", "1"));
    }
    if let Some(filters) = &filters {
        pairs.push(("filters", filters.as_str()));
    }
    if limit > 0 {
        pairs.push(("limit", limit_text.as_str()));
    }
    if with_size {
        pairs.push(("size", "1"));
    }
    format!("/containers/json{}", query(&pairs))
}

/// What a list needs of an engine's entry; the rest is skipped while reading.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Summary {
    id: String,
    names: Option<Vec<String>>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    image_manifest_descriptor: Option<Descriptor>,
    command: String,
    created: i64,
    ports: Option<Vec<ports::Port>>,
    size_rw: i64,
    size_root_fs: i64,
    labels: Option<IndexMap<String, String>>,
    state: String,
    status: String,
    network_settings: Option<NetworkSettings>,
    mounts: Option<Vec<Mount>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Descriptor {
    platform: Option<Platform>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
    variant: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NetworkSettings {
    networks: Option<IndexMap<String, IgnoredAny>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Mount {
    name: String,
    source: String,
    driver: String,
}

/// A line of the list.
struct ContainerRow {
    summary: Summary,
    /// Whether long values are cut.
    shorten: bool,
    now_s: f64,
}

impl ContainerRow {
    fn id(&self) -> &str {
        if self.shorten {
            short_id(&self.summary.id)
        } else {
            &self.summary.id
        }
    }

    /// The container's names; shortened, the first that is no link's alias.
    fn names(&self) -> String {
        let names: Vec<&str> = self
            .summary
            .names
            .iter()
            .flatten()
            .map(|name| name.strip_prefix('/').unwrap_or(name))
            .collect();
        match names.iter().find(|name| !name.contains('/')) {
            Some(own) if self.shorten => (*own).to_owned(),
            _ => names.join(","),
        }
    }

    /// The image as named, a short id where the name is an id, without a digest.
    fn image(&self) -> String {
        let image = &self.summary.image;
        if image.is_empty() {
            return "<no image>".to_owned();
        }
        if !self.shorten {
            return image.clone();
        }
        let short = short_id(&self.summary.image_id);
        if !short.is_empty() && short == short_id(image) {
            return short.to_owned();
        }
        match conex_spec::reference::Reference::parse(image) {
            Ok(reference) => {
                let name = reference.familiar_name();
                match reference.tag() {
                    Some(tag) => format!("{name}:{tag}"),
                    None => name.to_owned(),
                }
            }
            Err(_) => image.clone(),
        }
    }

    fn command(&self) -> String {
        let command = &self.summary.command;
        let command = if self.shorten {
            ellipsis(command, 20)
        } else {
            command.clone()
        };
        crate::flag::go_quote(&command)
    }

    fn size(&self) -> String {
        let own = units::short_size(self.summary.size_rw as f64);
        if self.summary.size_root_fs > 0 {
            format!(
                "{own} (virtual {})",
                units::short_size(self.summary.size_root_fs as f64)
            )
        } else {
            own
        }
    }

    fn labels(&self) -> String {
        let mut pairs: Vec<String> = self
            .summary
            .labels
            .iter()
            .flatten()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.sort_unstable();
        pairs.join(",")
    }

    fn mounts(&self) -> String {
        let names = self.summary.mounts.iter().flatten().map(|mount| {
            let name = if mount.name.is_empty() {
                &mount.source
            } else {
                &mount.name
            };
            if self.shorten {
                ellipsis(name, 15)
            } else {
                name.clone()
            }
        });
        names.collect::<Vec<_>>().join(",")
    }

    fn networks(&self) -> String {
        let settings = self.summary.network_settings.as_ref();
        let networks = settings.and_then(|settings| settings.networks.as_ref());
        let mut names: Vec<&str> = networks
            .iter()
            .flat_map(|n| n.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        names.join(",")
    }

    fn platform(&self) -> Option<&Platform> {
        self.summary
            .image_manifest_descriptor
            .as_ref()?
            .platform
            .as_ref()
    }
}

impl Row for ContainerRow {
    fn type_name(&self) -> &'static str {
        "*formatter.ContainerContext"
    }

    fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let text = match name {
            "ID" => self.id().to_owned(),
            "Names" => self.names(),
            "Image" => self.image(),
            "Command" => self.command(),
            "CreatedAt" => time::list_time(self.summary.created),
            "RunningFor" => {
                format!(
                    "{} ago",
                    units::human_duration(self.now_s - self.summary.created as f64)
                )
            }
            "Ports" => ports::show(self.summary.ports.as_deref().unwrap_or_default()),
            "State" => self.summary.state.clone(),
            "Status" => self.summary.status.clone(),
            "Size" => self.size(),
            "Labels" => self.labels(),
            "Label" => {
                let key = args.first().and_then(Value::as_str).unwrap_or_default();
                let labels = self.summary.labels.as_ref();
                labels
                    .and_then(|labels| labels.get(key))
                    .cloned()
                    .unwrap_or_default()
            }
            "Mounts" => self.mounts(),
            "LocalVolumes" => {
                let mounts = self.summary.mounts.iter().flatten();
                mounts
                    .filter(|mount| mount.driver == "local")
                    .count()
                    .to_string()
            }
            "Networks" => self.networks(),
            "Platform" => match self.platform() {
                Some(platform) => {
                    let parts = [&platform.os, &platform.architecture, &platform.variant];
                    let parts: Vec<&str> = parts
                        .into_iter()
                        .map(String::as_str)
                        .filter(|part| !part.is_empty())
                        .collect();
                    parts.join("/")
                }
                None => return Some(Ok(Value::Null)),
            },
            _ => return None,
        };
        Some(Ok(Value::String(text)))
    }

    fn arguments(&self, name: &str) -> usize {
        usize::from(name == "Label")
    }

    fn to_json(&self) -> Value {
        let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
        let mut json = listing::row_json(self, &names);
        if let Some(platform) = self.platform() {
            let mut object = serde_json::Map::new();
            object.insert(
                "architecture".to_owned(),
                platform.architecture.as_str().into(),
            );
            object.insert("os".to_owned(), platform.os.as_str().into());
            if !platform.variant.is_empty() {
                object.insert("variant".to_owned(), platform.variant.as_str().into());
            }
            json["Platform"] = Value::Object(object);
        }
        json
    }
}

#[cfg(test)]
mod tests;
