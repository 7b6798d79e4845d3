//! `pause` and `unpause`: the container's cgroup is frozen, and thawed.

use conex_runtime::cgroup::{self, Cgroup};
use tokio::sync::oneshot;

use super::Record;
use super::task::Command;
use crate::engine::Inner;
use crate::{Engine, Error};

impl Engine {
    /// Stops every process of a container where it stands.
    ///
    /// Errors: conflict when it does not run, or is paused already.
    pub async fn container_pause(&self, name: &str) -> Result<(), Error> {
        self.freeze(name, true).await
    }

    /// Lets a paused container go on. Errors: system when it is not paused.
    pub async fn container_unpause(&self, name: &str) -> Result<(), Error> {
        self.freeze(name, false).await
    }

    async fn freeze(&self, name: &str, frozen: bool) -> Result<(), Error> {
        let container = self.inner.find(name)?;
        let (reply, answer) = oneshot::channel();
        container.command(Command::Freeze { frozen, reply })?;
        super::stop::wait(answer, name).await
    }
}

impl Inner {
    fn cgroup_of(&self, record: &Record) -> Result<Cgroup, cgroup::Error> {
        let path = self.cgroup_path(&record.id, &record.host_config.cgroup_parent);
        Cgroup::open(&self.cgroups, &path)
    }

    /// Freezes or thaws a container. Blocks until all of it stands still.
    pub(super) fn set_frozen(&self, record: &Record, frozen: bool) -> Result<(), Error> {
        let doing = if frozen {
            "cannot pause container"
        } else {
            "cannot resume container"
        };
        self.cgroup_of(record)
            .and_then(|cgroup| {
                if frozen {
                    cgroup.freeze()
                } else {
                    cgroup.thaw()
                }
            })
            .map_err(|e| Error::system(&format!("{doing} {}", record.id), &e))
    }

    /// Whether a running container is frozen, whoever did it.
    pub(super) fn is_frozen(&self, record: &Record) -> bool {
        self.cgroup_of(record)
            .and_then(|cgroup| cgroup.frozen())
            .unwrap_or(false)
    }

    /// Process ids of a running container, those of its execs too. Blocks.
    pub(super) fn pids_of(&self, record: &Record) -> Result<Vec<i32>, Error> {
        self.cgroup_of(record)
            .and_then(|cgroup| cgroup.pids())
            .map_err(|e| Error::system("list the container's processes", &e))
    }
}
