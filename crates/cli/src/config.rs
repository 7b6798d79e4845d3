//! The settings file `config.json` in the configuration directory, shared with Docker's tools.
//!
//! Only what commands ask for is kept. It must not know commands.

pub(crate) mod file;
mod proxies;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use proxies::Proxies;

/// Largest settings file read, in bytes.
const MAX_CONFIG_BYTES: u64 = 16 * 1024 * 1024;

/// What the settings file says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Default `--format` of `ps`.
    pub ps_format: String,
    /// Default `--format` of `images`.
    pub images_format: String,
    /// Default `--format` of `stats`.
    pub stats_format: String,
    /// Default `--format` of `volume ls`.
    pub volumes_format: String,
    /// Default `--format` of `network ls`.
    pub networks_format: String,
    /// The context used when no option names one.
    pub current_context: String,
    /// Directories of more commands.
    #[serde(rename = "cliPluginsExtraDirs")]
    pub cli_plugins_extra_dirs: Vec<String>,
    /// Default `--detach-keys`.
    pub detach_keys: String,
    /// Headers sent with every request.
    #[serde(rename = "HttpHeaders")]
    pub http_headers: indexmap::IndexMap<String, String>,
    /// What containers are told about proxies, by the engine's address; `default` is for all others.
    pub proxies: indexmap::IndexMap<String, Proxies>,
    /// What was wrong with the file, for the user.
    #[serde(skip)]
    pub warning: Option<String>,
}

impl Config {
    /// Reads the settings in a directory; an absent file is an empty one.
    pub fn load(directory: &Path) -> Self {
        let path = directory.join("config.json");
        let warn = |reason: String| Self {
            warning: Some(format!(
                "WARNING: Error loading config file: {}: {reason}",
                path.display()
            )),
            ..Self::default()
        };
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_CONFIG_BYTES => {
                return warn(format!("larger than {MAX_CONFIG_BYTES} bytes"));
            }
            _ => {}
        }
        match std::fs::read(&path) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Self::default(),
            Ok(bytes) => {
                serde_json::from_slice(&bytes).unwrap_or_else(|error| warn(error.to_string()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => warn(error.to_string()),
        }
    }
}

/// The configuration directory: the option, the environment's, else `~/.docker`.
pub fn directory(option: Option<&str>) -> PathBuf {
    if let Some(directory) = option {
        return PathBuf::from(directory);
    }
    for variable in ["CONEX_CONFIG", "DOCKER_CONFIG"] {
        if let Some(directory) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
            return PathBuf::from(directory);
        }
    }
    home().join(".docker")
}

/// The user's home directory: `$HOME`, else `/`.
fn home() -> PathBuf {
    std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_absent_or_empty_file_means_defaults_without_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Config::load(dir.path()).warning.is_none());
        std::fs::write(dir.path().join("config.json"), " \n").unwrap();
        assert!(Config::load(dir.path()).warning.is_none());
    }

    #[test]
    fn settings_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"auths":{"x":{}},"psFormat":"{{.ID}}","currentContext":"far","HttpHeaders":{"A":"b"}}"#;
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        let config = Config::load(dir.path());
        assert_eq!(config.ps_format, "{{.ID}}");
        assert_eq!(config.current_context, "far");
        assert_eq!(config.http_headers["A"], "b");
    }

    #[test]
    fn a_broken_file_is_a_warning_not_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        let warning = Config::load(dir.path()).warning.unwrap();
        assert!(
            warning.starts_with("WARNING: Error loading config file: "),
            "{warning}"
        );
    }
}
