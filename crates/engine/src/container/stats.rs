//! `stats`: samples of what a container uses, from its cgroup and its network
//! namespace. Whoever asks samples for itself, so that many askers wait side by side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conex_api::container::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats,
    StatsMode, ThrottlingData,
};
use conex_runtime::cgroup::usage::{DeviceFigure, Usage};
use conex_runtime::cgroup::{Cgroup, Mode};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::Container;
use crate::engine::Inner;
use crate::time::{now_ns, rfc3339};
use crate::{Engine, Error};

/// Between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// Nanoseconds of the unit of /proc/stat.
const TICK_NS: u64 = 10_000_000;

impl Engine {
    /// Samples a container: one answer, or one a second until it is gone. One that does not run
    /// has nothing but its name to tell.
    pub fn container_stats(
        &self,
        name: &str,
        mode: StatsMode,
    ) -> Result<BoxStream<'static, Stats>, Error> {
        let container = self.inner.find(name)?;
        let engine = Arc::clone(&self.inner);
        if mode != StatsMode::Stream && !container.state().is_running() {
            let nothing = nothing_of(&container);
            return Ok(stream::once(async { nothing }).boxed());
        }
        let mut ticks = tokio::time::interval_at(Instant::now(), PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let first = None::<Stats>;
        let samples = stream::unfold((first, ticks), move |(before, mut ticks)| {
            let (engine, container) = (Arc::clone(&engine), Arc::clone(&container));
            async move {
                ticks.tick().await;
                if container.state().removed {
                    return None;
                }
                let sampled = tokio::task::spawn_blocking(move || engine.sample(&container));
                let mut sample = sampled.await.ok()?;
                match before {
                    Some(before) => {
                        sample.preread = before.read;
                        sample.precpu_stats = before.cpu_stats;
                    }
                    None => sample.preread = rfc3339(0),
                }
                Some((sample.clone(), (Some(sample), ticks)))
            }
        });
        Ok(match mode {
            StatsMode::Stream => samples.boxed(),
            StatsMode::OneShot => samples.take(1).boxed(),
            StatsMode::Once => samples.skip(1).take(1).boxed(),
        })
    }
}

fn nothing_of(container: &Container) -> Stats {
    Stats {
        id: container.id().to_owned(),
        name: format!("/{}", container.name()),
        os_type: "linux".into(),
        read: rfc3339(0),
        preread: rfc3339(0),
        ..Stats::default()
    }
}

impl Inner {
    /// Blocks: reads a dozen small files of the kernel.
    fn sample(&self, container: &Container) -> Stats {
        let mut stats = nothing_of(container);
        let state = container.state();
        let record = &container.record;
        let path = self.cgroup_path(&record.id, &record.host_config.cgroup_parent);
        let Ok(cgroup) = Cgroup::open(&self.cgroups, &path) else {
            return stats;
        };
        if !state.is_running() {
            return stats;
        }
        let usage = cgroup.usage();
        stats.read = rfc3339(now_ns());
        stats.cpu_stats = cpu(
            &usage,
            &std::fs::read_to_string("/proc/stat").unwrap_or_default(),
        );
        stats.memory_stats = memory(&usage);
        stats.pids_stats = PidsStats {
            current: usage.pids,
            limit: usage.pids_limit.unwrap_or(0),
        };
        stats.blkio_stats = block_io(&usage, self.cgroups.mode() == Mode::Unified);
        if record.host_config.network_mode != "host" {
            let file = format!("/proc/{}/net/dev", state.pid);
            stats.networks = interfaces(&std::fs::read_to_string(file).unwrap_or_default());
        }
        stats
    }
}

fn cpu(usage: &Usage, proc_stat: &str) -> CpuStats {
    let (system_ns, online) = machine(proc_stat);
    let cpu = &usage.cpu;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.total_ns,
            percpu_usage: cpu.per_cpu_ns.clone(),
            usage_in_kernelmode: cpu.kernel_ns,
            usage_in_usermode: cpu.user_ns,
        },
        system_cpu_usage: system_ns,
        online_cpus: online,
        throttling_data: ThrottlingData {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled_ns,
        },
    }
}

