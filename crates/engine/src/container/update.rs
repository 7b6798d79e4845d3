//! `update`: other limits and another restart policy, at once where the container runs.

use std::sync::Arc;

use conex_api::container::{HostConfig, UpdateResponse};
use conex_runtime::cgroup::{self, Cgroup};
use conex_spec::runtime::Resources;
use tokio::sync::oneshot;

use super::task::Command;
use super::{Container, spec, validate};
use crate::engine::Inner;
use crate::error::chain;
use crate::{Engine, Error, ErrorKind};

impl Engine {
    /// Changes what of `wanted` is set: limits and restart policy; what else it holds is ignored.
    ///
    /// Errors: invalid parameter and conflict in Docker's words; nothing is changed then.
    pub async fn container_update(
        &self,
        name: &str,
        wanted: HostConfig,
    ) -> Result<UpdateResponse, Error> {
        validate::check_limits(&mut wanted.clone())?;
        let container = self.inner.find(name)?;
        let (reply, answer) = oneshot::channel();
        container.command(Command::Update {
            wanted: Box::new(wanted),
            reply,
        })?;
        let warnings = answer
            .await
            .unwrap_or_else(|_| Err(Error::no_container(name)))
            .map_err(|error| {
                let text = format!("Cannot update container {}: {error}", container.id());
                Error::new(error.kind(), text)
            })?;
        Ok(UpdateResponse {
            warnings: Some(warnings).filter(|warnings| !warnings.is_empty()),
        })
    }
}

