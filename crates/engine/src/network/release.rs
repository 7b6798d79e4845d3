//! Taking a container off its networks. When this returns its ports and
//! addresses are free; its interface goes behind the caller's back.

use std::sync::Arc;

use conex_network::{Endpoint, Gone, Network};

use super::{Networks, Record, Sandbox};

/// What becomes of a container's interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interfaces {
    /// They go with its namespace.
    Follow,
    /// They are gone when the call returns.
    Removed,
}

use crate::error::chain;

impl Networks {
    /// Gives back everything a sandbox has. Problems are told and do not stop
    /// it: what is left, the next engine removes. Blocks for the time it takes
    /// to ask the netkeeper.
    pub(crate) fn release(&self, sandbox: &Sandbox) {
        self.give_back(sandbox, Interfaces::Follow);
    }

    /// Takes a container that runs off networks: their interfaces are gone
    /// from it when this returns.
    pub(crate) fn part(&self, sandbox: &Sandbox) {
        self.give_back(sandbox, Interfaces::Removed);
    }

    fn give_back(&self, sandbox: &Sandbox, interfaces: Interfaces) {
        let endpoints: Vec<&Endpoint> = sandbox.endpoints();
        let ids: Vec<&str> = endpoints.iter().map(|e| e.id.as_str()).collect();
        if !ids.is_empty()
            && let Err(error) = self.keeper().disconnect(&ids)
        {
            tracing::warn!(?ids, error = chain(&error), "rules are left");
        }
        let mut networks: Vec<(Arc<Record>, &Endpoint)> = Vec::new();
        {
            let mut known = self.known();
            for joined in sandbox.networks.values() {
                let Some(entry) = known.networks.get_mut(&joined.network_id) else {
                    continue;
                };
                entry.forget(&joined.endpoint_id);
                if let Some(endpoint) = &joined.endpoint {
                    networks.push((Arc::clone(&entry.record), endpoint));
                }
            }
        }
        let gone: Vec<Gone<'_>> = networks
            .iter()
            .filter_map(|(record, endpoint)| {
                let network: &Network = record.bridge.as_ref()?;
                Some(Gone::new(network, endpoint))
            })
            .collect();
        if gone.is_empty() {
            return;
        }
        let done = match interfaces {
            Interfaces::Follow => self.namespaces.forget(&gone),
            Interfaces::Removed => self.namespaces.part(&gone),
        };
        if let Err(error) = done {
            tracing::warn!(error = chain(&error), "interfaces or neighbours are left");
        }
    }
}
