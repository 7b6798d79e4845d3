//! Ports of the host, held by sockets so that no other program takes them.
//!
//! A TCP port is listened on and a UDP port is read: most of what comes for
//! them is translated by the kernel before it gets here, and the proxy passes
//! on the rest. A listening socket cannot be taken, whatever reuse another
//! program allows; one that is only bound and allows reuse could be.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use conex_sys::datagram;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use crate::{HostPort, PortBinding, PortError, PortRequest, Protocol};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    protocol: Protocol,
    ip: IpAddr,
    port: u16,
}

impl From<&PortBinding> for Place {
    fn from(binding: &PortBinding) -> Place {
        Place {
            protocol: binding.protocol,
            ip: binding.host_ip,
            port: binding.host_port,
        }
    }
}

/// The ports this engine holds.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// None where the kernel has no such protocol for programs, but translates
    /// it (SCTP).
    held: HashMap<Place, Option<OwnedFd>>,
    /// Addresses by port, for what two of them have in common.
    taken: HashMap<(Protocol, u16), Vec<IpAddr>>,
    /// Where the search for any free port goes on.
    next: u16,
}

impl Ports {
    pub(super) fn socket(&self, place: &Place) -> Option<&OwnedFd> {
        self.held.get(place)?.as_ref()
    }

    pub(super) fn holds(&self, place: &Place) -> bool {
        self.held.contains_key(place)
    }

    /// Whether the port is held on any address.
    pub(super) fn is_taken(&self, binding: &PortBinding) -> bool {
        self.taken
            .contains_key(&(binding.protocol, binding.host_port))
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.held.keys()
    }

