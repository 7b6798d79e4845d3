//! One interface: the pair, its end on the bridge, its end in the namespace.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::mpsc::Receiver;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{NamespaceError, Prepared};
use crate::bridge::{find, own_address};
use crate::netlink::{Family, LinkError, Route};
use crate::{Endpoint, Mac, Network};

/// What is known of an endpoint whose container has ended.
#[derive(Debug, Clone, Copy)]
pub struct Gone<'a> {
    /// The bridge of its network.
    pub bridge: &'a str,
    /// The host's end of its interface.
    pub host_interface: &'a str,
    /// Its addresses.
    pub addresses: [Option<IpAddr>; 2],
}

impl<'a> Gone<'a> {
    /// Of an endpoint on its network.
    pub fn new(network: &'a Network, endpoint: &'a Endpoint) -> Gone<'a> {
        Gone {
            bridge: &network.bridge,
            host_interface: &endpoint.host_interface,
            addresses: [
                endpoint.ipv4.map(|net| net.addr().into()),
                endpoint.ipv6.map(|net| net.addr().into()),
            ],
        }
    }
}

/// Makes an endpoint's interface in a namespace.
pub(super) fn fill(
    inside: &mut Prepared,
    network: &Network,
    endpoint: &Endpoint,
) -> Result<(), NamespaceError> {
    let mut host = Route::open()?;
    let found = find(&mut host, &network.bridge)?.ok_or_else(|| LinkError::Refused {
        what: "find bridge",
        name: network.bridge.clone(),
        source: Errno::NODEV,
    })?;
    let bridge = found.header.index;
    // A bridge of somebody else's may lead to a gateway that is not the host.
    let own_mac = LinkAttribute::Address(network.mac().0.to_vec());
    let is_ours = found.attributes.contains(&own_mac);
    let pair = pair(inside, network, endpoint);
    let name = endpoint.host_interface.as_str();
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let message = RouteNetlinkMessage::NewLink(pair);
    host.push(message, flags, ("create interface", name), &[]);
    push_host_side(&mut host, bridge, network, endpoint);
    host.commit().map_err(|error| match error.errno() {
        Some(Errno::XFULL) => NamespaceError::BridgeFull {
            interface: name.to_owned(),
            bridge: network.bridge.clone(),
        },
        _ => error.into(),
    })?;
    let index = match &mut inside.next_index {
        Some(next) => {
            *next += 1;
            *next - 1
        }
        None => index_inside(&mut inside.route, &endpoint.interface)?,
    };
    push_inside(&mut inside.route, index, network, endpoint, is_ours);
    inside.route.commit()?;
    Ok(())
}

/// The pair: one end here, one in the namespace with its final name and
/// hardware address. Its number is the kernel's choice.
fn pair(inside: &Prepared, network: &Network, endpoint: &Endpoint) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(endpoint.interface.clone()),
        LinkAttribute::Address(endpoint.mac.0.to_vec()),
        LinkAttribute::Mtu(network.mtu()),
        LinkAttribute::NetNsFd(inside.fd.as_raw_fd()),
    ];
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(endpoint.host_interface.clone()),
        LinkAttribute::Mtu(network.mtu()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    link
}

fn push_host_side(host: &mut Route, bridge: u32, network: &Network, endpoint: &Endpoint) {
    let name = endpoint.host_interface.as_str();
    let by_name = LinkAttribute::IfName(name.to_owned());
    // A bridge's port has no addresses of its own, and setting it up is
    // quicker without.
    let mut quiet = LinkMessage::default();
    quiet.attributes = vec![by_name.clone(), addr_gen_mode(In6AddrGenMode::None)];
    let message = RouteNetlinkMessage::SetLink(quiet);
    // A host without IPv6 does not know the attribute.
    host.push(
        message,
        0,
        ("configure", name),
        &[Errno::AFNOSUPPORT, Errno::OPNOTSUPP],
    );
    let mut up = LinkMessage::default();
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    up.attributes = vec![by_name.clone(), LinkAttribute::Controller(bridge)];
    let message = RouteNetlinkMessage::SetLink(up);
    host.push(message, 0, ("add to the bridge", name), &[]);
    if !network.icc {
        let mut isolated = LinkMessage::default();
        let port = InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(true)]);
        isolated.attributes = vec![
            by_name,
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(port),
            ]),
        ];
        let message = RouteNetlinkMessage::NewLink(isolated);
        host.push(message, 0, ("isolate", name), &[]);
    }
    // Permanent entries do not count against the kernel's limit of 1024, and
    // nobody can talk the host into another address.
    for address in addresses(endpoint) {
        let message = RouteNetlinkMessage::NewNeighbour(neighbour(bridge, address, endpoint.mac));
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        host.push(message, flags, ("remember the address of", name), &[]);
    }
}

