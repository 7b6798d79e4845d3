//! Credentials of registries: in `config.json`, or at the helper programs it names. It must not know commands.
//!
//! ```text
//! credHelpers[server] ─► docker-credential-<name>     one registry's
//! credsStore          ─► docker-credential-<name>     all others'
//! auths[server]       ─► {"auth": base64(user:password), "identitytoken": …} in the file
//! ```
//!
//! Source: COMPAT D12.3; docker/docker-credential-helpers, README.

mod helper;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use conex_api::image::AuthConfig;
use conex_spec::reference::{DEFAULT_DOMAIN, Reference};
use serde_json::{Map, Value};

use crate::config::file::File;
use crate::error::CliError;

/// Docker Hub's name in files and at helpers.
pub(crate) const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Where a registry's credentials are.
enum Place {
    File,
    Helper(String),
}

/// The credentials in a configuration directory.
pub(crate) struct Credentials {
    file: File,
}

impl Credentials {
    /// Reads `config.json`; one that is not there is empty.
    pub(crate) fn open(directory: &Path) -> Result<Self, CliError> {
        Ok(Self {
            file: File::open(directory)?,
        })
    }

    /// Whether there may be credentials of any registry.
    pub(crate) fn has_any(&self) -> bool {
        let filled = |key: &str| match self.file.root().get(key) {
            Some(Value::Object(entries)) => !entries.is_empty(),
            Some(Value::String(name)) => !name.is_empty(),
            _ => false,
        };
        ["auths", "credHelpers", "credsStore"]
            .into_iter()
            .any(filled)
    }

    /// Those of a registry; without a user and a token if there are none.
    pub(crate) fn get(&self, server: &str) -> Result<AuthConfig, CliError> {
        let mut found = match self.place(server) {
            Place::Helper(name) => helper::get(&name, server)?,
            Place::File => self.of_file(server),
        };
        found.server_address = server.to_owned();
        Ok(found)
    }

    /// Keeps those of a registry. Says whether they lie in the file as they are.
    pub(crate) fn put(&mut self, server: &str, auth: &AuthConfig) -> Result<bool, CliError> {
        match self.place(server) {
            Place::Helper(name) => {
                helper::store(&name, server, auth).map_err(|error| {
                    let text = error.text().unwrap_or_default();
                    CliError::message(format!("Error saving credentials: {text}"))
                })?;
                // The file only says that there are some.
                self.file
                    .auths()
                    .insert(server.to_owned(), Value::Object(Map::new()));
                self.file.save("credentials")?;
                Ok(false)
            }
            Place::File => {
                let pair = format!("{}:{}", auth.username, auth.password);
                let mut entry = Map::new();
                entry.insert("auth".into(), STANDARD.encode(pair).into());
                if !auth.identity_token.is_empty() {
                    entry.insert("identitytoken".into(), auth.identity_token.clone().into());
                }
                self.file
                    .auths()
                    .insert(server.to_owned(), Value::Object(entry));
                self.file.save("credentials")?;
                Ok(true)
            }
        }
    }

    /// Forgets those of a registry, by old names of it too. Says whether there were any.
    pub(crate) fn erase(&mut self, server: &str) -> Result<bool, CliError> {
        let mut any = self.erase_name(server)?;
        for scheme in ["https://", "http://"] {
            let old = format!("{scheme}{server}");
            if self.file.auths().contains_key(&old) {
                any |= self.erase_name(&old)?;
            }
        }
        Ok(any)
    }

    fn erase_name(&mut self, server: &str) -> Result<bool, CliError> {
        let before = self.file.auths().shift_remove(server);
        let helper = match self.place(server) {
            Place::Helper(name) => {
                helper::erase(&name, server)?;
                true
            }
            Place::File => false,
        };
        if before.is_some() {
            self.file.save("credentials")?;
        }
        Ok(before.is_some() || helper)
    }

