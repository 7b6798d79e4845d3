//! What one running container has of its networks, as it is written down for
//! the next engine: `network.json` in the container's run directory.
//!
//! ```text
//! { "id": "64 hex", "networks": { "bridge": { "network_id", "endpoint_id",
//!   "endpoint": { interface, addresses, ports … } } } }
//! ```
//!
//! It is written before there is a process, and replaced as a whole when the
//! container is connected or disconnected.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use conex_network::{Endpoint, PortBinding};
use conex_store::persist::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::Error;

/// A container's networks while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sandbox {
    /// `SandboxID`: 64 hexadecimal digits.
    pub(crate) id: String,
    /// By the name the container asked for.
    pub(crate) networks: BTreeMap<String, Joined>,
}

/// One network that a container is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) network_id: String,
    pub(crate) endpoint_id: String,
    /// `None` where the network has no interfaces of its own.
    pub(crate) endpoint: Option<Endpoint>,
}

const FILE: &str = "network.json";
const MAX_BYTES: u64 = 4 << 20;

/// The addresses of an endpoint, IPv4 first.
pub(crate) fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + use<> {
    let ipv4 = endpoint.ipv4.map(|net| IpAddr::V4(net.addr()));
    let ipv6 = endpoint.ipv6.map(|net| IpAddr::V6(net.addr()));
    ipv4.into_iter().chain(ipv6)
}

impl Sandbox {
    /// Interfaces of its own, in the order of their names.
    pub(crate) fn endpoints(&self) -> Vec<&Endpoint> {
        let mut all: Vec<&Endpoint> = self
            .networks
            .values()
            .filter_map(|joined| joined.endpoint.as_ref())
            .collect();
        all.sort_by(|a, b| {
            let key = |e: &Endpoint| (e.interface.len(), e.interface.clone());
            key(a).cmp(&key(b))
        });
        all
    }

    /// All its published ports.
    pub(crate) fn ports(&self) -> Vec<PortBinding> {
        self.endpoints()
            .into_iter()
            .flat_map(|endpoint| endpoint.ports.iter().copied())
            .collect()
    }

    /// The first name of the form `ethN` that no interface has.
    pub(crate) fn free_interface(&self) -> String {
        let endpoints = self.endpoints();
        (0..)
            .map(|n| format!("eth{n}"))
            .find(|name| endpoints.iter().all(|e| e.interface != *name))
            .expect("a container has fewer interfaces than there are numbers")
    }

    /// Writes it down. The directory is in memory on most hosts: no fsync.
    pub(crate) fn save(&self, run_dir: &Path) -> Result<(), Error> {
        let json = serde_json::to_vec(self).expect("a sandbox is plain data");
        persist::write_atomic(&run_dir.join(FILE), &json, Durability::Unsynced)
            .map_err(|e| Error::system("write down the container's networks", &e))
    }

    /// What an earlier engine wrote; `None` if nothing that makes sense.
    pub(crate) fn load(run_dir: &Path) -> Option<Sandbox> {
        let json = persist::read_limited(&run_dir.join(FILE), MAX_BYTES).ok()?;
        serde_json::from_slice(&json).ok()
    }
}
