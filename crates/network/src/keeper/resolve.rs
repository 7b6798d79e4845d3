//! The resolvers of containers: each answers at 127.0.0.11 in one network
//! namespace, all of them from this thread.
//!
//! ```text
//!   datagram, connection ──► Query ──► World: a name of its networks? ──► answer
//!                                └────► Question ──► servers outside ──► answer
//! ```
//!
//! Bounds are per container, so that none keeps another waiting for more than
//! a turn: see docs/limits.md.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::connection::Connection;
use super::directory::World;
use super::forward::{Origin, Question, Step};
use super::inside::{Inside, OpenError, own_namespace, within};
use super::proxy::Source;
use super::{AskedFrom, Resolver, Upstream};
use crate::dns::{self, Query, Record, Refused};

/// Questions of one container that wait for somebody outside: Docker's.
const MAX_QUESTIONS: usize = 1024;

/// The same of all containers together: each has up to three sockets.
const MAX_ALL_QUESTIONS: usize = 16 * 1024;

/// Connections of one container.
const MAX_CONNECTIONS: usize = 128;

/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// Datagrams and connections taken from one container before others get their
/// turn.
const TURN: usize = 64;

/// One container's resolver.
#[derive(Debug)]
struct Container {
    resolver: Resolver,
    inside: Inside,
    /// The container's first process; known once it runs.
    process: Option<OwnedFd>,
    /// The events of its descriptors.
    numbers: Vec<u64>,
    questions: usize,
    connections: usize,
}

/// What an event is about.
#[derive(Debug, Clone, Copy)]
enum Watched {
    Timer,
    /// Of a container.
    Datagrams(u64),
    Listener(u64),
    Process(u64),
    Connection,
    /// A question's server, by its place in the list.
    Server(u64, usize),
}

/// All of them.
#[derive(Debug)]
pub(super) struct Resolvers {
    epoll: OwnedFd,
    home: OwnedFd,
    timer: OwnedFd,
    /// When the timer is set to.
    armed: Option<Instant>,
    next: u64,
    watched: HashMap<u64, Watched>,
    containers: HashMap<u64, Container>,
    by_id: HashMap<String, u64>,
    connections: HashMap<u64, Connection>,
    questions: HashMap<u64, Question>,
    /// When each connection and question is to be looked at.
    wakes: BTreeSet<(Instant, u64)>,
    /// Where the next answer begins among several addresses.
    rotation: usize,
    /// This thread is in a namespace that is not its own.
    astray: Option<Errno>,
    buffer: Vec<u8>,
}

impl Resolvers {
    /// Watches through `epoll`, whose events with [`Source::Resolver`] come to
    /// [`Resolvers::serve`]. In the host's network namespace.
    pub(super) fn new(epoll: OwnedFd) -> Result<Resolvers, Errno> {
        let home = own_namespace().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let mut resolvers = Resolvers {
            epoll,
            home,
            timer,
            armed: None,
            next: 0,
            watched: HashMap::new(),
            containers: HashMap::new(),
            by_id: HashMap::new(),
            connections: HashMap::new(),
            questions: HashMap::new(),
            wakes: BTreeSet::new(),
            rotation: 0,
            astray: None,
            buffer: Vec::new(),
        };
        let number = resolvers.number();
        watch(&resolvers.epoll, &resolvers.timer, number, EventFlags::IN)?;
        resolvers.watched.insert(number, Watched::Timer);
        Ok(resolvers)
    }

