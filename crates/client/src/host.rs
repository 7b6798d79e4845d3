//! Where an engine listens: the `-H` syntax, parsed. Knows nothing about which one is chosen.

use std::fmt;
use std::path::PathBuf;

use crate::ssh::SshHost;
use crate::tls::Tls;

/// The port of an engine that listens without TLS; Docker's for `tcp://host` with TLS, too.
const DEFAULT_TCP_PORT: u16 = 2375;

/// An address of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A unix socket, by its path.
    Unix(PathBuf),
    /// A TCP endpoint in clear text, as `host:port`; an IPv6 host is in square brackets.
    Tcp(String),
    /// A TCP endpoint under TLS.
    Tls(String, Tls),
    /// An engine at the other end of ssh.
    Ssh(SshHost),
}

/// Why an address is not one this client can use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The text has no form an engine's address has.
    #[error("invalid bind address format: {0}")]
    Invalid(String),
    /// A transport Docker has and this client has not (yet).
    #[error("{0}:// hosts are not supported yet")]
    Unsupported(&'static str),
}

impl Host {
    /// Parses `unix:///path`, `/path`, `tcp://host[:port]`, `host[:port]` or
    /// `ssh://[user@]host[:port][/path]`.
    ///
    /// A TCP port defaults to 2375 and a TCP host to 127.0.0.1.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] for `npipe://`, `fd://` and `https://`,
    /// [`HostError::Invalid`] for everything else that is not an address.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let text = text.trim();
        let invalid = || HostError::Invalid(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            // A bare path means a socket, so that DOCKER_HOST=/run/x.sock is not a host name.
            None if text.starts_with('/') || text.starts_with("./") => ("unix", text),
            None => ("tcp", text),
        };
        match scheme {
            "unix" if rest.is_empty() || rest.contains("://") => Err(invalid()),
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" | "http" => parse_tcp(rest).map(Self::Tcp).ok_or_else(invalid),
            "ssh" => SshHost::parse(rest).map(Self::Ssh).ok_or_else(invalid),
            "npipe" => Err(HostError::Unsupported("npipe")),
            "fd" => Err(HostError::Unsupported("fd")),
            "https" => Err(HostError::Unsupported("https")),
            _ => Err(invalid()),
        }
    }

    /// The same place under TLS, if it is one that can be: sockets and ssh need none.
    #[must_use]
    pub fn with_tls(self, tls: &Tls) -> Self {
        match self {
            Self::Tcp(authority) => Self::Tls(authority, tls.clone()),
            other => other,
        }
    }

    /// The value of the `Host` header for this address.
    pub(crate) fn header(&self) -> &str {
        match self {
            // Nothing routes on it, but HTTP/1.1 wants one; this is what the Go client sends.
            Self::Unix(_) | Self::Ssh(_) => "api.moby.localhost",
            Self::Tcp(authority) | Self::Tls(authority, _) => authority,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) | Self::Tls(authority, _) => write!(f, "tcp://{authority}"),
            Self::Ssh(host) => host.fmt(f),
        }
    }
}

/// `host[:port]` with defaults filled in; `None` when it is not an authority.
fn parse_tcp(rest: &str) -> Option<String> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.bytes().any(|b| {
        b.is_ascii_whitespace() || b.is_ascii_control() || matches!(b, b'/' | b'?' | b'#' | b'@')
    }) {
        return None;
    }
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (inner, after) = bracketed.split_once(']')?;
        inner.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if after.is_empty() {
            ""
        } else {
            after.strip_prefix(':')?
        };
        (format!("[{inner}]"), port)
    } else {
        let (host, port) = rest.split_once(':').unwrap_or((rest, ""));
        if port.contains(':') {
            return None;
        }
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        (host.to_owned(), port)
    };
    let port = if port.is_empty() {
        DEFAULT_TCP_PORT
    } else {
        port.parse().ok()?
    };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_accepted_spelling_has_one_meaning() {
        let unix = |p: &str| Ok(Host::Unix(PathBuf::from(p)));
        let tcp = |a: &str| Ok(Host::Tcp(a.to_owned()));
        for (text, want) in [
            ("unix:///run/conex.sock", unix("/run/conex.sock")),
            (" unix:///a b ", unix("/a b")),
            ("/run/x.sock", unix("/run/x.sock")),
            ("./x.sock", unix("./x.sock")),
            ("tcp://10.0.0.1:99", tcp("10.0.0.1:99")),
            ("tcp://10.0.0.1", tcp("10.0.0.1:2375")),
            ("tcp://", tcp("127.0.0.1:2375")),
            ("tcp://:4000", tcp("127.0.0.1:4000")),
            ("http://box:1/", tcp("box:1")),
            ("box", tcp("box:2375")),
            ("tcp://[::1]:5", tcp("[::1]:5")),
            ("tcp://[::1]", tcp("[::1]:2375")),
        ] {
            assert_eq!(Host::parse(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_text_given() {
        for text in [
            "unix://",
            "foo://x",
            "tcp://a:b",
            "tcp://a:1:2",
            "tcp://[::1",
            "tcp://a:70000",
            "tcp://u@h",
        ] {
            assert_eq!(
                Host::parse(text),
                Err(HostError::Invalid(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_transport_docker_has_and_we_lack_is_named() {
        let error = Host::parse("npipe://x").unwrap_err();
        assert_eq!(error.to_string(), "npipe:// hosts are not supported yet");
    }

    #[test]
    fn an_address_prints_as_it_is_written() {
        for text in ["unix:///run/conex.sock", "tcp://[::1]:5", "ssh://me@box:22"] {
            assert_eq!(
                Host::parse(text).map(|h| h.to_string()),
                Ok(text.to_owned())
            );
        }
    }
}
