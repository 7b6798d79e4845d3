//! Datagrams passed on: each client gets a socket of its own to the container,
//! so that answers find their way back.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use conex_sys::datagram;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::ports::Place;

/// A client that says nothing for so long is forgotten, as the kernel's own
/// translation forgets it.
const IDLE: Duration = Duration::from_secs(120);

/// Clients at once; those beyond are not served until one is forgotten.
const MAX_CLIENTS: usize = 4096;

/// Datagrams taken from one socket before others get their turn.
const TURN: usize = 64;

/// Who sent to which port, and to which of the host's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Way {
    place: Place,
    from: SocketAddr,
    to: Option<IpAddr>,
}

/// A client of one published port.
#[derive(Debug)]
struct Client {
    way: Way,
    socket: OwnedFd,
    last: Instant,
}

/// All clients of all published ports.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    clients: HashMap<u64, Client>,
    by_way: HashMap<Way, u64>,
}

impl Datagrams {
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Takes what clients sent to a port. `added` is told of a new client's
    /// socket and gives it a number; it fails where it cannot be watched.
    pub(super) fn take_from_clients(
        &mut self,
        place: Place,
        port: BorrowedFd<'_>,
        target: SocketAddr,
        buffer: &mut [u8],
        mut added: impl FnMut(BorrowedFd<'_>) -> Result<u64, Errno>,
    ) {
        for _ in 0..TURN {
            let Ok((length, from, to)) = datagram::receive(port, buffer) else {
                return;
            };
            let way = Way { place, from, to };
            let known = self.by_way.get(&way).copied();
            let Some(number) = known.or_else(|| self.add(way, target, &mut added)) else {
                continue;
            };
            if let Some(client) = self.clients.get_mut(&number) {
                client.last = Instant::now();
                // A datagram may be lost; a refusal by the container is told
                // to whoever sends next.
                let bytes = &buffer[..length];
                let _lost = rustix::net::send(&client.socket, bytes, SendFlags::empty()).is_err();
            }
        }
    }

    fn add(
        &mut self,
        way: Way,
        target: SocketAddr,
        added: &mut impl FnMut(BorrowedFd<'_>) -> Result<u64, Errno>,
    ) -> Option<u64> {
        if self.clients.len() >= MAX_CLIENTS {
            return None;
        }
        let family = match target {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None).ok()?;
        rustix::net::connect(&socket, &target).ok()?;
        let number = added(socket.as_fd()).ok()?;
        let client = Client {
            way,
            socket,
            last: Instant::now(),
        };
        self.clients.insert(number, client);
        self.by_way.insert(way, number);
        Some(number)
    }

    /// Takes what the container sent to one client. `port` finds the socket of
    /// a published port.
    pub(super) fn take_from_container<'a>(
        &mut self,
        number: u64,
        port: impl Fn(&Place) -> Option<BorrowedFd<'a>>,
        buffer: &mut [u8],
    ) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let Some(port) = port(&client.way.place) else {
            return;
        };
        for _ in 0..TURN {
            let received = rustix::net::recv(&client.socket, &mut *buffer, RecvFlags::empty());
            let Ok((_, length)) = received else { return };
            client.last = Instant::now();
            let bytes = &buffer[..length];
            let Way { from, to, .. } = client.way;
            let _lost = datagram::send(port, bytes, from, to).is_err();
        }
    }

    /// Forgets clients that have been silent.
    pub(super) fn forget_idle(&mut self) {
        self.retain(|client| client.last.elapsed() < IDLE);
    }

    /// Forgets the clients of a port.
    pub(super) fn forget_port(&mut self, place: &Place) {
        self.retain(|client| client.way.place != *place);
    }

    fn retain(&mut self, keep: impl Fn(&Client) -> bool) {
        self.clients.retain(|_, client| keep(client));
        let clients = &self.clients;
        self.by_way.retain(|_, number| clients.contains_key(number));
    }
}