    /// This thread could not come back from a namespace, and must end.
    pub(super) fn astray(&self) -> Option<Errno> {
        self.astray
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A container's resolver, new or changed; a new one needs a namespace to
    /// be opened in.
    pub(super) fn put(
        &mut self,
        resolver: Resolver,
        namespace: Option<BorrowedFd<'_>>,
    ) -> Result<(), OpenError> {
        if let Some(number) = self.by_id.get(&resolver.id) {
            if let Some(container) = self.containers.get_mut(number) {
                container.resolver = resolver;
            }
            return Ok(());
        }
        let Some(namespace) = namespace else {
            return Err(OpenError::Enter(Errno::BADF));
        };
        let inside = match Inside::open(namespace, self.home.as_fd()) {
            Err(OpenError::Astray(error)) => {
                self.astray = Some(error);
                return Err(OpenError::Astray(error));
            }
            other => other?,
        };
        let number = self.number();
        let (datagrams, listener) = (self.number(), self.number());
        watch(&self.epoll, &inside.datagrams, datagrams, EventFlags::IN)?;
        watch(&self.epoll, &inside.listener, listener, EventFlags::IN)?;
        self.watched.insert(datagrams, Watched::Datagrams(number));
        self.watched.insert(listener, Watched::Listener(number));
        self.by_id.insert(resolver.id.clone(), number);
        self.containers.insert(
            number,
            Container {
                resolver,
                inside,
                process: None,
                numbers: vec![datagrams, listener],
                questions: 0,
                connections: 0,
            },
        );
        Ok(())
    }

    /// Whose resolver it is: known from now on by its end.
    pub(super) fn watch_process(&mut self, id: &str, process: OwnedFd) -> Result<(), OpenError> {
        let event = self.number();
        let Some(number) = self.by_id.get(id) else {
            return Ok(());
        };
        if let Some(container) = self.containers.get_mut(number)
            && container.process.is_none()
        {
            watch(&self.epoll, &process, event, EventFlags::IN)?;
            self.watched.insert(event, Watched::Process(*number));
            container.numbers.push(event);
            container.process = Some(process);
        }
        Ok(())
    }

    /// Closes those that `keep` refuses.
    pub(super) fn retain(&mut self, keep: impl Fn(&Resolver) -> bool) {
        let gone: Vec<u64> = self
            .containers
            .iter()
            .filter(|(_, container)| !keep(&container.resolver))
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            self.close(number);
        }
    }

