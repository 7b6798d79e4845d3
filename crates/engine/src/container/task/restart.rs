//! The owner's part in restart policies: whether a container that ended is started
//! again, and when.

use std::time::Duration;

use tokio::time::Instant;

use super::Task;
use crate::container::state::Change;

/// Whoever runs so long is not failing at its start.
const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// The first pause.
const SHORTEST: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(60);

/// The pause before a restart after so many of them in a row that were over soon.
fn pause_after(quick_ends: u32) -> Duration {
    // 2^10 of the shortest are more than the longest.
    (SHORTEST * (1 << quick_ends.min(10))).min(LONGEST)
}

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
        if ran >= LONG_ENOUGH {
            self.quick_ends = 0;
        }
        let pause = pause_after(self.quick_ends);
        self.quick_ends = self.quick_ends.saturating_add(1);
        self.fact(Change::RestartPlanned).await;
        self.restart_at = Some(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses = [0, 1, 2, 9, 10, 1000].map(|ends| pause_after(ends).as_millis());
        assert_eq!(pauses, [100, 200, 400, 51_200, 60_000, 60_000]);
    }
}
