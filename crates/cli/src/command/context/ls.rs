//! `conex context ls`: lists contexts.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::command::{Args, Command};
use crate::connect::{self, DEFAULT_CONTEXT};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::listing::{self, Listing};
use crate::template::Row;

/// Lists contexts.
pub static COMMAND: Command = Command {
    about: "List contexts",
    usage: "[OPTIONS]",
    spellings: &["context ls", "context list"],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string("format", listing::FORMAT_HELP),
    Flag::bool("quiet", "Only show context names").short('q'),
];

const HEADERS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Current", "CURRENT"),
    ("Error", "ERROR"),
    ("ContextType", "TYPE"),
];

const TABLE: &str =
    "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let format = match matches.str("format") {
        "" | listing::TABLE if matches.bool("quiet") => "{{.Name}}",
        "" | listing::TABLE => TABLE,
        custom => custom,
    };
    let listing = Listing::new(format)?;
    let current = ctx.context_name();
    let default = connect::default_endpoint(ctx);
    let mut rows = vec![ContextRow {
        name: DEFAULT_CONTEXT.to_owned(),
        description: super::DEFAULT_DESCRIPTION.to_owned(),
        host: default
            .as_ref()
            .map(|endpoint| endpoint.host.to_string())
            .unwrap_or_default(),
        is_current: current == DEFAULT_CONTEXT,
        error: default
            .err()
            .and_then(|error| error.text())
            .unwrap_or_default(),
    }];
    rows.extend(super::store(ctx).list().into_iter().map(|stored| {
        let docker = stored.endpoints.docker;
        ContextRow {
            is_current: stored.name == current,
            error: match docker {
                Some(_) => String::new(),
                None => "no docker endpoint".to_owned(),
            },
            name: stored.name,
            description: stored.metadata.description,
            host: docker.unwrap_or_default().host,
        }
    }));
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    if current == DEFAULT_CONTEXT && !ctx.config().current_context.is_empty() {
        super::warn_of_host(ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct ContextRow {
    name: String,
    description: String,
    host: String,
    is_current: bool,
    error: String,
}

impl Row for ContextRow {
    fn type_name(&self) -> &'static str {
        "*formatter.clientContextContext"
    }

    fn field(&self, name: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        Some(Ok(match name {
            "Name" => json!(self.name),
            "Description" => json!(self.description),
            "DockerEndpoint" => json!(self.host),
            "Current" => json!(self.is_current),
            "Error" => json!(self.error),
            "ContextType" => json!("moby"),
            _ => return None,
        }))
    }

    fn to_json(&self) -> Value {
        let names = [
            "Name",
            "Description",
            "DockerEndpoint",
            "Current",
            "Error",
            "ContextType",
        ];
        listing::row_json(self, &names)
    }
}
