//! What a new engine does about networks: the predefined ones, the places of
//! containers that ran on without it, the netkeeper, and strangers in the
//! kernel.

use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;

use conex_network::keeper::{
    Config as KeeperConfig, Forwarding, Options, Publish, Resolver, Rules, State,
};
use conex_network::{Endpoint, Keeper, Network};

use super::{DefaultBridge, Networks, Place, Record, Sandbox, settings};
use crate::Error;
use crate::container::{self, State as ContainerState};
use crate::engine::{Inner, OpenError};
use crate::error::chain;

/// A container that runs, and what it has of its networks.
pub(crate) struct Survivor<'a> {
    pub(crate) record: &'a container::Record,
    pub(crate) name: &'a str,
    pub(crate) state: &'a ContainerState,
    pub(crate) sandbox: &'a Sandbox,
    /// Its first process.
    pub(crate) process: Option<BorrowedFd<'a>>,
}

impl Inner {
    /// Brings networks back. Before any container is started. Blocks.
    pub(crate) fn restore_networks(&self, survivors: &[Survivor<'_>]) -> Result<(), OpenError> {
        let networks = &self.networks;
        // Once: an engine is opened once.
        let _first = networks
            .loopback
            .set(self.config.network.ipv4_rules)
            .is_ok();
        let prepared = networks.prepare(&self.config, survivors);
        if let Err(error) = prepared {
            if matches!(self.config.network.bridge, DefaultBridge::Existing(_)) {
                return Err(OpenError::DefaultBridge(error.to_string()));
            }
            tracing::error!(%error, "the default networks are not complete");
        }
        networks.take_places(survivors);
        let records = networks.records();
        let mut opened = false;
        for record in &records {
            match networks.make_bridge(record) {
                Ok(changed) => opened |= changed,
                Err(error) => {
                    tracing::warn!(network = record.name, %error, "it does not work");
                }
            }
        }
        let mut state = networks.state(&self.config, opened);
        let mut processes = HashMap::new();
        for survivor in survivors {
            let Some(resolver) = self.resolver_of(survivor) else {
                continue;
            };
            let process = survivor.process.map(|fd| fd.try_clone_to_owned());
            if let Some(process) = process.transpose()? {
                processes.insert(resolver.id.clone(), process);
            }
            state.resolvers.push(resolver);
        }
        let executable = self.executable.try_clone()?;
        let config = KeeperConfig {
            owner: networks.owner.clone(),
            run_dir: self.root.exec().to_owned(),
            executable,
            report: Box::new(|text| tracing::warn!("{text}")),
        };
        let keeper = Keeper::open(config, state, processes).map_err(std::io::Error::other)?;
        // A second opening of one engine does not happen.
        let _first = networks.keeper.set(keeper).is_ok();
        networks.remove_strangers(survivors);
        Ok(())
    }

    fn resolver_of(&self, survivor: &Survivor<'_>) -> Option<Resolver> {
        let (record, sandbox) = (survivor.record, survivor.sandbox);
        let asked: Vec<_> = settings::asked(record, survivor.state)
            .into_iter()
            .collect();
        let outside = self.outside_of(record, sandbox);
        self.networks.resolver(sandbox, &asked, outside)
    }
}

impl Networks {
    /// Notes who has which address.
    fn take_places(&self, survivors: &[Survivor<'_>]) {
        let mut known = self.known();
        for survivor in survivors {
            let container = survivor.record.id.as_str();
            let asked = settings::asked(survivor.record, survivor.state);
            for (name, joined) in &survivor.sandbox.networks {
                let Some(entry) = known.networks.get_mut(&joined.network_id) else {
                    tracing::warn!(
                        container,
                        network = joined.network_id,
                        "it is on a network without a record"
                    );
                    continue;
                };
                for address in joined.endpoint.iter().flat_map(super::addresses) {
                    let pool = entry.pool_of(address);
                    if let Some(Err(error)) = pool.map(|pool| pool.take(address)) {
                        tracing::warn!(container, %address, %error, "its address");
                    }
                }
                let mut endpoint = joined.endpoint.clone();
                if let Some(endpoint) = endpoint.as_mut().filter(|_| !entry.record.is_default()) {
                    // It may have been renamed since that was written down.
                    endpoint.names =
                        settings::names(survivor.name, survivor.record, asked.get(name));
                }
                let place = Place {
                    container: container.to_owned(),
                    endpoint,
                };
                entry.endpoints.insert(joined.endpoint_id.clone(), place);
            }
        }
    }

    /// Everything the netkeeper holds.
    fn state(&self, config: &crate::Config, forwarding_is_ours: bool) -> State {
        let known = self.known();
        let entries = known.networks.values();
        let networks = entries.filter_map(|entry| entry.record.bridge.clone());
        let networks: Vec<Network> = networks.collect();
        let places = known.networks.values().flat_map(|e| e.endpoints.values());
        let endpoints: Vec<Endpoint> = places.filter_map(|p| p.endpoint.clone()).collect();
        State {
            options: Options {
                publish: match config.network.respect_host_firewall {
                    true => Publish::Input,
                    false => Publish::Forward,
                },
                forwarding: match forwarding_is_ours {
                    true => Forwarding::Guarded,
                    false => Forwarding::Open,
                },
                rules: Rules {
                    ipv4: config.network.ipv4_rules,
                    ipv6: config.network.ipv6_rules,
                },
                direct: config.network.direct_routing,
            },
            networks,
            endpoints,
            resolvers: Vec::new(),
        }
    }

    /// Interfaces of ours that no container has.
    fn remove_strangers(&self, survivors: &[Survivor<'_>]) {
        let known: HashSet<&str> = survivors
            .iter()
            .flat_map(|survivor| survivor.sandbox.endpoints())
            .map(|endpoint| endpoint.host_interface.as_str())
            .collect();
        if let Err(error) = self.namespaces.sweep(&self.owner, &known) {
            tracing::warn!(error = chain(&error), "interfaces cannot be listed");
        }
    }

    /// Makes a network's bridge, or corrects it; says whether the host did not
    /// forward before. Blocks; cheap when all is well.
    fn make_bridge(&self, record: &Record) -> Result<bool, Error> {
        let made = match &record.bridge {
            Some(network) if record.foreign => {
                conex_network::bridge::adopt(network, self.lets_loopback())
            }
            Some(network) => conex_network::bridge::ensure(network, self.lets_loopback()),
            None => Ok(false),
        };
        made.map_err(|e| Error::system("make the network's bridge", &e))
    }

    /// The same, with the rules that go with it.
    pub(super) fn ensure(&self, record: &Record) -> Result<(), Error> {
        let Some(network) = &record.bridge else {
            return Ok(());
        };
        self.make_bridge(record)?;
        self.keeper()
            .put_network(network)
            .map_err(|e| Error::system("set the network's firewall rules", &e))
    }

    /// The engine ends and nobody runs: bridges and rules go too, and come
    /// back with the next one. Blocks.
    pub(crate) fn withdraw(&self) {
        for record in self.records() {
            if let Err(error) = self.dismantle(&record) {
                tracing::debug!(network = record.name, %error, "it is left");
            }
        }
        self.keeper().leave();
    }
}
