//! The half of a container's configuration that depends on its host: resources, mounts, network, security.

use std::collections::BTreeMap;

use super::{Mount, PortMap, StrSlice};
use crate::object::is_zero;

object! {
    /// How a container is placed on its host. Sizes are bytes, CPU periods and quotas microseconds.
    #[serde(rename_all = "PascalCase")]
    pub struct HostConfig {
        /// `source:target[:mode]`.
        pub binds: Option<Vec<String>>,
        /// File the client wrote the id to.
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        /// Log driver and its options.
        pub log_config: LogConfig,
        /// `default`, `bridge`, `host`, `none`, `container:<id>` or a network.
        pub network_mode: String,
        /// Published ports by `port/protocol`.
        pub port_bindings: Option<PortMap>,
        /// What happens after an exit.
        pub restart_policy: RestartPolicy,
        /// Whether it is removed on exit.
        pub auto_remove: bool,
        /// Driver of volumes named in `Binds`.
        pub volume_driver: String,
        /// Containers whose volumes are mounted, `name[:ro|rw]`.
        pub volumes_from: Option<Vec<String>>,
        /// Height and width of the first terminal.
        pub console_size: [u32; 2],
        /// OCI annotations.
        #[serde(skip_serializing_if = "is_zero")]
        pub annotations: BTreeMap<String, String>,
        /// Capabilities added, with or without `CAP_`.
        pub cap_add: Option<StrSlice>,
        /// Capabilities dropped.
        pub cap_drop: Option<StrSlice>,
        /// `private`, `host` or empty for the engine's default.
        pub cgroupns_mode: String,
        /// DNS servers.
        pub dns: Option<Vec<String>>,
        /// Options of `resolv.conf`.
        pub dns_options: Option<Vec<String>>,
        /// Search domains.
        pub dns_search: Option<Vec<String>>,
        /// Lines of `/etc/hosts`, `name:address`.
        pub extra_hosts: Option<Vec<String>>,
        /// Supplementary groups.
        pub group_add: Option<Vec<String>>,
        /// `none`, `private`, `shareable`, `host` or `container:<id>`.
        pub ipc_mode: String,
        /// Unused since cgroup parents; kept for its place in the JSON.
        pub cgroup: String,
        /// Legacy links, `container:alias`.
        pub links: Option<Vec<String>>,
        /// Score adjustment of the kernel's OOM killer, -1000 to 1000.
        pub oom_score_adj: i32,
        /// Empty, `host` or `container:<id>`.
        pub pid_mode: String,
        /// Whether every restriction is lifted.
        pub privileged: bool,
        /// Whether exposed ports get a random host port.
        pub publish_all_ports: bool,
        /// Whether the root file system is read-only.
        pub readonly_rootfs: bool,
        /// Security options, `key=value`.
        pub security_opt: Option<Vec<String>>,
        /// Options of the storage driver (`size`).
        #[serde(skip_serializing_if = "is_zero")]
        pub storage_opt: BTreeMap<String, String>,
        /// Mount options of each tmpfs by path.
        #[serde(skip_serializing_if = "is_zero")]
        pub tmpfs: BTreeMap<String, String>,
        /// Empty or `host`.
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        /// Empty or `host`.
        pub userns_mode: String,
        /// Bytes of `/dev/shm`; 0 is 64 MiB.
        pub shm_size: i64,
        /// Kernel parameters of the container's namespaces.
        #[serde(skip_serializing_if = "is_zero")]
        pub sysctls: BTreeMap<String, String>,
        /// Name of the OCI runtime.
        #[serde(skip_serializing_if = "is_zero")]
        pub runtime: String,
        /// Windows only.
        pub isolation: String,
        /// Relative CPU weight; 0 is the kernel's default.
        pub cpu_shares: i64,
        /// Memory limit; 0 is none.
        pub memory: i64,
        /// CPU limit in 10⁻⁹ CPUs.
        pub nano_cpus: i64,
        /// Cgroup the container's is made in.
        pub cgroup_parent: String,
        /// Relative weight of block I/O, 10 to 1000; 0 is none.
        pub blkio_weight: u16,
        /// Weight by device.
        pub blkio_weight_device: Option<Vec<WeightDevice>>,
        /// Bytes read per second by device.
        pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
        /// Bytes written per second by device.
        pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
        /// Reads per second by device.
        #[serde(rename = "BlkioDeviceReadIOps")]
        pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
        /// Writes per second by device.
        #[serde(rename = "BlkioDeviceWriteIOps")]
        pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
        /// Period of the CPU quota, microseconds.
        pub cpu_period: i64,
        /// CPU time per period, microseconds.
        pub cpu_quota: i64,
        /// Real-time period, microseconds.
        pub cpu_realtime_period: i64,
        /// Real-time budget per period, microseconds.
        pub cpu_realtime_runtime: i64,
        /// CPUs it may use, `0-2,4`.
        pub cpuset_cpus: String,
        /// Memory nodes it may use.
        pub cpuset_mems: String,
        /// Devices of the host.
        pub devices: Option<Vec<DeviceMapping>>,
        /// Rules of the device cgroup, `c 42:* rmw`.
        pub device_cgroup_rules: Option<Vec<String>>,
        /// Devices asked of a device driver.
        pub device_requests: Option<Vec<DeviceRequest>>,
        /// Soft memory limit.
        pub memory_reservation: i64,
        /// Memory and swap; -1 is unlimited swap.
        pub memory_swap: i64,
        /// 0 to 100; `None` is the kernel's.
        pub memory_swappiness: Option<i64>,
        /// Whether the OOM killer is off (cgroup v1 only).
        pub oom_kill_disable: Option<bool>,
        /// Most processes; `None`, 0 and -1 are no limit.
        pub pids_limit: Option<i64>,
        /// Resource limits of processes.
        pub ulimits: Option<Vec<Ulimit>>,
        /// Windows only.
        pub cpu_count: i64,
        /// Windows only.
        pub cpu_percent: i64,
        /// Windows only.
        #[serde(rename = "IOMaximumIOps")]
        pub io_maximum_iops: u64,
        /// Windows only.
        #[serde(rename = "IOMaximumBandwidth")]
        pub io_maximum_bandwidth: u64,
        /// Mounts in their long form.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub mounts: Vec<Mount>,
        /// Paths hidden from the container; `None` is the default list, empty hides nothing.
        pub masked_paths: Option<Vec<String>>,
        /// Paths made read-only; `None` is the default list, empty makes none.
        pub readonly_paths: Option<Vec<String>>,
        /// Whether an init process reaps and forwards signals; `None` is the engine's default.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
    }

