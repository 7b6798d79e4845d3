//! `NetworkSettings`: what a container asked for and what it has, in the API's
//! shape.

use std::collections::BTreeMap;

use conex_api::container::{EndpointSettings, NetworkSettings};

use super::{Joined, port};
use crate::container::{Container, Record, State};
use crate::engine::Inner;
use crate::id;

/// The networks a container asked for, by name: those it was created with,
/// changed by connects and disconnects since.
pub(crate) fn asked(record: &Record, state: &State) -> BTreeMap<String, EndpointSettings> {
    if let Some(changed) = &state.endpoints {
        return changed.clone();
    }
    let mode = &record.host_config.network_mode;
    if mode.starts_with("container:") {
        return BTreeMap::new();
    }
    let given = &record.networking.endpoints_config;
    let mut all: BTreeMap<String, EndpointSettings> = given
        .iter()
        .map(|(name, settings)| (name.clone(), settings.clone().unwrap_or_default()))
        .collect();
    all.entry(mode.clone()).or_default();
    all
}

impl Inner {
    /// Everything `inspect` says about a container's networks.
    pub(crate) fn network_settings(&self, container: &Container, state: &State) -> NetworkSettings {
        let mut settings = NetworkSettings {
            networks: self.endpoints_of(container, state),
            ..NetworkSettings::default()
        };
        if !state.is_running() {
            return settings;
        }
        let record = &container.record;
        match &state.sandbox {
            Some(sandbox) => {
                settings.sandbox_id.clone_from(&sandbox.id);
                settings.sandbox_key = match record.host_config.network_mode.as_str() {
                    "host" => format!("/proc/{}/ns/net", state.pid),
                    _ => self.root.namespace_link(&record.id).display().to_string(),
                };
                if record.host_config.network_mode != "host" {
                    settings.ports = port::map(&record.config, &sandbox.ports());
                }
            }
            None => {
                settings.sandbox_id.clone_from(&record.id);
                settings.sandbox_key = format!("/proc/{}/ns/net", state.pid);
            }
        }
        settings
    }

    /// The endpoints of a container, by the names of their networks.
    pub(crate) fn endpoints_of(
        &self,
        container: &Container,
        state: &State,
    ) -> BTreeMap<String, EndpointSettings> {
        let mut all = asked(&container.record, state);
        let sandbox = state.sandbox.as_ref().filter(|_| state.is_running());
        for (name, settings) in &mut all {
            match sandbox.and_then(|sandbox| sandbox.networks.get(name)) {
                Some(joined) => self.fill_endpoint(container, settings, joined),
                // One that ran once shows which network it was on.
                None if state.started_ns != 0 => {
                    if let Ok(network) = self.networks.find(name) {
                        settings.network_id.clone_from(&network.id);
                    }
                }
                None => {}
            }
        }
        all
    }

    fn fill_endpoint(
        &self,
        container: &Container,
        settings: &mut EndpointSettings,
        joined: &Joined,
    ) {
        settings.network_id.clone_from(&joined.network_id);
        settings.endpoint_id.clone_from(&joined.endpoint_id);
        let Some(endpoint) = &joined.endpoint else {
            return;
        };
        settings.mac_address = endpoint.mac.to_string();
        if let Some(ipv4) = endpoint.ipv4 {
            settings.ip_address = ipv4.addr().to_string();
            settings.ip_prefix_len = ipv4.prefix_len().into();
        }
        if let Some(ipv6) = endpoint.ipv6 {
            settings.global_ipv6_address = ipv6.addr().to_string();
            settings.global_ipv6_prefix_len = ipv6.prefix_len().into();
        }
        let Ok(network) = self.networks.find(&joined.network_id) else {
            return;
        };
        if !network.internal {
            for gateway in network.container_gateways() {
                match gateway {
                    std::net::IpAddr::V4(_) => settings.gateway = gateway.to_string(),
                    std::net::IpAddr::V6(_) => settings.ipv6_gateway = gateway.to_string(),
                }
            }
        }
        if !network.is_default() {
            let names = names(&container.name(), &container.record, Some(settings));
            settings.dns_names = Some(names);
        }
    }
}

/// The names by which a container is found on a network of the user's: its
/// name, its aliases, its short id, its host name.
pub(crate) fn names(
    name: &str,
    container: &Record,
    settings: Option<&EndpointSettings>,
) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    let aliases = settings.and_then(|settings| settings.aliases.as_ref());
    all.extend(aliases.into_iter().flatten().cloned());
    all.push(id::short(&container.id).to_owned());
    all.push(container.config.hostname.clone());
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    all
}
