//! What the owner does with the container's volumes when it ended.

use std::sync::Arc;

use super::Task;

impl Task {
    /// Takes away what it had of its volumes while it ran: before anybody hears
    /// of its end, since it may be started again at once.
    pub(super) async fn unmount_volumes(&self) {
        if !self.engine.has_slow_volumes(&self.container.record) {
            return self.engine.unmount_volumes(&self.container.record);
        }
        let (engine, container) = (Arc::clone(&self.engine), Arc::clone(&self.container));
        let work = move || engine.unmount_volumes(&container.record);
        let _joined = tokio::task::spawn_blocking(work).await.is_err();
    }
}
