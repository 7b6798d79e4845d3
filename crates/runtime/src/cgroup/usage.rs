//! What a cgroup has used, in one form for both versions. It must not know who asks.
//!
//! Source: Documentation/admin-guide/cgroup-v1 (cpuacct, memory, blkio-controller);
//! cgroup-v2.rst.

use std::collections::BTreeMap;

use super::Cgroup;
use super::file::{Dir, Place};

/// Nanoseconds of the unit in which version 1 tells user and system time (`USER_HZ`).
const TICK_NS: u64 = 10_000_000;

/// A sample. What a kernel does not tell is zero or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time.
    pub cpu: CpuTime,
    /// Memory.
    pub memory: MemoryUse,
    /// Processes and threads.
    pub pids: u64,
    /// How many there may be, if that is limited.
    pub pids_limit: Option<u64>,
    /// Bytes by device and operation.
    pub io_bytes: Vec<DeviceFigure>,
    /// Operations by device and operation.
    pub io_operations: Vec<DeviceFigure>,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// All of it.
    pub total_ns: u64,
    /// By processor, on version 1.
    pub per_cpu_ns: Vec<u64>,
    /// In the kernel.
    pub kernel_ns: u64,
    /// Outside of it.
    pub user_ns: u64,
    /// Periods of the quota.
    pub periods: u64,
    /// Those in which it was used up.
    pub throttled_periods: u64,
    /// How long it was kept from running.
    pub throttled_ns: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use.
    pub usage: u64,
    /// The most so far, on version 1.
    pub max_usage: u64,
    /// How often the limit was hit, on version 1.
    pub failures: u64,
    /// The limit; `None` without one.
    pub limit: Option<u64>,
    /// The kernel's figures by name.
    pub stats: BTreeMap<String, u64>,
}

/// One figure of a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFigure {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// What was done: `Read`, `Write`, `Total`, … on version 1, `read` and `write` on version 2.
    pub operation: String,
    /// The figure.
    pub value: u64,
}

impl Cgroup {
    /// What was used so far; a file that cannot be read tells nothing.
    pub fn usage(&self) -> Usage {
        let (io_bytes, io_operations) = self.io_use();
        let pids = match self.place("pids") {
            Place::V1(dir) | Place::V2(dir) => Some(dir),
            Place::Missing => None,
        };
        Usage {
            cpu: self.cpu_time(),
            memory: self.memory_use(),
            pids: pids.map_or(0, |dir| number(dir, "pids.current")),
            pids_limit: pids.and_then(|dir| limit(&text(dir, "pids.max"))),
            io_bytes,
            io_operations,
        }
    }

    fn cpu_time(&self) -> CpuTime {
        let mut time = CpuTime::default();
        match self.place("cpuacct") {
            Place::V1(dir) => {
                time.total_ns = number(dir, "cpuacct.usage");
                let each = text(dir, "cpuacct.usage_percpu");
                time.per_cpu_ns = each.split_whitespace().flat_map(str::parse).collect();
                let ticks = keyed(&text(dir, "cpuacct.stat"));
                let ns = |key: &str| ticks.get(key).map_or(0, |ticks| ticks * TICK_NS);
                (time.user_ns, time.kernel_ns) = (ns("user"), ns("system"));
            }
            Place::V2(_) | Place::Missing => {}
        }
        let unified = self.unified.as_ref().map(|unified| Dir(&unified.path));
        let (dir, is_v1) = match self.place("cpu") {
            Place::V1(dir) => (Some(dir), true),
            Place::V2(dir) => (Some(dir), false),
            // Version 2 counts without the controller too.
            Place::Missing => (unified, false),
        };
        let stat = dir
            .map(|dir| keyed(&text(dir, "cpu.stat")))
            .unwrap_or_default();
        let of = |key: &str| stat.get(key).copied().unwrap_or(0);
        time.periods = of("nr_periods");
        time.throttled_periods = of("nr_throttled");
        if is_v1 {
            time.throttled_ns = of("throttled_time");
        } else {
            time.throttled_ns = of("throttled_usec") * 1000;
            if time.total_ns == 0 {
                time.total_ns = of("usage_usec") * 1000;
                time.user_ns = of("user_usec") * 1000;
                time.kernel_ns = of("system_usec") * 1000;
            }
        }
        time
    }

