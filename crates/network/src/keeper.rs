//! The netkeeper: the daemon's handle on it, and the process itself.
//!
//! ```text
//!                 ┌── Keeper (daemon) ──┐          ┌── conex netkeeper ──────────┐
//!   put_network ─►│ state: everything   │ requests │ state: everything           │
//!   connect ─────►│ thread "netkeeper": │─────────►│ port sockets, nftables,     │
//!   disconnect ──►│  another one when   │◄─────────│ watcher, proxy: one thread, │
//!                 │  it is killed       │ answers  │ epoll                       │
//!                 └─────────────────────┘          └─────────────────────────────┘
//! ```
//!
//! Both sides know everything: either may be killed, and the other makes good.
//! The netkeeper ends when there is no daemon and no endpoint.

mod client;
mod connection;
mod datagram;
mod directory;
mod forward;
mod inside;
mod link;
mod ports;
mod process;
mod protocol;
mod proxy;
mod resolve;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

pub use client::{Config, Keeper, KeeperError};
pub use link::LinkFailure;
pub use process::{ProcessError, run};
pub use protocol::{
    AskedFrom, Forwarding, LostPort, Nickname, Options, Publish, Resolver, Rules, State, Upstream,
};
