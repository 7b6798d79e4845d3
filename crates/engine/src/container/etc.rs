//! `hosts`, `hostname` and `resolv.conf` of a container. They are mounted by
//! inode, so they are rewritten in place and never replaced (COMPAT D9.2,
//! D9.4). `resolv.conf` is left alone once somebody else has written to it,
//! which `resolv.conf.hash` tells.

use std::net::IpAddr;

use conex_spec::digest::Digest;

use super::link::Link;
use super::{Container, Record};
use crate::Error;
use crate::engine::Inner;
use crate::network::hosts::{self, first_lines, own_names};
use crate::network::resolv::{BEHIND_STUB, Reach, Resolv};
use crate::network::{Outside, Sandbox, addresses};

impl Inner {
    /// Writes the files of a container that starts, and says whom its resolver
    /// is to ask if it gets one. Blocks.
    pub(super) fn write_files(
        &self,
        container: &Container,
        sandbox: &Sandbox,
        links: &[Link],
    ) -> Result<Outside, Error> {
        let config = &container.record.config;
        let full_name = match config.domainname.is_empty() {
            true => format!("{}\n", config.hostname),
            false => format!("{}.{}\n", config.hostname, config.domainname),
        };
        write(container, "hostname", &full_name)?;
        let text = self.hosts_of(container, sandbox, links)?;
        write(container, "hosts", &text)?;
        self.write_resolv(container, sandbox)
    }

    fn hosts_of(
        &self,
        container: &Container,
        sandbox: &Sandbox,
        links: &[Link],
    ) -> Result<String, Error> {
        let record = &container.record;
        let mut others = Vec::new();
        for entry in record.host_config.extra_hosts.iter().flatten() {
            let Some((name, word)) = entry.split_once(':') else {
                continue;
            };
            for address in self.host_address(word)? {
                others.push((address, name.to_owned()));
            }
        }
        others.extend(links.iter().map(Link::host_line));
        if record.host_config.network_mode == "host" {
            let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            return Ok(first_lines(Some(&own), &others));
        }
        let text = first_lines(None, &others);
        let own = own_addresses(sandbox);
        Ok(hosts::with_own(&text, &own, &names_of(container)))
    }

    /// What stands behind the address of an `--add-host`: `host-gateway` is the
    /// host as its containers see it.
    fn host_address(&self, word: &str) -> Result<Vec<IpAddr>, Error> {
        if word == "host-gateway" {
            let given = &self.config.network.host_gateway;
            if !given.is_empty() {
                return Ok(given.clone());
            }
            let bridge = self.networks.default_bridge();
            let all: Vec<IpAddr> = bridge.iter().flat_map(|b| b.gateways()).collect();
            if all.is_empty() {
                return Err(Error::invalid(
                    "unable to derive the IP value for host-gateway",
                ));
            }
            return Ok(all);
        }
        let bare = word
            .strip_prefix('[')
            .and_then(|w| w.strip_suffix(']'))
            .unwrap_or(word);
        let address = bare
            .parse()
            .map_err(|_| Error::invalid(format!("invalid IP address in add-host: {word:?}")))?;
        Ok(vec![address])
    }

    /// Writes `resolv.conf`, unless somebody else wrote to it. Blocks.
    pub(super) fn write_resolv(
        &self,
        container: &Container,
        sandbox: &Sandbox,
    ) -> Result<Outside, Error> {
        let path = container.dir.join("resolv.conf");
        let hash = container.dir.join("resolv.conf.hash");
        let (resolv, outside) = self.resolv_of(&container.record, sandbox);
        if let (Ok(now), Ok(ours)) = (std::fs::read(&path), std::fs::read_to_string(&hash))
            && Digest::of(&now).to_string() != ours.trim()
        {
            return Ok(outside);
        }
        let text = resolv.text();
        write(container, "resolv.conf", &text)?;
        write(
            container,
            "resolv.conf.hash",
            &Digest::of(text.as_bytes()).to_string(),
        )?;
        Ok(outside)
    }

    /// Whom the resolver of a container is to ask.
    pub(crate) fn outside_of(&self, record: &Record, sandbox: &Sandbox) -> Outside {
        self.resolv_of(record, sandbox).1
    }

    fn resolv_of(&self, record: &Record, sandbox: &Sandbox) -> (Resolv, Outside) {
        let host = &record.host_config;
        let engine = &self.config.network;
        let reach = match host.network_mode.as_str() {
            "host" => Reach::Host,
            _ => Reach::Namespace {
                ipv6: sandbox.endpoints().iter().any(|e| e.ipv6.is_some()),
            },
        };
        let read = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            Resolv::parse(&text)
        };
        let mut resolv = read("/etc/resolv.conf");
        // A resolver asks from the host, where the stub is.
        if reach != Reach::Host && !sandbox.has_names() && resolv.is_stub() {
            resolv = read(BEHIND_STUB);
        }
        let or = |own: &Option<Vec<String>>, fallback: &[String]| match own {
            Some(own) if !own.is_empty() => own.clone(),
            _ => fallback.to_vec(),
        };
        let servers = or(&host.dns, &engine.dns);
        resolv.override_with(
            &servers,
            &or(&host.dns_search, &engine.dns_search),
            &or(&host.dns_options, &engine.dns_options),
        );
        let mut outside = Outside::default();
        if sandbox.has_names() {
            outside.keeps_short_names = resolv.has_ndots();
            outside.upstreams = resolv.for_resolver(!servers.is_empty());
        } else {
            resolv.for_namespace(reach, !servers.is_empty());
        }
        (resolv, outside)
    }

    /// Puts the addresses of a network into `hosts`, or takes them out. What a
    /// container wrote there itself stays.
    pub(super) fn change_hosts(
        &self,
        container: &Container,
        added: &[IpAddr],
        removed: &[IpAddr],
    ) -> Result<(), Error> {
        let path = container.dir.join("hosts");
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Error::system("read the container's hosts", &e))?;
        let names = names_of(container);
        let text = hosts::without_own(&text, removed, &names);
        write(container, "hosts", &hosts::with_own(&text, added, &names))
    }
}

/// The addresses a container has itself, interface by interface.
fn own_addresses(sandbox: &Sandbox) -> Vec<IpAddr> {
    sandbox
        .endpoints()
        .into_iter()
        .flat_map(addresses)
        .collect()
}

fn names_of(container: &Container) -> String {
    let config = &container.record.config;
    own_names(&config.hostname, &config.domainname)
}

fn write(container: &Container, file: &str, text: &str) -> Result<(), Error> {
    std::fs::write(container.dir.join(file), text)
        .map_err(|e| Error::system(&format!("write the container's {file}"), &e))
}
