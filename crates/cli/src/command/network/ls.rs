//! `conex network ls`: lists networks.

use std::process::ExitCode;

use conex_api::network::Network;
use conex_client::query;
use serde_json::Value;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::filter;
use crate::flag::{Flag, Matches};
use crate::listing::{self, Listing};
use crate::template::Row;

/// Lists networks.
pub static COMMAND: Command = Command {
    about: "List networks",
    usage: "[OPTIONS]",
    spellings: &["network ls", "network list"],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    filter::FLAG,
    Flag::string("format", listing::FORMAT_HELP),
    Flag::bool("no-trunc", "Do not truncate the output"),
    Flag::bool("quiet", "Only display network IDs").short('q'),
];

const HEADERS: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let quiet = matches.bool("quiet");
    let mut asked = matches.str("format").to_owned();
    if asked.is_empty() {
        asked.clone_from(&ctx.config().networks_format);
    }
    let listing = Listing::new(&full_format(&asked, quiet))?;
    let filters = filter::to_query(matches.list("filter"));
    let pairs: Vec<(&str, &str)> = filters.iter().map(|f| ("filters", f.as_str())).collect();
    let client = ctx.client()?;
    let path = format!("/networks{}", query(&pairs));
    let mut networks: Vec<Network> = ctx.block_on(client.get_json(&path))?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let shorten = !matches.bool("no-trunc");
    let rows: Vec<NetworkRow<'_>> = networks
        .iter()
        .map(|network| NetworkRow { network, shorten })
        .collect();
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// The format as a template, `table` and `raw` spelt out.
fn full_format(asked: &str, quiet: bool) -> String {
    match asked {
        listing::RAW if quiet => "network_id: {{.ID}}".to_owned(),
        listing::RAW => {
            "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n".into()
        }
        "" | listing::TABLE if quiet => "{{.ID}}".to_owned(),
        "" | listing::TABLE => "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}".to_owned(),
        custom => custom.to_owned(),
    }
}

/// A line of the list.
struct NetworkRow<'a> {
    network: &'a Network,
    /// Whether the id is cut.
    shorten: bool,
}

impl Row for NetworkRow<'_> {
    fn type_name(&self) -> &'static str {
        "*network.networkContext"
    }

    fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let network = self.network;
        let text = match name {
            "ID" if self.shorten => listing::short_id(&network.id).to_owned(),
            "ID" => network.id.clone(),
            "Name" => network.name.clone(),
            "Driver" => network.driver.clone(),
            "Scope" => network.scope.clone(),
            "IPv4" => network.enable_ipv4.to_string(),
            "IPv6" => network.enable_ipv6.to_string(),
            "Internal" => network.internal.to_string(),
            "Labels" => {
                let labels = network.labels.iter().map(|(k, v)| format!("{k}={v}"));
                labels.collect::<Vec<_>>().join(",")
            }
            "Label" => {
                let label = args.first().and_then(Value::as_str).unwrap_or_default();
                network.labels.get(label).cloned().unwrap_or_default()
            }
            // As Go prints a time: a blank where RFC 3339 has its T.
            "CreatedAt" => network
                .created
                .replacen('T', " ", 1)
                .replace('Z', " +0000 UTC"),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::Output;

    fn shown(format: &str, quiet: bool) -> String {
        let network = Network {
            id: "3eddbb4a3a94365a2ff36300e4025e1b".into(),
            name: "bridge".into(),
            driver: "bridge".into(),
            scope: "local".into(),
            created: "2026-11-22T03:53:32.531411944Z".into(),
            enable_ipv4: true,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Network::default()
        };
        let mut out = Output::keeping();
        let rows = [NetworkRow {
            network: &network,
            shorten: true,
        }];
        let listing = Listing::new(&full_format(format, quiet)).unwrap();
        listing.print(&mut out, HEADERS, &rows).unwrap();
        String::from_utf8(out.kept().to_vec()).unwrap()
    }

    #[test]
    fn networks_are_a_table_of_four_columns() {
        assert_eq!(
            shown("", false),
            "NETWORK ID     NAME      DRIVER    SCOPE\n3eddbb4a3a94   bridge    bridge    local\n"
        );
        assert_eq!(shown("", true), "3eddbb4a3a94\n");
        assert_eq!(shown("{{.Label \"a\"}} {{.IPv6}}", false), "b false\n");
        assert_eq!(
            shown("json", false),
            "{\"CreatedAt\":\"2026-11-22 03:53:32.531411944 +0000 UTC\",\"Driver\":\"bridge\",\
             \"ID\":\"3eddbb4a3a94\",\"IPv4\":\"true\",\"IPv6\":\"false\",\"Internal\":\"false\",\
             \"Labels\":\"a=b\",\"Name\":\"bridge\",\"Scope\":\"local\"}\n"
        );
    }
}
