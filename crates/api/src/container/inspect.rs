//! The answer of `GET /containers/{id}/json`.

use std::collections::BTreeMap;

use super::{Config, EndpointSettings, HostConfig, MountPoint, PortMap};
use crate::descriptor::Descriptor;

object! {
    /// Everything about a container.
    #[serde(rename_all = "PascalCase")]
    pub struct Inspect {
        /// Full id.
        pub id: String,
        /// RFC 3339 with nanoseconds.
        pub created: String,
        /// First word of the command.
        pub path: String,
        /// The other words; never null.
        pub args: Vec<String>,
        /// Its state now.
        pub state: State,
        /// Id of the image.
        pub image: String,
        /// Path of its `resolv.conf` on the host; empty before the first start.
        pub resolv_conf_path: String,
        /// Path of its `hostname` on the host.
        pub hostname_path: String,
        /// Path of its `hosts` on the host.
        pub hosts_path: String,
        /// Path of its log file on the host.
        pub log_path: String,
        /// Name with its leading `/`.
        pub name: String,
        /// Restarts by its restart policy.
        pub restart_count: i64,
        /// Storage driver.
        pub driver: String,
        /// Operating system of the image.
        pub platform: String,
        /// SELinux label of its mounts.
        pub mount_label: String,
        /// SELinux label of its processes.
        pub process_label: String,
        /// AppArmor profile.
        pub app_armor_profile: String,
        /// Running execs; `null` if none.
        #[serde(rename = "ExecIDs")]
        pub exec_ids: Option<Vec<String>>,
        /// The half of the configuration that depends on the host.
        pub host_config: HostConfig,
        /// Storage driver and where it keeps the container's layers.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub graph_driver: Option<DriverData>,
        /// Storage of engines that keep snapshots.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub storage: Option<Storage>,
        /// Bytes of the container's own layer; only when asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        /// Bytes of all layers; only when asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        /// Its mounts.
        pub mounts: Vec<MountPoint>,
        /// The portable half of the configuration.
        pub config: Config,
        /// Its networks.
        pub network_settings: NetworkSettings,
        /// Manifest of the image, where the engine keeps one.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_manifest_descriptor: Option<Descriptor>,
    }

    /// The state of a container. Times are RFC 3339, [`crate::ZERO_TIME`] for never.
    #[serde(rename_all = "PascalCase")]
    pub struct State {
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        pub status: String,
        /// Whether it has a process; true while paused and restarting too.
        pub running: bool,
        /// Whether it is frozen.
        pub paused: bool,
        /// Whether its restart policy waits to start it.
        pub restarting: bool,
        /// Whether the kernel's OOM killer ended a process of it.
        #[serde(rename = "OOMKilled")]
        pub oom_killed: bool,
        /// Whether its removal failed half way.
        pub dead: bool,
        /// Pid of its first process on the host; 0 if none.
        pub pid: i32,
        /// Exit code; 128 + n for signal n.
        pub exit_code: i32,
        /// Why the last start failed.
        pub error: String,
        /// Last start.
        pub started_at: String,
        /// Last exit.
        pub finished_at: String,
        /// Health, if it has a check.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<Health>,
    }

    /// The health of a container.
    #[serde(rename_all = "PascalCase")]
    pub struct Health {
        /// `starting`, `healthy` or `unhealthy`.
        pub status: String,
        /// Failures in a row.
        pub failing_streak: i64,
        /// The last results, oldest first.
        pub log: Option<Vec<HealthcheckResult>>,
    }

    /// One run of a health check.
    #[serde(rename_all = "PascalCase")]
    pub struct HealthcheckResult {
        /// When it began.
        pub start: String,
        /// When it ended.
        pub end: String,
        /// 0 healthy, 1 unhealthy, 2 reserved, anything else an error.
        pub exit_code: i32,
        /// The beginning of its output.
        pub output: String,
    }

