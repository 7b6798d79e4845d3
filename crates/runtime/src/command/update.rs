//! `update`: other limits for a container that exists.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use conex_spec::runtime::{BlockIo, Cpu, MAX_CONFIG_BYTES, Memory, Pids, Resources, Status};

use super::record::Container;
use super::{Error, Flag, Given, Globals, Verb, bundle, value};

pub(super) const VERB: Verb = Verb {
    name: "update",
    about: "change the limits of a container",
    usage: "[-r FILE|-] [--memory BYTES] [--pids-limit N] … ID",
    flags: &FLAGS,
    run,
};

const FLAGS: [Flag; 13] = [
    value("resources").short('r'),
    value("blkio-weight"),
    value("cpu-period"),
    value("cpu-quota"),
    value("cpu-share"),
    value("cpu-rt-period"),
    value("cpu-rt-runtime"),
    value("cpuset-cpus"),
    value("cpuset-mems"),
    value("memory"),
    value("memory-reservation"),
    value("memory-swap"),
    value("pids-limit"),
];

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    let container = Container::open(globals, given.id()?)?;
    if container.status()? == Status::Stopped {
        return Err(Error::NotRunning);
    }
    let mut resources = match given.value("resources") {
        Some(file) => read(Path::new(file))?,
        None => from_flags(given)?,
    };
    zero_is_unchanged(&mut resources);
    let cgroup = container.cgroup()?.ok_or(Error::NotRunning)?;
    for warning in cgroup.update(&resources)? {
        globals.log.warn(&warning);
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Resources, Error> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .take(MAX_CONFIG_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io("read", "standard input", e))?;
        bytes
    } else {
        bundle::read(path, MAX_CONFIG_BYTES as u64)?
    };
    serde_json::from_slice(&bytes).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })
}

fn from_flags(given: &Given) -> Result<Resources, Error> {
    let text = |name| Ok::<_, Error>(given.text(name)?.map(str::to_owned));
    Ok(Resources {
        memory: Some(Memory {
            limit: given.number("memory")?,
            reservation: given.number("memory-reservation")?,
            swap: given.number("memory-swap")?,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: given.number("cpu-share")?,
            quota: given.number("cpu-quota")?,
            period: given.number("cpu-period")?,
            realtime_runtime: given.number("cpu-rt-runtime")?,
            realtime_period: given.number("cpu-rt-period")?,
            cpus: text("cpuset-cpus")?,
            mems: text("cpuset-mems")?,
            ..Cpu::default()
        }),
        pids: Some(Pids {
            limit: given.number("pids-limit")?,
        }),
        block_io: Some(BlockIo {
            weight: given.number("blkio-weight")?,
            ..BlockIo::default()
        }),
        ..Resources::default()
    })
}

/// Callers send whole structs in which what they do not change is zero.
fn zero_is_unchanged(resources: &mut Resources) {
    fn clear<T: Default + PartialEq>(value: &mut Option<T>) {
        value.take_if(|v| *v == T::default());
    }
    // Device rules are of the creation only.
    resources.devices.clear();
    if let Some(memory) = &mut resources.memory {
        clear(&mut memory.limit);
        clear(&mut memory.reservation);
        clear(&mut memory.swap);
        clear(&mut memory.kernel);
        clear(&mut memory.kernel_tcp);
    }
    if let Some(cpu) = &mut resources.cpu {
        clear(&mut cpu.shares);
        clear(&mut cpu.quota);
        clear(&mut cpu.period);
        clear(&mut cpu.realtime_runtime);
        clear(&mut cpu.realtime_period);
        clear(&mut cpu.cpus);
        clear(&mut cpu.mems);
    }
    if let Some(pids) = &mut resources.pids {
        clear(&mut pids.limit);
    }
    if let Some(io) = &mut resources.block_io {
        clear(&mut io.weight);
        clear(&mut io.leaf_weight);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn zeros_of_a_whole_struct_change_nothing() {
        let json =
            br#"{"memory":{"limit":0,"swap":-1},"cpu":{"shares":0,"cpus":""},"pids":{"limit":7}}"#;
        let mut resources: Resources = serde_json::from_slice(json).unwrap();
        zero_is_unchanged(&mut resources);
        let memory = resources.memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (None, Some(-1)));
        assert_eq!(resources.cpu.unwrap().shares, None);
        assert_eq!(resources.pids.unwrap().limit, Some(7));
    }
}
