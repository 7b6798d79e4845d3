//! What the machine offers containers, read once. It must not know what a
//! container asks for.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use conex_runtime::cgroup::{Layout, Mode};

/// Facts about this machine that decide what can be asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    /// How many CPUs there are.
    pub(super) cpu_count: u32,
    /// The same as a list, `0-3`.
    pub(super) cpus: String,
    /// Memory nodes as a list.
    pub(super) memory_nodes: String,
    /// The host's name.
    pub(super) hostname: String,
    /// Whether cgroups are version 2 alone.
    pub(super) unified: bool,
    /// What the cgroups can limit.
    pub(super) limits: Limits,
    /// Whether SELinux is on.
    pub(super) selinux: bool,
    /// Whether AppArmor is on.
    pub(super) apparmor: bool,
    /// Each CPU's `thermal_throttle`, whose counters tell of other containers.
    pub(super) thermal: Vec<String>,
}

/// What can be limited, with the names of the request's members.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) memory: bool,
    pub(super) swap: bool,
    pub(super) reservation: bool,
    pub(super) swappiness: bool,
    pub(super) oom_kill_disable: bool,
    pub(super) cpu_shares: bool,
    pub(super) cpu_quota: bool,
    pub(super) cpu_realtime: bool,
    pub(super) cpuset: bool,
    pub(super) pids: bool,
    pub(super) blkio_weight: bool,
    pub(super) blkio_throttle: bool,
}

impl Machine {
    /// The machine this engine runs on, as it was when first asked for.
    pub(super) fn this() -> &'static Machine {
        static THIS: OnceLock<Machine> = OnceLock::new();
        THIS.get_or_init(Machine::detect)
    }

    fn detect() -> Machine {
        let layout = Layout::detect().ok();
        let read = |path: &str| {
            std::fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let cpu_count = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
        Machine {
            cpu_count,
            cpus: read("/sys/devices/system/cpu/online"),
            memory_nodes: Some(read("/sys/devices/system/node/online"))
                .filter(|nodes| !nodes.is_empty())
                // A kernel without NUMA has the one node.
                .unwrap_or_else(|| "0".to_owned()),
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            unified: layout
                .as_ref()
                .is_some_and(|layout| layout.mode() == Mode::Unified),
            limits: layout.as_ref().map(Limits::detect).unwrap_or_default(),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            apparmor: read("/sys/module/apparmor/parameters/enabled") == "Y",
            thermal: thermal(Path::new("/sys/devices/system/cpu")),
        }
    }
}

impl Limits {
    fn detect(layout: &Layout) -> Limits {
        let legacy = |controller: &str| {
            let hierarchy = layout
                .legacy()
                .iter()
                .find(|hierarchy| hierarchy.has(controller));
            hierarchy.map(|hierarchy| hierarchy.mount.clone())
        };
        let has = |controller: &str| layout.has_controller(controller);
        // In version 1 the root has every file of its controller; in version 2
        // the root has none, and the controllers have what version 1's had.
        let offers = |controller: &str, file: &str| match legacy(controller) {
            Some(mount) => mount.join(file).exists(),
            None => has(controller),
        };
        let only_legacy = |controller: &str, file: &str| {
            legacy(controller).is_some_and(|mount: PathBuf| mount.join(file).exists())
        };
        Limits {
            memory: has("memory"),
            swap: offers("memory", "memory.memsw.limit_in_bytes"),
            reservation: offers("memory", "memory.soft_limit_in_bytes"),
            swappiness: only_legacy("memory", "memory.swappiness"),
            oom_kill_disable: only_legacy("memory", "memory.oom_control"),
            cpu_shares: offers("cpu", "cpu.shares"),
            cpu_quota: offers("cpu", "cpu.cfs_quota_us"),
            cpu_realtime: only_legacy("cpu", "cpu.rt_runtime_us"),
            cpuset: has("cpuset"),
            pids: has("pids"),
            blkio_weight: has("io")
                || only_legacy("blkio", "blkio.weight")
                || only_legacy("blkio", "blkio.bfq.weight"),
            blkio_throttle: has("io") || only_legacy("blkio", "blkio.throttle.read_bps_device"),
        }
    }
}

fn thermal(cpus: &Path) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(cpus)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .filter_map(|path| path.into_os_string().into_string().ok())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_cpu_a_node_and_a_name() {
        let machine = Machine::this();
        assert!(machine.cpu_count > 0);
        assert!(machine.cpus.starts_with('0'), "{}", machine.cpus);
        assert!(
            machine.memory_nodes.starts_with('0'),
            "{}",
            machine.memory_nodes
        );
        assert!(!machine.hostname.is_empty());
    }
}
