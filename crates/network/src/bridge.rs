//! The bridge of a network: made, corrected, removed.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::Network;
use crate::host::{conf, set_sysctl};
use crate::netlink::{LinkError, Route};

/// Makes a network's bridge, or corrects what an earlier engine or somebody
/// else left of it, and switches forwarding on.
///
/// `loopback` says whether 127.0.0.1 of the host is to reach published ports
/// through the bridge; the firewall must then guard 127/8.
///
/// Idempotent: what is right already is not touched, containers on it keep
/// their connections. Returns whether the host did not forward IPv4 before.
///
/// Errors: `EEXIST` ("create bridge") when an interface of that name is not a
/// bridge.
pub fn ensure(network: &Network, loopback: bool) -> Result<bool, LinkError> {
    let name = network.bridge.as_str();
    let mut route = Route::open()?;
    if find(&mut route, name)?.is_none() {
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(network.mtu()),
            // A bridge without an address of its own takes the lowest of its
            // ports', and the gateway would change its address under way.
            LinkAttribute::Address(network.mac().0.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
            ]),
        ];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let message = RouteNetlinkMessage::NewLink(link);
        route.push(message, flags, ("create bridge", name), &[]);
        route.commit()?;
    }
    let link = find(&mut route, name)?.ok_or(LinkError::Refused {
        what: "find bridge",
        name: name.to_owned(),
        source: Errno::NODEV,
    })?;
    if !is_bridge(&link) {
        return Err(LinkError::Refused {
            what: "create bridge",
            name: name.to_owned(),
            source: Errno::EXIST,
        });
    }
    let index = link.header.index;
    let changed = configure_host(network, loopback)?;
    for (address, prefix) in gateways(network) {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        let message = RouteNetlinkMessage::NewAddress(own_address(index, address, prefix));
        route.push(message, flags, ("give an address to", name), &[]);
    }
    let mut up = LinkMessage::default();
    up.header.index = index;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    up.attributes = vec![LinkAttribute::Mtu(network.mtu())];
    let mac = LinkAttribute::Address(network.mac().0.to_vec());
    if !link.attributes.contains(&mac) {
        up.attributes.push(mac);
    }
    let message = RouteNetlinkMessage::SetLink(up);
    route.push(message, 0, ("set up", name), &[]);
    remove_stale_addresses(&mut route, network, index)?;
    route.commit()?;
    Ok(changed)
}

/// Sets what published ports need on a bridge that is somebody else's
/// (`--bridge`), and switches forwarding on; its addresses are left as they are.
/// Returns whether the host did not forward IPv4 before.
pub fn adopt(network: &Network, loopback: bool) -> Result<bool, LinkError> {
    let mut changed = false;
    if network.ipv4.is_some() {
        changed = set_sysctl("net/ipv4/ip_forward", "1")?;
        if loopback {
            set_sysctl(&conf("ipv4", &network.bridge, "route_localnet"), "1")?;
        }
    }
    if network.ipv6.is_some() {
        forward_ipv6()?;
    }
    Ok(changed)
}

/// Removes a network's bridge with everything on it. One that is not there is
/// no error.
pub fn remove(bridge: &str) -> Result<(), LinkError> {
    let mut route = Route::open()?;
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(bridge.to_owned())];
    let message = RouteNetlinkMessage::DelLink(link);
    route.push(message, 0, ("remove bridge", bridge), &[Errno::NODEV]);
    route.commit()
}

/// The addresses of a bridge that the engine did not make; `None` if there is
/// no such bridge.
pub fn addresses(name: &str) -> Result<Option<Vec<IpNet>>, LinkError> {
    let mut route = Route::open()?;
    let Some(link) = find(&mut route, name)?.filter(is_bridge) else {
        return Ok(None);
    };
    let all = route.dump(
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        "list addresses",
    )?;
    let address = |message| match message {
        RouteNetlinkMessage::NewAddress(message) if message.header.index == link.header.index => {
            let prefix = message.header.prefix_len;
            message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(address) => IpNet::new(*address, prefix).ok(),
                _ => None,
            })
        }
        _ => None,
    };
    Ok(Some(all.into_iter().filter_map(address).collect()))
}

