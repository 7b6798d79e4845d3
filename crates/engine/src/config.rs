//! How an engine is set up, resolved from flags and files by its daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::NetworkConfig;

/// The engine's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything that outlives a reboot: `/var/lib/conex`.
    pub data_root: PathBuf,
    /// Everything that does not: `/run/conex`.
    pub exec_root: PathBuf,
    /// Storage driver asked for; `None` chooses.
    pub storage_driver: Option<String>,
    /// Labels of the engine (`--label`).
    pub labels: Vec<String>,
    /// Default log driver and its options.
    pub log_driver: String,
    /// Options of the default log driver.
    pub log_options: BTreeMap<String, String>,
    /// Default `--shm-size` in bytes.
    pub shm_size_bytes: i64,
    /// Seconds between the stop signal and SIGKILL when nobody says otherwise.
    pub stop_timeout_seconds: i64,
    /// Default ulimits: name, soft, hard.
    pub ulimits: Vec<conex_api::container::Ulimit>,
    /// Cgroup below which containers are put; `None` derives it from the data
    /// root.
    pub cgroup_parent: Option<String>,
    /// `private` or `host`; `None` as Docker: private on cgroup v2.
    pub cgroupns_mode: Option<String>,
    /// Networks.
    pub network: NetworkConfig,
    /// Forces no_new_privileges on every container.
    pub no_new_privileges: bool,
    /// Containers have an init process unless they say otherwise.
    pub init: bool,
    /// A seccomp profile that replaces the built-in one.
    pub seccomp_profile: Option<PathBuf>,
    /// `--debug`, shown in info.
    pub debug: bool,
    /// Containers run on when the engine is told to end; shown in info.
    pub live_restore: bool,
    /// `--experimental`, shown in info.
    pub experimental: bool,
    /// How registries are reached, and how much is fetched and sent at a time.
    pub registry: crate::RegistrySettings,
    /// Sentences for the `Warnings` of info.
    pub warnings: Vec<String>,
}

impl Config {
    /// Docker's defaults with these roots.
    pub fn new(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>) -> Config {
        Config {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            storage_driver: None,
            labels: Vec::new(),
            log_driver: "json-file".into(),
            log_options: BTreeMap::new(),
            shm_size_bytes: 64 << 20,
            stop_timeout_seconds: 10,
            ulimits: Vec::new(),
            cgroup_parent: None,
            cgroupns_mode: None,
            network: NetworkConfig::default(),
            no_new_privileges: false,
            init: false,
            seccomp_profile: None,
            debug: false,
            live_restore: true,
            experimental: false,
            registry: crate::RegistrySettings::default(),
            warnings: Vec::new(),
        }
    }

    /// The cgroup below which containers live: `/conex` for the default data
    /// root, one derived from the path for any other, so that several engines
    /// share a machine.
    pub fn container_cgroup(&self) -> String {
        if let Some(parent) = &self.cgroup_parent {
            return format!("/{}", parent.trim_matches('/'));
        }
        self.container_cgroup_of_root()
    }

    /// The cgroup's name when nobody chose one; the default bridge is called
    /// alike.
    pub(crate) fn container_cgroup_of_root(&self) -> String {
        if self.data_root == Path::new("/var/lib/conex") {
            return "/conex".into();
        }
        let path = self.data_root.as_os_str().as_encoded_bytes();
        format!(
            "/conex-{}",
            &conex_spec::digest::Digest::of(path).hex()[..8]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_data_root_has_a_cgroup_of_its_own() {
        let cgroup = |root: &str| Config::new(root, "/run/x").container_cgroup();
        assert_eq!(cgroup("/var/lib/conex"), "/conex");
        assert_ne!(cgroup("/a"), cgroup("/b"));
        assert_eq!(cgroup("/a").len(), "/conex-".len() + 8);
    }
}
