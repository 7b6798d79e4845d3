//! What flags and file say about where clients come in and how they prove themselves.
//!
//! The rules are dockerd's. `--tlsverify`, whatever its value, means TLS, and TLS means that clients
//! need a certificate unless `--tlsverify=false` was given.
//!
//! Source: moby `daemon/command/options.go` and `daemon.go`, `go-connections/tlsconfig`.

use std::path::PathBuf;

use conex_api::version::{ApiVersion, MIN};
use conex_server::{Config, Listener, TlsFiles};

use super::Values;

/// Where a daemon without `--host` listens.
const DEFAULT_HOST: &str = "unix:///run/conex.sock";
/// The same, with TLS.
const DEFAULT_TLS_HOST: &str = "tcp://localhost:2376";

pub(super) fn resolve(values: &Values<'_>, warnings: &mut Vec<String>) -> Result<Config, String> {
    let group = Some(values.text("group")).filter(|g| !g.is_empty());
    let tls = tls(values);
    let mut hosts = values.all("host");
    if hosts.is_empty() {
        let default = match tls {
            Some(_) => DEFAULT_TLS_HOST,
            None => DEFAULT_HOST,
        };
        hosts.push(default.into());
    }
    let mut listeners = Vec::new();
    for host in &hosts {
        let mut listener: Listener = host
            .parse()
            .map_err(|e: conex_server::ParseListenerError| e.to_string())?;
        if let Listener::Unix { group: of, .. } = &mut listener {
            of.clone_from(&group);
        }
        if let Listener::Tcp(address) = &listener {
            warnings.extend(warning(address, tls.as_ref()));
        }
        listeners.push(listener);
    }
    let min_api_version = match std::env::var("DOCKER_MIN_API_VERSION") {
        Ok(text) if !text.is_empty() => text
            .parse::<ApiVersion>()
            .map_err(|_| format!("invalid DOCKER_MIN_API_VERSION: {text}"))?,
        _ => MIN,
    };
    Ok(Config {
        listeners,
        tls,
        min_api_version,
    })
}

/// What is said of a TCP address that lets in everybody.
fn warning(address: &str, tls: Option<&TlsFiles>) -> Option<String> {
    let (scheme, lack) = match tls {
        None => ("http", "encryption"),
        Some(files) if files.client_ca.is_none() => ("https", "TLS client verification"),
        Some(_) => return None,
    };
    Some(format!(
        "[DEPRECATION NOTICE]: API is accessible on {scheme}://{address} without {lack}. Access to \
         the remote API is equivalent to root access on the host."
    ))
}

/// The certificates, if there is to be TLS.
fn tls(values: &Values<'_>) -> Option<TlsFiles> {
    let says_whom = values.given("tlsverify");
    if !says_whom && !values.yes("tls") {
        return None;
    }
    let verify = !says_whom || values.yes("tlsverify");
    let file = |flag: &str, name: &str| match values.text(flag) {
        path if path.is_empty() => directory().join(name),
        path => PathBuf::from(path),
    };
    Some(TlsFiles {
        cert: file("tlscert", "cert.pem"),
        key: file("tlskey", "key.pem"),
        client_ca: verify.then(|| file("tlscacert", "ca.pem")),
    })
}

/// Where certificates are that nobody named.
fn directory() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("DOCKER_CERT_PATH")
        .or_else(|| variable("DOCKER_CONFIG"))
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = variable("HOME").unwrap_or_else(|| "/root".into());
            PathBuf::from(home).join(".docker")
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::resolved;
    use super::*;

    fn server(words: &[&str]) -> Config {
        resolved(words).unwrap().server
    }

    #[test]
    fn clients_need_a_certificate_unless_that_is_ruled_out() {
        let ca = |words: &[&str]| server(words).tls.map(|files| files.client_ca);
        let named = Some(Some(PathBuf::from("/ca")));
        assert_eq!(ca(&[]), None);
        assert_eq!(ca(&["--tlscacert", "/ca"]), None);
        assert_eq!(ca(&["--tls=false", "--tlscacert", "/ca"]), None);
        assert_eq!(ca(&["--tlsverify", "--tlscacert", "/ca"]), named);
        assert_eq!(ca(&["--tls", "--tlscacert", "/ca"]), named);
        assert_eq!(ca(&["--tlsverify=false", "--tlscacert", "/ca"]), Some(None));
        assert_eq!(
            ca(&["--tls", "--tlsverify=false", "--tlscacert", "/ca"]),
            Some(None)
        );
    }

    #[test]
    fn files_nobody_named_lie_together() {
        let files = server(&["--tls"]).tls.unwrap();
        assert!(files.cert.ends_with("cert.pem") && files.key.ends_with("key.pem"));
        assert_eq!(files.client_ca.unwrap().parent(), files.cert.parent());
        let files = server(&["--tlsverify", "--tlscert", "/c", "--tlskey", "/k"]);
        let files = files.tls.unwrap();
        assert_eq!((files.cert, files.key), ("/c".into(), "/k".into()));
    }

    #[test]
    fn an_address_that_lets_in_everybody_is_warned_of() {
        let warnings = |words: &[&str]| resolved(words).unwrap().warnings;
        let tcp = ["-H", "tcp://127.0.0.1:1"];
        let plain = warnings(&tcp);
        assert!(
            plain[0].contains("http://127.0.0.1:1 without encryption"),
            "{plain:?}"
        );
        let open = warnings(&[&tcp[..], &["--tlsverify=false"]].concat());
        assert!(
            open[0].contains("https://127.0.0.1:1 without TLS client verification"),
            "{open:?}"
        );
        assert!(warnings(&[&tcp[..], &["--tlsverify"]].concat()).is_empty());
        assert!(warnings(&["-H", "unix:///x"]).is_empty());
    }

    #[test]
    fn tls_without_a_host_is_dockers_port_for_it() {
        let of = |words: &[&str]| server(words).listeners[0].to_string();
        assert_eq!(of(&["--tlsverify"]), "tcp://localhost:2376");
        assert_eq!(of(&[]), "unix:///run/conex.sock");
    }
}
