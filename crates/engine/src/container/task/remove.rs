//! A removal, with a kill before it if it is forced.

use std::sync::Arc;

use conex_api::container::RemoveOptions;

use super::{Task, at, next_event};
use crate::Error;
use crate::container::remove;
use crate::container::state::{Change, Phase};

impl Task {
    pub(super) async fn remove(&mut self, options: RemoveOptions) -> Result<(), Error> {
        let state = self.container.state();
        if (state.is_running() || state.phase == Phase::Restarting) && !options.force {
            let (name, status) = (self.container.name(), state.status());
            return Err(Error::conflict(format!(
                "cannot remove container \"{name}\": container is {status}: stop the container \
                 before removing or force remove"
            )));
        }
        if state.is_running() {
            self.mark_stopped().await;
            self.signal_and_tell(libc::SIGKILL);
            while self.container.state().is_running() {
                let event = tokio::select! {
                    event = next_event(&mut self.monitored) => event,
                    () = at(self.report_by) => {
                        self.report_is_overdue().await;
                        continue;
                    }
                };
                // An auto-remove container is gone after its exit.
                if Box::pin(self.monitor_said(event)).await {
                    return Ok(());
                }
            }
        }
        self.restart_at = None;
        // Nothing is written down: a removal cut short is seen by what is gone.
        self.show(Change::Removing)?;
        let monitored = self.monitored.take();
        match remove::remove(&self.engine, &self.container, options.volumes, monitored).await {
            Ok(()) => {
                let mut gone = (*self.container.state()).clone();
                gone.removed = true;
                self.container.state.send_replace(Arc::new(gone));
                self.container.publish(&self.engine.events, "destroy", &[]);
                Ok(())
            }
            Err(error) => {
                self.fact(Change::RemovalFailed {
                    error: error.to_string(),
                })
                .await;
                Err(error)
            }
        }
    }
}