fn push_inside(
    route: &mut Route,
    index: u32,
    network: &Network,
    endpoint: &Endpoint,
    is_ours: bool,
) {
    let name = endpoint.interface.as_str();
    if endpoint.ipv6.is_some() {
        let mut generate = LinkMessage::default();
        generate.header.index = index;
        generate.attributes = vec![addr_gen_mode(In6AddrGenMode::Eui64)];
        let message = RouteNetlinkMessage::SetLink(generate);
        route.push(message, 0, ("configure", name), &[]);
    }
    let mut up = LinkMessage::default();
    up.header.index = index;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    let message = RouteNetlinkMessage::SetLink(up);
    route.push(message, 0, ("set up", name), &[]);
    let nets = [endpoint.ipv4.map(IpNet::V4), endpoint.ipv6.map(IpNet::V6)];
    for net in nets.into_iter().flatten() {
        let message = own_address(index, net.addr(), net.prefix_len());
        let message = RouteNetlinkMessage::NewAddress(message);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        route.push(message, flags, ("give an address to", name), &[]);
    }
    // Neighbours hear of the address now, also those who remember who had it
    // before. It clears what this end knows of its neighbours, so it comes
    // before the gateway's entry.
    let mut announce = LinkMessage::default();
    announce.header.index = index;
    announce.attributes = vec![LinkAttribute::Address(endpoint.mac.0.to_vec())];
    let message = RouteNetlinkMessage::SetLink(announce);
    route.push(message, 0, ("announce", name), &[]);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let four = endpoint.ipv4.and(network.ipv4).map(|c| c.gateway.into());
    let six = endpoint.ipv6.and(network.ipv6).map(|c| c.gateway.into());
    let gateways = [four, six].into_iter().flatten();
    for gateway in gateways.filter(|_| is_ours) {
        // The kernel counts the neighbours of all namespaces together.
        let entry = neighbour(index, gateway, network.mac());
        let message = RouteNetlinkMessage::NewNeighbour(entry);
        route.push(message, flags, ("remember the gateway of", name), &[]);
    }
    if endpoint.default_route && !network.internal {
        push_default_routes(route, index, network, endpoint);
    }
}

/// To the bridge, or to the routers that stand for it.
fn push_default_routes(route: &mut Route, index: u32, network: &Network, endpoint: &Endpoint) {
    let own = endpoint.ipv4.and(network.ipv4).map(|c| c.gateway);
    let four = own.map(|own| IpAddr::V4(endpoint.routers.0.unwrap_or(own)));
    let own = endpoint.ipv6.and(network.ipv6).map(|c| c.gateway);
    let six = own.map(|own| IpAddr::V6(endpoint.routers.1.unwrap_or(own)));
    for router in [four, six].into_iter().flatten() {
        let message = RouteNetlinkMessage::NewRoute(default_route(index, router));
        let name = endpoint.interface.as_str();
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        route.push(message, flags, ("set the default route of", name), &[]);
    }
}

fn addr_gen_mode(mode: In6AddrGenMode) -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        mode,
    )])])
}

fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, address) = match gateway {
        IpAddr::V4(address) => (AddressFamily::Inet, RouteAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, RouteAddress::Inet6(address)),
    };
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(address), RouteAttribute::Oif(index)];
    message
}

fn neighbour(index: u32, address: IpAddr, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    let (family, address) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.attributes = vec![
        NeighbourAttribute::Destination(address),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    message
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let four = endpoint.ipv4.map(|net| IpAddr::V4(net.addr()));
    four.into_iter()
        .chain(endpoint.ipv6.map(|net| IpAddr::V6(net.addr())))
}

/// Number of an interface of the host, in one system call.
fn interface_index(name: &str) -> Result<u32, LinkError> {
    let socket = crate::netlink::open(Family::Route, 0)?;
    rustix::net::netdevice::name_to_index(&socket, name).map_err(|source| LinkError::Refused {
        what: "find bridge",
        name: name.to_owned(),
        source,
    })
}

/// The interfaces of the host whose names begin so.
pub(crate) fn interfaces(prefix: &str) -> Result<Vec<String>, LinkError> {
    let mut host = Route::open()?;
    let all = host.dump(
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        "list interfaces",
    )?;
    let name = |message| match message {
        RouteNetlinkMessage::NewLink(link) => link.attributes.into_iter().find_map(|a| match a {
            LinkAttribute::IfName(name) if name.starts_with(prefix) => Some(name),
            _ => None,
        }),
        _ => None,
    };
    Ok(all.into_iter().filter_map(name).collect())
}

pub(super) fn forget_neighbours(gone: &[Gone<'_>]) -> Result<(), LinkError> {
    let mut host = Route::open()?;
    for endpoint in gone {
        // Without its bridge there are no entries.
        let Ok(bridge) = interface_index(endpoint.bridge) else {
            continue;
        };
        for address in endpoint.addresses.iter().flatten() {
            let entry = neighbour(bridge, *address, Mac([0; 6]));
            let message = RouteNetlinkMessage::DelNeighbour(entry);
            let name = endpoint.host_interface;
            host.push(message, 0, ("forget the address of", name), &[Errno::NOENT]);
        }
    }
    host.commit()
}

fn index_inside(route: &mut Route, name: &str) -> Result<u32, LinkError> {
    match crate::bridge::find(route, name)? {
        Some(link) => Ok(link.header.index),
        None => Err(LinkError::Refused {
            what: "find interface",
            name: name.to_owned(),
            source: Errno::NODEV,
        }),
    }
}

/// Sets the default routes through an interface that is there.
pub(super) fn route(
    inside: &mut Prepared,
    network: &Network,
    endpoint: &Endpoint,
) -> Result<(), NamespaceError> {
    let name = endpoint.interface.as_str();
    let index = index_inside(&mut inside.route, name)?;
    push_default_routes(&mut inside.route, index, network, endpoint);
    Ok(inside.route.commit()?)
}

/// Removes interfaces of the host's, those that are there.
pub(super) fn remove(names: &[String]) -> Result<(), LinkError> {
    let mut host = Route::open()?;
    for name in names {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(name.clone())];
        let message = RouteNetlinkMessage::DelLink(link);
        host.push(message, 0, ("remove", name), &[Errno::NODEV]);
    }
    host.commit()
}

/// The thread that removes interfaces.
pub(super) fn unlink(names: &Receiver<Vec<String>>) {
    while let Ok(mut all) = names.recv() {
        all.extend(names.try_iter().flatten());
        // Nobody is there to be told; a name that is still there is tried
        // again when the engine next starts.
        let _left = remove(&all).is_err();
    }
}
