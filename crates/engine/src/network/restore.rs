//! What a new engine does about networks: the predefined ones, the places of
//! containers that ran on without it, the netkeeper, and strangers in the
//! kernel.

use std::collections::HashSet;
use std::sync::Arc;

use conex_network::keeper::{Config as KeeperConfig, Forwarding, Options, Publish, State};
use conex_network::{Endpoint, Keeper, Network};

use super::{Networks, Place, Record, Sandbox};
use crate::Error;
use crate::engine::{Inner, OpenError};
use crate::error::chain;

/// A container that runs, and what it has of its networks.
pub(crate) struct Survivor {
    pub(crate) container: String,
    pub(crate) sandbox: Arc<Sandbox>,
}

impl Inner {
    /// Brings networks back. Before any container is started. Blocks.
    pub(crate) fn restore_networks(&self, survivors: &[Survivor]) -> Result<(), OpenError> {
        let networks = &self.networks;
        let prepared = networks.prepare(&self.config, survivors);
        if let Err(error) = prepared {
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
        let state = networks.state(&self.config, opened);
        let executable = self.executable.try_clone()?;
        let config = KeeperConfig {
            owner: networks.owner.clone(),
            run_dir: self.root.exec().to_owned(),
            executable,
            report: Box::new(|text| tracing::warn!("{text}")),
        };
        let keeper = Keeper::open(config, state).map_err(std::io::Error::other)?;
        // A second opening of one engine does not happen.
        let _first = networks.keeper.set(keeper).is_ok();
        networks.remove_strangers(survivors);
        Ok(())
    }
}

impl Networks {
    /// Notes who has which address.
    fn take_places(&self, survivors: &[Survivor]) {
        let mut known = self.known();
        for survivor in survivors {
            for joined in survivor.sandbox.networks.values() {
                let Some(entry) = known.networks.get_mut(&joined.network_id) else {
                    tracing::warn!(
                        container = survivor.container,
                        network = joined.network_id,
                        "it is on a network without a record"
                    );
                    continue;
                };
                for address in joined.endpoint.iter().flat_map(super::addresses) {
                    let pool = entry.pool_of(address);
                    if let Some(Err(error)) = pool.map(|pool| pool.take(address)) {
                        tracing::warn!(container = survivor.container, %address, %error, "its address");
                    }
                }
                let place = Place {
                    container: survivor.container.clone(),
                    endpoint: joined.endpoint.clone(),
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
            },
            networks,
            endpoints,
        }
    }

    /// Interfaces of ours that no container has.
    fn remove_strangers(&self, survivors: &[Survivor]) {
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
            Some(network) if record.foreign => conex_network::bridge::adopt(network),
            Some(network) => conex_network::bridge::ensure(network),
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
