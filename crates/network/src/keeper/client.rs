//! The daemon's side: a handle that keeps a netkeeper running.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conex_sys::{process, socket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use thiserror::Error;

use super::link::{Link, LinkFailure};
use super::protocol::{Answer, Options, Request, Resolver, State, VERSION};
use crate::{Endpoint, Network, Owner, PortBinding, PortError, PortRequest};

/// The socket's name in the run directory.
const SOCKET: &str = "netkeeper.sock";

/// How long a netkeeper may take to answer before it counts as hung and is
/// replaced. The longest thing it does is loading tens of thousands of rules.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a netkeeper did not do what was asked.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// A port could not be published; the text is Docker's. Nothing is left of
    /// the request.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The kernel refused rules or sockets. Nothing is left of the request.
    #[error("set up the network: {0}")]
    Refused(String),
    /// No netkeeper could be started.
    #[error("start netkeeper")]
    Start(#[source] std::io::Error),
    /// It could not be talked to, also not after it was started again.
    #[error("netkeeper does not answer")]
    Link(#[from] LinkFailure),
    /// The network was never put.
    #[error("network {0} is not known to netkeeper")]
    UnknownNetwork(String),
}

/// How to find or start an engine's netkeeper.
pub struct Config {
    /// The engine's names in the kernel.
    pub owner: Owner,
    /// Directory of `netkeeper.sock`: gone after a reboot.
    pub run_dir: PathBuf,
    /// The binary to run as `conex netkeeper`.
    pub executable: OwnedFd,
    /// Hears one sentence of whatever goes wrong behind the caller's back.
    pub report: Box<dyn Fn(&str) + Send + Sync>,
}

struct Connection {
    link: Link,
    /// Of the process at the other end.
    pidfd: OwnedFd,
}

/// What is held, by id.
#[derive(Default)]
struct Known {
    options: Options,
    networks: BTreeMap<String, Network>,
    endpoints: HashMap<String, Endpoint>,
    resolvers: HashMap<String, Resolver>,
    /// The processes the resolvers are for.
    processes: HashMap<String, OwnedFd>,
}

impl Known {
    fn forget_idle_resolvers(&mut self) {
        let endpoints = &self.endpoints;
        let is_used = |r: &Resolver| r.endpoints.iter().any(|id| endpoints.contains_key(id));
        self.resolvers.retain(|_, resolver| is_used(resolver));
        let resolvers = &self.resolvers;
        self.processes.retain(|id, _| resolvers.contains_key(id));
    }
}

#[derive(Default)]
struct Inner {
    known: Known,
    connection: Option<Connection>,
    /// Which connection it is, counted from 1.
    generation: u64,
    /// The handle is gone or the daemon leaves.
    ended: bool,
}

struct Shared {
    config: Config,
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// An engine's netkeeper.
///
/// Calls block, one at a time, for about a hundred microseconds. The process
/// is started when the first endpoint is connected; one that is killed or hangs
/// is replaced and told everything again.
pub struct Keeper {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// Takes over the netkeeper an earlier daemon left, or starts one if
    /// `state` has endpoints. Whatever else the earlier daemon had published is
    /// closed; a port that cannot be held again is reported.
    ///
    /// `processes` are those the state's resolvers are for, by resolver.
    pub fn open(
        config: Config,
        state: State,
        processes: HashMap<String, OwnedFd>,
    ) -> Result<Keeper, KeeperError> {
        let shared = Arc::new(Shared {
            config,
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut inner = shared.lock();
        inner.known = Known::from(state);
        inner.known.processes = processes;
        if let Some(connection) = shared.take_over() {
            inner.connection = Some(connection);
            inner.generation += 1;
        }
        // One that does not take it is replaced if there is need.
        let told = inner.connection.is_some() && shared.replay(&mut inner).is_ok();
        if !told && !inner.known.endpoints.is_empty() {
            shared.restart(&mut inner)?;
        }
        drop(inner);
        let watcher = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("netkeeper".into())
            .spawn(move || watcher.watch())
            .map_err(KeeperError::Start)?;
        Ok(Keeper { shared })
    }

    /// Tells of a network, new or changed. Its bridge may come later.
    pub fn put_network(&self, network: &Network) -> Result<(), KeeperError> {
        let mut inner = self.shared.lock();
        let id = network.id.clone();
        inner.known.networks.insert(id, network.clone());
        self.tell(inner, Request::PutNetwork(network.clone()))
    }

    /// Forgets a network with its endpoints.
    pub fn remove_network(&self, id: &str) -> Result<(), KeeperError> {
        let mut inner = self.shared.lock();
        inner.known.networks.remove(id);
        inner.known.endpoints.retain(|_, e| e.network != id);
        inner.known.forget_idle_resolvers();
        self.tell(inner, Request::RemoveNetwork(id.to_owned()))
    }

    /// Publishes ports and lets the endpoint's interface talk. When it
    /// returns, ports are held and rules are in force; fills `endpoint.ports`.
    ///
    /// All or nothing: a port that cannot be had gives back the others. On an
    /// internal network nothing is published. An endpoint that is connected
    /// already is changed, its names without a moment of absence.
    pub fn connect(
        &self,
        endpoint: &mut Endpoint,
        ports: &[PortRequest],
    ) -> Result<(), KeeperError> {
        let mut inner = self.shared.lock();
        if !inner.known.networks.contains_key(&endpoint.network) {
            return Err(KeeperError::UnknownNetwork(endpoint.network.clone()));
        }
        endpoint.ports.clear();
        let request = Request::Connect {
            endpoint: Box::new(endpoint.clone()),
            ports: ports.to_vec(),
        };
        let bindings: Vec<PortBinding> = match self.shared.ask(&mut inner, &request)? {
            Answer::Connected(bindings) => bindings,
            other => {
                inner.known.endpoints.remove(&endpoint.id);
                return Err(refusal(other));
            }
        };
        endpoint.ports = bindings;
        let id = endpoint.id.clone();
        inner.known.endpoints.insert(id, endpoint.clone());
        Ok(())
    }

    /// Takes endpoints back: their ports are free and their rules gone when it
    /// returns. Unknown ids are no error.
    pub fn disconnect(&self, ids: &[&str]) -> Result<(), KeeperError> {
        let mut inner = self.shared.lock();
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        for id in &ids {
            inner.known.endpoints.remove(id);
        }
        inner.known.forget_idle_resolvers();
        self.tell(inner, Request::Disconnect(ids))
    }

    /// What endpoints are called from now on: ids and names, the container's
    /// own first. All at one moment; unknown ids are no error.
    pub fn rename(&self, names: Vec<(String, Vec<String>)>) -> Result<(), KeeperError> {
        let mut inner = self.shared.lock();
        for (id, names) in &names {
            if let Some(endpoint) = inner.known.endpoints.get_mut(id) {
                endpoint.names.clone_from(names);
            }
        }
        self.tell(inner, Request::Names(names))
    }

    /// Puts a container's resolver into its network namespace, or changes the
    /// one that is there. It answers when this returns, and ends with the last
    /// of its endpoints, which are [connected](Keeper::connect) before.
    pub fn resolve(
        &self,
        resolver: Resolver,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), KeeperError> {
        let mut inner = self.shared.lock();
        let request = Request::Resolve(Box::new(resolver.clone()));
        match self.shared.ask_with(&mut inner, &request, &[namespace])? {
            Answer::Done => {}
            other => return Err(refusal(other)),
        }
        inner.known.resolvers.insert(resolver.id.clone(), resolver);
        Ok(())
    }

    /// The process a resolver is for: the resolver ends with it, and is opened
    /// again in its namespace when a netkeeper is killed. Nothing for a
    /// resolver that is not known.
    pub fn watch(&self, id: &str, process: OwnedFd) -> Result<(), KeeperError> {
        let mut inner = self.shared.lock();
        if !inner.known.resolvers.contains_key(id) {
            return Ok(());
        }
        let request = Request::Watch(id.to_owned());
        let answer = self
            .shared
            .ask_with(&mut inner, &request, &[process.as_fd()])?;
        inner.known.processes.insert(id.to_owned(), process);
        match answer {
            Answer::Done => Ok(()),
            other => Err(refusal(other)),
        }
    }

    /// The daemon goes on purpose; running containers keep their netkeeper,
    /// which ends with the last of them.
    pub fn leave(&self) {
        self.shared.end();
    }

    /// Tells a running netkeeper what the next one hears in its state.
    fn tell(&self, mut inner: MutexGuard<'_, Inner>, request: Request) -> Result<(), KeeperError> {
        if inner.connection.is_none() && inner.known.endpoints.is_empty() {
            return Ok(());
        }
        match self.shared.ask(&mut inner, &request)? {
            Answer::Done => Ok(()),
            other => Err(refusal(other)),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.end();
    }
}

fn refusal(answer: Answer) -> KeeperError {
    match answer {
        Answer::Port(error) => error.into(),
        Answer::Refused(text) => KeeperError::Refused(text),
        // An answer to another question: the next request starts anew.
        _ => LinkFailure::Closed.into(),
    }
}

impl Shared {
    /// What a thread left that panicked is as good as what it found: every
    /// change is made in one step.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, starting a netkeeper first where none answers.
    fn ask(&self, inner: &mut Inner, request: &Request) -> Result<Answer, KeeperError> {
        self.ask_with(inner, request, &[])
    }

    fn ask_with(
        &self,
        inner: &mut Inner,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, KeeperError> {
        if let Some(connection) = &inner.connection {
            match exchange(&connection.link, request, fds) {
                Ok(answer) => return Ok(answer),
                Err(error) => self.give_up(inner, &error),
            }
        }
        self.restart(inner)?;
        let connection = inner.connection.as_ref().ok_or(LinkFailure::Closed)?;
        Ok(exchange(&connection.link, request, fds)?)
    }

    /// Whoever does not answer is ended, so that there are never two.
    fn give_up(&self, inner: &mut Inner, error: &LinkFailure) {
        (self.config.report)(&format!("netkeeper is replaced: {error}"));
        if let Some(connection) = inner.connection.take() {
            let _gone = process::pidfd_signal(connection.pidfd.as_fd(), libc::SIGKILL).is_err();
        }
    }

    fn restart(&self, inner: &mut Inner) -> Result<(), KeeperError> {
        inner.connection = Some(self.spawn()?);
        inner.generation += 1;
        self.changed.notify_all();
        self.replay(inner)
    }

    /// Tells the netkeeper everything.
    fn replay(&self, inner: &mut Inner) -> Result<(), KeeperError> {
        let connection = inner.connection.as_ref().ok_or(LinkFailure::Closed)?;
        let request = Request::Replace(State::from(&inner.known));
        let lost = match exchange(&connection.link, &request, &[]) {
            Ok(Answer::Replaced(lost)) => lost,
            Ok(other) => return Err(refusal(other)),
            Err(error) => {
                self.give_up(inner, &error);
                return Err(error.into());
            }
        };
        for port in &lost {
            (self.config.report)(&format!(
                "a published port of endpoint {} is lost: {}",
                port.endpoint, port.error
            ));
        }
        let mut lost = None;
        for (id, process) in &inner.known.processes {
            let connection = inner.connection.as_ref().ok_or(LinkFailure::Closed)?;
            let request = Request::Watch(id.clone());
            match exchange(&connection.link, &request, &[process.as_fd()]) {
                Ok(Answer::Done) => {}
                // A container that has just ended, most likely.
                Ok(other) => (self.config.report)(&format!(
                    "names are not resolved in a container: {}",
                    refusal(other)
                )),
                Err(error) => {
                    lost = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = lost {
            self.give_up(inner, &error);
            return Err(error.into());
        }
        Ok(())
    }

    /// The netkeeper of an earlier daemon.
    fn take_over(&self) -> Option<Connection> {
        let socket = socket::connect_at(&self.config.run_dir, SOCKET, PATIENCE).ok()?;
        let link = Link::new(socket);
        let (pid, _, _) = socket::peer(&link).ok()?;
        let greeting = link.receive::<Answer>();
        let version = match &greeting {
            Ok((Answer::Hello { version, .. }, _)) => Some(*version),
            _ => None,
        };
        let pid = match greeting {
            Ok((Answer::Hello { pid, .. }, _)) => pid,
            _ => pid,
        };
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        if version == Some(VERSION) {
            return Some(Connection { link, pidfd });
        }
        // Another version's, or one that hangs: the rules stay in the kernel.
        let _gone = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).is_err();
        None
    }

    fn spawn(&self) -> Result<Connection, KeeperError> {
        let io = |e: Errno| KeeperError::Start(e.into());
        let listener = socket::listen_at(&self.config.run_dir, SOCKET).map_err(io)?;
        let (ours, theirs) = socket::pair(SocketType::SEQPACKET).map_err(io)?;
        socket::set_patience(&ours, PATIENCE).map_err(io)?;
        let program = format!("/proc/self/fd/{}", self.config.executable.as_raw_fd());
        let child = Command::new(program)
            .arg0("conex")
            .arg("netkeeper")
            // Not read: so that people see whose it is.
            .arg(&self.config.run_dir)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(KeeperError::Start)?;
        let link = Link::new(ours);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(io)?;
        // Reaped by whoever reaps the daemon's children.
        drop(child);
        let start = Request::Start {
            owner: self.config.owner.clone(),
        };
        link.send(&start, &[listener.as_fd()])?;
        match link.receive::<Answer>()? {
            (Answer::Hello { version, .. }, _) if version == VERSION => {
                Ok(Connection { link, pidfd })
            }
            _ => Err(LinkFailure::Closed.into()),
        }
    }

    /// The thread: waits for the netkeeper's end and starts another if anybody
    /// needs one.
    fn watch(&self) {
        let mut seen = 0;
        loop {
            let mut inner = self.lock();
            while !inner.ended && (inner.connection.is_none() || inner.generation == seen) {
                inner = self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if inner.ended {
                return;
            }
            let generation = inner.generation;
            let copy = inner
                .connection
                .as_ref()
                .and_then(|c| c.link.as_fd().try_clone_to_owned().ok());
            drop(inner);
            if let Some(copy) = copy {
                wait_for_hangup(&copy);
            }
            seen = generation;
            let mut inner = self.lock();
            if inner.ended || inner.generation != generation || inner.connection.is_none() {
                continue;
            }
            self.give_up(&mut inner, &LinkFailure::Closed);
            if !inner.known.endpoints.is_empty()
                && let Err(error) = self.restart(&mut inner)
            {
                // Whoever connects next tries again.
                (self.config.report)(&format!("netkeeper cannot be started: {error}"));
            }
        }
    }

    fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        if let Some(connection) = inner.connection.take() {
            let _gone = connection.link.send(&Request::Leave, &[]).is_err();
            // The watcher has a copy of the descriptor.
            let _gone =
                rustix::net::shutdown(&connection.link, rustix::net::Shutdown::Both).is_err();
        }
        self.changed.notify_all();
    }
}

fn exchange(link: &Link, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Answer, LinkFailure> {
    match link.send(request, fds) {
        Err(LinkFailure::Socket(Errno::PIPE | Errno::CONNRESET)) => {
            return Err(LinkFailure::Closed);
        }
        other => other?,
    }
    link.receive().map(|(answer, _)| answer)
}

fn wait_for_hangup(socket: &OwnedFd) {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    while let Err(Errno::INTR) = poll(&mut fds, None) {}
}

impl From<State> for Known {
    fn from(state: State) -> Known {
        let networks = state.networks.into_iter().map(|n| (n.id.clone(), n));
        let endpoints = state.endpoints.into_iter().map(|e| (e.id.clone(), e));
        Known {
            options: state.options,
            networks: networks.collect(),
            endpoints: endpoints.collect(),
            resolvers: state
                .resolvers
                .into_iter()
                .map(|r| (r.id.clone(), r))
                .collect(),
            processes: HashMap::new(),
        }
    }
}

impl From<&Known> for State {
    fn from(known: &Known) -> State {
        State {
            options: known.options,
            networks: known.networks.values().cloned().collect(),
            endpoints: known.endpoints.values().cloned().collect(),
            resolvers: known.resolvers.values().cloned().collect(),
        }
    }
}
