//! `--link`: other containers of the default bridge that one knows by name, in
//! its `hosts` and its environment (COMPAT D9.13).
//!
//! Source: moby `daemon/links/links.go`.

use std::net::IpAddr;

use conex_api::container::HostConfig;
use conex_network::Protocol;

use super::{Container, Record};
use crate::engine::Inner;
use crate::network::port;
use crate::{Error, id};

/// A container that another one is linked to.
#[derive(Debug)]
pub(super) struct Link {
    /// The name the other one knows it by.
    alias: String,
    /// Its own name.
    name: String,
    hostname: String,
    address: IpAddr,
    ports: Vec<(u16, Protocol)>,
    env: Vec<String>,
}

/// `container:alias`; without an alias the container's own name.
pub(crate) fn parse(text: &str) -> Result<(&str, &str), Error> {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let trimmed = |word: &'_ str| word.rsplit('/').next().unwrap_or_default().is_empty();
    if name.is_empty() || trimmed(alias) || alias.contains(':') {
        return Err(Error::invalid(format!("bad format for links: {text}")));
    }
    let last = alias.rsplit('/').next().unwrap_or(alias);
    Ok((name.trim_start_matches('/'), last))
}

/// The links of a container of the default network. On a network of the user's
/// they are names of the endpoint's, which the resolver knows.
pub(crate) fn of(host: &HostConfig) -> &[String] {
    match host.network_mode.as_str() {
        "" | "default" | "bridge" => host.links.as_deref().unwrap_or_default(),
        _ => &[],
    }
}

impl Inner {
    /// Refuses links to containers that are not there.
    pub(crate) fn check_links(&self, links: &[String]) -> Result<(), Error> {
        for link in links {
            let (name, _) = parse(link)?;
            // Not found would have clients pull the image.
            self.find(name).map_err(|error| {
                Error::invalid(format!("could not get container for {name}: {error}"))
            })?;
        }
        Ok(())
    }

    /// What a container is linked to. Every one of them must run.
    pub(super) fn links_of(&self, record: &Record) -> Result<Vec<Link>, Error> {
        let mut all = Vec::new();
        for text in of(&record.host_config) {
            let (word, alias) = parse(text)?;
            let other = self.find(word)?;
            all.push(linked(&other, alias, &record.name)?);
        }
        Ok(all)
    }

    /// Links as `inspect` shows them: `/db:/web/alias`.
    pub(super) fn shown_links(&self, container: &Container) -> Option<Vec<String>> {
        let own = container.name();
        let links = container.record.host_config.links.as_ref()?;
        if of(&container.record.host_config).is_empty() {
            return Some(links.clone());
        }
        let shown = |text: &String| {
            let Ok((word, alias)) = parse(text) else {
                return text.clone();
            };
            let name = match self.find(word) {
                Ok(other) => other.name().as_ref().clone(),
                Err(_) => word.to_owned(),
            };
            format!("/{name}:/{own}/{alias}")
        };
        Some(links.iter().map(shown).collect())
    }
}

fn linked(other: &Container, alias: &str, own: &str) -> Result<Link, Error> {
    let state = other.state();
    let name = other.name().as_ref().clone();
    let sandbox = state.sandbox.as_ref().filter(|_| state.is_running());
    let Some(sandbox) = sandbox else {
        return Err(Error::conflict(format!(
            "Cannot link to a non running container: /{name} AS /{own}/{alias}"
        )));
    };
    let on_bridge = sandbox.networks.get("bridge");
    let address = on_bridge
        .and_then(|joined| joined.endpoint.as_ref()?.ipv4)
        .map(|net| IpAddr::V4(net.addr()))
        .ok_or_else(|| {
            Error::conflict(format!(
                "Cannot link to /{name}, as it does not belong to the default network"
            ))
        })?;
    let config = &other.record.config;
    let mut ports: Vec<_> = config
        .exposed_ports
        .keys()
        .filter_map(|text| port::parse(text))
        .collect();
    ports.sort_unstable();
    Ok(Link {
        alias: alias.to_owned(),
        name,
        hostname: match config.hostname.as_str() {
            "" => id::short(other.id()).to_owned(),
            hostname => hostname.to_owned(),
        },
        address,
        ports,
        env: config.env.clone().unwrap_or_default(),
    })
}

