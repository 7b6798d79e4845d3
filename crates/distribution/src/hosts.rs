//! `hosts.toml`: containerd's description of where a registry's images are. Reading a text is pure.
//!
//! ```toml
//! server = "https://registry.example"
//! [host."https://mirror.lan"]
//!   capabilities = ["pull", "resolve"]
//!   ca = "mirror.crt"
//!   client = [["client.cert", "client.key"]]
//!   skip_verify = false
//!   override_path = false
//!   [host."https://mirror.lan".header]
//!     x-custom = "value"
//! ```
//!
//! Hosts are asked in the order of the file, `server` last. Source: containerd, docs/hosts.md.

use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::certificates::Trust;
use crate::error::Error;
use crate::rule::mirror_url;

/// What a host is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Manifests by digest and blobs.
    pub(crate) pull: bool,
    /// Tags.
    pub(crate) resolve: bool,
    /// Whatever is sent.
    pub(crate) push: bool,
}

impl Capabilities {
    pub(crate) const ALL: Self = Self {
        pull: true,
        resolve: true,
        push: true,
    };
    pub(crate) const READ: Self = Self {
        pull: true,
        resolve: true,
        push: false,
    };
}

/// One host of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) url: Url,
    pub(crate) capabilities: Capabilities,
    pub(crate) trust: Trust,
    pub(crate) headers: Vec<(String, String)>,
    /// The URL's path is the whole path of the API; nothing is put before or after it.
    pub(crate) override_path: bool,
}

/// The file: its hosts, and the server at last if it names one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostsFile {
    pub(crate) hosts: Vec<Host>,
    pub(crate) server: Option<Host>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Table {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: bool,
    override_path: bool,
    header: toml::Table,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// `"file"`, `["file", …]` or `[["certificate", "key"], …]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Many(Vec<OneOrMany>),
}

/// Reads the file of a folder, if it has one. Blocks.
pub(crate) fn read(folder: &Path) -> Result<Option<HostsFile>, Error> {
    const MAX_BYTES: u64 = 1 << 20;
    let path = folder.join("hosts.toml");
    let failed = |problem: String| Error::Configuration {
        path: path.clone(),
        problem,
    };
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_BYTES => return Err(failed("it is too long".into())),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    }
    let text = std::fs::read_to_string(&path).map_err(|e| failed(e.to_string()))?;
    parse(&text, folder).map(Some).map_err(failed)
}

/// Reads a text; relative files are those of `folder`.
fn parse(text: &str, folder: &Path) -> Result<HostsFile, String> {
    let mut top: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let hosts = match top.remove("host") {
        None => toml::Table::new(),
        Some(toml::Value::Table(table)) => table,
        Some(_) => return Err("\"host\" is not a table".to_owned()),
    };
    let server = match top.remove("server") {
        None => None,
        Some(toml::Value::String(url)) => Some(host(&url, toml::Value::Table(top), folder)?),
        Some(_) => return Err("\"server\" is not a string".to_owned()),
    };
    let hosts = hosts
        .into_iter()
        .map(|(url, value)| host(&url, value, folder))
        .collect::<Result<_, _>>()?;
    Ok(HostsFile { hosts, server })
}

fn host(url: &str, value: toml::Value, folder: &Path) -> Result<Host, String> {
    let table: Table = value.try_into().map_err(|e| format!("{url}: {e}"))?;
    let file = |name: String| -> PathBuf { folder.join(name) };
    let capabilities = match table.capabilities {
        None => Capabilities::ALL,
        Some(words) => {
            let has = |word: &str| words.iter().any(|w| w.eq_ignore_ascii_case(word));
            if let Some(unknown) = words.iter().find(|word| {
                !["pull", "resolve", "push"]
                    .iter()
                    .any(|known| word.eq_ignore_ascii_case(known))
            }) {
                return Err(format!("{url}: unknown capability {unknown}"));
            }
            Capabilities {
                pull: has("pull"),
                resolve: has("resolve"),
                push: has("push"),
            }
        }
    };
    let authorities = match table.ca {
        None => Vec::new(),
        Some(OneOrMany::One(name)) => vec![file(name)],
        Some(OneOrMany::Many(names)) => names.into_iter().map(file).collect(),
    };
    let pair = |entry: OneOrMany| match entry {
        OneOrMany::One(name) => Ok((file(name.clone()), file(name))),
        OneOrMany::Many(names) => match <[String; 2]>::try_from(names) {
            Ok([certificate, key]) => Ok((file(certificate), file(key))),
            Err(_) => Err(format!("{url}: a client is a certificate and a key")),
        },
    };
    let client = match table.client {
        None => None,
        Some(Client::One(name)) => Some(pair(OneOrMany::One(name))?),
        Some(Client::Many(entries)) => entries.into_iter().next().map(pair).transpose()?,
    };
    let mut headers = Vec::new();
    for (name, value) in table.header {
        let values = match value {
            toml::Value::String(value) => vec![value],
            toml::Value::Array(values) => values
                .into_iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| format!("{url}: header {name} is not of strings"))?,
            _ => return Err(format!("{url}: header {name} is not a string")),
        };
        headers.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    Ok(Host {
        url: mirror_url(url).map_err(|reason| format!("{url}: {reason}"))?,
        capabilities,
        trust: Trust {
            authorities,
            client,
            any_certificate: table.skip_verify,
        },
        headers,
        override_path: table.override_path,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hosts_keep_their_order_and_what_is_said_of_them() {
        let text = r#"
            server = "https://registry.example"
            ca = "server.crt"
            [host."https://z.lan"]
              capabilities = ["pull", "resolve"]
              ca = ["a.crt", "/abs/b.crt"]
              client = [["c.cert", "c.key"]]
              [host."https://z.lan".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."http://a.lan/v2/cache"]
              skip_verify = true
              override_path = true
              client = "both.pem"
        "#;
        let file = parse(text, Path::new("/d")).unwrap();
        let [first, second] = &*file.hosts else {
            panic!("two hosts")
        };
        assert_eq!(first.url.as_str(), "https://z.lan/");
        assert_eq!(first.capabilities, Capabilities::READ);
        assert_eq!(
            first.trust.authorities,
            [Path::new("/d/a.crt"), Path::new("/abs/b.crt")]
        );
        assert_eq!(
            first.trust.client,
            Some(("/d/c.cert".into(), "/d/c.key".into()))
        );
        assert_eq!(first.headers.len(), 3);
        assert!(second.trust.any_certificate && second.override_path);
        assert_eq!(second.capabilities, Capabilities::ALL);
        let server = file.server.unwrap();
        assert_eq!(server.trust.authorities, [Path::new("/d/server.crt")]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, part) in [
            ("host = 1", "not a table"),
            ("server = 1", "not a string"),
            ("[host.\"ftp://x\"]", "http or https"),
            ("[host.\"http://x\"]\ncapabilities=[\"fly\"]", "fly"),
            (
                "[host.\"http://x\"]\nclient=[[\"a\"]]",
                "certificate and a key",
            ),
            ("[", "TOML"),
        ] {
            let error = parse(text, Path::new("/d")).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
