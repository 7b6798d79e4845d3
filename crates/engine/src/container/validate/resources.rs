//! Limits: what a container may ask of memory, processors, disks and the
//! kernel's other resources, and what the machine cannot limit. It must not
//! know cgroup files.
//!
//! Source: moby `daemon/daemon_unix.go` (verifyPlatformContainerResources).

use std::collections::BTreeSet;

use conex_api::container::{HostConfig, Ulimit};

use super::machine::Machine;
use crate::Error;

/// Below it nothing starts.
const MIN_MEMORY_BYTES: i64 = 6 << 20;

pub(super) fn check(
    machine: &Machine,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    // Both mean no limit.
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    check_memory(machine, host, warnings)?;
    check_oom(machine, host, warnings)?;
    if host.pids_limit.is_some() && !machine.limits.pids {
        warnings.push(lacks("PIDs limit capabilities", "PIDs limit discarded."));
        host.pids_limit = None;
    }
    check_cpu(machine, host, warnings)?;
    check_cpuset(machine, host, warnings)?;
    check_blkio(machine, host, warnings)?;
    check_devices(host)?;
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    host.ulimits.iter().flatten().try_for_each(check_ulimit)
}

fn lacks(feature: &str, outcome: &str) -> String {
    format!("Your kernel does not support {feature} or the cgroup is not mounted. {outcome}")
}

