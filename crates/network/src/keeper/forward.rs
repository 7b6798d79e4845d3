//! One question that somebody else has to answer: to whom it was put, and what
//! came back.
//!
//! ```text
//!   0 s ► first server   1 s ► second   2 s ► third   3 s ► first again   4 s ► failure
//!         └── whoever answers first, even late, is right; who refuses or fails is skipped ──┘
//! ```
//!
//! A question that came as a datagram is put as one, and one that came over a
//! connection over a connection: then the answer may be long. Every question
//! has sockets of its own, so that the kernel chooses ports nobody can guess.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, sockopt};

use super::Upstream;
use crate::dns::{self, Query};

/// How long a server may think before the next one is asked too.
const RETRY: Duration = Duration::from_secs(1);

/// How long is waited altogether; clients wait five seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// Servers that are asked.
const MAX_SERVERS: usize = 3;

/// Bytes read at once from a connection.
const READ: usize = 4096;

/// The port of name servers.
const PORT: u16 = 53;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A datagram from here.
    Datagram(SocketAddr),
    /// A connection, by its number.
    Connection(u64),
}

/// What is to be done about a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To wait, until [`Question::wake`] at the latest.
    Wait,
    /// To try the next server at once.
    Next,
    /// To hand on this answer.
    Answer(Vec<u8>),
    /// To give up.
    Fail,
}

/// An exchange with one server.
#[derive(Debug)]
enum Exchange {
    Datagram(OwnedFd),
    Connection {
        socket: OwnedFd,
        /// Bytes of the query that went out, its length among them.
        sent: usize,
        received: Vec<u8>,
    },
}

#[derive(Debug)]
enum State {
    Untried,
    Asked(Exchange),
    Failed,
}

#[derive(Debug)]
struct Server {
    upstream: Upstream,
    state: State,
    /// The event of its socket.
    event: Option<u64>,
}

/// A question and whom it was put to.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) container: u64,
    pub(super) origin: Origin,
    pub(super) query: Query,
    /// As it came.
    pub(super) message: Vec<u8>,
    /// When to look again.
    pub(super) wake: Instant,
    servers: Vec<Server>,
    attempts: usize,
    ends: Instant,
}

/// Gives a socket of a kind to ask a server with, and the number of its
/// events, watched as that server's, by its place in the list.
pub(super) type Open<'a> =
    dyn FnMut(usize, &Upstream, SocketType) -> Result<(OwnedFd, u64), Errno> + 'a;

impl Question {
    /// A question that was not put to anybody yet.
    pub(super) fn new(
        container: u64,
        origin: Origin,
        query: Query,
        message: &[u8],
        upstreams: impl Iterator<Item = Upstream>,
        now: Instant,
    ) -> Question {
        let servers = upstreams.take(MAX_SERVERS).map(|upstream| Server {
            upstream,
            state: State::Untried,
            event: None,
        });
        Question {
            container,
            origin,
            query,
            message: message.to_vec(),
            wake: now,
            servers: servers.collect(),
            attempts: 0,
            ends: now + PATIENCE,
        }
    }

    /// The events of its sockets.
    pub(super) fn events(&self) -> impl Iterator<Item = u64> {
        self.servers.iter().filter_map(|server| server.event)
    }

    /// Puts the question to the next server that has not failed.
    pub(super) fn ask(&mut self, now: Instant, open: &mut Open<'_>) -> Step {
        if now >= self.ends {
            return Step::Fail;
        }
        let count = self.servers.len();
        for _ in 0..count {
            let at = self.attempts % count;
            self.attempts += 1;
            let server = &mut self.servers[at];
            let asked = match &mut server.state {
                State::Failed => continue,
                State::Untried => begin(at, server, self.origin, &self.message, open),
                State::Asked(Exchange::Datagram(socket)) => {
                    rustix::net::send(&*socket, &self.message, SendFlags::empty()).map(drop)
                }
                // The kernel repeats what is lost.
                State::Asked(Exchange::Connection { .. }) => Ok(()),
            };
            if asked.is_ok() {
                self.wake = (now + RETRY).min(self.ends);
                return Step::Wait;
            }
            server.state = State::Failed;
        }
        Step::Fail
    }

