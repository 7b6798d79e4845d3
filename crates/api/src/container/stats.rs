//! Samples of what a container uses.

use std::collections::BTreeMap;

use crate::object::is_zero;

object! {
    /// One answer of `GET /containers/{id}/stats`.
    pub struct Stats {
        /// The container's full id.
        pub id: String,
        /// Its name with the leading slash.
        pub name: String,
        /// `linux`.
        #[serde(skip_serializing_if = "is_zero")]
        pub os_type: String,
        /// When this sample was taken.
        pub read: String,
        /// Processor time.
        pub cpu_stats: CpuStats,
        /// Memory.
        pub memory_stats: MemoryStats,
        /// Traffic by interface; absent where there is none of the container's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub networks: Option<BTreeMap<String, NetworkStats>>,
        /// Processes.
        pub pids_stats: PidsStats,
        /// Block devices.
        pub blkio_stats: BlkioStats,
        /// Windows only.
        pub num_procs: u32,
        /// Windows only.
        pub storage_stats: crate::object::Empty,
        /// When the sample before this one was taken.
        pub preread: String,
        /// Processor time of the sample before this one.
        pub precpu_stats: CpuStats,
    }

    /// Processor time of a container and of the machine.
    pub struct CpuStats {
        /// The container's.
        pub cpu_usage: CpuUsage,
        /// The machine's, in nanoseconds since its start.
        #[serde(skip_serializing_if = "is_zero")]
        pub system_cpu_usage: u64,
        /// Processors the machine has now.
        #[serde(skip_serializing_if = "is_zero")]
        pub online_cpus: u32,
        /// How its quota held it back.
        pub throttling_data: ThrottlingData,
    }

    /// Nanoseconds of processor time.
    pub struct CpuUsage {
        /// All of it.
        pub total_usage: u64,
        /// By processor; cgroup v1 only.
        #[serde(skip_serializing_if = "is_zero")]
        pub percpu_usage: Vec<u64>,
        /// In the kernel.
        pub usage_in_kernelmode: u64,
        /// Outside of it.
        pub usage_in_usermode: u64,
    }

    /// How a quota of processor time held a container back.
    pub struct ThrottlingData {
        /// Periods that began.
        pub periods: u64,
        /// Periods in which it ran out of its quota.
        pub throttled_periods: u64,
        /// Nanoseconds it was kept from running.
        pub throttled_time: u64,
    }

    /// Memory of a container.
    pub struct MemoryStats {
        /// Bytes in use, the page cache included.
        #[serde(skip_serializing_if = "is_zero")]
        pub usage: u64,
        /// The most that was in use; cgroup v1 only.
        #[serde(skip_serializing_if = "is_zero")]
        pub max_usage: u64,
        /// The kernel's figures by name.
        #[serde(skip_serializing_if = "is_zero")]
        pub stats: BTreeMap<String, u64>,
        /// How often the limit was hit; cgroup v1 only.
        #[serde(skip_serializing_if = "is_zero")]
        pub failcnt: u64,
        /// Bytes it may use, those of the machine without a limit.
        #[serde(skip_serializing_if = "is_zero")]
        pub limit: u64,
    }

    /// Traffic of one interface.
    pub struct NetworkStats {
        /// Bytes received.
        pub rx_bytes: u64,
        /// Packets received.
        pub rx_packets: u64,
        /// Packets received damaged.
        pub rx_errors: u64,
        /// Packets received and dropped.
        pub rx_dropped: u64,
        /// Bytes sent.
        pub tx_bytes: u64,
        /// Packets sent.
        pub tx_packets: u64,
        /// Packets that could not be sent.
        pub tx_errors: u64,
        /// Packets dropped instead of being sent.
        pub tx_dropped: u64,
    }

    /// Processes and threads of a container.
    pub struct PidsStats {
        /// How many there are.
        #[serde(skip_serializing_if = "is_zero")]
        pub current: u64,
        /// How many there may be; absent without a limit.
        #[serde(skip_serializing_if = "is_zero")]
        pub limit: u64,
    }

    /// Traffic of block devices; `null` is what a cgroup version does not tell.
    pub struct BlkioStats {
        /// Bytes.
        pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
        /// Operations.
        pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
        /// No kernel of today tells.
        pub io_queue_recursive: Option<Vec<BlkioEntry>>,
        /// No kernel of today tells.
        pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
        /// No kernel of today tells.
        pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
        /// No kernel of today tells.
        pub io_merged_recursive: Option<Vec<BlkioEntry>>,
        /// No kernel of today tells.
        pub io_time_recursive: Option<Vec<BlkioEntry>>,
        /// No kernel of today tells.
        pub sectors_recursive: Option<Vec<BlkioEntry>>,
    }

    /// One figure of one device.
    pub struct BlkioEntry {
        /// The device's major number.
        pub major: u64,
        /// Its minor number.
        pub minor: u64,
        /// `Read`, `Write`, `Total`, …; in lower case from cgroup v2.
        pub op: String,
        /// The figure.
        pub value: u64,
    }
}

/// How `GET /containers/{id}/stats` is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsMode {
    /// A sample a second.
    Stream,
    /// The second of two samples, so that there is something to compare with.
    Once,
    /// One sample, at once.
    OneShot,
}
