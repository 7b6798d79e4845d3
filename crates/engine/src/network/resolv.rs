//! `resolv.conf` of containers: the host's servers, or those asked for (COMPAT
//! D9.2). Pure: files are read and written
//! elsewhere.
//!
//! Source: moby `daemon/libnetwork/internal/resolvconf`; resolv.conf(5).

use std::net::IpAddr;

use conex_network::keeper::{AskedFrom, Upstream};

/// Where a container with a resolver of its own finds it.
const RESOLVER: &str = "127.0.0.11";

/// What a `resolv.conf` says, as far as it is carried over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolv {
    /// Servers in order.
    pub(crate) servers: Vec<String>,
    /// Search domains.
    pub(crate) search: Vec<String>,
    /// Options.
    pub(crate) options: Vec<String>,
    /// Lines with other words, as they are.
    pub(crate) others: Vec<String>,
    /// What is told at the end of it.
    remark: Option<String>,
}

/// Where a systemd-resolved host keeps the servers behind its stub.
pub(crate) const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// Which servers a container can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The host's own: it shares the host's network.
    Host,
    /// Those of another network namespace, IPv6 among them or not.
    Namespace { ipv6: bool },
}

/// Servers when the host has none that a container can reach.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
const FALLBACK_V6: [&str; 2] = ["2001:4860:4860::8888", "2001:4860:4860::8844"];

impl Resolv {
    /// Reads a file; lines nobody understands are dropped, the last `search`
    /// or `domain` counts.
    pub(crate) fn parse(text: &str) -> Resolv {
        let mut all = Resolv::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => all.servers.extend(words.next()),
                Some("search" | "domain") => all.search = words.collect(),
                Some("options") => all.options.extend(words),
                Some("sortlist") => all.others.push(line.trim().to_owned()),
                _ => {}
            }
        }
        all
    }

    /// Whether every server is systemd-resolved's stub, which answers on the
    /// host's loopback alone.
    pub(crate) fn is_stub(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| server == "127.0.0.53")
    }

    /// Puts what was asked for in the place of what the host has. A single
    /// search domain `.` asks for none.
    pub(crate) fn override_with(
        &mut self,
        servers: &[String],
        search: &[String],
        options: &[String],
    ) {
        if !servers.is_empty() {
            self.servers = servers.to_vec();
        }
        if !search.is_empty() {
            self.search = search.iter().filter(|d| *d != ".").cloned().collect();
        }
        if !options.is_empty() {
            self.options = options.to_vec();
        }
    }

    /// Leaves out servers that cannot be reached from a namespace of its own,
    /// and falls back to public ones when none is left. Servers that were
    /// asked for stay, whatever they are.
    pub(crate) fn for_namespace(&mut self, reach: Reach, asked: bool) {
        let Reach::Namespace { ipv6 } = reach else {
            return;
        };
        if asked {
            return;
        }
        self.servers.retain(|server| {
            let bare = server.split('%').next().unwrap_or_default();
            match bare.parse::<IpAddr>() {
                Ok(IpAddr::V4(address)) => !address.is_loopback(),
                Ok(IpAddr::V6(address)) => ipv6 && !address.is_loopback() && !server.contains('%'),
                Err(_) => false,
            }
        });
        if self.servers.is_empty() {
            self.servers.extend(FALLBACK.map(str::to_owned));
            if ipv6 {
                self.servers.extend(FALLBACK_V6.map(str::to_owned));
            }
        }
    }

    /// Puts the container's own resolver in the place of the servers, which it
    /// will ask: the host's from the host, those that were asked for from the
    /// container. Names are tried as they are first, unless `ndots` says
    /// otherwise.
    pub(crate) fn for_resolver(&mut self, asked: bool) -> Vec<Upstream> {
        let from = match asked {
            true => AskedFrom::Container,
            false => AskedFrom::Host,
        };
        let servers = std::mem::replace(&mut self.servers, vec![RESOLVER.to_owned()]);
        let upstreams: Vec<Upstream> = servers
            .iter()
            .filter_map(|server| server.parse().ok())
            // It would ask itself.
            .filter(|address: &IpAddr| from == AskedFrom::Host || address.to_string() != RESOLVER)
            .map(|address| Upstream { address, from })
            .collect();
        let is_number = |value: &str| value.parse::<u32>().is_ok();
        self.options
            .retain(|option| option.strip_prefix("ndots:").is_none_or(is_number));
        if !self.has_ndots() {
            self.options.push("ndots:0".into());
        }
        let shown: Vec<String> = upstreams
            .iter()
            .map(|upstream| match upstream.from {
                AskedFrom::Host => format!("host({})", upstream.address),
                AskedFrom::Container => upstream.address.to_string(),
            })
            .collect();
        self.remark = Some(match shown.as_slice() {
            [] => "# NO EXTERNAL NAMESERVERS DEFINED\n".to_owned(),
            shown => format!("# ExtServers: [{}]\n", shown.join(" ")),
        });
        upstreams
    }

    /// Whether the host or the user decided about names without dots.
    pub(crate) fn has_ndots(&self) -> bool {
        self.options.iter().any(|o| o.starts_with("ndots:"))
    }

    /// The file, as the container will find it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(HEAD);
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        self.write_rest(&mut text, &self.options);
        text
    }

    fn write_rest(&self, text: &mut String, options: &[String]) {
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        if !options.is_empty() {
            text.push_str(&format!("options {}\n", options.join(" ")));
        }
        for line in &self.others {
            text.push_str(&format!("{line}\n"));
        }
        if let Some(remark) = &self.remark {
            text.push_str(&format!("\n{remark}"));
        }
    }
}