/// Nanoseconds of all processors, idle ones too, and how many those are: proc_stat(5).
fn machine(proc_stat: &str) -> (u64, u32) {
    /// user, nice, system, idle, iowait, irq, softirq, steal; what guests use is in the first two.
    const FIELDS: usize = 8;
    let (mut ticks, mut online) = (0u64, 0);
    for line in proc_stat.lines() {
        let mut words = line.split_whitespace();
        match words.next().and_then(|word| word.strip_prefix("cpu")) {
            Some("") => {
                let fields = words.take(FIELDS).flat_map(str::parse::<u64>);
                ticks = fields.fold(0, u64::saturating_add);
            }
            Some(_) => online += 1,
            None => {}
        }
    }
    (ticks.saturating_mul(TICK_NS), online)
}

fn memory(usage: &Usage) -> MemoryStats {
    let memory = &usage.memory;
    let machine = crate::info::memory_bytes().unsigned_abs();
    MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage,
        stats: memory.stats.clone(),
        failcnt: memory.failures,
        limit: memory.limit.map_or(machine, |limit| limit.min(machine)),
    }
}

/// Version 2 tells less, which Docker shows as `null`.
fn block_io(usage: &Usage, is_v2: bool) -> BlkioStats {
    let entries = |figures: &[DeviceFigure]| {
        let entry = |figure: &DeviceFigure| BlkioEntry {
            major: figure.major,
            minor: figure.minor,
            op: figure.operation.clone(),
            value: figure.value,
        };
        let all: Vec<BlkioEntry> = figures.iter().map(entry).collect();
        Some(all).filter(|all| !is_v2 || !all.is_empty())
    };
    let none = || (!is_v2).then(Vec::new);
    BlkioStats {
        io_service_bytes_recursive: entries(&usage.io_bytes),
        io_serviced_recursive: entries(&usage.io_operations),
        io_queue_recursive: none(),
        io_service_time_recursive: none(),
        io_wait_time_recursive: none(),
        io_merged_recursive: none(),
        io_time_recursive: none(),
        sectors_recursive: none(),
    }
}

/// /proc/PID/net/dev shows the interfaces of that process's namespace; loopback is nobody's
/// traffic.
fn interfaces(net_dev: &str) -> Option<BTreeMap<String, NetworkStats>> {
    let interface = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let figures: Vec<u64> = figures.split_whitespace().flat_map(str::parse).collect();
        let at = |place: usize| figures.get(place).copied().unwrap_or(0);
        let name = name.trim();
        (name != "lo" && figures.len() >= 16).then(|| {
            let stats = NetworkStats {
                rx_bytes: at(0),
                rx_packets: at(1),
                rx_errors: at(2),
                rx_dropped: at(3),
                tx_bytes: at(8),
                tx_packets: at(9),
                tx_errors: at(10),
                tx_dropped: at(11),
            };
            (name.to_owned(), stats)
        })
    };
    let found: BTreeMap<_, _> = net_dev.lines().filter_map(interface).collect();
    Some(found).filter(|found| !found.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_machines_time_is_that_of_all_its_processors() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5\n";
        assert_eq!(machine(text), (36 * TICK_NS, 2));
        assert_eq!(machine(""), (0, 0));
    }

    #[test]
    fn interfaces_but_loopback_are_told_by_name() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes\n    lo: 1 1 0 0 0 0 0 0 \
                    1 1 0 0 0 0 0 0\n  eth0: 736 8 1 2 0 0 0 0 126 3 4 5 0 0 0 0\n";
        let found = interfaces(text).unwrap();
        let eth0 = &found["eth0"];
        assert_eq!(found.len(), 1);
        assert_eq!((eth0.rx_bytes, eth0.rx_dropped), (736, 2));
        assert_eq!(
            (eth0.tx_bytes, eth0.tx_packets, eth0.tx_dropped),
            (126, 3, 5)
        );
        assert_eq!(interfaces(""), None);
    }
}
