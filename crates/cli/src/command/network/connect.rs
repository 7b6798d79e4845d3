//! `conex network connect`: puts a container on a network.

use std::process::ExitCode;

use conex_api::container::{EndpointIpamConfig, EndpointSettings};
use conex_api::network::ConnectRequest;
use conex_client::segment;

use super::{check_pair, pairs};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Kind, Matches};

/// Connects a container.
pub static COMMAND: Command = Command {
    about: "Connect a container to a network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::Exactly(2),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::new(
        Kind::CommaList,
        "alias",
        "Add network-scoped alias for the container",
    ),
    Flag::checked_list(
        "driver-opt",
        "strings",
        check_pair,
        "driver options for the network",
    ),
    Flag::int(
        "gw-priority",
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    ),
    Flag::string("ip", "IPv4 address (e.g., \"172.30.100.104\")"),
    Flag::string("ip6", "IPv6 address (e.g., \"2001:db8::33\")"),
    Flag::list("link", "Add link to another container"),
    Flag::new(
        Kind::CommaList,
        "link-local-ip",
        "Add a link-local address for the container",
    ),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let [network, container] = [0, 1].map(|at: usize| matches.args()[at].clone());
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let ipam = EndpointIpamConfig {
        ipv4_address: matches.str("ip").to_owned(),
        ipv6_address: matches.str("ip6").to_owned(),
        link_local_ips: matches.list("link-local-ip").to_vec(),
    };
    let options = pairs(matches.list("driver-opt"));
    let request = ConnectRequest {
        container,
        endpoint_config: Some(EndpointSettings {
            ipam_config: Some(ipam),
            links: some(matches.list("link")),
            aliases: some(matches.list("alias")),
            driver_opts: (!options.is_empty()).then_some(options),
            gw_priority: matches.int("gw-priority"),
            ..EndpointSettings::default()
        }),
    };
    let client = ctx.client()?;
    let path = format!("/networks/{}/connect", segment(&network));
    ctx.block_on(client.post_discard(&path, &request))?;
    Ok(ExitCode::SUCCESS)
}
