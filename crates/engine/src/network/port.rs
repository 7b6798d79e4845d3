//! Ports of a container: what it asked to be published, what is, and how the
//! API shows it (COMPAT D9.5, D9.15). It must not know how a port is held.

use std::collections::BTreeMap;
use std::net::IpAddr;

use conex_api::container::{Config, HostConfig, Port, PortBinding, PortMap};
use conex_network::{HostPort, PortBinding as Bound, PortRequest, Protocol};

use crate::Error;

/// A port of a container: `80/tcp`; without a protocol it is TCP.
pub(crate) fn parse(text: &str) -> Option<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((number.parse().ok()?, protocol.parse().ok()?))
}

/// Everything a container asks to be published, in the order in which it is:
/// by port, bindings as they were given.
pub(crate) fn wanted(config: &Config, host: &HostConfig) -> Result<Vec<PortRequest>, Error> {
    let invalid = |what: &str| Error::invalid(format!("invalid port specification: {what:?}"));
    let mut ports: BTreeMap<(u16, Protocol), Vec<PortRequest>> = BTreeMap::new();
    for (text, bindings) in host.port_bindings.iter().flatten() {
        let (port, protocol) = parse(text).ok_or_else(|| invalid(text))?;
        let all = bindings.as_deref().unwrap_or_default();
        let place = ports.entry((port, protocol)).or_default();
        for binding in all {
            place.push(one(port, protocol, binding)?);
        }
    }
    if host.publish_all_ports {
        for text in config.exposed_ports.keys() {
            let (port, protocol) = parse(text).ok_or_else(|| invalid(text))?;
            let place = ports.entry((port, protocol)).or_default();
            if place.is_empty() {
                place.push(one(port, protocol, &PortBinding::default())?);
            }
        }
    }
    Ok(ports.into_values().flatten().collect())
}

fn one(port: u16, protocol: Protocol, binding: &PortBinding) -> Result<PortRequest, Error> {
    let host_ip = match binding.host_ip.as_str() {
        "" => None,
        text => Some(address(text)?),
    };
    let host_port = match binding.host_port.as_str() {
        "" | "0" => HostPort::Any,
        text => {
            let invalid = || Error::invalid(format!("invalid port specification: {text:?}"));
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let first: u16 = first.parse().map_err(|_| invalid())?;
            let last: u16 = last.parse().map_err(|_| invalid())?;
            match first == last {
                true => HostPort::One(first),
                false => HostPort::FirstOf(first, last),
            }
        }
    };
    Ok(PortRequest {
        container_port: port,
        protocol,
        host_ip,
        host_port,
    })
}

/// The address of a binding, IPv6 with or without brackets.
pub(crate) fn address(text: &str) -> Result<IpAddr, Error> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .map_err(|_| Error::invalid(format!("invalid IP address in port binding: {text:?}")))
}

/// `NetworkSettings.Ports` of a running container.
pub(crate) fn map(config: &Config, bindings: &[Bound]) -> PortMap {
    let exposed = config.exposed_ports.keys();
    let mut map: PortMap = exposed
        .filter_map(|text| parse(text))
        .map(|(port, protocol)| (format!("{port}/{protocol}"), None))
        .collect();
    for binding in bindings {
        map.entry(format!("{}/{}", binding.container_port, binding.protocol))
            .or_default()
            .get_or_insert_default()
            .push(PortBinding {
                host_ip: binding.host_ip.to_string(),
                host_port: binding.host_port.to_string(),
            });
    }
    map
}

/// The ports of a running container as lists have them.
pub(crate) fn list(config: &Config, bindings: &[Bound]) -> Vec<Port> {
    let mut all = Vec::new();
    for (text, bindings) in map(config, bindings) {
        let Some((private_port, protocol)) = parse(&text) else {
            continue;
        };
        let shown = |ip: String, public_port: u16| Port {
            ip,
            private_port,
            public_port,
            protocol: protocol.to_string(),
        };
        match bindings {
            None => all.push(shown(String::new(), 0)),
            Some(bindings) => all.extend(
                bindings
                    .into_iter()
                    .map(|b| shown(b.host_ip, b.host_port.parse().unwrap_or(0))),
            ),
        }
    }
    all.sort_by(|a, b| {
        let key = |p: &Port| {
            (
                p.private_port,
                p.protocol.clone(),
                p.ip.clone(),
                p.public_port,
            )
        };
        key(a).cmp(&key(b))
    });
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn asked(host: serde_json::Value, config: serde_json::Value) -> Vec<PortRequest> {
        let host: HostConfig = serde_json::from_value(host).unwrap();
        let config: Config = serde_json::from_value(config).unwrap();
        wanted(&config, &host).unwrap()
    }

    #[test]
    fn bindings_keep_their_address_and_range() {
        let all = asked(
            json!({"PortBindings": {
                "80/tcp": [{"HostPort": "8080"}, {"HostIp": "[::1]", "HostPort": "9000-9010"}],
                "53/udp": [{"HostIp": "127.0.0.1"}],
                "54/udp": null
            }}),
            json!({"ExposedPorts": {"99/tcp": {}}}),
        );
        let short: Vec<_> = all
            .iter()
            .map(|w| {
                (
                    w.container_port,
                    w.host_ip.map(|a| a.to_string()),
                    w.host_port,
                )
            })
            .collect();
        assert_eq!(
            short,
            [
                (53, Some("127.0.0.1".into()), HostPort::Any),
                (80, None, HostPort::One(8080)),
                (80, Some("::1".into()), HostPort::FirstOf(9000, 9010)),
            ]
        );
    }

    #[test]
    fn publishing_all_leaves_alone_what_is_bound_already() {
        let all = asked(
            json!({"PublishAllPorts": true, "PortBindings": {"80/tcp": [{"HostPort": "1"}]}}),
            json!({"ExposedPorts": {"80/tcp": {}, "81": {}}}),
        );
        let ports: Vec<_> = all
            .iter()
            .map(|w| (w.container_port, w.host_port))
            .collect();
        assert_eq!(ports, [(80, HostPort::One(1)), (81, HostPort::Any)]);
    }

    #[test]
    fn an_exposed_port_is_shown_without_a_host_port() {
        let config: Config =
            serde_json::from_value(json!({"ExposedPorts": {"53/udp": {}, "80/tcp": {}}})).unwrap();
        let bound = |address: &str| Bound {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: address.parse().unwrap(),
            host_port: 18080,
        };
        let bindings = [bound("0.0.0.0"), bound("::")];
        assert_eq!(
            serde_json::to_value(map(&config, &bindings)).unwrap(),
            json!({"53/udp": null, "80/tcp": [
                {"HostIp": "0.0.0.0", "HostPort": "18080"}, {"HostIp": "::", "HostPort": "18080"}
            ]})
        );
        assert_eq!(
            serde_json::to_value(list(&config, &bindings)).unwrap(),
            json!([
                {"IP": "", "PrivatePort": 53, "Type": "udp"},
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 18080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 18080, "Type": "tcp"}
            ])
        );
    }
}