    /// The file, for people.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    fn place(&self, server: &str) -> Place {
        let root = self.file.root();
        let own = root.get("credHelpers").and_then(|all| all.get(server));
        let all = root.get("credsStore");
        let name = own.or(all).and_then(Value::as_str).unwrap_or_default();
        match name.is_empty() {
            true => Place::File,
            false => Place::Helper(name.to_owned()),
        }
    }

    fn of_file(&self, server: &str) -> AuthConfig {
        let auths = self.file.root().get("auths").and_then(Value::as_object);
        let entry = auths.and_then(|auths| {
            // Old files have schemes and paths in their names.
            auths.get(server).or_else(|| {
                let same = |name: &&String| host_of(name) == host_of(server);
                auths.iter().find(|(name, _)| same(name)).map(|(_, v)| v)
            })
        });
        let entry: AuthConfig = entry
            .and_then(|value| serde_json::from_value(value.clone()).ok())
            .unwrap_or_default();
        decoded(entry)
    }
}

/// `auth` taken apart.
fn decoded(mut auth: AuthConfig) -> AuthConfig {
    if let Ok(pair) = STANDARD.decode(&auth.auth)
        && let Ok(pair) = String::from_utf8(pair)
        && let Some((user, password)) = pair.split_once(':')
    {
        auth.username = user.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    auth.auth.clear();
    auth
}

/// The registry of a name in a file.
fn host_of(server: &str) -> &str {
    let rest = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    rest.split('/').next().unwrap_or_default()
}

/// The name a reference's registry has in files and at helpers.
pub(crate) fn server_of(reference: &Reference) -> String {
    match reference.domain() {
        DEFAULT_DOMAIN => HUB_SERVER.to_owned(),
        domain => domain.to_owned(),
    }
}

/// `X-Registry-Auth` (COMPAT D1.17).
pub(crate) fn header(auth: &AuthConfig) -> String {
    let json = serde_json::to_vec(auth).expect("credentials are a JSON object");
    URL_SAFE.encode(json)
}

/// `X-Registry-Config`: credentials by registry.
pub(crate) fn config_header(auths: &Value) -> String {
    URL_SAFE.encode(auths.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn ann() -> AuthConfig {
        AuthConfig {
            username: "ann".into(),
            password: "se:cret".into(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn credentials_are_kept_in_a_file_that_others_cannot_read_beside_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(
            &path,
            r#"{"psFormat": "x", "auths": {"other": {"auth": "YTpi"}}}"#,
        )
        .unwrap();
        let mut store = Credentials::open(dir.path()).unwrap();
        assert!(store.put("r.lan:5000", &ann()).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"psFormat\": \"x\"") && text.contains("\"other\""));
        assert!(
            text.contains("\n\t\"auths\""),
            "indented as Docker does: {text}"
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Credentials::open(dir.path()).unwrap();
        assert_eq!(again.get("r.lan:5000").unwrap().password, "se:cret");
        assert_eq!(again.get("other").unwrap().username, "a");
        assert_eq!(again.get("nosuch").unwrap().username, "");
    }

    #[test]
    fn a_link_to_the_file_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real.json");
        fs::write(&real, "{}").unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("config.json")).unwrap();
        let mut store = Credentials::open(dir.path()).unwrap();
        store.put("r.lan", &ann()).unwrap();
        assert!(dir.path().join("config.json").is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("r.lan"));
        assert!(store.erase("r.lan").unwrap());
        assert!(!store.erase("r.lan").unwrap());
        assert!(!fs::read_to_string(&real).unwrap().contains("r.lan"));
    }

    #[test]
    fn old_names_of_a_registry_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"auths": {"https://r.lan/v1/": {"auth": "YTpi"}}}"#;
        fs::write(dir.path().join("config.json"), text).unwrap();
        let store = Credentials::open(dir.path()).unwrap();
        assert_eq!(store.get("r.lan").unwrap().password, "b");
    }

    #[test]
    fn a_broken_file_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), "{").unwrap();
        assert!(Credentials::open(dir.path()).is_err());
    }
}