    /// A log driver with its options.
    #[serde(rename_all = "PascalCase")]
    pub struct LogConfig {
        /// Name of the driver; empty is the engine's default.
        #[serde(rename = "Type")]
        pub driver: String,
        /// Options of the driver.
        pub config: Option<BTreeMap<String, String>>,
    }

    /// What the engine does after an exit.
    #[serde(rename_all = "PascalCase")]
    pub struct RestartPolicy {
        /// Empty or `no`, `always`, `unless-stopped`, `on-failure`.
        pub name: String,
        /// Most restarts of `on-failure`; 0 is no limit.
        pub maximum_retry_count: i64,
    }

    /// Weight of block I/O on one device.
    #[serde(rename_all = "PascalCase")]
    pub struct WeightDevice {
        /// Path of the device on the host.
        pub path: String,
        /// 10 to 1000.
        pub weight: u16,
    }

    /// A rate of block I/O on one device.
    #[serde(rename_all = "PascalCase")]
    pub struct ThrottleDevice {
        /// Path of the device on the host.
        pub path: String,
        /// Bytes or operations per second.
        pub rate: u64,
    }

    /// A device of the host in a container.
    #[serde(rename_all = "PascalCase")]
    pub struct DeviceMapping {
        /// Path on the host.
        pub path_on_host: String,
        /// Path in the container.
        pub path_in_container: String,
        /// Letters of `rwm`.
        pub cgroup_permissions: String,
    }

    /// Devices asked of a device driver (`--gpus`).
    #[serde(rename_all = "PascalCase")]
    pub struct DeviceRequest {
        /// Name of the driver.
        pub driver: String,
        /// How many; -1 is all.
        pub count: i64,
        /// Which ones.
        #[serde(rename = "DeviceIDs")]
        pub device_ids: Option<Vec<String>>,
        /// Alternatives, each a list of capabilities.
        pub capabilities: Option<Vec<Vec<String>>>,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
    }

    /// A resource limit of processes.
    #[serde(rename_all = "PascalCase")]
    pub struct Ulimit {
        /// Lower-case name without `RLIMIT_`.
        pub name: String,
        /// Hard limit; -1 is unlimited.
        pub hard: i64,
        /// Soft limit; -1 is unlimited.
        pub soft: i64,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_host_config_has_every_member_docker_shows_and_no_other() {
        let expected = r#"{
            "Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":null},"NetworkMode":"",
            "PortBindings":null,"RestartPolicy":{"Name":"","MaximumRetryCount":0},"AutoRemove":false,
            "VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,
            "CgroupnsMode":"","Dns":null,"DnsOptions":null,"DnsSearch":null,"ExtraHosts":null,
            "GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"",
            "Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,
            "UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,
            "NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":null,
            "BlkioDeviceReadBps":null,"BlkioDeviceWriteBps":null,"BlkioDeviceReadIOps":null,
            "BlkioDeviceWriteIOps":null,"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,
            "CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":null,
            "DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,
            "MemorySwappiness":null,"OomKillDisable":null,"PidsLimit":null,"Ulimits":null,
            "CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,
            "MaskedPaths":null,"ReadonlyPaths":null
        }"#;
        assert_eq!(
            serde_json::to_string(&HostConfig::default()).unwrap(),
            expected.split_whitespace().collect::<String>()
        );
    }

    #[test]
    fn an_exposed_port_without_binding_stays_null() {
        let config: HostConfig = serde_json::from_value(json!({
            "PortBindings": {"53/udp": null, "80/tcp": [{"HostPort": "18080", "HostIp": null}]},
            "ConsoleSize": null, "CapAdd": "ALL"
        }))
        .unwrap();
        let value = serde_json::to_value(&config).unwrap();
        assert_eq!(
            value["PortBindings"],
            json!({"53/udp": null, "80/tcp": [{"HostIp": "", "HostPort": "18080"}]})
        );
        assert_eq!(value["CapAdd"], json!(["ALL"]));
    }

    #[test]
    fn an_empty_list_is_not_the_same_as_none() {
        let config: HostConfig = serde_json::from_value(json!({"MaskedPaths": []})).unwrap();
        assert_eq!(config.masked_paths, Some(Vec::new()));
        assert_eq!(config.readonly_paths, None);
    }
}