impl Link {
    /// Its line in `hosts`.
    pub(super) fn host_line(&self) -> (IpAddr, String) {
        let mut names = format!("{} {}", self.alias, self.hostname);
        if self.name != self.alias {
            names.push(' ');
            names.push_str(&self.name);
        }
        (self.address, names)
    }

    /// The variables that tell of it, to a container of this name.
    pub(super) fn environment(&self, own: &str) -> Vec<String> {
        let prefix = self.alias.to_uppercase().replace('-', "_");
        let address = self.address;
        let mut all = Vec::new();
        let url = |(port, protocol): &(u16, Protocol)| format!("{protocol}://{address}:{port}");
        if let Some(first) = self.ports.first() {
            all.push(format!("{prefix}_PORT={}", url(first)));
        }
        for (start, end, protocol) in runs(&self.ports) {
            if start == end {
                continue;
            }
            let upper = protocol.as_str().to_uppercase();
            let key = format!("{prefix}_PORT_{start}_{upper}");
            all.extend([
                format!("{key}_START={}", url(&(start, protocol))),
                format!("{key}_PORT_START={start}"),
                format!("{key}_END={}", url(&(end, protocol))),
                format!("{key}_PORT_END={end}"),
            ]);
        }
        for port in &self.ports {
            let (number, protocol) = port;
            let upper = protocol.as_str().to_uppercase();
            let key = format!("{prefix}_PORT_{number}_{upper}");
            all.extend([
                format!("{key}={}", url(port)),
                format!("{key}_ADDR={address}"),
                format!("{key}_PORT={number}"),
                format!("{key}_PROTO={protocol}"),
            ]);
        }
        all.push(format!("{prefix}_NAME=/{own}/{}", self.alias));
        for variable in &self.env {
            if let Some((name, value)) = variable.split_once('=')
                && !matches!(name, "HOME" | "PATH")
            {
                all.push(format!("{prefix}_ENV_{name}={value}"));
            }
        }
        all
    }
}

/// Runs of neighbouring ports of one protocol.
fn runs(ports: &[(u16, Protocol)]) -> Vec<(u16, u16, Protocol)> {
    let mut runs: Vec<(u16, u16, Protocol)> = Vec::new();
    let mut sorted = ports.to_vec();
    sorted.sort_by_key(|(port, protocol)| (*protocol, *port));
    for (port, protocol) in sorted {
        match runs.last_mut() {
            Some((_, end, of)) if *of == protocol && end.checked_add(1) == Some(port) => {
                *end = port;
            }
            _ => runs.push((port, port, protocol)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_link_names_a_container_and_an_alias() {
        assert_eq!(parse("db:data").unwrap(), ("db", "data"));
        assert_eq!(parse("db").unwrap(), ("db", "db"));
        assert_eq!(parse("/db:/web/data").unwrap(), ("db", "data"));
        for text in ["", ":x", "a:", "a:b:c"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_linked_container_is_told_of_in_variables_and_hosts() {
        let link = Link {
            alias: "my-db".into(),
            name: "db".into(),
            hostname: "0123456789ab".into(),
            address: "172.17.0.5".parse().unwrap(),
            ports: vec![(6379, Protocol::Tcp), (6380, Protocol::Tcp)],
            env: vec!["PASSWORD=x".into(), "PATH=/bin".into(), "BARE".into()],
        };
        assert_eq!(link.host_line().1, "my-db 0123456789ab db");
        let env = link.environment("web");
        for wanted in [
            "MY_DB_PORT=tcp://172.17.0.5:6379",
            "MY_DB_PORT_6379_TCP_START=tcp://172.17.0.5:6379",
            "MY_DB_PORT_6379_TCP_PORT_END=6380",
            "MY_DB_PORT_6379_TCP=tcp://172.17.0.5:6379",
            "MY_DB_PORT_6380_TCP_ADDR=172.17.0.5",
            "MY_DB_PORT_6380_TCP_PROTO=tcp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_PASSWORD=x",
        ] {
            assert!(env.iter().any(|line| line == wanted), "{wanted} in {env:?}");
        }
        assert!(!env.iter().any(|line| line.contains("_ENV_PATH")));
    }
}