/// Switches of the host and of the bridge.
fn configure_host(network: &Network, loopback: bool) -> Result<bool, LinkError> {
    let bridge = network.bridge.as_str();
    let mut changed = false;
    if network.ipv4.is_some() {
        changed = set_sysctl("net/ipv4/ip_forward", "1")?;
        // 127.0.0.1 of the host reaches published ports; the firewall drops
        // what comes to 127/8 from anywhere but loopback.
        let on = if loopback { "1" } else { "0" };
        set_sysctl(&conf("ipv4", bridge, "route_localnet"), on)?;
    }
    // A host without IPv6 has none of these.
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        let disabled = if network.ipv6.is_some() { "0" } else { "1" };
        set_sysctl(&conf("ipv6", bridge, "disable_ipv6"), disabled)?;
        if network.ipv6.is_some() {
            set_sysctl(&conf("ipv6", bridge, "accept_ra"), "0")?;
            forward_ipv6()?;
        }
    }
    Ok(changed)
}

/// Switches forwarding of IPv6 on. A host that forwards takes no router's word
/// any more and would lose its own default route, unless an interface says
/// that it does all the same.
fn forward_ipv6() -> Result<(), LinkError> {
    const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
    if std::fs::read_to_string(format!("/proc/sys/{FORWARDING}")).is_ok_and(|on| on.trim() == "1") {
        return Ok(());
    }
    let interfaces = std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter();
    for interface in interfaces.flatten().flatten() {
        let file = interface.path().join("accept_ra");
        let listens = std::fs::read_to_string(&file).is_ok_and(|value| value.trim() == "1");
        let is_one = interface.file_name() != "all" && interface.file_name() != "default";
        if listens && is_one {
            // An interface that vanished meanwhile has no route to lose.
            let _gone = std::fs::write(&file, "2").is_err();
        }
    }
    set_sysctl(FORWARDING, "1").map(drop)
}

fn gateways(network: &Network) -> impl Iterator<Item = (IpAddr, u8)> {
    let four = network
        .ipv4
        .map(|v4| (IpAddr::V4(v4.gateway), v4.subnet.prefix_len()));
    let six = network
        .ipv6
        .map(|v6| (IpAddr::V6(v6.gateway), v6.subnet.prefix_len()));
    four.into_iter().chain(six)
}

/// The message for an interface's own address.
pub(crate) fn own_address(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = prefix;
    match address {
        IpAddr::V4(four) => {
            message.header.family = AddressFamily::Inet;
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            message.attributes = vec![
                AddressAttribute::Local(address),
                AddressAttribute::Address(address),
            ];
            if prefix < 31 {
                let broadcast = (u32::from(four) | host_bits).into();
                message
                    .attributes
                    .push(AddressAttribute::Broadcast(broadcast));
            }
        }
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            // Nobody else can have it: a second of detection would be a
            // second in which it does not work.
            message.attributes = vec![
                AddressAttribute::Address(address),
                AddressAttribute::Flags(AddressFlags::Nodad),
            ];
        }
    }
    message
}

/// Addresses the bridge has and the network does not know: an earlier subnet.
fn remove_stale_addresses(
    route: &mut Route,
    network: &Network,
    index: u32,
) -> Result<(), LinkError> {
    let known: Vec<(IpAddr, u8)> = gateways(network).collect();
    let all = route.dump(
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        "list addresses",
    )?;
    for message in all {
        let RouteNetlinkMessage::NewAddress(message) = message else {
            continue;
        };
        let address = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let Some(address) = address.filter(|_| message.header.index == index) else {
            continue;
        };
        let link_local = matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
        if !link_local && !known.contains(&(address, message.header.prefix_len)) {
            let name = format!("{address} from {}", network.bridge);
            route.push(
                RouteNetlinkMessage::DelAddress(message),
                0,
                ("remove address", &name),
                &[Errno::ADDRNOTAVAIL],
            );
        }
    }
    Ok(())
}

/// The interface of a name, if there is one.
pub(crate) fn find(route: &mut Route, name: &str) -> Result<Option<LinkMessage>, LinkError> {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    match route.get(RouteNetlinkMessage::GetLink(link), ("find", name)) {
        Ok(Some(RouteNetlinkMessage::NewLink(link))) => Ok(Some(link)),
        Ok(_) => Ok(None),
        Err(LinkError::Refused { source, .. }) if source == Errno::NODEV => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}
