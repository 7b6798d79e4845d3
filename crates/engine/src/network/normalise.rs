//! What a new container asks of networks: checked and brought into one form.
//! A network that is not there is no error before the start, as in Docker.

use std::collections::BTreeMap;

use conex_api::container::{Config, EndpointSettings, HostConfig, NetworkingConfig};

use super::port;
use crate::engine::Inner;
use crate::{Error, container};

impl Inner {
    /// Endpoints by the names of their networks, `default` and ids resolved;
    /// the mode's own network always among them.
    pub(crate) fn normalise_networks(
        &self,
        config: &mut Config,
        host: &mut HostConfig,
        asked: NetworkingConfig,
    ) -> Result<NetworkingConfig, Error> {
        port::wanted(config, host)?;
        let mode = host.network_mode.clone();
        let mut endpoints: BTreeMap<String, Option<EndpointSettings>> = BTreeMap::new();
        for (word, settings) in asked.endpoints_config {
            let name = self.network_name(&word);
            let settings = settings.map(wanted_only);
            endpoints.entry(name).or_insert(settings);
        }
        self.check_links(container::link::of(host))?;
        if mode.starts_with("container:") {
            if !endpoints.is_empty() {
                return Err(Error::invalid(
                    "conflicting options: container sharing network namespace with another \
                     container or host cannot be connected to any other network",
                ));
            }
            return Ok(NetworkingConfig::default());
        }
        let mode = self.network_name(&mode);
        if ["host", "none"].contains(&mode.as_str()) && endpoints.keys().any(|name| *name != mode) {
            return Err(Error::invalid(match mode.as_str() {
                "host" => {
                    "conflicting options: container sharing network namespace with another \
                     container or host cannot be connected to any other network"
                }
                _ => {
                    "container cannot be connected to multiple networks with one of the networks \
                     in private (none) mode"
                }
            }));
        }
        host.network_mode.clone_from(&mode);
        let own = endpoints.entry(mode.clone()).or_default();
        if !config.mac_address.is_empty() {
            // The place where clients below 1.44 said it.
            let own = own.get_or_insert_default();
            if own.mac_address.is_empty() {
                own.mac_address.clone_from(&config.mac_address);
            } else if own.mac_address != config.mac_address {
                return Err(Error::invalid(
                    "the container-wide MAC address must match the endpoint-specific MAC \
                     address for the main network, or be left empty",
                ));
            }
            config.mac_address.clear();
        }
        for (name, settings) in &endpoints {
            let Ok(network) = self.networks.find(name) else {
                continue;
            };
            if let Some(settings) = settings {
                network.check_endpoint(settings)?;
            }
        }
        Ok(NetworkingConfig {
            endpoints_config: endpoints,
        })
    }

    /// The name of a network that is called by its id, or `default`.
    fn network_name(&self, word: &str) -> String {
        match word {
            "default" | "" => "bridge".into(),
            _ => match self.networks.find(word) {
                Ok(network) => network.name.clone(),
                Err(_) => word.to_owned(),
            },
        }
    }
}

/// What a client may ask for; the rest is the engine's to say.
pub(super) fn wanted_only(asked: EndpointSettings) -> EndpointSettings {
    EndpointSettings {
        ipam_config: asked.ipam_config,
        links: asked.links,
        aliases: asked.aliases,
        driver_opts: asked.driver_opts,
        gw_priority: asked.gw_priority,
        mac_address: asked.mac_address,
        ..EndpointSettings::default()
    }
}
