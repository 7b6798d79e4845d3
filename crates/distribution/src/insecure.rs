//! Registries that need no valid certificate: `host`, `host:port` or a network. Pure.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// One of `--insecure-registry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insecure {
    /// A registry as references name it.
    Host(String),
    /// Every registry that references name by an address of this network.
    Network(IpNet),
}

/// Not an insecure registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("insecure registry {text} is not valid: {reason}")]
pub struct InvalidInsecure {
    text: String,
    reason: &'static str,
}

impl FromStr for Insecure {
    type Err = InvalidInsecure;

    fn from_str(text: &str) -> Result<Self, InvalidInsecure> {
        let invalid = |reason| InvalidInsecure {
            text: text.to_owned(),
            reason,
        };
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network));
        }
        // Docker takes a scheme for a mistake it can mend.
        let host = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .unwrap_or(text);
        if host.is_empty() || host.contains(['/', ' ']) || host.starts_with('-') {
            return Err(invalid("invalid host"));
        }
        if let Some((_, port)) = host.rsplit_once(':')
            && !host.ends_with(']')
            && port.parse::<u16>().is_err()
        {
            return Err(invalid("invalid port"));
        }
        Ok(Self::Host(host.to_ascii_lowercase()))
    }
}

impl Insecure {
    fn covers(&self, registry: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::Host(host) => host == registry || host == host_of(registry),
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
        }
    }
}

/// Whether a registry (`host` or `host:port`) may do without a certificate.
pub(crate) fn is_insecure(list: &[Insecure], registry: &str) -> bool {
    let registry = registry.to_ascii_lowercase();
    let host = host_of(&registry);
    let address = match host {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        host => host.parse().ok(),
    };
    address.is_some_and(|address| address.is_loopback())
        || list.iter().any(|entry| entry.covers(&registry, address))
}

/// A registry without its port and brackets.
fn host_of(registry: &str) -> &str {
    if let Some(rest) = registry.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    registry.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loopback_is_insecure_without_being_listed() {
        for registry in [
            "127.0.0.1:5000",
            "127.8.9.1",
            "localhost:5000",
            "[::1]:5000",
        ] {
            assert!(is_insecure(&[], registry), "{registry}");
        }
        for registry in ["docker.io", "10.0.0.1:5000", "localhost.example:5000"] {
            assert!(!is_insecure(&[], registry), "{registry}");
        }
    }

    #[test]
    fn hosts_and_networks_cover_what_they_name() {
        let list: Vec<Insecure> = ["10.0.0.0/8", "r.lan:5000", "http://plain.lan", "fd00::/8"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        for registry in [
            "10.1.2.3:5000",
            "R.lan:5000",
            "plain.lan:8080",
            "[fd00::1]:5000",
        ] {
            assert!(is_insecure(&list, registry), "{registry}");
        }
        for registry in ["11.1.2.3", "r.lan:5001", "other.lan"] {
            assert!(!is_insecure(&list, registry), "{registry}");
        }
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for text in ["", "a b", "-x", "host:port", "http://a/b"] {
            assert!(text.parse::<Insecure>().is_err(), "{text}");
        }
    }
}