const HEAD: &str = "# Generated by Conex.\n# This file can be edited; Conex changes it no \
                    further once it was.\n\n";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NAMESPACE: Reach = Reach::Namespace { ipv6: false };

    fn servers(text: &str, reach: Reach) -> Vec<String> {
        let mut resolv = Resolv::parse(text);
        resolv.for_namespace(reach, false);
        resolv.servers
    }

    #[test]
    fn servers_on_the_hosts_loopback_are_left_out() {
        let text = "nameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver ::1\n";
        assert_eq!(servers(text, NAMESPACE), ["10.0.0.2"]);
        assert_eq!(servers(text, Reach::Host).len(), 3);
        let v6 = "nameserver fd00::1\nnameserver fe80::1%eth0\nnameserver 10.0.0.2";
        assert_eq!(servers(v6, NAMESPACE), ["10.0.0.2"]);
        let with = Reach::Namespace { ipv6: true };
        assert_eq!(servers(v6, with), ["fd00::1", "10.0.0.2"]);
    }

    #[test]
    fn a_host_without_a_server_falls_back_to_public_ones() {
        assert_eq!(servers("", NAMESPACE), FALLBACK);
        assert_eq!(servers("nameserver 127.0.0.53\n", NAMESPACE), FALLBACK);
        assert!(Resolv::parse("nameserver 127.0.0.53").is_stub());
        assert!(!Resolv::parse("").is_stub());
        assert_eq!(servers("", Reach::Namespace { ipv6: true }).len(), 4);
    }

    #[test]
    fn a_resolver_stands_in_front_of_the_servers() {
        let host = "nameserver 127.0.0.53\nnameserver fd00::1\nsearch a b\noptions edns0\n";
        let mut resolv = Resolv::parse(host);
        assert!(!resolv.has_ndots());
        let upstreams = resolv.for_resolver(false);
        let from: Vec<_> = upstreams.iter().map(|u| (u.address, u.from)).collect();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            from,
            [
                (address("127.0.0.53"), AskedFrom::Host),
                (address("fd00::1"), AskedFrom::Host)
            ]
        );
        assert_eq!(
            resolv.text().replace(HEAD, ""),
            "nameserver 127.0.0.11\nsearch a b\noptions edns0 ndots:0\n\n\
             # ExtServers: [host(127.0.0.53) host(fd00::1)]\n"
        );
        let mut asked = Resolv::parse("options ndots:x");
        asked.override_with(&["127.0.0.11".into(), "10.0.0.1".into()], &[], &[]);
        let upstreams = asked.for_resolver(true);
        assert_eq!(upstreams.len(), 1, "not itself: {upstreams:?}");
        assert_eq!(upstreams[0].from, AskedFrom::Container);
        assert_eq!(asked.options, ["ndots:0"]);
        let mut own = Resolv::parse("options ndots:2");
        assert_eq!(own.for_resolver(false), []);
        assert_eq!(own.options, ["ndots:2"]);
        assert!(
            own.text()
                .ends_with("\n# NO EXTERNAL NAMESERVERS DEFINED\n")
        );
    }

    #[test]
    fn what_was_asked_for_replaces_the_hosts() {
        let words = |list: &[&str]| -> Vec<String> { list.iter().map(|w| (*w).into()).collect() };
        let mut resolv = Resolv::parse(
            "# c\nnameserver 10.0.0.2\nsearch a b\ndomain c\noptions x\nsortlist 10.0.0.0\n",
        );
        assert_eq!(resolv.search, ["c"]);
        resolv.override_with(&words(&["127.0.0.1"]), &words(&["."]), &words(&["ndots:3"]));
        resolv.for_namespace(NAMESPACE, true);
        let body = resolv.text().replace(HEAD, "");
        assert_eq!(
            body,
            "nameserver 127.0.0.1\noptions ndots:3\nsortlist 10.0.0.0\n"
        );
    }
}