    /// Publishes all of the requests or none.
    pub(super) fn publish(
        &mut self,
        requests: &[PortRequest],
    ) -> Result<Vec<PortBinding>, PortError> {
        let mut done: Vec<PortBinding> = Vec::new();
        for request in requests {
            match self.publish_one(request) {
                Ok(bindings) => done.extend(bindings),
                Err(error) => {
                    for binding in &done {
                        self.release(binding.into());
                    }
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    fn publish_one(&mut self, request: &PortRequest) -> Result<Vec<PortBinding>, PortError> {
        match request.host_port {
            HostPort::One(port) => self.on_all_addresses(request, port),
            HostPort::FirstOf(first, last) => {
                let mut result = Err(PortError::Exhausted);
                for port in first..=last {
                    result = self.on_all_addresses(request, port);
                    if result.is_ok() {
                        break;
                    }
                }
                result
            }
            HostPort::Any => self.on_any_port(request),
        }
    }

    fn on_any_port(&mut self, request: &PortRequest) -> Result<Vec<PortBinding>, PortError> {
        let (first, last) = local_port_range();
        let reserved = reserved_ports();
        let count = u32::from(last - first) + 1;
        for _ in 0..count {
            let port = self.next.clamp(first, last);
            self.next = if port == last { first } else { port + 1 };
            let is_reserved = reserved
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&port));
            if is_reserved || self.taken.contains_key(&(request.protocol, port)) {
                continue;
            }
            match self.on_all_addresses(request, port) {
                Err(PortError::Bind { errno, .. }) if errno == libc::EADDRINUSE => {}
                other => return other,
            }
        }
        Err(PortError::Exhausted)
    }

    /// The same port on every address a request means.
    fn on_all_addresses(
        &mut self,
        request: &PortRequest,
        port: u16,
    ) -> Result<Vec<PortBinding>, PortError> {
        let all = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        let addresses = match &request.host_ip {
            Some(ip) => std::slice::from_ref(ip),
            None => &all[..],
        };
        let mut done: Vec<PortBinding> = Vec::new();
        for &host_ip in addresses {
            let binding = PortBinding {
                container_port: request.container_port,
                protocol: request.protocol,
                host_ip,
                host_port: port,
            };
            match self.hold(&binding) {
                Ok(()) => done.push(binding),
                // A host without IPv6 has all of its addresses by now.
                Err(PortError::Bind { errno, .. })
                    if !done.is_empty()
                        && (errno == libc::EAFNOSUPPORT || errno == libc::EADDRNOTAVAIL) => {}
                Err(error) => {
                    for binding in &done {
                        self.release(binding.into());
                    }
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    /// Holds one port.
    pub(super) fn hold(&mut self, binding: &PortBinding) -> Result<(), PortError> {
        let place = Place::from(binding);
        let neighbours = self.taken.get(&(place.protocol, place.port));
        if neighbours.is_some_and(|ips| ips.iter().any(|ip| share(*ip, place.ip))) {
            return Err(PortError::Allocated {
                ip: place.ip,
                port: place.port,
            });
        }
        let socket = match open(place) {
            Ok(socket) => Some(socket),
            Err(Errno::PROTONOSUPPORT) if place.protocol == Protocol::Sctp => None,
            Err(errno) => {
                return Err(PortError::Bind {
                    address: SocketAddr::new(place.ip, place.port),
                    protocol: place.protocol,
                    errno: errno.raw_os_error(),
                });
            }
        };
        self.held.insert(place, socket);
        self.taken
            .entry((place.protocol, place.port))
            .or_default()
            .push(place.ip);
        Ok(())
    }

    /// Gives a port back.
    pub(super) fn release(&mut self, place: Place) {
        self.held.remove(&place);
        let key = (place.protocol, place.port);
        if let Some(ips) = self.taken.get_mut(&key) {
            ips.retain(|ip| *ip != place.ip);
            if ips.is_empty() {
                self.taken.remove(&key);
            }
        }
    }
}

/// Whether two bindings of one port have an address in common.
fn share(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

fn open(place: Place) -> Result<OwnedFd, Errno> {
    let address = SocketAddr::new(place.ip, place.port);
    let socket = new_socket(place)?;
    if place.protocol == Protocol::Tcp {
        // Connections of an earlier server may linger on the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if place.protocol == Protocol::Udp {
        datagram::tell_destination(&socket, place.ip.is_ipv6())?;
    }
    rustix::net::bind(&socket, &address)?;
    if place.protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn new_socket(place: Place) -> Result<OwnedFd, Errno> {
    let family = match place.ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let (kind, protocol) = match place.protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, Some(protocol))?;
    if place.ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// The range programs get ports from that ask for any.
fn local_port_range() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let mut numbers = text
        .iter()
        .flat_map(|text| text.split_whitespace())
        .filter_map(|number| number.parse::<u16>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first > 0 && first <= last => (first, last),
        // The dynamic ports of RFC 6335.
        _ => (49152, 65535),
    }
}

fn reserved_ports() -> Vec<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports");
    parse_ranges(text.as_deref().unwrap_or_default())
}

/// `22,8000-8080`: the kernel's way to write sets of ports.
fn parse_ranges(text: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    text.trim().split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixture::{isolated, loopback_up};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn request(host_ip: Option<&str>, host_port: HostPort) -> PortRequest {
        PortRequest {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
        }
    }

    fn publish(ports: &mut Ports, request: PortRequest) -> Result<Vec<PortBinding>, PortError> {
        ports.publish(&[request])
    }

    #[test]
    fn a_held_port_is_taken_by_no_other_program() {
        isolated(&[], || {
            loopback_up();
            let mut ports = Ports::default();
            publish(&mut ports, request(None, HostPort::One(8080))).unwrap();
            // The standard library allows reuse, as servers do.
            for address in ["0.0.0.0:8080", "127.0.0.1:8080", "[::]:8080", "[::1]:8080"] {
                let error = TcpListener::bind(address).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{address}");
            }
            ports.release(Place {
                protocol: Protocol::Tcp,
                ip: "0.0.0.0".parse().unwrap(),
                port: 8080,
            });
            TcpListener::bind("0.0.0.0:8080").unwrap();
        });
    }

    #[test]
    fn a_port_is_held_although_old_connections_linger_on_it() {
        isolated(&[], || {
            loopback_up();
            let server = TcpListener::bind("127.0.0.1:8081").unwrap();
            let client = TcpStream::connect("127.0.0.1:8081").unwrap();
            // The side that closes first lingers.
            drop(server.accept().unwrap());
            drop(server);
            let mut end = [0; 1];
            std::io::Read::read(&mut &client, &mut end).unwrap();
            drop(client);
            let mut ports = Ports::default();
            publish(&mut ports, request(None, HostPort::One(8081))).unwrap();
            let error = TcpListener::bind("127.0.0.1:8081").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        });
    }

    #[test]
    fn ours_and_foreign_conflicts_have_dockers_words() {
        isolated(&[], || {
            loopback_up();
            let mut ports = Ports::default();
            publish(&mut ports, request(None, HostPort::One(8080))).unwrap();
            let again = publish(&mut ports, request(Some("127.0.0.1"), HostPort::One(8080)));
            assert_eq!(
                again.unwrap_err().to_string(),
                "Bind for 127.0.0.1:8080 failed: port is already allocated"
            );
            let _foreign = TcpListener::bind("127.0.0.1:9090").unwrap();
            let error = publish(&mut ports, request(None, HostPort::One(9090))).unwrap_err();
            assert_eq!(
                error.to_string(),
                "failed to bind host port 0.0.0.0:9090/tcp: address already in use"
            );
            let error = publish(&mut ports, request(Some("192.0.2.1"), HostPort::One(1)));
            assert_eq!(
                error.unwrap_err().to_string(),
                "failed to bind host port 192.0.2.1:1/tcp: cannot assign requested address"
            );
            // Two addresses may have a port each.
            publish(&mut ports, request(Some("127.0.0.2"), HostPort::One(7070))).unwrap();
            publish(&mut ports, request(Some("127.0.0.3"), HostPort::One(7070))).unwrap();
        });
    }

    #[test]
    fn all_ports_are_published_or_none() {
        isolated(&[], || {
            loopback_up();
            let _foreign = UdpSocket::bind("[::]:5002").unwrap();
            let mut ports = Ports::default();
            let wanted: Vec<PortRequest> = (5000..5004)
                .map(|port| PortRequest {
                    protocol: Protocol::Udp,
                    ..request(None, HostPort::One(port))
                })
                .collect();
            let error = ports.publish(&wanted).unwrap_err().to_string();
            assert_eq!(
                error,
                "failed to bind host port 0.0.0.0:5002/udp: address already in use"
            );
            assert_eq!(ports.places().count(), 0);
            UdpSocket::bind("0.0.0.0:5000").unwrap();
        });
    }

    #[test]
    fn a_range_gives_its_first_free_port_and_any_skips_reserved_ones() {
        isolated(&[], || {
            loopback_up();
            let mut ports = Ports::default();
            let _foreign = TcpListener::bind("0.0.0.0:8000").unwrap();
            let range = HostPort::FirstOf(8000, 8002);
            let given: Vec<u16> = (0..2)
                .map(|_| publish(&mut ports, request(None, range)).unwrap()[0].host_port)
                .collect();
            assert_eq!(given, [8001, 8002]);
            publish(&mut ports, request(None, range)).unwrap_err();

            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").unwrap();
            std::fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", "40001").unwrap();
            let mut any: Vec<u16> = (0..3)
                .map(|_| {
                    let both = publish(&mut ports, request(None, HostPort::Any)).unwrap();
                    assert_eq!(both.len(), 2);
                    assert_eq!(both[0].host_port, both[1].host_port);
                    both[0].host_port
                })
                .collect();
            any.sort_unstable();
            assert_eq!(any, [40000, 40002, 40003]);
            assert_eq!(
                publish(&mut ports, request(None, HostPort::Any)),
                Err(PortError::Exhausted)
            );
        });
    }

    #[test]
    fn a_host_without_ipv6_publishes_on_ipv4() {
        isolated(&[], || {
            std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
            loopback_up();
            let mut ports = Ports::default();
            let one = publish(&mut ports, request(None, HostPort::One(8080))).unwrap();
            assert!(one[0].host_ip.is_ipv4());
            publish(&mut ports, request(Some("::1"), HostPort::One(8081))).unwrap_err();
        });
    }

    #[test]
    fn the_kernels_port_sets_are_understood() {
        assert_eq!(parse_ranges("22,8000-8080\n"), [(22, 22), (8000, 8080)]);
        assert_eq!(parse_ranges("\n"), []);
    }
}
