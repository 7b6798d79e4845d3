//! Networks of this engine, and the place of every container on them.
//!
//! ```text
//!   network/network.db ──► Record ─┐
//!                                  ├─ Known: addresses given out, who is where
//!   <run dir>/network.json ─► Sandbox ─┘      │
//!                                             ▼
//!                   conex-network: bridges, namespaces, netkeeper
//! ```
//!
//! A record precedes its bridge. What a container has of a network is in the
//! `network.json` of its run directory before its process exists, so that the
//! next engine finds it; both are gone after a reboot, as the kernel's things
//! are. One file per verb.

mod attach;
mod config;
mod connect;
mod create;
mod default;
mod disconnect;
pub(crate) mod hosts;
mod inspect;
mod list;
mod normalise;
pub(crate) mod port;
mod prune;
mod record;
mod release;
mod remove;
pub(crate) mod resolv;
mod resolver;
mod restore;
mod sandbox;
pub(crate) mod settings;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use conex_network::{Addresses, Endpoint, Keeper, Namespaces, Owner};
use conex_store::db::{Database, Durability};
use conex_store::records::networks as records;

use crate::Error;
use crate::disk::Root;
use crate::engine::OpenError;
pub(crate) use attach::{Attached, Plan};
pub use config::{DefaultBridge, NetworkConfig};
pub(crate) use record::{Driver, Record};
pub(crate) use resolver::Outside;
pub(crate) use restore::Survivor;
pub(crate) use sandbox::{Joined, Sandbox, addresses};

/// The names nobody may give a network.
pub(crate) const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// Namespaces that wait for the next containers.
const READY: usize = 2;

/// All networks.
#[derive(Debug)]
pub(crate) struct Networks {
    db: Database,
    owner: Owner,
    known: Mutex<Known>,
    /// Rules and ports live there. Set once it is known who ran on.
    keeper: OnceLock<Keeper>,
    /// Whether the host's 127.0.0.1 is let through to bridges, which takes
    /// rules that guard it. Set with the keeper.
    loopback: OnceLock<bool>,
    namespaces: Namespaces,
    /// One network is made or removed at a time: who is first has the subnet.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    networks: BTreeMap<String, Entry>,
}

/// One network and who is on it.
#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    ipv4: Option<Addresses>,
    ipv6: Option<Addresses>,
    /// By endpoint id.
    endpoints: BTreeMap<String, Place>,
    /// Nobody joins any more.
    removing: bool,
}

/// A container on a network.
#[derive(Debug, Clone)]
struct Place {
    container: String,
    /// The engine's part alone where the network has no interfaces of its own.
    endpoint: Option<Endpoint>,
}

impl Entry {
    fn new(record: Arc<Record>) -> Entry {
        let (ipv4, ipv6) = record.addresses();
        Entry {
            record,
            ipv4,
            ipv6,
            endpoints: BTreeMap::new(),
            removing: false,
        }
    }

    fn pool_of(&mut self, address: IpAddr) -> Option<&mut Addresses> {
        match address {
            IpAddr::V4(_) => self.ipv4.as_mut(),
            IpAddr::V6(_) => self.ipv6.as_mut(),
        }
    }

    /// Takes an endpoint off, with its addresses.
    fn forget(&mut self, endpoint_id: &str) {
        let Some(place) = self.endpoints.remove(endpoint_id) else {
            return;
        };
        for address in place.endpoint.iter().flat_map(addresses) {
            if let Some(pool) = self.pool_of(address) {
                pool.release(address);
            }
        }
    }
}

impl Networks {
    /// Reads all there is; nothing of the kernel is touched yet.
    pub(crate) fn open(root: &Root, engine_id: &str) -> Result<Networks, OpenError> {
        let path = root.network_database();
        let db = Database::open(&path, Durability::Full, records::MIGRATIONS)?;
        let mut known = Known::default();
        for row in db.run(records::load_all)? {
            let record = Record::load(&row).map_err(|problem| OpenError::Damaged {
                path: path.clone(),
                problem: format!("network {}: {problem}", row.id),
            })?;
            known.networks.insert(row.id, Entry::new(Arc::new(record)));
        }
        let owner = Owner::new(engine_id);
        Ok(Networks {
            db,
            keeper: OnceLock::new(),
            loopback: OnceLock::new(),
            namespaces: Namespaces::start(READY)?,
            owner,
            known: Mutex::new(known),
            changing: tokio::sync::Mutex::default(),
        })
    }

    fn keeper(&self) -> &Keeper {
        self.keeper
            .get()
            .expect("networks are restored before a container can ask for one")
    }

    fn lets_loopback(&self) -> bool {
        self.loopback.get().copied().unwrap_or(false)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All records, the oldest first.
    pub(crate) fn records(&self) -> Vec<Arc<Record>> {
        let known = self.known();
        let mut all: Vec<_> = known
            .networks
            .values()
            .map(|entry| Arc::clone(&entry.record))
            .collect();
        all.sort_by_key(|record| record.created_ns);
        all
    }

    /// A network by its full id, its name, or the beginning of its id
    /// (COMPAT D3.10).
    pub(crate) fn find(&self, word: &str) -> Result<Arc<Record>, Error> {
        self.known().find(word)
    }

    /// The network of the mode `bridge`.
    pub(crate) fn default_bridge(&self) -> Option<Arc<Record>> {
        self.find("bridge").ok()
    }
}

impl Known {
    fn find(&self, word: &str) -> Result<Arc<Record>, Error> {
        let absent = || Error::not_found(format!("network {word} not found"));
        if word.is_empty() {
            return Err(absent());
        }
        if let Some(entry) = self.networks.get(word) {
            return Ok(Arc::clone(&entry.record));
        }
        let by_name = |entry: &&Entry| entry.record.name == word;
        if let Some(entry) = self.networks.values().find(by_name) {
            return Ok(Arc::clone(&entry.record));
        }
        let mut by_prefix = self
            .networks
            .values()
            .filter(|entry| entry.record.id.starts_with(word));
        match (by_prefix.next(), by_prefix.next()) {
            (Some(entry), None) => Ok(Arc::clone(&entry.record)),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "network {word} is ambiguous (2 matches found based on ID prefix)"
            ))),
            (None, _) => Err(absent()),
        }
    }
}
