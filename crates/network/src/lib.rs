//! Networks of containers: bridges, addresses, endpoints, published ports and
//! the firewall, by netlink from this process; and the netkeeper, the process
//! that owns what must outlive the daemon.
//!
//! ```text
//!   daemon                                        conex netkeeper (one per engine)
//!   ┌──────────────────────────────┐   seqpacket  ┌──────────────────────────────┐
//!   │ Pools, Addresses   (pure)    │◄────────────►│ held port sockets            │
//!   │ bridge::ensure     (netlink) │  Keeper      │ nftables tables, watched     │
//!   │ Namespaces         (thread)  │              │ splice and datagram proxy    │
//!   └──────────────────────────────┘              └──────────────────────────────┘
//! ```
//!
//! # A start, as the engine calls it
//!
//! ```text
//!   Addresses::allocate                      an address of the network's subnet
//!   Endpoint::new(owner, network, id, …)     what is recorded about it
//!   Keeper::connect(endpoint, requests)      ports held, rules in force; returns the bindings
//!   Namespaces::connect([(network, endpoint)])  a namespace with lo, eth0, address, route
//!   … the monitor enters the namespace by its descriptor …
//! ```
//!
//! At the end `Keeper::disconnect` (rules and ports are gone when it returns),
//! `Addresses::release`, and `Namespaces::forget`, which removes what may be
//! left of the interface behind the caller's back.
//!
//! Once per network `bridge::ensure` and `Keeper::put_network`; once per
//! daemon `Keeper::open`, whose [`State`] replaces whatever an earlier daemon
//! had said. The handle starts another netkeeper, and tells it everything
//! again, when one is killed.
//!
//! *Invariants*: no tokio, every call blocks; nothing is written to disk; it
//! knows no containers, images or API. `unsafe` lives in `sys`.

mod address;
mod addresses;
pub mod bridge;
mod conntrack;
mod dns;
mod endpoint;
mod firewall;
#[cfg(test)]
mod fixture;
mod host;
pub mod keeper;
mod mac;
mod namespace;
mod netlink;
mod network;
mod nft;
mod owner;
mod pool;
mod port;

pub use address::random_ula;
pub use addresses::{AddressError, Addresses};
pub use endpoint::Endpoint;
pub use host::{HostRange, host_ranges};
pub use keeper::{Keeper, KeeperError, State};

pub use mac::{Mac, MacError};
pub use namespace::{Gone, Namespace, NamespaceError, Namespaces};
pub use netlink::LinkError;
pub use network::{Ipv4Config, Ipv6Config, Network};
pub use owner::Owner;
pub use pool::{Pool, PoolError, Pools};
pub use port::{HostPort, PortBinding, PortError, PortRequest, Protocol};
