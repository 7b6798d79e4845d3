//! The process: one thread that waits for the daemon, for the kernel's notices
//! and for clients of ports it passes on.
//!
//! ```text
//!   Start ► Hello ► requests … ── daemon gone ──► interfaces watched ── endpoint's gone ──► dropped
//!                       ▲                              │
//!                       └──── another daemon ◄─────────┤
//!                                                      └── no endpoint left ──► tables removed ► end
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::Resource;
use thiserror::Error;

use super::directory::{Directory, World};
use super::inside::OpenError;
use super::link::{Link, LinkFailure};
use super::ports::{Place, Ports};
use super::protocol::{Answer, LostPort, Options, Request, Resolver, State, VERSION};
use super::proxy::{Proxy, Source};
use super::resolve::Resolvers;
use super::watch::{Interfaces, Rules};
use crate::firewall::{Firewall, FirewallError};
use crate::{Endpoint, Network, Owner, PortBinding, PortRequest, Protocol, conntrack};

/// Why a netkeeper could not go on.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The daemon did not say what it is to be.
    #[error("netkeeper was not told how to start")]
    Start(#[source] LinkFailure),
    /// The first message came without a socket to listen on, or was another.
    #[error("netkeeper is started by the engine only")]
    NotTheEngine,
    /// The kernel refused something it cannot do without.
    #[error("netkeeper cannot watch")]
    Kernel(#[from] Errno),
}

const LISTENER: u64 = 0;
const LINK: u64 = 1;
const RULES: u64 = 2;
const INTERFACES: u64 = 3;

/// Events taken at once.
const EVENTS: usize = 64;

struct Netkeeper {
    epoll: OwnedFd,
    owner: Owner,
    listener: OwnedFd,
    link: Option<Link>,
    firewall: Firewall,
    /// The kernel refused rules that are right: the next change is a load of
    /// everything.
    behind: bool,
    rules: Rules,
    interfaces: Option<Interfaces>,
    options: Options,
    networks: BTreeMap<String, Network>,
    endpoints: HashMap<String, Endpoint>,
    ports: Ports,
    proxy: Proxy,
    directory: Directory,
    resolvers: Resolvers,
    /// Endpoints of containers that ended while there is a daemon, which has
    /// more to do about it.
    ended: Vec<String>,
    /// Resolvers that were told of with everything else, by id: each is opened
    /// when its process is.
    told: HashMap<String, Resolver>,
}

/// Runs a netkeeper to its end. `link` is the socket to the daemon that
/// started it; the process must be its own.
pub fn run(link: OwnedFd) -> Result<(), ProcessError> {
    prepare_process();
    serve(link)
}

/// Detaches this process from whatever started it.
fn prepare_process() {
    conex_sys::process::close_inherited_from(3);
    let _leader = rustix::process::setsid().is_err();
    let _name = rustix::thread::set_name(c"conex-netkeeper").is_err();
    let _kept_cwd = rustix::process::chdir(c"/").is_err();
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
        conex_sys::process::ignore_signal(signal);
    }
    // Two for each published port.
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _as_it_was = rustix::process::setrlimit(Resource::Nofile, limit).is_err();
}

/// The same in a thread of any process, for tests too.
pub(crate) fn serve(link: OwnedFd) -> Result<(), ProcessError> {
    let link = Link::new(link);
    let (owner, listener) = match link.receive().map_err(ProcessError::Start)? {
        (Request::Start { owner }, mut fds) if fds.len() == 1 => (owner, fds.remove(0)),
        _ => return Err(ProcessError::NotTheEngine),
    };
    let mut keeper = Netkeeper::new(owner, listener)?;
    keeper.greet(link);
    let mut events = Vec::with_capacity(EVENTS);
    while !keeper.is_done() {
        events.clear();
        match epoll::wait(
            &keeper.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            keeper.handle(event.data.u64());
            if let Some(error) = keeper.resolvers.astray() {
                return Err(error.into());
            }
        }
    }
    // Rules without containers guard nothing.
    let _left = keeper.firewall.remove().is_err();
    Ok(())
}

