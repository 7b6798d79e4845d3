//! What daemon and netkeeper say to each other: JSON in seqpacket messages,
//! in a memory descriptor where it is long.
//!
//! ```text
//!   daemon ── Start (+ listening socket) ──► a netkeeper it has just spawned
//!   netkeeper ── Hello ──► whoever connected
//!   daemon ── Replace ──► Replaced          everything the engine knows
//!   daemon ── PutNetwork, RemoveNetwork, Connect, Disconnect, Names ──► one answer each
//!   daemon ── Resolve (+ namespace), Watch (+ pidfd) ──► one answer each
//!   daemon ── Leave ──► (closes)            it goes on purpose
//! ```
//!
//! Answers come in the order of the requests. [`VERSION`] grows when a message
//! changes its meaning; a daemon that finds another version replaces the
//! netkeeper, which costs no connection, since the rules stay.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Endpoint, Network, Owner, PortBinding, PortError, PortRequest};

/// The protocol's version, said in every hello.
pub(crate) const VERSION: u32 = 2;

/// How published ports are reached from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Publish {
    /// The kernel forwards them to the container, as Docker does: fast, and
    /// the container sees the client's address. Rules of the host for what
    /// comes *in* do not apply, those for what is *forwarded* do.
    #[default]
    Forward,
    /// The netkeeper accepts and passes on, so that the host's firewall
    /// decides as about any of the host's own programs. The container sees
    /// the bridge's address.
    Input,
}

/// What becomes of traffic through the host that is not of containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forwarding {
    /// The host's own rules decide: it forwarded before we came.
    #[default]
    Open,
    /// The host forwards only since we switched it on: between its physical
    /// interfaces it stays the end host it was.
    Guarded,
}

/// For which protocol the engine's tables have rules. Without, nothing of it is
/// translated, hidden or refused: published ports are passed on by the
/// netkeeper, and the rest is the host's to arrange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// For IPv4 (`--iptables`).
    pub ipv4: bool,
    /// For IPv6 (`--ip6tables`).
    pub ipv6: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            ipv4: true,
            ipv6: true,
        }
    }
}

/// Settings of an engine for all its networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// How published ports are reached from outside.
    pub publish: Publish,
    /// What becomes of other traffic through the host.
    pub forwarding: Forwarding,
    /// For which protocols there are rules.
    pub rules: Rules,
    /// Published ports are reached from outside by the container's own address
    /// too, if somebody routes it here (`--allow-direct-routing`).
    pub direct: bool,
}

/// Where a server of the outside is asked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskedFrom {
    /// The host: also one that listens on the host's loopback alone.
    Host,
    /// The container, as if it asked itself.
    Container,
}

/// A server that knows the names of the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its address; its port is 53.
    pub address: IpAddr,
    /// Where it is asked from.
    pub from: AskedFrom,
}

/// Another name for something on a network, which one container has for
/// itself (`--link`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nickname {
    /// The network's id.
    pub network: String,
    /// What the container calls it.
    pub nickname: String,
    /// What the network calls it.
    pub name: String,
}

/// The resolver one container finds at 127.0.0.11. It knows the names of the
/// networks its endpoints are on, and asks others for the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// The caller's id of the container.
    pub id: String,
    /// Its endpoints by id; a name is looked for on their networks in this
    /// order. The resolver ends with the last of them.
    pub endpoints: Vec<String>,
    /// Names of its own.
    pub nicknames: Vec<Nickname>,
    /// Who is asked about the rest, in this order; at most three are.
    pub upstreams: Vec<Upstream>,
    /// Whether the host asks on its behalf: not if nothing of its networks
    /// leads out.
    pub forwards: bool,
    /// Names without a dot are not asked about outside: the container's
    /// resolver will add its search domains (`ndots`).
    pub keeps_short_names: bool,
}

/// All an engine has: what a netkeeper holds, and what a new one is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Settings.
    pub options: Options,
    /// Its networks.
    pub networks: Vec<Network>,
    /// The endpoints of running containers, with their published ports.
    pub endpoints: Vec<Endpoint>,
    /// The resolvers of containers that run.
    #[serde(default)]
    pub resolvers: Vec<Resolver>,
}

/// What a daemon asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first message to a new netkeeper; the socket it shall listen on
    /// travels with it. Answered by [`Answer::Hello`].
    Start {
        /// Names in the kernel.
        owner: Owner,
    },
    /// Hold this, and nothing else.
    Replace(State),
    /// One more network, or other properties of one.
    PutNetwork(Network),
    /// A network less, with its endpoints.
    RemoveNetwork(String),
    /// An endpoint, and what to publish for it.
    Connect {
        /// The endpoint; its `ports` are empty.
        endpoint: Box<Endpoint>,
        /// What to publish.
        ports: Vec<PortRequest>,
    },
    /// Endpoints that are no more, by id.
    Disconnect(Vec<String>),
    /// What endpoints are called from now on, by their ids.
    Names(Vec<(String, Vec<String>)>),
    /// A container's resolver, new or changed. A new one is opened in the
    /// network namespace that travels with it.
    Resolve(Box<Resolver>),
    /// The process that a resolver is for travels with it: its end is the
    /// resolver's, and one that is not open is opened in its namespace.
    Watch(String),
    /// The daemon goes and will not be missed. No answer.
    Leave,
}

/// What a netkeeper answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// First message on every connection.
    Hello {
        /// Protocol version of the netkeeper.
        version: u32,
        /// Its process id.
        pid: i32,
    },
    /// Done.
    Done,
    /// Connected and published.
    Connected(Vec<PortBinding>),
    /// Done, but for these ports.
    Replaced(Vec<LostPort>),
    /// A port could not be published; nothing is left of the request.
    Port(PortError),
    /// The kernel refused; nothing is left of the request.
    Refused(String),
}

/// A port that was published once and could not be held again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostPort {
    /// The endpoint's id.
    pub endpoint: String,
    /// Which port.
    pub binding: PortBinding,
    /// Why.
    pub error: PortError,
}
