//! The networks every engine has: `bridge`, `host` and `none`. Their ids are
//! made once; what the default bridge is, the engine's settings say anew at
//! every start.

use std::net::{IpAddr, Ipv4Addr};

use conex_api::network::IpamConfig;
use conex_network::{HostRange, Ipv4Config, Ipv6Config, Network, bridge, host_ranges};
use ipnet::{IpNet, Ipv4Net};

use super::create::{self, Subnets};
use super::{DefaultBridge, Driver, NetworkConfig, Networks, Record, Survivor};
use crate::error::chain;
use crate::{Config, Error};

/// Docker's names of the options that a bridge knows.
pub(super) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(super) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(super) const PUBLISH_ADDRESS: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(super) const MTU: &str = "com.docker.network.driver.mtu";
const DEFAULT: &str = "com.docker.network.bridge.default_bridge";

impl Networks {
    /// Makes what is missing of the three networks every engine has, and their
    /// bridge. Blocks. A bridge that cannot be made is told and tried again by
    /// the first container that needs it: the others must start.
    ///
    /// While containers run on the default bridge it stays what it was.
    pub(super) fn prepare(&self, config: &Config, survivors: &[Survivor<'_>]) -> Result<(), Error> {
        for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
            if self.find(name).is_err() {
                self.insert(Record::plain(name, driver))?;
            }
        }
        let old = self.default_bridge();
        if config.network.bridge == DefaultBridge::Disabled {
            return match old {
                Some(old) => self.delete(&old.id),
                None => Ok(()),
            };
        }
        let in_use = |record: &Record| {
            survivors.iter().any(|survivor| {
                let mut joined = survivor.sandbox.networks.values();
                joined.any(|joined| joined.network_id == record.id && joined.endpoint.is_some())
            })
        };
        if let Some(old) = old.as_ref().filter(|old| in_use(old)) {
            tracing::debug!(
                network = old.name,
                "containers run on it: it stays as it is"
            );
            return Ok(());
        }
        let _first = create::subnet_lock();
        let host = match host_ranges() {
            Ok(ranges) => ranges,
            Err(error) => {
                tracing::warn!(error = chain(&error), "the host's routes cannot be read");
                Vec::new()
            }
        };
        let record = self.default_record(config, old.as_deref(), &host)?;
        match old {
            None => self.insert(record.clone())?,
            Some(old) if *old != record => self.replace(record.clone())?,
            Some(_) => {}
        }
        if let Some(network) = record.bridge.as_ref().filter(|_| !record.foreign)
            && let Err(error) = bridge::ensure(network, self.lets_loopback())
        {
            tracing::warn!(error = chain(&error), "the default network does not work");
        }
        Ok(())
    }

