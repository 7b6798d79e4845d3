//! What the host uses of the address space, and its switches below /proc/sys.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use crate::netlink::{LinkError, Route};

/// A range of addresses the host uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRange {
    /// The range.
    pub net: IpNet,
    /// The interface it is reached through.
    pub interface: String,
    /// It is an interface's own subnet, not a route to somewhere else.
    pub connected: bool,
}

impl HostRange {
    /// Whether it shares an address with a subnet.
    pub fn overlaps(&self, subnet: &IpNet) -> bool {
        crate::pool::overlaps(&self.net, subnet)
    }
}

impl fmt::Display for HostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostRange {
            net,
            interface,
            connected,
        } = self;
        match connected {
            true => write!(f, "address {net} of {interface}"),
            false => write!(f, "route {net} via {interface}"),
        }
    }
}

/// The ranges the host uses now: its addresses and its routes, without the
/// default route and loopback's.
///
/// Asked for when a subnet is chosen, never kept: a VPN may come at any time.
pub fn host_ranges() -> Result<Vec<HostRange>, LinkError> {
    let mut route = Route::open()?;
    let links = route.dump(
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        "list interfaces",
    )?;
    let name = |wanted: u32| {
        links.iter().find_map(|link| match link {
            RouteNetlinkMessage::NewLink(link) if link.header.index == wanted => {
                link.attributes.iter().find_map(|a| match a {
                    LinkAttribute::IfName(name) => Some(name.clone()),
                    _ => None,
                })
            }
            _ => None,
        })
    };
    let mut ranges = Vec::new();
    let addresses = route.dump(
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        "list addresses",
    )?;
    for message in addresses {
        let RouteNetlinkMessage::NewAddress(message) = message else {
            continue;
        };
        let address = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let range = address.and_then(|a| IpNet::new(a, message.header.prefix_len).ok());
        if let Some(net) = range.filter(worth_avoiding) {
            ranges.push(HostRange {
                net: net.trunc(),
                interface: name(message.header.index).unwrap_or_else(|| "?".into()),
                connected: true,
            });
        }
    }
    let routes = route.dump(
        RouteNetlinkMessage::GetRoute(RouteMessage::default()),
        "list routes",
    )?;
    for message in routes {
        let RouteNetlinkMessage::NewRoute(message) = message else {
            continue;
        };
        if message.header.kind != RouteType::Unicast {
            continue;
        }
        let destination = message.attributes.iter().find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(a)) => Some(IpAddr::V4(*a)),
            RouteAttribute::Destination(RouteAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
            _ => None,
        });
        let out = message.attributes.iter().find_map(|a| match a {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        let length = message.header.destination_prefix_length;
        let range = destination.and_then(|a| IpNet::new(a, length).ok());
        if let Some(net) = range.filter(worth_avoiding) {
            let net = net.trunc();
            if !ranges.iter().any(|known: &HostRange| known.net == net) {
                ranges.push(HostRange {
                    net,
                    interface: out.and_then(&name).unwrap_or_else(|| "?".into()),
                    connected: false,
                });
            }
        }
    }
    Ok(ranges)
}

/// Not the default route, which covers everything, nor what every host has.
fn worth_avoiding(net: &IpNet) -> bool {
    let addr = net.addr();
    let link_local = matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local());
    net.prefix_len() > 0 && !addr.is_loopback() && !addr.is_multicast() && !link_local
}

/// Writes a switch below /proc/sys of the calling thread's namespace, unless
/// it has the value already. Says whether it had to be changed.
pub(crate) fn set_sysctl(path: &str, value: &str) -> Result<bool, LinkError> {
    let path = format!("/proc/sys/{path}");
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim_end() == value) {
        return Ok(false);
    }
    std::fs::write(&path, value)
        .map(|()| true)
        .map_err(|source| LinkError::Sysctl { path, source })
}

/// A device's name as a path component of /proc/sys, where a dot is written
/// as it is in the file system.
pub(crate) fn conf(family: &str, device: &str, name: &str) -> String {
    format!("net/{family}/conf/{device}/{name}")
}