/// A container's configuration with the changes, checked; and warnings.
pub(super) fn merged(
    current: &HostConfig,
    wanted: &HostConfig,
) -> Result<(HostConfig, Vec<String>), Error> {
    check_cpu(current, wanted)?;
    let falls_short = wanted.memory > current.memory_swap && current.memory_swap != -1;
    if wanted.memory != 0 && wanted.memory_swap == 0 && falls_short {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the \
             memoryswap at the same time",
        ));
    }
    let mut next = current.clone();
    let policy = &wanted.restart_policy;
    if !policy.name.is_empty() {
        if current.auto_remove && policy.name != "no" {
            return Err(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        next.restart_policy = policy.clone();
    }
    /// Takes what is set.
    macro_rules! take {
        ($($field:ident)*) => { $(
            if wanted.$field != HostConfig::default().$field {
                next.$field = wanted.$field.clone();
            }
        )* };
    }
    take! {
        blkio_weight cpu_shares nano_cpus cpu_period cpu_quota cpu_realtime_period
        cpu_realtime_runtime cpuset_cpus cpuset_mems memory memory_reservation memory_swap
        pids_limit
    }
    let warnings = validate::check_update(&mut next)?;
    Ok((next, warnings))
}

fn check_cpu(current: &HostConfig, wanted: &HostConfig) -> Result<(), Error> {
    let conflict = |asked: &str, set: &str| {
        Err(Error::conflict(format!(
            "Conflicting options: {asked} cannot be updated as {set} has already been set"
        )))
    };
    let sets_nano = wanted.nano_cpus > 0;
    match () {
        () if sets_nano && current.cpu_period > 0 => conflict("Nano CPUs", "CPU Period"),
        () if sets_nano && current.cpu_quota > 0 => conflict("Nano CPUs", "CPU Quota"),
        () if wanted.cpu_period > 0 && current.nano_cpus > 0 => conflict("CPU Period", "NanoCPUs"),
        () if wanted.cpu_quota > 0 && current.nano_cpus > 0 => conflict("CPU Quota", "NanoCPUs"),
        () => Ok(()),
    }
}

/// The limits that change, each with those it must be written together with.
fn changes(next: &HostConfig, wanted: &HostConfig, unified: bool) -> Result<Resources, Error> {
    let mut asked = HostConfig {
        blkio_weight: wanted.blkio_weight,
        cpu_shares: wanted.cpu_shares,
        cpu_realtime_period: wanted.cpu_realtime_period,
        cpu_realtime_runtime: wanted.cpu_realtime_runtime,
        cpuset_cpus: wanted.cpuset_cpus.clone(),
        cpuset_mems: wanted.cpuset_mems.clone(),
        memory_reservation: wanted.memory_reservation,
        pids_limit: wanted.pids_limit,
        ..HostConfig::default()
    };
    if wanted.nano_cpus != 0 || wanted.cpu_period != 0 || wanted.cpu_quota != 0 {
        asked.nano_cpus = next.nano_cpus;
        asked.cpu_period = next.cpu_period;
        asked.cpu_quota = next.cpu_quota;
    }
    let memory_changes = wanted.memory != 0 || wanted.memory_swap != 0;
    if memory_changes {
        asked.memory = next.memory;
        asked.memory_swap = next.memory_swap;
    }
    let mut resources = spec::limits(&asked, Vec::new(), unified)?;
    if let Some(memory) = &mut resources.memory
        && memory_changes
    {
        memory.check_before_update = Some(true);
        if next.memory_swap == -1 {
            memory.swap = Some(-1);
        }
    }
    Ok(resources)
}

impl Inner {
    /// Changes the limits of a container that runs; warnings as at its start. Blocks.
    pub(super) fn change_limits(
        &self,
        container: &Container,
        next: &HostConfig,
        wanted: &HostConfig,
    ) -> Result<Vec<String>, Error> {
        let unified = self.cgroups.mode() == cgroup::Mode::Unified;
        let resources = changes(next, wanted, unified)?;
        let record = &container.record;
        let path = self.cgroup_path(&record.id, &record.host_config.cgroup_parent);
        Cgroup::open(&self.cgroups, &path)
            .and_then(|cgroup| cgroup.update(&resources))
            .map_err(|error| Error::new(ErrorKind::System, chain(&error)))
    }
}

/// Checks and, where it runs, applies a change; the configuration it has then, and warnings.
pub(super) async fn apply(
    engine: &Arc<Inner>,
    container: &Arc<Container>,
    wanted: HostConfig,
) -> Result<(HostConfig, Vec<String>), Error> {
    let (next, mut warnings) = merged(&container.host_config(), &wanted)?;
    if container.state().is_running() {
        let (engine, container) = (Arc::clone(engine), Arc::clone(container));
        let (next, wanted) = (next.clone(), wanted);
        let changing = move || engine.change_limits(&container, &next, &wanted);
        let told = tokio::task::spawn_blocking(changing)
            .await
            .map_err(|e| Error::system("change the limits", &e))??;
        warnings.extend(told);
    }
    Ok((next, warnings))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_api::container::RestartPolicy;

    fn policy(name: &str) -> RestartPolicy {
        RestartPolicy {
            name: name.into(),
            ..RestartPolicy::default()
        }
    }

    #[test]
    fn only_what_is_set_is_changed() {
        let current = HostConfig {
            cpu_shares: 512,
            memory: 64 << 20,
            memory_swap: 128 << 20,
            restart_policy: policy("always"),
            ..HostConfig::default()
        };
        let wanted = HostConfig {
            memory: 32 << 20,
            ..HostConfig::default()
        };
        let (next, _) = merged(&current, &wanted).unwrap();
        assert_eq!((next.memory, next.cpu_shares), (32 << 20, 512));
        assert_eq!(next.restart_policy.name, "always");
        let resources = changes(&next, &wanted, false).unwrap();
        let memory = resources.memory.unwrap();
        // Neither can be written without the other.
        assert_eq!(
            (memory.limit, memory.swap),
            (Some(32 << 20), Some(128 << 20))
        );
        assert_eq!(resources.cpu, None);
    }

    #[test]
    fn conflicts_are_told_in_dockers_words() {
        let text = |current: HostConfig, wanted: HostConfig| {
            merged(&current, &wanted).unwrap_err().to_string()
        };
        let memory = HostConfig {
            memory: 64 << 20,
            ..HostConfig::default()
        };
        assert_eq!(
            text(HostConfig::default(), memory),
            "Memory limit should be smaller than already set memoryswap limit, update the \
             memoryswap at the same time"
        );
        let (nano, quota) = (
            HostConfig {
                nano_cpus: 1,
                ..HostConfig::default()
            },
            HostConfig {
                cpu_quota: 5000,
                ..HostConfig::default()
            },
        );
        assert_eq!(
            text(quota, nano),
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
        );
        let removed = HostConfig {
            auto_remove: true,
            ..HostConfig::default()
        };
        let always = HostConfig {
            restart_policy: policy("always"),
            ..HostConfig::default()
        };
        assert_eq!(
            text(removed, always),
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        );
    }
}
