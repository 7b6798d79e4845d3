//! Limits in the specification's units. It must not know cgroup files.

use conex_api::container::HostConfig;
use conex_api::container::ThrottleDevice as AskedRate;
use conex_spec::runtime::{
    BlockIo, Cpu, DeviceCgroup, Memory, Pids, Resources, ThrottleDevice, WeightDevice,
};

use crate::Error;

/// `unified`: cgroups are version 2 alone, which lacks what some containers
/// were created with before the machine changed.
pub(in crate::container) fn resources(
    asked: &HostConfig,
    devices: Vec<DeviceCgroup>,
    unified: bool,
) -> Result<Resources, Error> {
    let some = |is_asked: bool| is_asked.then_some(());
    let (mut memory, mut cpu, block_io) = (memory(asked), cpu(asked), block_io(asked)?);
    if unified {
        (memory.swappiness, memory.disable_oom_killer) = (None, None);
        (cpu.realtime_period, cpu.realtime_runtime) = (None, None);
    }
    Ok(Resources {
        devices,
        memory: some(memory != Memory::default()).map(|()| memory),
        cpu: some(cpu != Cpu::default()).map(|()| cpu),
        pids: asked.pids_limit.map(|limit| Pids { limit: Some(limit) }),
        block_io: some(block_io != BlockIo::default()).map(|()| block_io),
        ..Resources::default()
    })
}

fn positive(value: i64) -> Option<i64> {
    Some(value).filter(|value| *value > 0)
}

fn unsigned(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

fn memory(asked: &HostConfig) -> Memory {
    Memory {
        limit: positive(asked.memory),
        reservation: positive(asked.memory_reservation),
        // No limit is what there is without one.
        swap: positive(asked.memory_swap),
        swappiness: asked
            .memory_swappiness
            .and_then(|percent| u64::try_from(percent).ok()),
        disable_oom_killer: asked.oom_kill_disable.filter(|is_disabled| *is_disabled),
        ..Memory::default()
    }
}

fn cpu(asked: &HostConfig) -> Cpu {
    const PERIOD_US: i64 = 100_000;
    let text = |list: &String| Some(list.clone()).filter(|list| !list.is_empty());
    let mut cpu = Cpu {
        shares: unsigned(asked.cpu_shares),
        quota: Some(asked.cpu_quota).filter(|quota| *quota != 0),
        period: unsigned(asked.cpu_period),
        realtime_runtime: Some(asked.cpu_realtime_runtime).filter(|runtime| *runtime != 0),
        realtime_period: unsigned(asked.cpu_realtime_period),
        cpus: text(&asked.cpuset_cpus),
        mems: text(&asked.cpuset_mems),
        ..Cpu::default()
    };
    if asked.nano_cpus > 0 {
        // 10⁻⁹ CPUs times the period, in an order that cannot overflow.
        let quota = i128::from(asked.nano_cpus) * i128::from(PERIOD_US) / 1_000_000_000;
        cpu.period = unsigned(PERIOD_US);
        cpu.quota = Some(i64::try_from(quota).unwrap_or(i64::MAX));
    }
    cpu
}

fn block_io(asked: &HostConfig) -> Result<BlockIo, Error> {
    let rates = |list: &Option<Vec<AskedRate>>| -> Result<Vec<ThrottleDevice>, Error> {
        let rate = |device: &AskedRate| {
            let (major, minor) = numbers(&device.path)?;
            Ok(ThrottleDevice {
                major,
                minor,
                rate: device.rate,
            })
        };
        list.iter().flatten().map(rate).collect()
    };
    let mut weights = Vec::new();
    for device in asked.blkio_weight_device.iter().flatten() {
        let (major, minor) = numbers(&device.path)?;
        weights.push(WeightDevice {
            major,
            minor,
            weight: Some(device.weight),
            leaf_weight: None,
        });
    }
    Ok(BlockIo {
        weight: Some(asked.blkio_weight).filter(|weight| *weight > 0),
        leaf_weight: None,
        weight_device: weights,
        throttle_read_bps_device: rates(&asked.blkio_device_read_bps)?,
        throttle_write_bps_device: rates(&asked.blkio_device_write_bps)?,
        throttle_read_iops_device: rates(&asked.blkio_device_read_iops)?,
        throttle_write_iops_device: rates(&asked.blkio_device_write_iops)?,
    })
}

/// Major and minor number of the device at a path of the host.
fn numbers(path: &str) -> Result<(i64, i64), Error> {
    let stat = rustix::fs::stat(path)
        .map_err(|errno| Error::invalid(format!("stat {path}: {}", conex_sys::describe(errno))))?;
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    Ok((major.into(), minor.into()))
}