    fn close(&mut self, number: u64) {
        let Some(container) = self.containers.remove(&number) else {
            return;
        };
        self.by_id.remove(&container.resolver.id);
        for event in container.numbers {
            self.watched.remove(&event);
        }
        let of = |question: &Question| question.container == number;
        let questions: Vec<u64> = self
            .questions
            .iter()
            .filter(|(_, q)| of(q))
            .map(|(n, _)| *n)
            .collect();
        for question in questions {
            self.forget_question(question);
        }
        let of = |connection: &Connection| connection.container == number;
        let connections: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| of(c))
            .map(|(n, _)| *n)
            .collect();
        for connection in connections {
            self.forget_connection(connection);
        }
    }

    /// Handles an event. The endpoints of a container whose first process has
    /// ended come back, once.
    pub(super) fn serve(&mut self, number: u64, world: &World<'_>) -> Option<Vec<String>> {
        match *self.watched.get(&number)? {
            Watched::Timer => {
                let _read = rustix::io::read(&self.timer, &mut [0; 8]).is_err();
                self.armed = None;
                self.wake();
            }
            Watched::Datagrams(container) => self.take_datagrams(container, world),
            Watched::Listener(container) => self.accept(container),
            Watched::Connection => self.serve_connection(number, world),
            Watched::Server(question, at) => self.hear(question, at),
            Watched::Process(container) => {
                self.watched.remove(&number);
                let container = self.containers.get(&container)?;
                if let Some(process) = &container.process {
                    let _gone = epoll::delete(&self.epoll, process).is_err();
                }
                return Some(container.resolver.endpoints.clone());
            }
        }
        self.arm();
        None
    }

    fn take_datagrams(&mut self, number: u64, world: &World<'_>) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(dns::MAX_MESSAGE, 0);
        for _ in 0..TURN {
            let Some(container) = self.containers.get(&number) else {
                break;
            };
            let socket = &container.inside.datagrams;
            let received = rustix::net::recvfrom(socket, &mut buffer[..], RecvFlags::empty());
            let (length, from) = match received {
                Ok((_, length, Some(from))) => (length, from),
                Err(Errno::INTR) => continue,
                _ => break,
            };
            let Ok(from) = SocketAddr::try_from(from) else {
                continue;
            };
            self.ask(number, Origin::Datagram(from), &buffer[..length], world);
        }
        self.buffer = buffer;
    }

    fn accept(&mut self, number: u64) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        for _ in 0..TURN {
            let event = self.number();
            let Some(container) = self.containers.get_mut(&number) else {
                return;
            };
            let Ok(socket) = rustix::net::accept_with(&container.inside.listener, flags) else {
                return;
            };
            if container.connections >= MAX_CONNECTIONS {
                continue;
            }
            if watch(&self.epoll, &socket, event, events_of(SocketType::STREAM)).is_err() {
                continue;
            }
            container.connections += 1;
            let ends = Instant::now() + IDLE;
            self.watched.insert(event, Watched::Connection);
            self.wakes.insert((ends, event));
            let connection = Connection::new(number, socket, ends);
            self.connections.insert(event, connection);
        }
    }

    fn serve_connection(&mut self, number: u64, world: &World<'_>) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let container = connection.container;
        let Ok(queries) = connection.read() else {
            return self.forget_connection(number);
        };
        for query in queries {
            self.ask(container, Origin::Connection(number), &query, world);
        }
        self.flush(number);
    }

    fn flush(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if !connection.flush() {
            return self.forget_connection(number);
        }
        self.wakes.remove(&(connection.ends, number));
        connection.ends = Instant::now() + IDLE;
        self.wakes.insert((connection.ends, number));
    }

    fn forget_connection(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        self.watched.remove(&number);
        self.wakes.remove(&(connection.ends, number));
        if let Some(container) = self.containers.get_mut(&connection.container) {
            container.connections -= 1;
        }
    }

    /// A query of a container.
    fn ask(&mut self, number: u64, origin: Origin, message: &[u8], world: &World<'_>) {
        let Some(container) = self.containers.get(&number) else {
            return;
        };
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Refused::Silently) => return self.reply(number, origin, None),
            Err(Refused::With(code)) => {
                let answer = dns::failure(None, message, code);
                return self.reply(number, origin, answer);
            }
        };
        let known = world.find(&container.resolver, &query);
        let is_address = [dns::A, dns::AAAA].contains(&query.kind);
        let is_short = query.name.as_ref().is_some_and(|name| !name.contains('.'));
        let records = match known {
            // Docker's: the client goes on with its search domains.
            None if container.resolver.keeps_short_names && is_address && is_short => Some(vec![]),
            known => known,
        };
        let Some(mut records) = records else {
            return self.forward(number, origin, query, message);
        };
        if records.len() > 1 {
            self.rotation = self.rotation.wrapping_add(1);
            let by = self.rotation % records.len();
            records.rotate_left(by);
        }
        let answer = local_answer(&query, message, &records, origin);
        self.reply(number, origin, Some(answer));
    }

    /// Asks somebody who may know.
    fn forward(&mut self, number: u64, origin: Origin, query: Query, message: &[u8]) {
        let Some(container) = self.containers.get_mut(&number) else {
            return;
        };
        let is_crowded =
            container.questions >= MAX_QUESTIONS || self.questions.len() >= MAX_ALL_QUESTIONS;
        if is_crowded {
            let answer = dns::failure(Some(&query), message, dns::REFUSED);
            return self.reply(number, origin, answer);
        }
        container.questions += 1;
        let forwards = container.resolver.forwards;
        let upstreams = container.resolver.upstreams.iter();
        let upstreams = upstreams.filter(|u| forwards || u.from == AskedFrom::Container);
        let now = Instant::now();
        let question = Question::new(number, origin, query, message, upstreams.copied(), now);
        let id = self.number();
        self.wakes.insert((now, id));
        self.questions.insert(id, question);
        self.put_to_next(id);
    }

    fn put_to_next(&mut self, id: u64) {
        let Some(mut question) = self.questions.remove(&id) else {
            return;
        };
        self.wakes.remove(&(question.wake, id));
        let step = match self.containers.get(&question.container) {
            Some(container) => {
                let inside = container.inside.namespace.as_fd();
                let (epoll, watched, next) = (&self.epoll, &mut self.watched, &mut self.next);
                let (home, astray) = (self.home.as_fd(), &mut self.astray);
                question.ask(Instant::now(), &mut |at, upstream, kind| {
                    let socket = match open(upstream, kind, inside, home) {
                        Err(OpenError::Astray(error)) => {
                            *astray = Some(error);
                            return Err(error);
                        }
                        Err(OpenError::Socket(error) | OpenError::Enter(error)) => {
                            return Err(error);
                        }
                        Err(_) => return Err(Errno::IO),
                        Ok(socket) => socket,
                    };
                    *next += 1;
                    watch(epoll, &socket, *next, events_of(kind))?;
                    watched.insert(*next, Watched::Server(id, at));
                    Ok((socket, *next))
                })
            }
            None => Step::Fail,
        };
        self.wakes.insert((question.wake, id));
        self.questions.insert(id, question);
        self.follow(id, step);
    }

    fn follow(&mut self, id: u64, step: Step) {
        let answer = match step {
            Step::Wait => return,
            Step::Next => return self.put_to_next(id),
            Step::Answer(answer) => Some(answer),
            Step::Fail => None,
        };
        let Some(question) = self.forget_question(id) else {
            return;
        };
        let failure = || {
            dns::failure(
                Some(&question.query),
                &question.message,
                dns::SERVER_FAILURE,
            )
        };
        self.reply(question.container, question.origin, answer.or_else(failure));
        if let Origin::Connection(number) = question.origin {
            self.flush(number);
        }
    }

    fn hear(&mut self, id: u64, at: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(dns::MAX_MESSAGE, 0);
        let question = self.questions.get_mut(&id);
        let step = question.map_or(Step::Wait, |question| question.hear(at, &mut buffer));
        self.buffer = buffer;
        self.follow(id, step);
    }

    fn forget_question(&mut self, id: u64) -> Option<Question> {
        let question = self.questions.remove(&id)?;
        self.wakes.remove(&(question.wake, id));
        for event in question.events() {
            self.watched.remove(&event);
        }
        if let Some(container) = self.containers.get_mut(&question.container) {
            container.questions -= 1;
        }
        Some(question)
    }

    /// Answers a query, or lets it be without one. A datagram may be lost;
    /// what goes to a connection is sent by [`Resolvers::flush`].
    fn reply(&mut self, container: u64, origin: Origin, answer: Option<Vec<u8>>) {
        match origin {
            Origin::Datagram(to) => {
                if let (Some(container), Some(answer)) = (self.containers.get(&container), answer) {
                    let socket = &container.inside.datagrams;
                    let flags = SendFlags::empty();
                    let _lost = rustix::net::sendto(socket, &answer, flags, &to).is_err();
                }
            }
            Origin::Connection(number) => {
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.answer(answer.as_deref());
                }
            }
        }
    }

    /// Looks at what is due.
    fn wake(&mut self) {
        let now = Instant::now();
        while let Some((due, number)) = self.wakes.first().copied()
            && due <= now
        {
            self.wakes.remove(&(due, number));
            match self.connections.get_mut(&number) {
                // Whose question is open waits for its answer.
                Some(connection) if connection.open > 0 => {
                    connection.ends = now + IDLE;
                    self.wakes.insert((connection.ends, number));
                }
                Some(_) => self.forget_connection(number),
                None => self.put_to_next(number),
            }
        }
    }

    /// The timer runs only while something may become due; it may come early.
    fn arm(&mut self) {
        let Some((due, _)) = self.wakes.first() else {
            return;
        };
        if self.armed.is_some_and(|armed| armed <= *due) {
            return;
        }
        let rest = due
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        let setting = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: rest.subsec_nanos().into(),
            },
        };
        if timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting).is_ok() {
            self.armed = Some(*due);
        }
    }
}

fn local_answer(query: &Query, message: &[u8], records: &[Record], origin: Origin) -> Vec<u8> {
    let limit = match origin {
        Origin::Datagram(_) => query.datagram(),
        Origin::Connection(_) => dns::MAX_MESSAGE,
    };
    dns::answers(query, message, records, limit)
}

/// A socket to ask a server with, in the namespace it is asked from.
fn open(
    upstream: &Upstream,
    kind: SocketType,
    inside: BorrowedFd<'_>,
    home: BorrowedFd<'_>,
) -> Result<OwnedFd, OpenError> {
    let family = match upstream.address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = || rustix::net::socket_with(family, kind, flags, None).map_err(OpenError::Socket);
    match upstream.from {
        AskedFrom::Host => make(),
        AskedFrom::Container => within(inside, home, make),
    }
}

/// Of a connection only what changes; a datagram is there until it is read.
fn events_of(kind: SocketType) -> EventFlags {
    match kind {
        SocketType::STREAM => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        _ => EventFlags::IN,
    }
}

fn watch(epoll: &OwnedFd, socket: &OwnedFd, number: u64, events: EventFlags) -> Result<(), Errno> {
    epoll::add(epoll, socket, Source::Resolver.event(number), events)
}