fn check_memory(
    machine: &Machine,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let limits = machine.limits;
    if host.memory != 0 && host.memory < MIN_MEMORY_BYTES {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if host.memory > 0 && !limits.memory {
        warnings.push(lacks("memory limit capabilities", "Limitation discarded."));
        (host.memory, host.memory_swap) = (0, -1);
    }
    if host.memory > 0 && host.memory_swap != -1 && !limits.swap {
        warnings.push(lacks(
            "swap limit capabilities",
            "Memory limited without swap.",
        ));
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    if host.memory_swappiness.is_some() && !limits.swappiness {
        warnings.push(lacks(
            "memory swappiness capabilities",
            "Memory swappiness discarded.",
        ));
        host.memory_swappiness = None;
    }
    if let Some(swappiness) = host.memory_swappiness
        && !(0..=100).contains(&swappiness)
    {
        return Err(Error::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    if host.memory_reservation > 0 && !limits.reservation {
        warnings.push(lacks(
            "memory soft limit capabilities",
            "Limitation discarded.",
        ));
        host.memory_reservation = 0;
    }
    if host.memory_reservation > 0 && host.memory_reservation < MIN_MEMORY_BYTES {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if host.memory > 0 && host.memory < host.memory_reservation {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    Ok(())
}

fn check_oom(
    machine: &Machine,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let is_disabled = host.oom_kill_disable == Some(true);
    if !machine.limits.oom_kill_disable {
        if is_disabled {
            warnings.push(
                "Your kernel does not support OomKillDisable. OomKillDisable discarded.".into(),
            );
        }
        host.oom_kill_disable = None;
    } else if is_disabled && host.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can \
             result in the system running out of resources."
                .into(),
        );
    }
    let score = host.oom_score_adj;
    if !(-1000..=1000).contains(&score) {
        return Err(Error::invalid(format!(
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        )));
    }
    Ok(())
}

fn check_cpu(
    machine: &Machine,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let limits = machine.limits;
    let conflict = |other: &str| {
        let text = format!("Conflicting options: Nano CPUs and CPU {other} cannot both be set");
        Err(Error::invalid(text))
    };
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return conflict("Period");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return conflict("Quota");
    }
    if host.nano_cpus > 0 && !limits.cpu_quota {
        return Err(Error::invalid(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the \
             cgroup is not mounted",
        ));
    }
    let count = machine.cpu_count;
    if !(0..=i64::from(count) * 1_000_000_000).contains(&host.nano_cpus) {
        return Err(Error::invalid(format!(
            "Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )));
    }
    if host.cpu_shares < 0 {
        return Err(Error::invalid(
            "invalid CPUShares: value must be a positive integer",
        ));
    }
    if host.cpu_shares > 0 && !limits.cpu_shares {
        warnings.push(lacks("CPU shares", "Shares discarded."));
        host.cpu_shares = 0;
    }
    if (host.cpu_period != 0 || host.cpu_quota != 0) && !limits.cpu_quota {
        warnings.push(lacks("CPU CFS scheduler", "CPU period/quota discarded."));
        (host.cpu_period, host.cpu_quota) = (0, 0);
    }
    if host.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1_000 {
        return Err(Error::invalid(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ));
    }
    let (period, runtime) = (host.cpu_realtime_period, host.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !limits.cpu_realtime {
        return Err(Error::invalid(
            "kernel does not support CPU real-time scheduler",
        ));
    }
    if period != 0 && runtime > period {
        return Err(Error::invalid(
            "cpu real-time runtime cannot be higher than cpu real-time period",
        ));
    }
    if host.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".into());
        host.cpu_percent = 0;
    }
    Ok(())
}

fn check_cpuset(
    machine: &Machine,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    if host.cpuset_cpus.is_empty() && host.cpuset_mems.is_empty() {
        return Ok(());
    }
    if !machine.limits.cpuset {
        warnings.push(lacks("cpuset", "Cpuset discarded."));
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
        return Ok(());
    }
    for (asked, available, list, things) in [
        (&host.cpuset_cpus, &machine.cpus, "cpus", "CPUs"),
        (
            &host.cpuset_mems,
            &machine.memory_nodes,
            "mems",
            "memory nodes",
        ),
    ] {
        let numbers = parse_numbers(asked)
            .ok_or_else(|| Error::invalid(format!("Invalid value {asked} for cpuset {list}")))?;
        let known = parse_numbers(available).unwrap_or_default();
        if !numbers.is_subset(&known) {
            return Err(Error::invalid(format!(
                "Requested {things} are not available - requested {asked}, available: {available}"
            )));
        }
    }
    Ok(())
}

/// Reads `0-2,4`; no kernel has more than 8192 of anything.
fn parse_numbers(list: &str) -> Option<BTreeSet<u16>> {
    const MAX: u16 = 8191;
    let mut numbers = BTreeSet::new();
    if list.is_empty() {
        return Some(numbers);
    }
    let number = |text: &str| {
        let number = super::is_digits(text).then(|| text.parse::<u16>().ok())??;
        (number <= MAX).then_some(number)
    };
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

fn check_blkio(
    machine: &Machine,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let limits = machine.limits;
    let in_range = |weight: u16| (10..=1000).contains(&weight);
    if host.blkio_weight > 0 && !limits.blkio_weight {
        warnings.push(lacks("Block I/O weight", "Weight discarded."));
        host.blkio_weight = 0;
    }
    if host.blkio_weight > 0 && !in_range(host.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if host.io_maximum_bandwidth != 0 || host.io_maximum_iops != 0 {
        return Err(Error::invalid(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        ));
    }
    let is_asked = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if host
        .blkio_weight_device
        .as_ref()
        .is_some_and(|list| !list.is_empty())
        && !limits.blkio_weight
    {
        warnings.push(lacks("Block I/O weight_device", "Weight-device discarded."));
        host.blkio_weight_device = None;
    }
    let bad = host
        .blkio_weight_device
        .iter()
        .flatten()
        .find(|device| !in_range(device.weight));
    if let Some(device) = bad {
        return Err(Error::invalid(format!(
            "invalid weight for device: {}:{}",
            device.path, device.weight
        )));
    }
    if limits.blkio_throttle {
        return Ok(());
    }
    for (list, feature, outcome) in [
        (
            &mut host.blkio_device_read_bps,
            "BPS Block I/O read limit",
            "BPS read",
        ),
        (
            &mut host.blkio_device_write_bps,
            "BPS Block I/O write limit",
            "BPS write",
        ),
        (
            &mut host.blkio_device_read_iops,
            "IOPS Block read limit",
            "IOPS read",
        ),
        (
            &mut host.blkio_device_write_iops,
            "IOPS Block write limit",
            "IOPS write",
        ),
    ] {
        if is_asked(list) {
            let outcome = format!("Block I/O {outcome} limit discarded.");
            warnings.push(lacks(feature, &outcome));
            *list = None;
        }
    }
    Ok(())
}

fn check_devices(host: &HostConfig) -> Result<(), Error> {
    for device in host.devices.iter().flatten() {
        let letters = &device.cgroup_permissions;
        let is_mode = letters.len() <= 3 && letters.chars().all(|letter| "rwm".contains(letter));
        if !is_mode {
            return Err(Error::invalid(format!("invalid device mode: {letters}")));
        }
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        super::super::spec::parse_device_rule(rule)?;
    }
    Ok(())
}

/// getrlimit(2), without `RLIMIT_`.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn check_ulimit(limit: &Ulimit) -> Result<(), Error> {
    let Ulimit { name, soft, hard } = limit;
    if !ULIMITS.contains(&name.as_str()) {
        return Err(Error::invalid(format!("invalid ulimit type: {name}")));
    }
    if *hard != -1 && (*soft == -1 || soft > hard) {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    if *soft < -1 || *hard < -1 {
        return Err(Error::invalid(format!(
            "invalid ulimit value: {name}={soft}:{hard}"
        )));
    }
    Ok(())
}

pub(super) fn set_defaults(machine: &Machine, engine: &crate::Config, host: &mut HostConfig) {
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.shm_size == 0 {
        host.shm_size = engine.shm_size_bytes;
    }
    if machine.limits.oom_kill_disable {
        host.oom_kill_disable.get_or_insert(false);
    }
}