    fn memory_use(&self) -> MemoryUse {
        match self.place("memory") {
            Place::V1(dir) => MemoryUse {
                usage: number(dir, "memory.usage_in_bytes"),
                max_usage: number(dir, "memory.max_usage_in_bytes"),
                failures: number(dir, "memory.failcnt"),
                limit: limit(&text(dir, "memory.limit_in_bytes")),
                stats: keyed(&text(dir, "memory.stat")),
            },
            Place::V2(dir) => MemoryUse {
                usage: number(dir, "memory.current"),
                limit: limit(&text(dir, "memory.max")),
                stats: keyed(&text(dir, "memory.stat")),
                ..MemoryUse::default()
            },
            Place::Missing => MemoryUse::default(),
        }
    }

    fn io_use(&self) -> (Vec<DeviceFigure>, Vec<DeviceFigure>) {
        match (self.place("blkio"), self.place("io")) {
            (Place::V1(dir), _) => {
                let figures = |name| figures_v1(&text(dir, name));
                (
                    figures("blkio.throttle.io_service_bytes_recursive"),
                    figures("blkio.throttle.io_serviced_recursive"),
                )
            }
            (_, Place::V2(dir)) => {
                let stat = text(dir, "io.stat");
                (
                    figures_v2(&stat, [("rbytes", "read"), ("wbytes", "write")]),
                    figures_v2(&stat, [("rios", "read"), ("wios", "write")]),
                )
            }
            _ => (Vec::new(), Vec::new()),
        }
    }
}

fn text(dir: Dir<'_>, name: &str) -> String {
    dir.read(name).unwrap_or_default()
}

fn number(dir: Dir<'_>, name: &str) -> u64 {
    text(dir, name).trim().parse().unwrap_or(0)
}

/// `max` is none.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// One pair a line.
fn keyed(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

fn numbers(device: &str) -> Option<(u64, u64)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 Read 4096` a line, and a last one with the sum of all devices.
fn figures_v1(text: &str) -> Vec<DeviceFigure> {
    let figure = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = numbers(words.next()?)?;
        Some(DeviceFigure {
            major,
            minor,
            operation: words.next()?.to_owned(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(figure).collect()
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 …` a line.
fn figures_v2(text: &str, wanted: [(&str, &str); 2]) -> Vec<DeviceFigure> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(numbers) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Some((_, operation)) = wanted.iter().find(|(name, _)| *name == key) else {
                continue;
            };
            all.push(DeviceFigure {
                major,
                minor,
                operation: (*operation).to_owned(),
                value: value.parse().unwrap_or(0),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_devices_are_read_in_both_forms() {
        let v1 = figures_v1("254:0 Read 1982464\n254:0 Total 1982464\nTotal 1982464\n");
        assert_eq!(v1.len(), 2);
        assert_eq!((v1[1].major, v1[1].operation.as_str()), (254, "Total"));
        let stat = "254:0 rbytes=7 wbytes=9 rios=1 wios=2 dbytes=0 dios=0\n8:0 \n";
        let v2 = figures_v2(stat, [("rios", "read"), ("wios", "write")]);
        let shown: Vec<_> = v2.iter().map(|f| (f.operation.as_str(), f.value)).collect();
        assert_eq!(shown, [("read", 1), ("write", 2)]);
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!(
            (limit("max\n"), limit("50\n"), limit("")),
            (None, Some(50), None)
        );
        assert_eq!(keyed("a 1\nbroken\nb x\n").len(), 1);
    }
}
