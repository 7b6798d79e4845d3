//! The owner's part in pausing: freezing is waited for, and nothing that is
//! frozen is left behind by a signal.

use std::sync::Arc;

use super::Task;
use crate::container::state::{Change, Phase};
use crate::{Error, ErrorKind};

impl Task {
    pub(super) async fn freeze(&mut self, frozen: bool) -> Result<(), Error> {
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
        let action = if frozen { "pause" } else { "unpause" };
        self.container.publish(&self.engine.events, action, &[]);
        Ok(())
    }

    /// A signal to a paused container lets it go on, to take it. What is saved
    /// follows with the next change: a new engine asks the kernel.
    pub(super) fn thaw_for_signal(&self) {
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
        }
    }
}
