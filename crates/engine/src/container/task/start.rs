//! A start, from what allows it to what is told of it.

use std::time::Duration;

use conex_api::container::RemoveOptions;

use super::Task;
use crate::container::files::Starting;
use crate::container::start;
use crate::container::state::{Change, Phase};
use crate::{Error, process};

/// How long the next start waits for the last run's monitor to let go.
const RELEASE_PATIENCE: Duration = Duration::from_secs(60);

impl Task {
    pub(super) async fn start(&mut self) -> Result<(), Error> {
        match self.container.state().phase {
            Phase::Running if self.container.state().paused => {
                return Err(Error::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Phase::Running => return Err(Error::not_modified()),
            Phase::Removing | Phase::Dead => {
                return Err(Error::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Phase::Created | Phase::Exited => self.quick_ends = 0,
            Phase::Restarting => {}
        }
        self.restart_at = None;
        self.is_kept = false;
        if let Some(old) = self.monitored.take() {
            // The last run's monitor still gives back its cgroup.
            if tokio::time::timeout(RELEASE_PATIENCE, old.released())
                .await
                .is_err()
            {
                let id = self.container.id().to_owned();
                let killing = tokio::task::spawn_blocking(move || process::kill_monitor(&id));
                let _joined = killing.await.is_err();
            }
        }
        let attachers = std::mem::take(&mut self.pending);
        let starting = Starting::new(&self.container);
        match start::launch(&self.engine, &self.container, attachers).await {
            Ok(launched) => {
                let hello = launched.hello;
                self.monitored = Some(launched.monitored);
                self.execs_starting = 0;
                self.ended = false;
                for warning in &hello.warnings {
                    tracing::warn!(container = self.container.id(), "{warning}");
                }
                self.started(hello.pid, hello.started_ns, launched.sandbox.clone())
                    .await;
                drop(starting);
                self.publish_networks("connect", launched.sandbox.as_deref());
                self.container.publish(&self.engine.events, "start", &[]);
                Ok(())
            }
            Err(failed) => {
                self.unmount_volumes().await;
                let error = failed.error.to_string();
                let exit_code = failed.exit_code;
                self.fact(Change::StartFailed { exit_code, error }).await;
                drop(starting);
                if self.container.record.host_config.auto_remove {
                    let options = RemoveOptions {
                        force: true,
                        volumes: true,
                        link: false,
                    };
                    if let Err(error) = self.remove(options).await {
                        tracing::warn!(container = self.container.id(), %error, "not removed");
                    }
                }
                Err(failed.error)
            }
        }
    }
}
