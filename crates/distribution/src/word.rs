//! Words: what a registry's error body or a failed connection is called, as Docker's clients and users know it. Pure.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use reqwest::{Method, Url};
use rustls::{CertificateError, InvalidMessage};
use serde::Deserialize;

/// The failure of a connection with TLS to a host that speaks without.
pub(crate) const PLAIN_ANSWER: &str = "http: server gave HTTP response to HTTPS client";

/// The errors of a body: `manifest unknown: manifest unknown`; `None` if it has none.
pub(crate) fn of_body(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Entry>,
        /// Some token servers.
        #[serde(default)]
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: Option<String>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let entry = |entry: &Entry| {
        let code = entry.code.to_lowercase().replace('_', " ");
        let message = printable(entry.message.as_deref().unwrap_or_default());
        match (code.is_empty(), message.is_empty()) {
            (true, _) => message,
            (false, true) => code,
            (false, false) => format!("{code}: {message}"),
        }
    };
    match &*body.errors {
        [] => body
            .details
            .map(|details| format!("unauthorized: {}", printable(&details))),
        [only] => Some(entry(only)).filter(|text| !text.is_empty()),
        several => {
            let lines: Vec<String> = several.iter().take(8).map(entry).collect();
            Some(format!("errors:\n{}\n", lines.join("\n")))
        }
    }
}

/// A registry's text on one line of bounded length: it ends up on a terminal.
fn printable(text: &str) -> String {
    let clean = |letter: char| {
        if letter.is_control() { ' ' } else { letter }
    };
    text.chars().take(1024).map(clean).collect()
}

/// `Get "https://host/v2/"`.
pub(crate) fn of_request(method: &Method, url: &Url) -> String {
    let name = method.as_str();
    let name = format!("{}{}", &name[..1], name[1..].to_ascii_lowercase());
    let mut url = url.clone();
    // A mirror's URL never has a password; a redirect's could.
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return name;
    }
    format!("{name} \"{url}\"")
}

/// Why a connection failed.
pub(crate) fn of_failure(error: &reqwest::Error, url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let place = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    if error.is_timeout() && error.is_connect() {
        return format!("dial tcp {place}: i/o timeout");
    }
    let mut cause = error.source();
    let mut last = error.to_string();
    let mut resolving = false;
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return of_tls(tls, host);
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if let Some(tls) = tls_within(io) {
                return of_tls(tls, host);
            }
            if let Some(text) = of_io(io, &place) {
                return text;
            }
        }
        let text = error.to_string();
        resolving |= text == "dns error";
        last = text
            .strip_prefix("tunnel error: ")
            .unwrap_or(&text)
            .to_owned();
        cause = error.source();
    }
    if resolving {
        return format!("dial tcp: lookup {host}: {}", of_lookup(&last));
    }
    match last.as_str() {
        "connection closed before message completed"
        | "end of file before message length reached" => "unexpected EOF".to_owned(),
        // Of a proxy that is asked for a tunnel.
        "proxy authorization required" => "Proxy Authentication Required".to_owned(),
        "unsuccessful" => "the proxy refuses a tunnel".to_owned(),
        _ => last,
    }
}

/// TLS errors travel inside of I/O errors that do not name them as their source.
fn tls_within(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<io::Error>() {
        Some(deeper) => tls_within(deeper),
        None => inner.downcast_ref(),
    }
}

fn of_lookup(text: &str) -> &str {
    if text.contains("no record") || text.contains("NXDomain") {
        "no such host"
    } else {
        text
    }
}

fn of_io(error: &io::Error, place: &str) -> Option<String> {
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => format!("dial tcp {place}: connect: connection refused"),
        ErrorKind::HostUnreachable => format!("dial tcp {place}: connect: no route to host"),
        ErrorKind::NetworkUnreachable => {
            format!("dial tcp {place}: connect: network is unreachable")
        }
        ErrorKind::TimedOut => format!("dial tcp {place}: i/o timeout"),
        ErrorKind::ConnectionReset => format!("read tcp {place}: connection reset by peer"),
        ErrorKind::BrokenPipe => format!("write tcp {place}: broken pipe"),
        ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        _ => return None,
    })
}

fn of_tls(error: &rustls::Error, host: &str) -> String {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            PLAIN_ANSWER.to_owned()
        }
        rustls::Error::InvalidCertificate(problem) => {
            let what = match problem {
                CertificateError::UnknownIssuer => {
                    "x509: certificate signed by unknown authority".to_owned()
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    "x509: certificate has expired or is not yet valid".to_owned()
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    format!("x509: certificate is not valid for {host}")
                }
                other => format!("x509: {other}"),
            };
            format!("tls: failed to verify certificate: {what}")
        }
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
        other => format!("tls: {other}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_registrys_error_is_worded_as_docker_does() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
        assert_eq!(of_body(body).unwrap(), "manifest unknown: manifest unknown");
        let body = br#"{"errors":[{"code":"DENIED","message":null},{"code":"","message":"b"}]}"#;
        assert_eq!(of_body(body).unwrap(), "errors:\ndenied\nb\n");
        assert_eq!(
            of_body(br#"{"details":"incorrect username or password"}"#).unwrap(),
            "unauthorized: incorrect username or password"
        );
        for other in [&b"<html>"[..], b"{}", b"", b"[]", br#"{"errors":[]}"#] {
            assert_eq!(of_body(other), None);
        }
    }

    #[test]
    fn no_registry_writes_escapes_to_a_terminal() {
        let body = br#"{"errors":[{"code":"X","message":"a\u001b[31mb\nc"}]}"#;
        assert_eq!(of_body(body).unwrap(), "x: a [31mb c");
    }

    #[test]
    fn requests_are_named_as_go_does() {
        let url = Url::parse("https://u:secret@h:1/v2/x").unwrap();
        assert_eq!(
            of_request(&Method::HEAD, &url),
            "Head \"https://u:***@h:1/v2/x\""
        );
    }
}
