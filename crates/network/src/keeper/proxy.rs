//! What this process passes on itself, because the kernel does not translate it
//! or not well: ports on IPv6 loopback, IPv6 clients of containers that have
//! IPv4 alone, containers that come to a neighbour by the host's address, and
//! everything where the host's firewall shall judge it as input.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::datagram::Datagrams;
use super::ports::{Place, Ports};
use super::stream::{Progress, Stream};
use crate::{Endpoint, PortBinding, Protocol};

/// Seconds between two looks at silent clients.
const ROUND: i64 = 30;

/// Connections accepted from one port before others get their turn.
const TURN: usize = 64;

/// What an event is about; the number chooses which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Port,
    Stream,
    Client,
    Timer,
    Resolver,
}

impl Source {
    /// The kind in the top byte, the number below.
    pub(super) fn event(self, number: u64) -> EventData {
        EventData::new_u64((self as u64 + 1) << 56 | number)
    }

    /// None for an event of somebody else's.
    pub(super) fn of(data: u64) -> Option<(Source, u64)> {
        let kind = match data >> 56 {
            1 => Source::Port,
            2 => Source::Stream,
            3 => Source::Client,
            4 => Source::Timer,
            5 => Source::Resolver,
            _ => return None,
        };
        Some((kind, data & ((1 << 56) - 1)))
    }
}

/// A port that is passed on.
#[derive(Debug)]
struct Served {
    place: Place,
    protocol: Protocol,
    target: SocketAddr,
}

/// All ports that are passed on, and their connections.
#[derive(Debug)]
pub(super) struct Proxy {
    epoll: OwnedFd,
    timer: OwnedFd,
    ticking: bool,
    next: u64,
    ports: HashMap<u64, Served>,
    numbers: HashMap<Place, u64>,
    streams: HashMap<u64, (Place, Stream)>,
    datagrams: Datagrams,
    buffer: Vec<u8>,
}

/// Where a port leads: to the address of its own family, if there is one.
fn target(endpoint: &Endpoint, binding: &PortBinding) -> Option<SocketAddr> {
    let four = endpoint.ipv4.map(|net| IpAddr::V4(net.addr()));
    let six = endpoint.ipv6.map(|net| IpAddr::V6(net.addr()));
    let ip = match binding.host_ip {
        IpAddr::V4(_) => four.or(six),
        IpAddr::V6(_) => six.or(four),
    };
    ip.map(|ip| SocketAddr::new(ip, binding.container_port))
}

impl Proxy {
    /// Watches through `epoll`, whose events with a [`Source`] come to
    /// [`Proxy::serve`].
    pub(super) fn new(epoll: OwnedFd) -> Result<Proxy, Errno> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&epoll, &timer, Source::Timer.event(0), EventFlags::IN)?;
        Ok(Proxy {
            epoll,
            timer,
            ticking: false,
            next: 0,
            ports: HashMap::new(),
            numbers: HashMap::new(),
            streams: HashMap::new(),
            datagrams: Datagrams::default(),
            buffer: Vec::new(),
        })
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Begins to pass on a port.
    pub(super) fn add(
        &mut self,
        endpoint: &Endpoint,
        binding: &PortBinding,
        socket: &OwnedFd,
    ) -> Result<(), Errno> {
        if binding.protocol == Protocol::Sctp {
            return Ok(());
        }
        let Some(target) = target(endpoint, binding) else {
            return Ok(());
        };
        let place = Place::from(binding);
        let number = self.number();
        epoll::add(
            &self.epoll,
            socket,
            Source::Port.event(number),
            EventFlags::IN,
        )?;
        self.numbers.insert(place, number);
        let protocol = binding.protocol;
        self.ports.insert(
            number,
            Served {
                place,
                protocol,
                target,
            },
        );
        Ok(())
    }

    /// Stops passing on a port; its connections are cut, since whoever they
    /// lead to is gone.
    pub(super) fn remove(&mut self, place: &Place) {
        if let Some(number) = self.numbers.remove(place) {
            self.ports.remove(&number);
            self.streams.retain(|_, (of, _)| of != place);
            self.datagrams.forget_port(place);
        }
    }

    pub(super) fn serve(&mut self, source: Source, number: u64, ports: &Ports) {
        match source {
            Source::Port => self.serve_port(number, ports),
            Source::Stream => self.serve_stream(number),
            Source::Client => {
                self.buffer.resize(usize::from(u16::MAX), 0);
                let socket = |place: &Place| ports.socket(place).map(AsFd::as_fd);
                self.datagrams
                    .take_from_container(number, socket, &mut self.buffer);
            }
            Source::Timer => {
                let _read = rustix::io::read(&self.timer, &mut [0; 8]).is_err();
                self.datagrams.forget_idle();
                self.tick();
            }
            // Somebody else's.
            Source::Resolver => {}
        }
    }

    fn serve_port(&mut self, number: u64, ports: &Ports) {
        let Some(served) = self.ports.get(&number) else {
            return;
        };
        let (place, target) = (served.place, served.target);
        let Some(socket) = ports.socket(&place) else {
            return;
        };
        match served.protocol {
            Protocol::Tcp => self.accept(place, socket, target),
            Protocol::Udp => self.take_datagrams(place, socket.as_fd(), target),
            Protocol::Sctp => {}
        }
    }

    fn accept(&mut self, place: Place, listener: &OwnedFd, target: SocketAddr) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        for _ in 0..TURN {
            let Ok(client) = rustix::net::accept_with(listener, flags) else {
                return;
            };
            // One that cannot be passed on is closed, as a refusal.
            let Ok(stream) = Stream::open(client, target) else {
                continue;
            };
            let number = self.number();
            let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            let watched = [&stream.client, &stream.target].iter().all(|end| {
                epoll::add(&self.epoll, end, Source::Stream.event(number), edges).is_ok()
            });
            if watched {
                self.streams.insert(number, (place, stream));
            }
        }
    }

    fn serve_stream(&mut self, number: u64) {
        if let Some((_, stream)) = self.streams.get_mut(&number)
            && stream.serve() == Progress::Over
        {
            self.streams.remove(&number);
        }
    }

    fn take_datagrams(&mut self, place: Place, port: BorrowedFd<'_>, target: SocketAddr) {
        self.buffer.resize(usize::from(u16::MAX), 0);
        let (epoll, next) = (&self.epoll, &mut self.next);
        let added = |socket: BorrowedFd<'_>| {
            *next += 1;
            epoll::add(epoll, socket, Source::Client.event(*next), EventFlags::IN)?;
            Ok(*next)
        };
        self.datagrams
            .take_from_clients(place, port, target, &mut self.buffer, added);
        self.tick();
    }

    /// The timer runs only while there are clients to forget.
    fn tick(&mut self) {
        let wanted = !self.datagrams.is_empty();
        if wanted == self.ticking {
            return;
        }
        let seconds = if wanted { ROUND } else { 0 };
        let period = Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        let setting = Itimerspec {
            it_interval: period,
            it_value: period,
        };
        let set = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting);
        self.ticking = wanted && set.is_ok();
        if !wanted {
            self.buffer = Vec::new();
        }
    }
}
