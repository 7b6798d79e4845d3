//! `--publish` and `--expose`: ports of the container and where they appear on the host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use conex_api::container::{Empty, PortBinding, PortMap};

/// What the port flags of a command line ask for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ports {
    /// Every port named, `80/tcp`.
    pub(super) exposed: BTreeMap<String, Empty>,
    /// Where published ones appear.
    pub(super) bindings: PortMap,
}

/// Reads `--publish` and `--expose` values.
pub(super) fn parse(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for spec in publish {
        let spec = &standard_notation(spec)?;
        for (port, binding) in mappings(spec)? {
            ports.exposed.insert(port.clone(), Empty {});
            ports
                .bindings
                .entry(port)
                .or_default()
                .get_or_insert_default()
                .push(binding);
        }
    }
    for spec in expose {
        if spec.contains(':') {
            return Err(format!("invalid port format for --expose: {spec}"));
        }
        let (range, protocol) = split_protocol(spec);
        let (start, end) = port_range(range)
            .map_err(|e| format!("invalid range format for --expose: {spec}, error: {e}"))?;
        let protocol = protocol.to_lowercase();
        check_protocol(&protocol)?;
        for port in start..=end {
            ports.exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok(ports)
}

/// Rewrites `target=80,published=8080,protocol=tcp` to `8080:80/tcp`.
fn standard_notation(spec: &str) -> Result<String, String> {
    if !spec.contains('=') {
        return Ok(spec.to_owned());
    }
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for param in spec.split(',') {
        let (key, value) = param
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| {
                format!("invalid publish opts format (should be name=value but got '{param}')")
            })?;
        match key {
            "published" => published = value,
            "target" => target = value,
            "protocol" => protocol = value,
            // Docker ignores what it does not know here (mode, app_protocol).
            _ => {}
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// `[ip:][hostPort[-end]:]containerPort[-end][/protocol]` as one mapping per container port.
fn mappings(spec: &str) -> Result<Vec<(String, PortBinding)>, String> {
    // The last two colons separate; an IPv6 address may hold more, with or without brackets.
    let mut parts = spec.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host_port = parts.next().unwrap_or_default();
    let host_ip = host_address(parts.next().unwrap_or_default())?;
    let (container, protocol) = split_protocol(container);
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let (start, end) =
        port_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let host = match host_port {
        "" => None,
        range => Some(port_range(range).map_err(|_| format!("invalid hostPort: {range}"))?),
    };
    if let Some((host_start, host_end)) = host
        && host_end - host_start != end - start
        && start != end
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host_port}"
        ));
    }
    let protocol = protocol.to_lowercase();
    check_protocol(&protocol)?;
    let mapped = (start..=end).map(|port| {
        let host_port = match host {
            None => String::new(),
            // A range for one port: the engine picks a free one of it.
            Some((first, last)) if start == end && first != last => format!("{first}-{last}"),
            Some((first, _)) => (first + (port - start)).to_string(),
        };
        let binding = PortBinding {
            host_ip: host_ip.clone(),
            host_port,
        };
        (format!("{port}/{protocol}"), binding)
    });
    Ok(mapped.collect())
}

fn host_address(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix('[')
        .map_or(Some(text), |rest| rest.strip_suffix(']'));
    match bare {
        Some("") if text.is_empty() => Ok(String::new()),
        Some(address) if address.parse::<IpAddr>().is_ok() => Ok(address.to_owned()),
        _ => Err(format!("invalid IP address: {text}")),
    }
}

/// `80/udp` as port and protocol, `tcp` when none is given.
fn split_protocol(spec: &str) -> (&str, &str) {
    match spec.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => (port, protocol),
        Some((port, _)) => (port, "tcp"),
        None => (spec, "tcp"),
    }
}

fn check_protocol(protocol: &str) -> Result<(), String> {
    match protocol {
        "tcp" | "udp" | "sctp" => Ok(()),
        other => Err(format!("invalid proto: {other}")),
    }
}

