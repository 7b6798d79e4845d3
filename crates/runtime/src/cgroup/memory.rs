//! The memory controller: limits of memory, swap and kernel buffers. It must
//! not know defaults such as swap being twice the memory.

use std::os::fd::{AsRawFd, OwnedFd};

use conex_spec::runtime::{Memory, Resources};
use rustix::event::{EventfdFlags, PollFlags};
use rustix::io::Errno;

use super::Error;
use super::file::{Dir, Place};

const NO_LIMIT_SUPPORT: &str = "Your kernel does not support memory limit capabilities or the \
     cgroup is not mounted. Limitation discarded.";
const NO_SWAP: &str = "Your kernel does not support swap limit capabilities or the cgroup is not \
     mounted. Memory limited without swap.";
const NO_RESERVATION: &str = "Your kernel does not support memory soft limit capabilities or the \
     cgroup is not mounted. Limitation discarded.";
const NO_SWAPPINESS: &str = "Your kernel does not support memory swappiness capabilities, or the \
     cgroup is not mounted. Memory swappiness discarded.";
const NO_OOM_DISABLE: &str =
    "Your kernel does not support OomKillDisable. OomKillDisable discarded.";

pub(super) fn apply(
    place: Place<'_>,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(memory) = &resources.memory else {
        return Ok(());
    };
    match place {
        Place::V1(dir) => apply_v1(dir, memory, warnings),
        Place::V2(dir) => apply_v2(dir, memory, warnings),
        Place::Missing => {
            if set(memory.limit).is_some() || set(memory.swap).is_some() {
                warnings.push(NO_LIMIT_SUPPORT.to_owned());
            }
            Ok(())
        }
    }
}

/// Zero means the same as absent.
fn set(bytes: Option<i64>) -> Option<i64> {
    bytes.filter(|bytes| *bytes != 0)
}

fn apply_v1(dir: Dir<'_>, memory: &Memory, warnings: &mut Vec<String>) -> Result<(), Error> {
    let limit = set(memory.limit);
    // Without a limit on memory there is none on memory and swap together.
    let swap = set(memory.swap).or(limit.filter(|limit| *limit < 0));
    match (limit, swap) {
        (Some(limit), Some(swap)) => {
            // Memory and swap may never be below memory alone, not even between two writes.
            let current: u64 = number(&dir.read("memory.limit_in_bytes")?);
            let raised = swap < 0 || current < swap.unsigned_abs();
            if raised {
                write_swap_v1(dir, swap, warnings)?;
                write_limit_v1(dir, limit)?;
            } else {
                write_limit_v1(dir, limit)?;
                write_swap_v1(dir, swap, warnings)?;
            }
        }
        (Some(limit), None) => write_limit_v1(dir, limit)?,
        (None, Some(swap)) => write_swap_v1(dir, swap, warnings)?,
        (None, None) => {}
    }
    if let Some(reservation) = set(memory.reservation)
        && !dir.write_if_supported("memory.soft_limit_in_bytes", reservation)?
    {
        warnings.push(NO_RESERVATION.to_owned());
    }
    if let Some(tcp) = set(memory.kernel_tcp) {
        dir.write_if_supported("memory.kmem.tcp.limit_in_bytes", tcp)?;
    }
    if let Some(disable) = memory.disable_oom_killer
        // Absent and false say the same, and a write costs.
        && (disable || dir.keyed("memory.oom_control", "oom_kill_disable")? == Some(1))
        && !dir.write_if_supported("memory.oom_control", u8::from(disable))?
    {
        warnings.push(NO_OOM_DISABLE.to_owned());
    }
    if let Some(swappiness) = memory.swappiness {
        if swappiness > 100 {
            return Err(Error::Invalid(format!(
                "memory swappiness {swappiness} is not between 0 and 100"
            )));
        }
        if !dir.write_if_supported("memory.swappiness", swappiness)? {
            warnings.push(NO_SWAPPINESS.to_owned());
        }
    }
    Ok(())
}

fn write_limit_v1(dir: Dir<'_>, limit_bytes: i64) -> Result<(), Error> {
    match dir.write("memory.limit_in_bytes", limit_bytes) {
        // What is in use could not be reclaimed below the limit.
        Err(Error::Write { source, .. })
            if source.raw_os_error() == Some(Errno::BUSY.raw_os_error()) =>
        {
            Err(Error::MemoryInUse {
                limit_bytes,
                usage_bytes: number(&dir.read("memory.usage_in_bytes")?),
            })
        }
        other => other,
    }
}

fn write_swap_v1(dir: Dir<'_>, bytes: i64, warnings: &mut Vec<String>) -> Result<(), Error> {
    if !dir.write_if_supported("memory.memsw.limit_in_bytes", bytes)? && bytes > 0 {
        warnings.push(NO_SWAP.to_owned());
    }
    Ok(())
}

fn apply_v2(dir: Dir<'_>, memory: &Memory, warnings: &mut Vec<String>) -> Result<(), Error> {
    let limit = set(memory.limit);
    if let (Some(limit_bytes), Some(true)) = (limit, memory.check_before_update)
        && limit_bytes > 0
    {
        let usage_bytes = number(&dir.read("memory.current")?);
        if usage_bytes > limit_bytes.unsigned_abs() {
            return Err(Error::MemoryInUse {
                limit_bytes,
                usage_bytes,
            });
        }
    }
    // Swap first: it is what makes room when the memory limit falls.
    if let Some(swap) = swap_v2(memory)?
        && !dir.write_if_supported("memory.swap.max", max(swap))?
        && swap > 0
    {
        warnings.push(NO_SWAP.to_owned());
    }
    if let Some(limit) = limit
        && !dir.write_if_supported("memory.max", max(limit))?
    {
        warnings.push(NO_LIMIT_SUPPORT.to_owned());
    }
    if let Some(reservation) = set(memory.reservation)
        && !dir.write_if_supported("memory.low", max(reservation))?
    {
        warnings.push(NO_RESERVATION.to_owned());
    }
    if memory.disable_oom_killer == Some(true) {
        warnings.push(NO_OOM_DISABLE.to_owned());
    }
    if memory.swappiness.is_some() {
        warnings.push(NO_SWAPPINESS.to_owned());
    }
    Ok(())
}