    /// Takes what a server sent.
    pub(super) fn hear(&mut self, at: usize, buffer: &mut [u8]) -> Step {
        let (query, message) = (&self.query, &self.message);
        let Some(server) = self.servers.get_mut(at) else {
            return Step::Wait;
        };
        let State::Asked(exchange) = &mut server.state else {
            return Step::Wait;
        };
        let heard = match exchange {
            Exchange::Datagram(socket) => datagram(socket, query, message, buffer),
            Exchange::Connection {
                socket,
                sent,
                received,
            } => connection(socket, sent, received, query, message),
        };
        match heard {
            Ok(None) => Step::Wait,
            Ok(Some(answer))
                if ![dns::SERVER_FAILURE, dns::REFUSED].contains(&dns::code(&answer)) =>
            {
                Step::Answer(answer)
            }
            // It may know more later, the others may know more now.
            Ok(Some(_)) | Err(_) => {
                server.state = State::Failed;
                self.after_failure()
            }
        }
    }

    /// The next one is asked at once only if nobody else is thinking, or
    /// somebody was not asked yet.
    fn after_failure(&self) -> Step {
        let has = |wanted: fn(&State) -> bool| self.servers.iter().any(|s| wanted(&s.state));
        if has(|state| matches!(state, State::Untried)) {
            Step::Next
        } else if has(|state| matches!(state, State::Asked(_))) {
            Step::Wait
        } else {
            Step::Fail
        }
    }
}

fn begin(
    at: usize,
    server: &mut Server,
    origin: Origin,
    message: &[u8],
    open: &mut Open<'_>,
) -> Result<(), Errno> {
    let address = SocketAddr::new(server.upstream.address, PORT);
    let exchange = match origin {
        Origin::Datagram(_) => {
            let (socket, event) = open(at, &server.upstream, SocketType::DGRAM)?;
            server.event = Some(event);
            rustix::net::connect(&socket, &address)?;
            rustix::net::send(&socket, message, SendFlags::empty())?;
            Exchange::Datagram(socket)
        }
        Origin::Connection(_) => {
            let (socket, event) = open(at, &server.upstream, SocketType::STREAM)?;
            server.event = Some(event);
            match rustix::net::connect(&socket, &address) {
                Ok(()) | Err(Errno::INPROGRESS) => {}
                Err(error) => return Err(error),
            }
            Exchange::Connection {
                socket,
                sent: 0,
                received: Vec::new(),
            }
        }
    };
    server.state = State::Asked(exchange);
    Ok(())
}

/// A datagram that answers the question; others are passed over.
fn datagram(
    socket: &OwnedFd,
    query: &Query,
    message: &[u8],
    buffer: &mut [u8],
) -> Result<Option<Vec<u8>>, Errno> {
    loop {
        let length = match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((_, length)) => length,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        let response = &buffer[..length];
        if dns::is_answer_to(query, message, response) {
            return Ok(Some(response.to_vec()));
        }
    }
}

/// Goes on with an exchange over a connection: the query with its length
/// before it, then the answer with its own.
fn connection(
    socket: &OwnedFd,
    sent: &mut usize,
    received: &mut Vec<u8>,
    query: &Query,
    message: &[u8],
) -> Result<Option<Vec<u8>>, Errno> {
    sockopt::socket_error(socket)??;
    let length = u16::try_from(message.len()).map_err(|_| Errno::MSGSIZE)?;
    let head = length.to_be_bytes();
    while *sent < 2 + message.len() {
        let rest = match sent.checked_sub(2) {
            Some(done) => &message[done..],
            None => &head[*sent..],
        };
        match rustix::net::send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(count) => *sent += count,
            Err(Errno::INTR) => {}
            // Not connected yet, or full.
            Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let mut chunk = [0; READ];
    loop {
        match rustix::net::recv(socket, &mut chunk[..], RecvFlags::empty()) {
            Ok((_, 0)) => return Err(Errno::CONNRESET),
            Ok((_, count)) => received.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
        let Some((head, rest)) = received.split_first_chunk::<2>() else {
            continue;
        };
        let length = usize::from(u16::from_be_bytes(*head));
        if let Some(response) = rest.get(..length) {
            return match dns::is_answer_to(query, message, response) {
                true => Ok(Some(response.to_vec())),
                false => Err(Errno::BADMSG),
            };
        }
    }
}
