//! Published ports: what is asked, what is given, and Docker's words for what
//! fails.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Docker's name: `tcp`, `udp`, `sctp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The number in an IP header.
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or_else(|| format!("invalid proto: {text}"))
    }
}

/// Which port of the host is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPort {
    /// Any free one of `ip_local_port_range`, not a reserved one.
    Any,
    /// This one.
    One(u16),
    /// The first free one of these, both ends included (`8000-8010:80`).
    FirstOf(u16, u16),
}

/// One port to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// Port in the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Address of the host; none means every address, IPv4 and IPv6, and
    /// then the same port on both.
    pub host_ip: Option<IpAddr>,
    /// Port of the host.
    pub host_port: HostPort,
}

/// One port that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortBinding {
    /// Port in the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Address of the host; `0.0.0.0` or `::` for all of a family.
    pub host_ip: IpAddr,
    /// Port of the host.
    pub host_port: u16,
}

/// Why a port could not be published. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum PortError {
    /// Another container of this engine has it.
    #[error("Bind for {ip}:{port} failed: port is already allocated")]
    Allocated {
        /// Host address asked for.
        ip: IpAddr,
        /// Host port asked for.
        port: u16,
    },
    /// The kernel refused it: another program has it, or the address is not
    /// the host's.
    #[error("failed to bind host port {address}/{protocol}: {}", errno_text(*errno))]
    Bind {
        /// Host address and port asked for.
        address: SocketAddr,
        /// Its protocol.
        protocol: Protocol,
        /// The kernel's answer, positive.
        errno: i32,
    },
    /// No port of `ip_local_port_range` is free.
    #[error("all ports are allocated")]
    Exhausted,
}

/// As Go words it, since clients match these texts.
fn errno_text(errno: i32) -> String {
    match Errno::from_raw_os_error(errno) {
        Errno::ADDRINUSE => "address already in use".into(),
        Errno::ADDRNOTAVAIL => "cannot assign requested address".into(),
        Errno::ACCESS => "permission denied".into(),
        Errno::MFILE => "too many open files".into(),
        _ => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refusals_are_worded_as_docker_does() {
        let ip = "0.0.0.0".parse().unwrap();
        assert_eq!(
            PortError::Allocated { ip, port: 80 }.to_string(),
            "Bind for 0.0.0.0:80 failed: port is already allocated"
        );
        let error = PortError::Bind {
            address: "0.0.0.0:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            errno: libc::EADDRINUSE,
        };
        assert_eq!(
            error.to_string(),
            "failed to bind host port 0.0.0.0:80/tcp: address already in use"
        );
        let json = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<PortError>(&json).unwrap(), error);
    }
}
