//! What a network and an endpoint add to the sets. Pure: the same elements are
//! removed when it goes.

use std::collections::HashSet;
use std::net::IpAddr;

use super::{Elements, Options, tables};
use crate::nft::{Element, Family, field, interface_field};
use crate::{Endpoint, Mac, Network, PortBinding, Protocol};

pub(super) fn of_network(network: &Network) -> Elements {
    let bridge = network.bridge.as_str();
    let mut elements = Elements::new();
    let mut add = |set, names: &[&str]| {
        let mut key = Vec::new();
        for name in names {
            interface_field(&mut key, name);
        }
        let element = Element {
            key,
            data: Vec::new(),
        };
        elements.push((Family::Inet, set, element));
    };
    add(tables::BRIDGES, &[bridge]);
    add(tables::HAIRPIN, &[bridge, bridge]);
    if network.icc {
        add(tables::ICC, &[bridge, bridge]);
    }
    if network.internal {
        add(tables::INTERNAL, &[bridge]);
    }
    if network.masquerade && network.ipv4.is_some() {
        add(tables::MASQUERADE4, &[bridge]);
    }
    if network.masquerade && network.ipv6.is_some() {
        add(tables::MASQUERADE6, &[bridge]);
    }
    if let Some(ipv4) = &network.ipv4 {
        elements.push(gateway(tables::GATEWAYS4, &ipv4.gateway.octets()));
    }
    if let Some(ipv6) = &network.ipv6 {
        elements.push(gateway(tables::GATEWAYS6, &ipv6.gateway.octets()));
    }
    elements
}

fn gateway(set: &'static str, address: &[u8]) -> (Family, &'static str, Element) {
    let mut key = Vec::new();
    field(&mut key, address);
    let element = Element {
        key,
        data: Vec::new(),
    };
    (Family::Inet, set, element)
}

pub(super) fn of_endpoint(endpoint: &Endpoint, options: Options) -> Elements {
    let mut elements = Elements::new();
    let interface = endpoint.host_interface.as_str();
    if let Some(net) = endpoint.ipv4 {
        let element = source(interface, endpoint.mac, &net.addr().octets());
        elements.push((Family::Bridge, tables::SOURCES4, element));
    }
    if let Some(net) = endpoint.ipv6 {
        for address in [net.addr(), endpoint.mac.link_local()] {
            let element = source(interface, endpoint.mac, &address.octets());
            elements.push((Family::Bridge, tables::SOURCES6, element));
        }
    }
    // A port on two addresses is one element.
    let mut seen = HashSet::new();
    for binding in &endpoint.ports {
        elements.extend(port(endpoint, binding));
        let is_proxied = binding.protocol != Protocol::Sctp;
        if is_proxied && seen.insert((binding.protocol, binding.host_port)) {
            elements.push(own_port(&endpoint.bridge, binding));
        }
    }
    if options.direct {
        let mut seen = HashSet::new();
        for binding in &endpoint.ports {
            let is_new = seen.insert((
                binding.host_ip.is_ipv4(),
                binding.protocol,
                binding.container_port,
            ));
            elements.extend(direct(endpoint, binding).filter(|_| is_new));
        }
    }
    elements
}

/// A published port by the container's own address.
fn direct(endpoint: &Endpoint, binding: &PortBinding) -> Option<(Family, &'static str, Element)> {
    let mut key = Vec::new();
    let set = match binding.host_ip {
        IpAddr::V4(_) => {
            field(&mut key, &endpoint.ipv4?.addr().octets());
            tables::DIRECT4
        }
        IpAddr::V6(_) => {
            field(&mut key, &endpoint.ipv6?.addr().octets());
            tables::DIRECT6
        }
    };
    field(&mut key, &[binding.protocol.number()]);
    field(&mut key, &binding.container_port.to_be_bytes());
    let element = Element {
        key,
        data: Vec::new(),
    };
    Some((Family::Inet, set, element))
}

fn source(interface: &str, mac: Mac, address: &[u8]) -> Element {
    let mut key = Vec::new();
    interface_field(&mut key, interface);
    field(&mut key, &mac.0);
    field(&mut key, address);
    Element {
        key,
        data: Vec::new(),
    }
}

fn own_port(bridge: &str, binding: &PortBinding) -> (Family, &'static str, Element) {
    let mut key = Vec::new();
    interface_field(&mut key, bridge);
    field(&mut key, &[binding.protocol.number()]);
    field(&mut key, &binding.host_port.to_be_bytes());
    let element = Element {
        key,
        data: Vec::new(),
    };
    (Family::Inet, tables::OWN_PORTS, element)
}

/// Nothing where the container has no address of the family: the netkeeper
/// passes these on.
fn port(endpoint: &Endpoint, binding: &PortBinding) -> Option<(Family, &'static str, Element)> {
    let (host, target, one, any) = match binding.host_ip {
        IpAddr::V4(ip) => {
            let target = endpoint.ipv4?.addr().octets().to_vec();
            let host = ip.octets().to_vec();
            (host, target, tables::PORTS4, tables::PORTS4_ANY)
        }
        IpAddr::V6(ip) => {
            let target = endpoint.ipv6?.addr().octets().to_vec();
            let host = ip.octets().to_vec();
            (host, target, tables::PORTS6, tables::PORTS6_ANY)
        }
    };
    let mut key = Vec::new();
    let set = if binding.host_ip.is_unspecified() {
        any
    } else {
        field(&mut key, &host);
        one
    };
    field(&mut key, &[binding.protocol.number()]);
    field(&mut key, &binding.host_port.to_be_bytes());
    let mut data = Vec::new();
    field(&mut data, &target);
    field(&mut data, &binding.container_port.to_be_bytes());
    Some((Family::Inet, set, Element { key, data }))
}
