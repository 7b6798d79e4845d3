//! The engine itself: `GET /info`, `GET /version`, `/_ping`.

use std::collections::BTreeMap;

use crate::object::is_zero;

object! {
    /// Facts of the engine and its host.
    #[serde(rename_all = "PascalCase")]
    pub struct Info {
        /// Id of this engine.
        #[serde(rename = "ID")]
        pub id: String,
        /// Containers in all.
        pub containers: i64,
        /// Containers running.
        pub containers_running: i64,
        /// Containers paused.
        pub containers_paused: i64,
        /// Containers stopped.
        pub containers_stopped: i64,
        /// Images.
        pub images: i64,
        /// Storage driver.
        pub driver: String,
        /// What the storage driver tells, pairs of name and value.
        pub driver_status: Option<Vec<[String; 2]>>,
        /// Status of a standalone swarm; not spoken any more.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub system_status: Option<Vec<[String; 2]>>,
        /// Drivers by kind.
        pub plugins: PluginsInfo,
        /// Whether memory can be limited.
        pub memory_limit: bool,
        /// Whether swap can be limited.
        pub swap_limit: bool,
        /// Whether the CPU period can be set.
        pub cpu_cfs_period: bool,
        /// Whether the CPU quota can be set.
        pub cpu_cfs_quota: bool,
        /// Whether CPU shares can be set.
        #[serde(rename = "CPUShares")]
        pub cpu_shares: bool,
        /// Whether CPUs can be chosen.
        #[serde(rename = "CPUSet")]
        pub cpu_set: bool,
        /// Whether processes can be limited.
        pub pids_limit: bool,
        /// Whether the kernel forwards IPv4.
        #[serde(rename = "IPv4Forwarding")]
        pub ipv4_forwarding: bool,
        /// Whether the engine runs in debug mode.
        pub debug: bool,
        /// Open file descriptors of the engine.
        pub n_fd: i64,
        /// Whether the OOM killer can be switched off.
        pub oom_kill_disable: bool,
        /// Tasks of the engine, under the name Docker gave them.
        pub n_goroutines: i64,
        /// Now, RFC 3339 with nanoseconds.
        pub system_time: String,
        /// Default log driver.
        pub logging_driver: String,
        /// `cgroupfs` or `systemd`.
        pub cgroup_driver: String,
        /// `1` or `2`.
        #[serde(skip_serializing_if = "is_zero")]
        pub cgroup_version: String,
        /// Clients that listen to events.
        pub n_events_listener: i64,
        /// Release of the kernel.
        pub kernel_version: String,
        /// Name of the host's distribution.
        pub operating_system: String,
        /// Its version.
        #[serde(rename = "OSVersion")]
        pub os_version: String,
        /// Always `linux`.
        #[serde(rename = "OSType")]
        pub os_type: String,
        /// Architecture in the kernel's words.
        pub architecture: String,
        /// Index used without a registry in the name.
        pub index_server_address: String,
        /// What is known of registries.
        pub registry_config: Option<RegistryServiceConfig>,
        /// CPUs.
        #[serde(rename = "NCPU")]
        pub ncpu: i64,
        /// Memory in bytes.
        pub mem_total: i64,
        /// Resources of a swarm node.
        pub generic_resources: Option<Vec<serde_json::Value>>,
        /// Data root.
        pub docker_root_dir: String,
        /// Proxy for http.
        pub http_proxy: String,
        /// Proxy for https.
        pub https_proxy: String,
        /// Hosts without proxy.
        pub no_proxy: String,
        /// Host name.
        pub name: String,
        /// Labels of the engine.
        pub labels: Vec<String>,
        /// Whether experimental features are on.
        pub experimental_build: bool,
        /// Version of the engine.
        pub server_version: String,
        /// OCI runtimes by name.
        pub runtimes: BTreeMap<String, Runtime>,
        /// Name of the default runtime.
        pub default_runtime: String,
        /// State of the swarm.
        pub swarm: SwarmInfo,
        /// Whether containers outlive the engine.
        pub live_restore_enabled: bool,
        /// Windows only.
        pub isolation: String,
        /// The init of `--init`.
        pub init_binary: String,
        /// Commit of containerd, which this engine has none of.
        pub containerd_commit: Commit,
        /// Commit of the runtime.
        pub runc_commit: Commit,
        /// Commit of the init.
        pub init_commit: Commit,
        /// Security features, `name=seccomp,profile=builtin`.
        pub security_options: Vec<String>,
        /// Licence of the product.
        #[serde(skip_serializing_if = "is_zero")]
        pub product_license: String,
        /// Pools of new networks.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub default_address_pools: Vec<AddressPool>,
        /// What filters packets.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub firewall_backend: Option<DriverInfo>,
        /// Directories of CDI specifications.
        #[serde(rename = "CDISpecDirs")]
        pub cdi_spec_dirs: Vec<String>,
        /// Devices found by device drivers.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub discovered_devices: Vec<DeviceInfo>,
        /// Node resource interface.
        #[serde(rename = "NRI", skip_serializing_if = "Option::is_none")]
        pub nri: Option<DriverInfo>,
        /// containerd's socket and namespaces.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub containerd: Option<ContainerdInfo>,
        /// What the user should know.
        pub warnings: Option<Vec<String>>,
    }

