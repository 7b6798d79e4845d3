//! The PORTS column: published and exposed ports, neighbours joined to ranges.
//!
//! It must not know where the ports come from.

use serde::Deserialize;

/// A port as the engine lists it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Port {
    /// Address of the host it is published on, empty or absent when only exposed.
    #[serde(rename = "IP")]
    pub ip: Option<String>,
    /// Port inside the container.
    pub private_port: u16,
    /// Port of the host, 0 when only exposed.
    pub public_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub protocol: String,
}

/// A run of neighbouring ports of one address and protocol.
struct Group<'a> {
    /// Address, empty when only exposed.
    ip: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl Group<'_> {
    fn show(&self) -> String {
        let range = if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        };
        if self.ip.is_empty() {
            format!("{range}/{}", self.protocol)
        } else {
            format!(
                "{}->{range}/{}",
                join_host_port(self.ip, &range),
                self.protocol
            )
        }
    }
}

/// Ports as lists show them: `0.0.0.0:80->80/tcp, [::]:80->80/tcp, 53/udp`.
pub(super) fn show(ports: &[Port]) -> String {
    let mut ports: Vec<(u16, &str, u16, &str)> = ports
        .iter()
        .map(|port| {
            let ip = port.ip.as_deref().unwrap_or_default();
            (
                port.private_port,
                ip,
                port.public_port,
                port.protocol.as_str(),
            )
        })
        .collect();
    ports.sort_unstable();
    let mut shown = Vec::new();
    let mut mappings = Vec::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (private, ip, public, protocol) in ports {
        if !ip.is_empty() && public != private {
            let host = join_host_port(ip, &public.to_string());
            mappings.push(format!("{host}->{private}/{protocol}"));
            continue;
        }
        match groups
            .iter_mut()
            .find(|group| group.ip == ip && group.protocol == protocol)
        {
            Some(group) if group.last.checked_add(1) == Some(private) => group.last = private,
            Some(group) => {
                shown.push(group.show());
                (group.first, group.last) = (private, private);
            }
            None => groups.push(Group {
                ip,
                protocol,
                first: private,
                last: private,
            }),
        }
    }
    shown.extend(groups.iter().map(Group::show));
    shown.extend(mappings);
    shown.join(", ")
}

/// An address and a port, IPv6 in brackets.
fn join_host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public_port: u16, private_port: u16, protocol: &str) -> Port {
        let ip = Some(ip.to_owned()).filter(|ip| !ip.is_empty());
        Port {
            ip,
            private_port,
            public_port,
            protocol: protocol.to_owned(),
        }
    }

    #[test]
    fn exposed_ports_show_their_protocol_and_neighbours_are_joined() {
        let ports: Vec<Port> = [9988, 9989, 9990, 1, 1235]
            .map(|n| port("", 0, n, "tcp"))
            .into();
        assert_eq!(show(&ports), "1/tcp, 1235/tcp, 9988-9990/tcp");
    }

    #[test]
    fn equal_ports_of_one_address_are_joined() {
        let ports = [
            port("0.0.0.0", 80, 80, "tcp"),
            port("0.0.0.0", 81, 81, "tcp"),
            port("0.0.0.0", 80, 80, "udp"),
            port("::", 80, 80, "tcp"),
        ];
        assert_eq!(
            show(&ports),
            "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:80->80/udp, [::]:80->80/tcp"
        );
    }

    #[test]
    fn mapped_ports_follow_the_others() {
        let ports = [
            port("0.0.0.0", 18080, 80, "tcp"),
            port("::", 18080, 80, "tcp"),
            port("", 0, 53, "udp"),
        ];
        assert_eq!(
            show(&ports),
            "53/udp, 0.0.0.0:18080->80/tcp, [::]:18080->80/tcp"
        );
    }

    #[test]
    fn the_highest_port_ends_a_range() {
        let ports = [port("", 0, 65534, "tcp"), port("", 0, 65535, "tcp")];
        assert_eq!(show(&ports), "65534-65535/tcp");
        assert_eq!(show(&[]), "");
    }
}
