//! The end of a run, told by the monitor or seen by its silence.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use conex_api::container::RemoveOptions;
use conex_monitor::{ExitRecord, LinkError};
use conex_sys::process::pidfd_signal;

use super::{Task, answer};
use crate::container::state::Change;
use crate::time::now_ns;

impl Task {
    /// The monitor went without a word: killed. Nothing watches the container
    /// any more, so it ends too.
    pub(super) async fn monitor_lost(&mut self, error: &LinkError, pidfd: OwnedFd) -> bool {
        self.ended = true;
        if let Some(record) = ExitRecord::read(&self.container.run_dir) {
            let change = Change::Exited {
                exit_code: record.exit_code,
                oom_killed: record.oom_killed,
                at_ns: record.finished_ns,
            };
            return self.exited(change).await;
        }
        tracing::warn!(container = self.container.id(), %error, "its monitor is gone");
        // Also one that left its cgroup. ESRCH: it went with its monitor.
        let _ended = pidfd_signal(pidfd.as_fd(), libc::SIGKILL).is_err();
        let (engine, container) = (Arc::clone(&self.engine), Arc::clone(&self.container));
        let cleared = tokio::task::spawn_blocking(move || engine.clear_run(&container.record));
        if let Err(error) = cleared.await {
            tracing::error!(%error, "the cgroup was not cleaned");
        }
        self.exited(Change::Lost {
            exit_code: 137,
            error: "the container's monitor was killed, so the container was ended".into(),
            at_ns: now_ns(),
        })
        .await
    }

    pub(super) async fn exited(&mut self, change: Change) -> bool {
        self.kill_at = None;
        self.report_by = None;
        self.attaching.clear();
        self.watch.rest();
        let sandbox = self.container.state().sandbox.clone();
        // Whoever hears of the end finds ports and addresses free.
        self.leave_networks(sandbox.clone()).await;
        self.fact(change).await;
        self.engine.execs.container_ended(self.container.id());
        self.unmount_volumes().await;
        let state = self.container.state();
        let ran_ns = (state.finished_ns - state.started_ns).max(0);
        let extra = [
            ("exitCode", state.exit_code.to_string()),
            ("execDuration", (ran_ns / 1_000_000_000).to_string()),
        ];
        self.container.publish(&self.engine.events, "die", &extra);
        self.publish_networks("disconnect", sandbox.as_deref());
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.iter().any(|(_, stop)| *stop) {
            self.container.publish(&self.engine.events, "stop", &[]);
        }
        for (reply, _) in waiting {
            answer(reply, Ok(()));
        }
        if self.container.record.host_config.auto_remove && !self.is_kept {
            let options = RemoveOptions {
                force: true,
                volumes: true,
                link: false,
            };
            match self.remove(options).await {
                Ok(()) => return true,
                Err(error) => {
                    tracing::warn!(container = self.container.id(), %error, "not removed");
                }
            }
        } else {
            self.plan_restart(Duration::from_nanos(ran_ns as u64)).await;
        }
        false
    }
}
