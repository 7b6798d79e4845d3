//! `conex network create`: makes a network.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use conex_api::network::{ConfigReference, CreateRequest, CreateResponse, Ipam, IpamConfig};

use super::{check_pair, pairs};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Kind, Matches};

/// Creates a network.
pub static COMMAND: Command = Command {
    about: "Create a network",
    usage: "[OPTIONS] NETWORK",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("attachable", "Enable manual container attachment"),
    Flag::checked_list(
        "aux-address",
        "map",
        check_pair,
        "Auxiliary IPv4 or IPv6 addresses used by Network driver",
    ),
    Flag::string(
        "config-from",
        "The network from which to copy the configuration",
    ),
    Flag::bool("config-only", "Create a configuration only network"),
    Flag::string("driver", "Driver to manage the Network")
        .short('d')
        .default("bridge"),
    Flag::new(
        Kind::CommaList,
        "gateway",
        "IPv4 or IPv6 Gateway for the master subnet",
    ),
    Flag::bool("ingress", "Create swarm routing-mesh network"),
    Flag::bool("internal", "Restrict external access to the network"),
    Flag::new(
        Kind::CommaList,
        "ip-range",
        "Allocate container ip from a sub-range",
    ),
    Flag::string("ipam-driver", "IP Address Management Driver").default("default"),
    Flag::checked_list(
        "ipam-opt",
        "map",
        check_pair,
        "Set IPAM driver specific options",
    ),
    Flag::bool("ipv4", "Enable or disable IPv4 address assignment").default("true"),
    Flag::bool("ipv6", "Enable or disable IPv6 address assignment"),
    Flag::list("label", "Set metadata on a network"),
    Flag::checked_list("opt", "map", check_pair, "Set driver specific options").short('o'),
    Flag::string("scope", "Control the network's scope"),
    Flag::new(
        Kind::CommaList,
        "subnet",
        "Subnet in CIDR format that represents a network segment",
    ),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let pools = pools(&Pools {
        subnets: matches.list("subnet"),
        ranges: matches.list("ip-range"),
        gateways: matches.list("gateway"),
        auxiliary: &pairs(matches.list("aux-address")),
    })
    .map_err(CliError::Message)?;
    let options = |flag: &str| Some(pairs(matches.list(flag)));
    let given = |flag: &str| matches.is_set(flag).then(|| matches.bool(flag));
    let from = matches.str("config-from");
    let request = CreateRequest {
        name: matches.args()[0].clone(),
        driver: matches.str("driver").to_owned(),
        scope: matches.str("scope").to_owned(),
        enable_ipv4: given("ipv4"),
        enable_ipv6: given("ipv6"),
        ipam: Some(Ipam {
            driver: matches.str("ipam-driver").to_owned(),
            options: options("ipam-opt"),
            config: Some(pools),
        }),
        internal: matches.bool("internal"),
        attachable: matches.bool("attachable"),
        ingress: matches.bool("ingress"),
        config_only: matches.bool("config-only"),
        config_from: (!from.is_empty()).then(|| ConfigReference {
            network: from.to_owned(),
        }),
        options: options("opt"),
        labels: options("label"),
    };
    let client = ctx.client()?;
    let created: CreateResponse =
        ctx.block_on(client.post_json("/networks/create", Some(&request)))?;
    if !created.warning.is_empty() {
        writeln!(ctx.err, "WARNING: {}", created.warning)?;
    }
    writeln!(ctx.out, "{}", created.id)?;
    Ok(ExitCode::SUCCESS)
}

/// The words that describe pools.
struct Pools<'a> {
    subnets: &'a [String],
    ranges: &'a [String],
    gateways: &'a [String],
    auxiliary: &'a BTreeMap<String, String>,
}