    /// Names of drivers by kind.
    #[serde(rename_all = "PascalCase")]
    pub struct PluginsInfo {
        /// Volume drivers.
        pub volume: Option<Vec<String>>,
        /// Network drivers.
        pub network: Option<Vec<String>>,
        /// Authorisation plugins.
        pub authorization: Option<Vec<String>>,
        /// Log drivers.
        pub log: Option<Vec<String>>,
    }

    /// What is known of registries.
    #[serde(rename_all = "PascalCase")]
    pub struct RegistryServiceConfig {
        /// Networks whose registries need no TLS.
        #[serde(rename = "InsecureRegistryCIDRs")]
        pub insecure_registry_cidrs: Vec<String>,
        /// Registries by host.
        pub index_configs: BTreeMap<String, IndexInfo>,
        /// Mirrors of Docker Hub.
        pub mirrors: Vec<String>,
    }

    /// One registry.
    #[serde(rename_all = "PascalCase")]
    pub struct IndexInfo {
        /// Its host.
        pub name: String,
        /// Its mirrors.
        pub mirrors: Vec<String>,
        /// Whether it needs TLS.
        pub secure: bool,
        /// Whether it is Docker Hub.
        pub official: bool,
    }

    /// An OCI runtime.
    #[serde(rename_all = "camelCase")]
    pub struct Runtime {
        /// Its binary.
        #[serde(skip_serializing_if = "is_zero")]
        pub path: String,
        /// Arguments before the verb.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub runtime_args: Vec<String>,
        /// What it tells of itself.
        #[serde(skip_serializing_if = "is_zero")]
        pub status: BTreeMap<String, String>,
    }

    /// A commit of a component.
    pub struct Commit {
        /// Its hash; empty if unknown.
        #[serde(rename = "ID")]
        pub id: String,
    }

    /// State of the swarm.
    #[serde(rename_all = "PascalCase")]
    pub struct SwarmInfo {
        /// Id of this node.
        #[serde(rename = "NodeID")]
        pub node_id: String,
        /// Address of this node.
        pub node_addr: String,
        /// `inactive` and others.
        pub local_node_state: String,
        /// Whether this node is a manager.
        pub control_available: bool,
        /// What is wrong.
        pub error: String,
        /// Other managers.
        pub remote_managers: Option<Vec<serde_json::Value>>,
    }

    /// A pool of addresses.
    #[serde(rename_all = "PascalCase")]
    pub struct AddressPool {
        /// Its network.
        pub base: String,
        /// Prefix length of each part.
        pub size: i64,
    }

    /// A component with what it tells.
    #[serde(rename_all = "PascalCase")]
    pub struct DriverInfo {
        /// Its name.
        #[serde(skip_serializing_if = "is_zero")]
        pub driver: String,
        /// Pairs of name and value.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub info: Vec<[String; 2]>,
    }