/// `8000` or `8000-8010`.
fn port_range(text: &str) -> Result<(u16, u16), String> {
    let number = |digits: &str| {
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!(
                "strconv.ParseUint: parsing \"{digits}\": invalid syntax"
            ));
        }
        digits
            .parse::<u16>()
            .map_err(|_| format!("strconv.ParseUint: parsing \"{digits}\": value out of range"))
    };
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let Some((start, end)) = text.split_once('-') else {
        let port = number(text)?;
        return Ok((port, port));
    };
    let (start, end) = (number(start)?, number(end)?);
    if end < start {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn publish(spec: &str) -> Result<Vec<String>, String> {
        let ports = parse(&[spec.to_owned()], &[])?;
        assert_eq!(ports.exposed.len(), ports.bindings.len());
        Ok(ports
            .bindings
            .iter()
            .flat_map(|(port, bindings)| {
                bindings
                    .iter()
                    .flatten()
                    .map(move |b| format!("{port}={}|{}", b.host_ip, b.host_port))
            })
            .collect())
    }

    #[test]
    fn every_form_of_publish_is_understood() {
        for (spec, want) in [
            ("80", &["80/tcp=|"][..]),
            ("8080:80", &["80/tcp=|8080"]),
            ("8080:80/UDP", &["80/udp=|8080"]),
            ("8080:80/", &["80/tcp=|8080"]),
            ("127.0.0.1:8080:80", &["80/tcp=127.0.0.1|8080"]),
            ("127.0.0.1::80/sctp", &["80/sctp=127.0.0.1|"]),
            ("[::1]:8080:80", &["80/tcp=::1|8080"]),
            ("::1:8080:80", &["80/tcp=::1|8080"]),
            ("8000-8001:80-81", &["80/tcp=|8000", "81/tcp=|8001"]),
            ("80-81", &["80/tcp=|", "81/tcp=|"]),
            ("8000-8010:80", &["80/tcp=|8000-8010"]),
            ("target=80,published=8080,protocol=udp", &["80/udp=|8080"]),
            ("target=80", &["80/tcp=|"]),
        ] {
            assert_eq!(publish(spec).unwrap(), want, "{spec}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_publish_is_said() {
        for (spec, want) in [
            ("", "no port specified: <empty>"),
            ("80:", "no port specified: 80:<empty>"),
            ("a", "invalid containerPort: a"),
            ("70000", "invalid containerPort: 70000"),
            ("x:80", "invalid hostPort: x"),
            ("nohost:1:80", "invalid IP address: nohost"),
            ("[::1:1:80", "invalid IP address: [::1"),
            ("80/foo", "invalid proto: foo"),
            ("9-8:80", "invalid hostPort: 9-8"),
            (
                "8000-8002:80-81",
                "invalid ranges specified for container and host Ports: 80-81 and 8000-8002",
            ),
            (
                "a=b,c",
                "invalid publish opts format (should be name=value but got 'c')",
            ),
        ] {
            assert_eq!(publish(spec).unwrap_err(), want, "{spec}");
        }
    }

    #[test]
    fn two_addresses_of_one_port_are_both_kept() {
        let specs = ["127.0.0.1:1:80".to_owned(), "2:80".to_owned()];
        let ports = parse(&specs, &[]).unwrap();
        assert_eq!(ports.bindings["80/tcp"].as_ref().unwrap().len(), 2);
    }

    #[test]
    fn exposed_ports_are_not_published() {
        let specs = ["1000-1002/udp".to_owned(), "53".to_owned()];
        let ports = parse(&[], &specs).unwrap();
        let exposed: Vec<_> = ports.exposed.keys().map(String::as_str).collect();
        assert_eq!(exposed, ["1000/udp", "1001/udp", "1002/udp", "53/tcp"]);
        assert!(ports.bindings.is_empty());
        assert_eq!(
            parse(&[], &["1:2".into()]).unwrap_err(),
            "invalid port format for --expose: 1:2"
        );
        assert_eq!(
            parse(&[], &["x".into()]).unwrap_err(),
            "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax"
        );
    }

    #[test]
    fn the_whole_port_range_is_no_trap() {
        assert_eq!(
            parse(&[], &["0-65535".into()]).unwrap().exposed.len(),
            65536
        );
    }
}
