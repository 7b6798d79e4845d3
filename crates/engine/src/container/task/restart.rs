//! The owner's part in restart policies: whether a container that ended is started
//! again, and when.

use std::time::Duration;

use tokio::time::Instant;

use super::Task;
use crate::container::state::Change;

impl Task {
    /// COMPAT D2.8: 100 ms, doubled up to a minute, from the start again when
    /// the container ran for ten seconds.
    pub(super) async fn plan_restart(&mut self, ran: Duration) {
        let state = self.container.state();
        let policy = self.container.host_config().restart_policy.clone();
        let wanted = match policy.name.as_str() {
            "always" | "unless-stopped" => !state.stopped_by_user,
            "on-failure" => {
                let limit = policy.maximum_retry_count;
                let left = limit == 0 || i64::from(state.restart_count) < limit;
                !state.stopped_by_user && state.exit_code != 0 && left
            }
            _ => false,
        };
        if !wanted || self.engine.is_leaving() {
            return;
        }
        let doublings = if ran >= Duration::from_secs(10) {
            0
        } else {
            state.restart_count.min(10)
        };
        let pause = Duration::from_millis(100 << doublings).min(Duration::from_secs(60));
        self.fact(Change::RestartPlanned).await;
        self.restart_at = Some(Instant::now() + pause);
    }
}