    /// A device found by a device driver.
    #[serde(rename_all = "PascalCase")]
    pub struct DeviceInfo {
        /// The driver.
        pub source: String,
        /// The device.
        #[serde(rename = "ID")]
        pub id: String,
    }

    /// Where containerd is.
    #[serde(rename_all = "PascalCase")]
    pub struct ContainerdInfo {
        /// Its socket.
        pub address: String,
        /// Its namespaces by use.
        pub namespaces: BTreeMap<String, String>,
    }

    /// Versions of the engine and its parts.
    #[serde(rename_all = "PascalCase")]
    pub struct Version {
        /// The product.
        pub platform: VersionPlatform,
        /// Version of the engine.
        pub version: String,
        /// Newest API version.
        pub api_version: String,
        /// Oldest API version.
        #[serde(rename = "MinAPIVersion")]
        pub min_api_version: String,
        /// Always `linux`.
        pub os: String,
        /// Architecture in Go's words.
        pub arch: String,
        /// The parts.
        pub components: Vec<ComponentVersion>,
        /// Commit it was built from.
        pub git_commit: String,
        /// Compiler's version, under the name Docker gave it.
        pub go_version: String,
        /// Release of the kernel.
        pub kernel_version: String,
        /// Whether experimental features are on.
        #[serde(skip_serializing_if = "is_zero")]
        pub experimental: bool,
        /// When it was built.
        #[serde(skip_serializing_if = "is_zero")]
        pub build_time: String,
    }

    /// The product an engine belongs to.
    #[serde(rename_all = "PascalCase")]
    pub struct VersionPlatform {
        /// Its name.
        pub name: String,
    }

    /// Version of one part.
    #[serde(rename_all = "PascalCase")]
    pub struct ComponentVersion {
        /// Its name.
        pub name: String,
        /// Its version.
        pub version: String,
        /// More facts, all text.
        #[serde(skip_serializing_if = "is_zero")]
        pub details: BTreeMap<String, String>,
    }
}

/// What the headers of `/_ping` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ping {
    /// Newest API version, `Api-Version`.
    pub api_version: String,
    /// Operating system, `Ostype`.
    pub os_type: String,
    /// Whether experimental features are on, `Docker-Experimental`.
    pub experimental: bool,
    /// Builder the client should choose, `Builder-Version`: `1`, `2` or empty.
    pub builder_version: String,
    /// State of the swarm, `Swarm`.
    pub swarm: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn info_has_the_members_sdks_look_for_even_when_empty() {
        let value = serde_json::to_value(Info::default()).unwrap();
        for (name, empty) in [
            ("ID", json!("")),
            ("NCPU", json!(0)),
            ("NFd", json!(0)),
            ("NGoroutines", json!(0)),
            ("NEventsListener", json!(0)),
            ("IPv4Forwarding", json!(false)),
            ("CPUShares", json!(false)),
            ("CPUSet", json!(false)),
            ("OSType", json!("")),
            ("GenericResources", json!(null)),
            ("Warnings", json!(null)),
            ("Labels", json!([])),
            ("CDISpecDirs", json!([])),
            ("ContainerdCommit", json!({"ID": ""})),
            (
                "Plugins",
                json!({"Volume": null, "Network": null, "Authorization": null, "Log": null}),
            ),
        ] {
            assert_eq!(value.get(name), Some(&empty), "{name}");
        }
        for absent in [
            "SystemStatus",
            "FirewallBackend",
            "DiscoveredDevices",
            "NRI",
            "Containerd",
        ] {
            assert_eq!(value.get(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_version_reads_back() {
        let version = Version {
            api_version: "1.56".into(),
            min_api_version: "1.24".into(),
            components: vec![ComponentVersion {
                name: "Engine".into(),
                version: "0.1.0".into(),
                details: [("Os".to_owned(), "linux".to_owned())].into(),
            }],
            ..Version::default()
        };
        let value = serde_json::to_value(&version).unwrap();
        assert_eq!(value["MinAPIVersion"], json!("1.24"));
        assert_eq!(value["Platform"], json!({"Name": ""}));
        assert_eq!(value.get("Experimental"), None);
        assert_eq!(serde_json::from_value::<Version>(value).unwrap(), version);
    }
}