    /// A storage driver and what it tells of one object.
    #[serde(rename_all = "PascalCase")]
    pub struct DriverData {
        /// Facts by name (`MergedDir`, ...).
        pub data: Option<BTreeMap<String, String>>,
        /// Name of the driver.
        pub name: String,
    }

    /// Storage of a container.
    #[serde(rename_all = "PascalCase")]
    pub struct Storage {
        /// Its root file system.
        #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
        pub root_fs: Option<RootFsStorage>,
    }

    /// Storage of a root file system.
    #[serde(rename_all = "PascalCase")]
    pub struct RootFsStorage {
        /// The snapshot it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub snapshot: Option<RootFsSnapshot>,
    }

    /// A snapshot.
    #[serde(rename_all = "PascalCase")]
    pub struct RootFsSnapshot {
        /// Name of the snapshotter.
        pub name: String,
    }

    /// The networks of a container.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworkSettings {
        /// Id of its network namespace.
        #[serde(rename = "SandboxID")]
        pub sandbox_id: String,
        /// Path of its network namespace on the host.
        pub sandbox_key: String,
        /// Ports as they are published now.
        pub ports: PortMap,
        /// Endpoints by network name.
        pub networks: BTreeMap<String, EndpointSettings>,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn created() -> Inspect {
        Inspect {
            id: "18a4".into(),
            args: vec!["-c".into()],
            state: State {
                status: "created".into(),
                started_at: crate::ZERO_TIME.into(),
                finished_at: crate::ZERO_TIME.into(),
                ..State::default()
            },
            graph_driver: Some(DriverData {
                data: None,
                name: "overlay2".into(),
            }),
            network_settings: NetworkSettings {
                networks: [("bridge".to_owned(), EndpointSettings::default())].into(),
                ..NetworkSettings::default()
            },
            ..Inspect::default()
        }
    }

    #[test]
    fn a_created_container_has_dockers_members_in_dockers_order() {
        let value = serde_json::to_value(created()).unwrap();
        let names: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            names,
            [
                "Id",
                "Created",
                "Path",
                "Args",
                "State",
                "Image",
                "ResolvConfPath",
                "HostnamePath",
                "HostsPath",
                "LogPath",
                "Name",
                "RestartCount",
                "Driver",
                "Platform",
                "MountLabel",
                "ProcessLabel",
                "AppArmorProfile",
                "ExecIDs",
                "HostConfig",
                "GraphDriver",
                "Mounts",
                "Config",
                "NetworkSettings"
            ]
        );
        assert_eq!(
            value["State"],
            json!({
                "Status": "created", "Running": false, "Paused": false, "Restarting": false,
                "OOMKilled": false, "Dead": false, "Pid": 0, "ExitCode": 0, "Error": "",
                "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"
            })
        );
        assert_eq!(value["ExecIDs"], Value::Null);
        assert_eq!(
            value["GraphDriver"],
            json!({"Data": null, "Name": "overlay2"})
        );
    }

    #[test]
    fn an_endpoint_that_is_down_has_every_member() {
        let value = serde_json::to_value(created()).unwrap();
        assert_eq!(
            value["NetworkSettings"],
            json!({
                "SandboxID": "", "SandboxKey": "", "Ports": {},
                "Networks": {"bridge": {
                    "IPAMConfig": null, "Links": null, "Aliases": null, "DriverOpts": null,
                    "GwPriority": 0, "NetworkID": "", "EndpointID": "", "Gateway": "",
                    "IPAddress": "", "MacAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
                    "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null
                }}
            })
        );
    }

    #[test]
    fn an_answer_reads_back_also_with_members_of_other_versions() {
        let mut value = serde_json::to_value(created()).unwrap();
        value["NetworkSettings"]["IPAddress"] = json!("172.17.0.2");
        value["NetworkSettings"]["SecondaryIPAddresses"] = Value::Null;
        value["Mounts"] = Value::Null;
        assert_eq!(serde_json::from_value::<Inspect>(value).unwrap(), created());
    }
}