/// Puts ranges, gateways and auxiliary addresses to the subnets that hold them
/// (docker/cli `cli/command/network/create.go`, `createIPAMConfig`).
fn pools(words: &Pools) -> Result<Vec<IpamConfig>, String> {
    if words.subnets.len() < words.ranges.len() || words.subnets.len() < words.gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".into());
    }
    let mut pools: Vec<(Cidr, IpamConfig)> = Vec::new();
    for text in words.subnets {
        let subnet = Cidr::parse(text).ok_or_else(|| format!("invalid subnet {text}"))?;
        for (other, _) in &pools {
            if other.holds(subnet.address) || subnet.holds(other.address) {
                return Err("multiple overlapping subnet configuration is not supported".into());
            }
        }
        let config = IpamConfig {
            subnet: text.clone(),
            ..IpamConfig::default()
        };
        pools.push((subnet, config));
    }
    for text in words.ranges {
        let range = Cidr::parse(text).ok_or_else(|| format!("invalid ip-range {text}"))?;
        let (_, pool) = pools
            .iter_mut()
            .find(|(subnet, _)| subnet.holds(range.address))
            .ok_or_else(|| format!("no matching subnet for range {text}"))?;
        if !pool.ip_range.is_empty() {
            return Err(format!(
                "cannot configure multiple ranges ({text}, {}) on the same subnet ({})",
                pool.ip_range, pool.subnet
            ));
        }
        pool.ip_range.clone_from(text);
    }
    for text in words.gateways {
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("invalid gateway {text}"))?;
        let (_, pool) = pools
            .iter_mut()
            .find(|(subnet, _)| subnet.holds(address))
            .ok_or_else(|| format!("no matching subnet for gateway {text}"))?;
        if !pool.gateway.is_empty() {
            return Err(format!(
                "cannot configure multiple gateways ({text}, {}) for the same subnet ({})",
                pool.gateway, pool.subnet
            ));
        }
        pool.gateway.clone_from(text);
    }
    for (name, text) in words.auxiliary {
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("invalid auxiliary address {text}"))?;
        let (_, pool) = pools
            .iter_mut()
            .find(|(subnet, _)| subnet.holds(address))
            .ok_or_else(|| format!("no matching subnet for aux-address {text}"))?;
        pool.auxiliary_addresses.insert(name.clone(), text.clone());
    }
    Ok(pools.into_iter().map(|(_, pool)| pool).collect())
}

/// An address with the length of its network's prefix.
#[derive(Clone, Copy)]
struct Cidr {
    address: IpAddr,
    prefix: u32,
}

impl Cidr {
    fn parse(text: &str) -> Option<Cidr> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= bits)?;
        Some(Cidr { address, prefix })
    }

    fn holds(&self, other: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            let free = bits - self.prefix;
            free == 128 || (a >> free) == (b >> free)
        };
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(subnets: &[&str], ranges: &[&str], gateways: &[&str]) -> Result<Vec<IpamConfig>, String> {
        let words = |list: &[&str]| -> Vec<String> { list.iter().map(|w| (*w).into()).collect() };
        let auxiliary = [("router".to_owned(), "10.1.0.9".to_owned())].into();
        pools(&Pools {
            subnets: &words(subnets),
            ranges: &words(ranges),
            gateways: &words(gateways),
            auxiliary: if subnets.contains(&"10.1.0.0/16") {
                &auxiliary
            } else {
                const { &BTreeMap::new() }
            },
        })
    }

    #[test]
    fn gateways_and_ranges_find_their_subnets_in_any_order() {
        let pools = of(
            &["10.1.0.0/16", "fd00:1::/64"],
            &["10.1.5.0/24"],
            &["fd00:1::1", "10.1.0.1"],
        )
        .unwrap();
        assert_eq!(pools[0].gateway, "10.1.0.1");
        assert_eq!(pools[0].ip_range, "10.1.5.0/24");
        assert_eq!(pools[0].auxiliary_addresses["router"], "10.1.0.9");
        assert_eq!(pools[1].gateway, "fd00:1::1");
        assert!(of(&[], &[], &[]).unwrap().is_empty());
    }

    #[test]
    fn what_fits_no_subnet_is_refused() {
        for (subnets, ranges, gateways, text) in [
            (
                &[][..],
                &["10.0.0.0/24"][..],
                &[][..],
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (&["10.0.0.0"], &[], &[], "invalid subnet 10.0.0.0"),
            (
                &["10.0.0.0/16", "10.0.1.0/24"],
                &[],
                &[],
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                &["10.0.0.0/16"],
                &[],
                &["10.9.0.1"],
                "no matching subnet for gateway 10.9.0.1",
            ),
            (
                &["10.0.0.0/16", "10.9.0.0/16"],
                &[],
                &["10.9.0.1", "10.9.0.2"],
                "cannot configure multiple gateways (10.9.0.2, 10.9.0.1) for the same subnet (10.9.0.0/16)",
            ),
        ] {
            assert_eq!(of(subnets, ranges, gateways).unwrap_err(), text);
        }
    }
}
