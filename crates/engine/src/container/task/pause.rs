//! The owner's part in pausing: freezing is waited for, and nothing that is
//! frozen is left behind by a signal.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Task, next_event};
use crate::container::state::{Change, Phase};
use crate::{Error, ErrorKind};

/// How long a pause waits for execs that are being started.
const EXEC_PATIENCE: Duration = Duration::from_secs(10);

impl Task {
    /// Waits for execs under way: a monitor waits for each to run, which it
    /// would not in a frozen cgroup.
    async fn execs_started(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + EXEC_PATIENCE;
        while self.execs_starting > 0 && !self.ended && self.monitored.is_some() {
            let event = next_event(&mut self.monitored);
            let Ok(event) = tokio::time::timeout_at(deadline, event).await else {
                let id = self.container.id();
                let text = format!("cannot pause container {id}: an exec hangs at its start");
                return Err(Error::new(ErrorKind::System, text));
            };
            // Its end shows in its state.
            let _gone = Box::pin(self.monitor_said(event)).await;
        }
        Ok(())
    }

    pub(super) async fn freeze(&mut self, frozen: bool) -> Result<(), Error> {
        if frozen {
            self.execs_started().await?;
        }
        let state = self.container.state();
        let id = self.container.id();
        match state.phase {
            Phase::Running if frozen && state.paused => {
                return Err(Error::conflict(format!("container {id} is already paused")));
            }
            Phase::Running if frozen || state.paused => {}
            Phase::Restarting if frozen => {
                return Err(Error::conflict(format!(
                    "Container {id} is restarting, wait until the container is running"
                )));
            }
            _ if frozen => {
                return Err(Error::conflict(format!("container {id} is not running")));
            }
            _ => {
                let text = format!("Container {id} is not paused");
                return Err(Error::new(ErrorKind::System, text));
            }
        }
        let (engine, container) = (Arc::clone(&self.engine), Arc::clone(&self.container));
        tokio::task::spawn_blocking(move || engine.set_frozen(&container.record, frozen))
            .await
            .map_err(|e| Error::system("freeze the container", &e))??;
        self.fact(Change::Frozen(frozen)).await;
        // What is frozen is not asked for its health.
        self.watch_health();
        let action = if frozen { "pause" } else { "unpause" };
        self.container.publish(&self.engine.events, action, &[]);
        Ok(())
    }

    /// A signal to a paused container lets it go on, to take it. What is saved
    /// follows with the next change: a new engine asks the kernel.
    pub(super) fn thaw_for_signal(&mut self) {
        let state = self.container.state();
        if !state.is_paused() {
            return;
        }
        if let Err(error) = self.engine.set_frozen(&self.container.record, false) {
            tracing::warn!(container = self.container.id(), %error, "it stays frozen");
            return;
        }
        if let Ok(next) = state.after(Change::Frozen(false)) {
            self.container.state.send_replace(Arc::new(next));
            self.container.publish(&self.engine.events, "unpause", &[]);
            self.watch_health();
        }
    }
}
