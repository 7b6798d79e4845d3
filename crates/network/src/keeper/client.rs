//! The daemon's side: a handle that keeps a netkeeper running.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
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
use super::protocol::{Answer, Options, Request, State, VERSION};
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
    /// The kernel refused the rules. Nothing is left of the request.
    #[error("set up firewall rules: {0}")]
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
    pub fn open(config: Config, state: State) -> Result<Keeper, KeeperError> {
        let shared = Arc::new(Shared {
            config,
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut inner = shared.lock();
        inner.known = Known::from(state);
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
        self.tell(inner, Request::RemoveNetwork(id.to_owned()))
    }

    /// Publishes ports and lets the endpoint's interface talk. When it
    /// returns, ports are held and rules are in force; fills `endpoint.ports`.
    ///
    /// All or nothing: a port that cannot be had gives back the others. On an
    /// internal network nothing is published.
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
            other => return Err(refusal(other)),
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
        self.tell(inner, Request::Disconnect(ids))
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
        if let Some(connection) = &inner.connection {
            match exchange(&connection.link, request) {
                Ok(answer) => return Ok(answer),
                Err(error) => self.give_up(inner, &error),
            }
        }
        self.restart(inner)?;
        let connection = inner.connection.as_ref().ok_or(LinkFailure::Closed)?;
        Ok(exchange(&connection.link, request)?)
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
        let lost = match exchange(&connection.link, &request) {
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

fn exchange(link: &Link, request: &Request) -> Result<Answer, LinkFailure> {
    match link.send(request, &[]) {
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
        }
    }
}

impl From<&Known> for State {
    fn from(known: &Known) -> State {
        State {
            options: known.options,
            networks: known.networks.values().cloned().collect(),
            endpoints: known.endpoints.values().cloned().collect(),
        }
    }
}