impl Netkeeper {
    fn new(owner: Owner, listener: OwnedFd) -> Result<Netkeeper, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let firewall = Firewall::open(owner.clone())?;
        let rules = Rules::open(&owner.table, firewall.port())?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        epoll::add(&epoll, &rules, EventData::new_u64(RULES), EventFlags::IN)?;
        let copy = rustix::io::fcntl_dupfd_cloexec(&epoll, 0)?;
        let other = rustix::io::fcntl_dupfd_cloexec(&epoll, 0)?;
        Ok(Netkeeper {
            epoll,
            owner,
            listener,
            link: None,
            firewall,
            behind: true,
            rules,
            interfaces: None,
            options: Options::default(),
            networks: BTreeMap::new(),
            endpoints: HashMap::new(),
            ports: Ports::default(),
            proxy: Proxy::new(copy)?,
            directory: Directory::default(),
            resolvers: Resolvers::new(other)?,
            ended: Vec::new(),
            told: HashMap::new(),
        })
    }

    fn is_done(&self) -> bool {
        self.link.is_none() && self.endpoints.is_empty()
    }

    fn handle(&mut self, data: u64) {
        match data {
            LISTENER => self.accept(),
            LINK => self.hear(),
            RULES => {
                if self.rules.were_removed() {
                    self.reload();
                }
            }
            INTERFACES => self.forget_gone(),
            other => match Source::of(other) {
                Some((Source::Resolver, number)) => self.resolve(number),
                Some((source, number)) => self.proxy.serve(source, number, &self.ports),
                None => {}
            },
        }
    }

    fn resolve(&mut self, number: u64) {
        let world = World {
            directory: &self.directory,
            endpoints: &self.endpoints,
            networks: &self.networks,
        };
        let Some(ended) = self.resolvers.serve(number, &world) else {
            return;
        };
        match self.link {
            Some(_) => self.ended.extend(ended),
            // Its interface does not go by itself while we hold its namespace.
            None => self.disconnect(&ended),
        }
    }

    /// A daemon that came back; the newest is the one that lives.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            self.greet(Link::new(socket));
        }
    }

    fn greet(&mut self, link: Link) {
        let hello = Answer::Hello {
            version: VERSION,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
        };
        // Never waits for a daemon that does not read.
        let ready = rustix::io::ioctl_fionbio(&link, true).is_ok()
            && link.send(&hello, &[]).is_ok()
            && epoll::add(&self.epoll, &link, EventData::new_u64(LINK), EventFlags::IN).is_ok();
        if ready {
            self.link = Some(link);
            self.interfaces = None;
        } else {
            self.lose_link();
        }
    }

    fn hear(&mut self) {
        let Some(link) = &self.link else { return };
        let (request, fds) = match link.receive::<Request>() {
            Ok(received) => received,
            Err(LinkFailure::Socket(Errno::AGAIN)) => return,
            // Closed, or somebody who speaks another language.
            Err(_) => return self.lose_link(),
        };
        let Some(answer) = self.answer(request, fds) else {
            return self.lose_link();
        };
        let sent = self.link.as_ref().map(|link| link.send(&answer, &[]));
        if !matches!(sent, Some(Ok(()))) {
            self.lose_link();
        }
    }

    /// From now on the kernel says when a container is gone.
    fn lose_link(&mut self) {
        self.link = None;
        let ended = std::mem::take(&mut self.ended);
        self.disconnect(&ended);
        if self.endpoints.is_empty() {
            return;
        }
        let Ok(interfaces) = Interfaces::open() else {
            return;
        };
        let event = EventData::new_u64(INTERFACES);
        if epoll::add(&self.epoll, &interfaces, event, EventFlags::IN).is_ok() {
            self.interfaces = Some(interfaces);
            self.forget_absent();
        }
    }

    fn answer(&mut self, request: Request, mut fds: Vec<OwnedFd>) -> Option<Answer> {
        let answer = match request {
            Request::Start { .. } | Request::Leave => return None,
            Request::Replace(state) => match self.replace(state) {
                Ok(lost) => Answer::Replaced(lost),
                Err(error) => Answer::Refused(error.to_string()),
            },
            Request::PutNetwork(network) => done(self.put_network(network)),
            Request::RemoveNetwork(id) => {
                self.remove_network(&id);
                Answer::Done
            }
            Request::Connect { endpoint, ports } => self.connect(*endpoint, &ports),
            Request::Disconnect(ids) => {
                self.disconnect(&ids);
                Answer::Done
            }
            Request::Names(all) => {
                self.rename(all);
                Answer::Done
            }
            Request::Resolve(resolver) => {
                let namespace = fds.first().map(AsFd::as_fd);
                done(self.resolvers.put(*resolver, namespace))
            }
            Request::Watch(id) => done(self.watch(&id, fds.pop())),
        };
        Some(answer)
    }

    fn replace(&mut self, state: State) -> Result<Vec<LostPort>, FirewallError> {
        self.options = state.options;
        let networks = state.networks.into_iter().map(|n| (n.id.clone(), n));
        self.networks = networks.collect();
        // What is held already stays held; the rest is closed before anything
        // is opened, since it may be in the way.
        let bindings = state.endpoints.iter().flat_map(|e| &e.ports);
        let wanted: HashSet<Place> = bindings.map(Place::from).collect();
        let held: Vec<Place> = self.ports.places().copied().collect();
        for place in held {
            // Where it leads may have changed.
            self.proxy.remove(&place);
            if !wanted.contains(&place) {
                self.ports.release(place);
            }
        }
        self.endpoints.clear();
        self.directory.clear();
        self.ended.clear();
        let mut lost = Vec::new();
        for mut endpoint in state.endpoints {
            let all = std::mem::take(&mut endpoint.ports);
            for binding in all {
                let held = match self.ports.holds(&Place::from(&binding)) {
                    true => Ok(()),
                    false => self.ports.hold(&binding),
                };
                match held {
                    Ok(()) => endpoint.ports.push(binding),
                    Err(error) => lost.push(LostPort {
                        endpoint: endpoint.id.clone(),
                        binding,
                        error,
                    }),
                }
            }
            self.pass_on(&endpoint);
            self.directory.add(&endpoint);
            self.endpoints.insert(endpoint.id.clone(), endpoint);
        }
        let resolvers = state.resolvers.into_iter().map(|r| (r.id.clone(), r));
        self.told = resolvers.collect();
        let told = &self.told;
        self.resolvers.retain(|open| told.contains_key(&open.id));
        for resolver in told.values() {
            // Those that are open only learn what changed.
            let _later = self.resolvers.put(resolver.clone(), None).is_err();
        }
        self.load()?;
        Ok(lost)
    }

    fn put_network(&mut self, network: Network) -> Result<(), FirewallError> {
        let known = self.networks.insert(network.id.clone(), network.clone());
        match known {
            Some(known) if known == network && !self.behind => Ok(()),
            None if !self.behind && self.firewall.add_network(&network).is_ok() => Ok(()),
            _ => self.load(),
        }
    }

    fn remove_network(&mut self, id: &str) {
        let on_it = self.endpoints.values().filter(|e| e.network == id);
        let ids: Vec<String> = on_it.map(|e| e.id.clone()).collect();
        self.disconnect(&ids);
        if let Some(network) = self.networks.remove(id)
            && (self.behind || self.firewall.remove_network(&network).is_err())
        {
            self.reload();
        }
    }

    fn connect(&mut self, mut endpoint: Endpoint, requests: &[PortRequest]) -> Answer {
        let Some(network) = self.networks.get(&endpoint.network) else {
            return Answer::Refused(format!("network {} is not known", endpoint.network));
        };
        let internal = network.internal;
        let requests = if internal { &[] } else { requests };
        if self.endpoints.contains_key(&endpoint.id) {
            let id = endpoint.id.clone();
            self.take_off(&[id]);
        }
        let bindings = match self.ports.publish(requests) {
            Ok(bindings) => bindings,
            Err(error) => return Answer::Port(error),
        };
        endpoint.ports = bindings.clone();
        self.pass_on(&endpoint);
        self.directory.add(&endpoint);
        let id = endpoint.id.clone();
        self.endpoints.insert(id.clone(), endpoint);
        let added = !self.behind && self.firewall.add_endpoint(&self.endpoints[&id]).is_ok();
        if !added && let Err(error) = self.load() {
            self.disconnect(&[id]);
            return Answer::Refused(error.to_string());
        }
        Answer::Connected(bindings)
    }

    fn pass_on(&mut self, endpoint: &Endpoint) {
        for binding in &endpoint.ports {
            if let Some(socket) = self.ports.socket(&binding.into()) {
                // Out of memory or watches: the kernel's translation is left.
                let _unserved = self.proxy.add(endpoint, binding, socket).is_err();
            }
        }
    }

    /// Endpoints less, and the resolvers of containers that have none left.
    fn disconnect(&mut self, ids: &[String]) {
        if self.take_off(ids) {
            let endpoints = &self.endpoints;
            let is_there = |id: &String| endpoints.contains_key(id);
            self.resolvers.retain(|r| r.endpoints.iter().any(is_there));
            self.told.retain(|_, r| r.endpoints.iter().any(is_there));
        }
    }

    /// Whether there was any.
    fn take_off(&mut self, ids: &[String]) -> bool {
        let gone: Vec<Endpoint> = ids
            .iter()
            .filter_map(|id| self.endpoints.remove(id))
            .collect();
        if gone.is_empty() {
            return false;
        }
        for endpoint in &gone {
            self.directory.remove(endpoint);
        }
        let bindings = || gone.iter().flat_map(|endpoint| &endpoint.ports);
        for binding in bindings() {
            let place = binding.into();
            self.proxy.remove(&place);
            self.ports.release(place);
        }
        // Endpoints that have the port on another address share an element.
        let shared = bindings().any(|binding| self.ports.is_taken(binding));
        if self.behind || shared || self.firewall.remove_endpoints(&gone).is_err() {
            self.reload();
        }
        forget_datagrams(&gone);
        true
    }

    fn rename(&mut self, all: Vec<(String, Vec<String>)>) {
        for (id, names) in all {
            if let Some(endpoint) = self.endpoints.get_mut(&id) {
                self.directory.remove(endpoint);
                endpoint.names = names;
                self.directory.add(endpoint);
            }
        }
    }

    /// The process of a container whose resolver is told of; it is opened if
    /// it is not.
    fn watch(&mut self, id: &str, process: Option<OwnedFd>) -> Result<(), OpenError> {
        let Some(process) = process else {
            return Ok(());
        };
        if let Some(resolver) = self.told.remove(id) {
            self.resolvers.put(resolver, Some(process.as_fd()))?;
        }
        self.resolvers.watch_process(id, process)
    }

    /// Puts everything into force, whatever is there.
    fn load(&mut self) -> Result<(), FirewallError> {
        let state = State {
            options: self.options,
            networks: self.networks.values().cloned().collect(),
            endpoints: self.endpoints.values().cloned().collect(),
            resolvers: Vec::new(),
        };
        let loaded = self.firewall.replace(&state);
        self.behind = loaded.is_err();
        loaded
    }

    /// The same where nobody waits for the answer.
    fn reload(&mut self) {
        let _behind = self.load().is_err();
    }

    fn forget_gone(&mut self) {
        let Some(interfaces) = &self.interfaces else {
            return;
        };
        let Some(names) = interfaces.gone() else {
            return self.forget_absent();
        };
        let gone = self
            .endpoints
            .values()
            .filter(|e| names.contains(&e.host_interface));
        let ids: Vec<String> = gone.map(|e| e.id.clone()).collect();
        self.disconnect(&ids);
    }

    fn forget_absent(&mut self) {
        let Ok(present) = Interfaces::present(&self.owner.prefix) else {
            return;
        };
        let gone = self
            .endpoints
            .values()
            .filter(|e| !present.contains(&e.host_interface));
        let ids: Vec<String> = gone.map(|e| e.id.clone()).collect();
        self.disconnect(&ids);
    }
}

/// Clients of published datagram ports find the next container.
fn forget_datagrams(gone: &[Endpoint]) {
    let is_udp = |binding: &PortBinding| binding.protocol == Protocol::Udp;
    for endpoint in gone.iter().filter(|e| e.ports.iter().any(is_udp)) {
        let four = endpoint.ipv4.map(|net| IpAddr::V4(net.addr()));
        let six = endpoint.ipv6.map(|net| IpAddr::V6(net.addr()));
        for address in four.into_iter().chain(six) {
            // Without it they find it when they have been silent for a while.
            let _later = conntrack::forget_datagrams(address).is_err();
        }
    }
}

fn done(result: Result<(), impl std::error::Error>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Refused(error.to_string()),
    }
}