/// Version 2 limits swap alone, the specification memory and swap together.
fn swap_v2(memory: &Memory) -> Result<Option<i64>, Error> {
    let limit = set(memory.limit);
    let Some(both) = set(memory.swap) else {
        return Ok(limit.filter(|limit| *limit < 0));
    };
    if both < 0 {
        return Ok(Some(-1));
    }
    match limit {
        Some(limit) if limit > 0 && both >= limit => Ok(Some(both - limit)),
        Some(limit) if limit > 0 => Err(Error::Invalid(format!(
            "memory and swap together ({both}) are less than memory alone ({limit})"
        ))),
        _ => Err(Error::Invalid(
            "swap cannot be limited without a memory limit".to_owned(),
        )),
    }
}

fn max(bytes: i64) -> String {
    if bytes < 0 {
        "max".to_owned()
    } else {
        bytes.to_string()
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(u64::MAX)
}

/// A descriptor that tells of the out-of-memory killer, and for what to wait on it: `PRI` on
/// version 2, whose file is read again before each wait; `IN` on version 1, a counter, which
/// counts just before the kill.
///
/// Source: Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control"; cgroup-v2.rst,
/// "memory.events".
pub(super) fn oom_events(place: Place<'_>) -> std::io::Result<Option<(OwnedFd, PollFlags)>> {
    let open = |dir: Dir<'_>, name: &str| std::fs::File::open(dir.0.join(name));
    match place {
        Place::V1(dir) => {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let event = rustix::event::eventfd(0, flags)?;
            let control = open(dir, "memory.oom_control")?;
            let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
            dir.write_raw("cgroup.event_control", &line)?;
            Ok(Some((event, PollFlags::IN)))
        }
        Place::V2(dir) if dir.exists("memory.events") => {
            Ok(Some((open(dir, "memory.events")?.into(), PollFlags::PRI)))
        }
        Place::V2(_) | Place::Missing => Ok(None),
    }
}

/// How many processes the out-of-memory killer has ended.
pub(super) fn oom_kills(place: Place<'_>) -> Result<u64, Error> {
    let count = match place {
        Place::V1(dir) => dir.keyed("memory.oom_control", "oom_kill")?,
        Place::V2(dir) if dir.exists("memory.events") => dir.keyed("memory.events", "oom_kill")?,
        Place::V2(_) | Place::Missing => None,
    };
    Ok(count.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    fn resources(memory: Memory) -> Resources {
        Resources {
            memory: Some(memory),
            ..Resources::default()
        }
    }

    fn v2(memory: Memory, files: &[&str]) -> (Vec<String>, impl Fn(&str) -> String) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let mut warnings = Vec::new();
        apply(
            Place::V2(Dir(dir.path())),
            &resources(memory),
            &mut warnings,
        )
        .unwrap();
        (warnings, move |name: &str| {
            fs::read_to_string(dir.path().join(name)).unwrap()
        })
    }

    #[test]
    fn version_2_gets_swap_without_memory() {
        let memory = Memory {
            limit: Some(100 << 20),
            swap: Some(150 << 20),
            reservation: Some(50 << 20),
            ..Memory::default()
        };
        let (warnings, read) = v2(memory, &["memory.max", "memory.swap.max", "memory.low"]);
        assert_eq!(read("memory.max"), (100 << 20).to_string());
        assert_eq!(read("memory.swap.max"), (50 << 20).to_string());
        assert_eq!(read("memory.low"), (50 << 20).to_string());
        assert!(warnings.is_empty());
    }

    #[test]
    fn no_limit_is_max_and_a_kernel_without_swap_warns() {
        let unlimited = Memory {
            limit: Some(-1),
            ..Memory::default()
        };
        let (warnings, read) = v2(unlimited, &["memory.max"]);
        assert_eq!((read("memory.max").as_str(), warnings.len()), ("max", 0));
        let limited = Memory {
            limit: Some(1 << 30),
            swap: Some(2 << 30),
            ..Memory::default()
        };
        let (warnings, _) = v2(limited, &["memory.max"]);
        assert_eq!(warnings, [NO_SWAP]);
    }

    #[test]
    fn swap_below_memory_and_swap_alone_are_refused() {
        for (limit, swap) in [(Some(2), Some(1)), (None, Some(1)), (Some(-1), Some(1))] {
            let memory = Memory {
                limit,
                swap,
                ..Memory::default()
            };
            assert!(swap_v2(&memory).is_err(), "{limit:?} {swap:?}");
        }
    }

    #[test]
    fn an_unmounted_controller_discards_the_limit_with_a_word() {
        let mut warnings = Vec::new();
        let memory = Memory {
            limit: Some(1 << 30),
            ..Memory::default()
        };
        apply(Place::Missing, &resources(memory), &mut warnings).unwrap();
        assert_eq!(warnings, [NO_LIMIT_SUPPORT]);
    }
}
