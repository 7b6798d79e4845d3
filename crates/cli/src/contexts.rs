//! Contexts: engines by name, kept in the configuration directory as Docker's tools keep them.
//!
//! ```text
//! <config>/contexts/meta/<sha256 of the name>/meta.json       name, description, endpoints
//! <config>/contexts/tls/<sha256 of the name>/docker/*.pem     certificates and keys
//! ```
//!
//! It must not know which context is in use.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use conex_spec::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::CliError;

/// Longest description of a context, or file of certificates, that is read.
const MAX_BYTES: u64 = 1 << 20;
/// The endpoint of an engine, by its name.
pub(crate) const DOCKER: &str = "docker";
/// The certificates of an endpoint, by the word that names each on a command line.
pub(crate) const PEMS: [(&str, &str); 3] =
    [("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")];

/// Certificates and keys by endpoint and name of file.
pub(crate) type Certificates = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// One context, `meta.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stored {
    /// What it is called.
    pub name: String,
    /// What it says of itself.
    #[serde(default)]
    pub metadata: Metadata,
    /// Where its engine is.
    #[serde(default)]
    pub endpoints: Endpoints,
}

/// What a context says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// A line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What other tools keep there.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// The endpoints of a context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The engine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<Endpoint>,
    /// Those of other tools.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// An engine's endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Endpoint {
    /// Its address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Whether whoever answers is believed.
    #[serde(default, rename = "SkipTLSVerify")]
    pub skip_tls_verify: bool,
}

/// The contexts of a configuration directory.
#[derive(Clone, Debug)]
pub struct Contexts {
    root: PathBuf,
}

impl Contexts {
    /// The contexts of a configuration directory, which need not be there.
    pub fn of(config_dir: &Path) -> Self {
        Self {
            root: config_dir.join("contexts"),
        }
    }

    /// Where a context's description is.
    pub fn meta_dir(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(id(name))
    }

    /// Where a context's certificates are.
    pub fn tls_dir(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(id(name))
    }

    /// All of them by name; what cannot be read is left out.
    pub fn list(&self) -> Vec<Stored> {
        let entries = fs::read_dir(self.root.join("meta")).into_iter().flatten();
        let mut found: Vec<Stored> = entries
            .flatten()
            .filter_map(|entry| read(&entry.path().join("meta.json")))
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Option<Stored> {
        // The directories of other tools may be called otherwise: the name stands inside.
        read(&self.meta_dir(name).join("meta.json"))
            .filter(|stored| stored.name == name)
            .or_else(|| self.list().into_iter().find(|stored| stored.name == name))
    }

    /// Writes one, in one step.
    pub fn save(&self, stored: &Stored) -> Result<(), CliError> {
        let dir = self.meta_dir(&stored.name);
        let json = serde_json::to_vec(stored).expect("a context is a JSON object");
        let written = private_dir(&dir).and_then(|()| {
            let draft = dir.join(format!(".meta.json.{}", std::process::id()));
            write_private(&draft, &json)?;
            fs::rename(&draft, dir.join("meta.json"))
        });
        written.map_err(|error| CliError::open(dir, error))
    }

    /// Keeps certificates in place of those there were. Names are single path components.
    pub(crate) fn save_certificates(
        &self,
        name: &str,
        certificates: &Certificates,
    ) -> Result<(), CliError> {
        let root = self.tls_dir(name);
        let kept = || -> io::Result<()> {
            match fs::remove_dir_all(&root) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            for (endpoint, files) in certificates.iter().filter(|(_, files)| !files.is_empty()) {
                let dir = root.join(endpoint);
                private_dir(&dir)?;
                for (file, bytes) in files {
                    write_private(&dir.join(file), bytes)?;
                }
            }
            Ok(())
        };
        kept().map_err(|error| CliError::open(&root, error))
    }

    /// The names of the files of a context's endpoints with certificates, by endpoint.
    pub fn tls_files(&self, name: &str) -> BTreeMap<String, Vec<String>> {
        let dir = self.tls_dir(name);
        let endpoints = names_in(&dir).into_iter();
        endpoints
            .map(|endpoint| {
                let files = names_in(&dir.join(&endpoint));
                (endpoint, files)
            })
            .filter(|(_, files)| !files.is_empty())
            .collect()
    }

    /// All certificates of a context.
    pub(crate) fn certificates(&self, name: &str) -> Result<Certificates, CliError> {
        let mut found = Certificates::new();
        for (endpoint, files) in self.tls_files(name) {
            let dir = self.tls_dir(name).join(&endpoint);
            let of_endpoint: &mut BTreeMap<_, _> = found.entry(endpoint).or_default();
            for file in files {
                let path = dir.join(&file);
                let bytes = read_pem(&path).map_err(|error| CliError::open(path, error))?;
                of_endpoint.insert(file, bytes);
            }
        }
        Ok(found)
    }

    /// Removes one, certificates first.
    pub fn remove(&self, name: &str) -> Result<(), CliError> {
        for dir in [self.tls_dir(name), self.meta_dir(name)] {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(CliError::open(dir, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The directory's name for a context.
fn id(name: &str) -> String {
    Digest::of(name.as_bytes()).hex().to_owned()
}

fn read(path: &Path) -> Option<Stored> {
    let is_small = fs::metadata(path).is_ok_and(|meta| meta.len() <= MAX_BYTES);
    let bytes = is_small.then(|| fs::read(path).ok()).flatten()?;
    serde_json::from_slice(&bytes).ok()
}

/// A file of certificates or a key.
pub(crate) fn read_pem(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut bytes = Vec::new();
    let file = fs::File::open(path)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("too large for certificates"));
    }
    Ok(bytes)
}

/// What is in a directory, by name; nothing if there is none.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_context_lies_where_dockers_tools_look() {
        let dir = tempfile::tempdir().unwrap();
        let contexts = Contexts::of(dir.path());
        let stored = Stored {
            name: "far".into(),
            endpoints: Endpoints {
                docker: Some(Endpoint {
                    host: "tcp://far:1".into(),
                    skip_tls_verify: false,
                }),
                ..Endpoints::default()
            },
            ..Stored::default()
        };
        contexts.save(&stored).unwrap();
        let path = contexts.meta_dir("far").join("meta.json");
        assert_eq!(path.parent().unwrap().file_name().unwrap().len(), 64);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:1","SkipTLSVerify":false}}}"#
        );
        assert_eq!(contexts.get("far"), Some(stored));
        let files = BTreeMap::from([("ca.pem".to_owned(), b"x".to_vec())]);
        let certificates = Certificates::from([("docker".to_owned(), files)]);
        contexts.save_certificates("far", &certificates).unwrap();
        assert_eq!(contexts.certificates("far").unwrap(), certificates);
        assert_eq!(contexts.tls_files("far")["docker"], ["ca.pem"]);
        contexts.remove("far").unwrap();
        assert!(contexts.list().is_empty() && contexts.tls_files("far").is_empty());
    }

    #[test]
    fn what_other_tools_keep_in_a_context_stays() {
        let json = r#"{"Name":"k","Metadata":{"Description":"d","X":1},"Endpoints":{"docker":{"Host":"h","SkipTLSVerify":true},"kubernetes":{"a":2}}}"#;
        let stored: Stored = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), json);
    }
}