    fn default_record(
        &self,
        engine: &Config,
        old: Option<&Record>,
        host: &[HostRange],
    ) -> Result<Record, Error> {
        let config = &engine.network;
        let name = match &config.bridge {
            DefaultBridge::Existing(name) => name.clone(),
            _ => own_bridge_name(engine),
        };
        let mut record = match old {
            Some(old) => old.clone(),
            None => Record::plain("bridge", Driver::Bridge),
        };
        let before = old.and_then(|old| old.bridge.as_ref());
        record.foreign = matches!(config.bridge, DefaultBridge::Existing(_));
        let subnets = self.subnets(&record.id);
        let ipv4 = match record.foreign {
            true => existing(&name)?,
            false => {
                self.default_ipv4(&name, config, before.and_then(|b| b.ipv4), host, &subnets)?
            }
        };
        let ipv6 = config
            .ipv6
            .then(|| default_ipv6(config, before.and_then(|b| b.ipv6)));
        record.enable_ipv6 = config.ipv6;
        record.publish_address = config.publish_address;
        record.pools = vec![IpamConfig {
            subnet: ipv4.subnet.to_string(),
            ip_range: config.fixed_ipv4.map(text_of).unwrap_or_default(),
            gateway: ipv4.gateway.to_string(),
            ..IpamConfig::default()
        }];
        record.pools.extend(ipv6.map(|ipv6| IpamConfig {
            subnet: ipv6.subnet.to_string(),
            ip_range: config.fixed_ipv6.map(text_of).unwrap_or_default(),
            gateway: ipv6.gateway.to_string(),
            ..IpamConfig::default()
        }));
        record.route_ipv4 = config.gateway_ipv4;
        record.route_ipv6 = config.gateway_ipv6;
        let publish = config
            .publish_address
            .unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        record.options = [
            (DEFAULT, "true".to_owned()),
            (ICC, config.inter_container.to_string()),
            (MASQUERADE, config.masquerade.to_string()),
            (PUBLISH_ADDRESS, publish.to_string()),
            (BRIDGE_NAME, name.clone()),
            (MTU, config.mtu.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        record.bridge = Some(Network {
            id: record.id.clone(),
            name: record.name.clone(),
            bridge: name,
            ipv4: Some(ipv4),
            ipv6,
            mtu: Some(config.mtu),
            icc: config.inter_container,
            masquerade: config.masquerade,
            internal: false,
        });
        Ok(record)
    }

    /// The address of `--bip`, else the subnet of `--fixed-cidr`, else the one
    /// it had, else a free one.
    fn default_ipv4(
        &self,
        bridge: &str,
        config: &NetworkConfig,
        before: Option<Ipv4Config>,
        host: &[HostRange],
        subnets: &Subnets,
    ) -> Result<Ipv4Config, Error> {
        if let Some(own) = config.bridge_ipv4 {
            return Ok(Ipv4Config {
                subnet: own.trunc(),
                gateway: own.addr(),
            });
        }
        if let Some(fixed) = config.fixed_ipv4 {
            let subnet = fixed.trunc();
            return Ok(Ipv4Config {
                subnet,
                gateway: first_address(subnet),
            });
        }
        let elsewhere = |subnet: Ipv4Net| {
            let others = host.iter().filter(|range| range.interface != bridge);
            others
                .into_iter()
                .any(|range| range.overlaps(&IpNet::V4(subnet)))
        };
        if let Some(before) = before.filter(|before| !elsewhere(before.subnet)) {
            return Ok(before);
        }
        let subnet = create::choose_ipv4(config, subnets, host)?;
        Ok(Ipv4Config {
            subnet,
            gateway: first_address(subnet),
        })
    }
}

/// `conex0`, or for another data root than the default a name of its own, so
/// that engines share a machine.
fn own_bridge_name(engine: &Config) -> String {
    match engine.container_cgroup_of_root().as_str() {
        "/conex" => "conex0".into(),
        // `conex-` and eight digits of the root's digest.
        path => path.trim_start_matches('/').to_owned(),
    }
}

/// What a bridge of the host's already has.
fn existing(name: &str) -> Result<Ipv4Config, Error> {
    let found = bridge::addresses(name).map_err(|e| Error::system("look at the bridge", &e))?;
    let addresses = found.ok_or_else(|| {
        Error::invalid(format!(
            "bridge device with non default name {name} must be created manually"
        ))
    })?;
    let absent = || Error::invalid(format!("bridge {name} has no IPv4 address"));
    let own = addresses.iter().find_map(|net| match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    });
    let own = own.ok_or_else(absent)?;
    Ok(Ipv4Config {
        subnet: own.trunc(),
        gateway: own.addr(),
    })
}

fn default_ipv6(config: &NetworkConfig, before: Option<Ipv6Config>) -> Ipv6Config {
    if let Some(own) = config.bridge_ipv6 {
        return Ipv6Config {
            subnet: own.trunc(),
            gateway: own.addr(),
        };
    }
    let subnet = match (config.fixed_ipv6, before) {
        (Some(fixed), _) => fixed.trunc(),
        (None, Some(before)) => return before,
        (None, None) => create::choose_ipv6(config),
    };
    Ipv6Config {
        subnet,
        gateway: create::first_address_v6(subnet),
    }
}

fn first_address(subnet: Ipv4Net) -> Ipv4Addr {
    match create::first_address(IpNet::V4(subnet)) {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("an IPv4 subnet has IPv4 addresses"),
    }
}

fn text_of(net: impl Into<IpNet>) -> String {
    net.into().trunc().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ipnet::Ipv6Net;

    #[test]
    fn every_data_root_has_a_bridge_of_its_own() {
        let name = |root: &str| own_bridge_name(&Config::new(root, "/run/x"));
        assert_eq!(name("/var/lib/conex"), "conex0");
        assert_ne!(name("/a"), name("/b"));
        assert!(name("/a").starts_with("conex-") && name("/a").len() <= 15);
    }

    #[test]
    fn an_ipv6_subnet_is_kept_until_another_is_asked_for() {
        let mut config = NetworkConfig::default();
        let first = default_ipv6(&config, None);
        assert_eq!(default_ipv6(&config, Some(first)), first);
        assert_eq!(first.subnet.prefix_len(), 64);
        let own: Ipv6Net = "fd00:7::1/64".parse().unwrap();
        config.bridge_ipv6 = Some(own);
        let asked = default_ipv6(&config, Some(first));
        assert_eq!((asked.subnet, asked.gateway), (own.trunc(), own.addr()));
    }
}
