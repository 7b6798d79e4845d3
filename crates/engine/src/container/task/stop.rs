//! The owner's part in ending a container: signals, patience, and what is
//! overdue.

use std::os::fd::AsFd;
use std::time::Duration;

use conex_sys::process::pidfd_signal;
use rustix::event::PollFlags;
use tokio::time::Instant;

use super::monitored::is_ready;
use super::{Cause, REPORT_PATIENCE, Reply, Task, answer};
use crate::container::state::{Change, Phase};
use crate::container::stop::signal_of;
use crate::{Error, process};

/// How long a container may go on whose stop signal could not be sent (COMPAT D2.4).
const UNHEARD_PATIENCE: Duration = Duration::from_secs(2);

impl Task {
    pub(super) async fn stop(
        &mut self,
        signal: i32,
        timeout: Option<Duration>,
        cause: Cause,
        reply: Reply,
    ) {
        match self.container.state().phase {
            Phase::Running => {}
            Phase::Restarting => {
                self.restart_at = None;
                if cause != Cause::EngineLeaves {
                    self.mark_stopped().await;
                }
                self.fact(Change::RestartCancelled).await;
                self.container.publish(&self.engine.events, "stop", &[]);
                return answer(reply, Ok(()));
            }
            _ => return answer(reply, Err(Error::not_modified())),
        }
        if cause != Cause::EngineLeaves {
            self.mark_stopped().await;
        }
        self.is_kept = cause == Cause::Restart;
        let was_sent = self.signal_and_tell(signal);
        self.waiting.push((reply, true));
        // Nobody heard that it should end, so it has no reason to.
        let timeout = if was_sent {
            timeout
        } else {
            Some(timeout.map_or(UNHEARD_PATIENCE, |t| t.min(UNHEARD_PATIENCE)))
        };
        let deadline = timeout.map(|t| Instant::now() + t);
        self.kill_at = match (self.kill_at, deadline) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
    }

    pub(super) async fn kill(&mut self, signal: i32, reply: Reply) {
        if !self.container.state().is_running() {
            let id = self.container.id();
            return answer(
                reply,
                Err(Error::conflict(format!("container {id} is not running"))),
            );
        }
        let stop_signal = signal_of(&self.container.record.config.stop_signal);
        if signal == libc::SIGKILL || stop_signal.is_ok_and(|s| s == signal) {
            // Restart policies leave a container alone that its user ended.
            self.mark_stopped().await;
        }
        self.signal_and_tell(signal);
        if signal == libc::SIGKILL {
            self.waiting.push((reply, false));
        } else {
            answer(reply, Ok(()));
        }
    }

    pub(super) async fn mark_stopped(&mut self) {
        let mut next = (*self.container.state()).clone();
        next.stopped_by_user = true;
        self.store(next).await;
    }

    /// Says whether the signal could be sent.
    pub(super) fn signal_and_tell(&mut self, signal: i32) -> bool {
        if signal == libc::SIGKILL && self.report_by.is_none() {
            self.report_by = Some(Instant::now() + REPORT_PATIENCE);
        }
        // ESRCH: it ended on its own, its exit is on the way.
        let was_sent = self
            .monitored
            .as_ref()
            .is_some_and(|m| pidfd_signal(m.pidfd.as_fd(), signal).is_ok());
        self.thaw_for_signal();
        let extra = [("signal", signal.to_string())];
        self.container.publish(&self.engine.events, "kill", &extra);
        was_sent
    }

    /// A monitor that hangs is killed, if its container has ended: its link
    /// then closes, and the end is recorded without it.
    pub(super) async fn report_is_overdue(&mut self) {
        self.report_by = None;
        if !self.container.state().is_running() {
            return;
        }
        if self
            .monitored
            .as_ref()
            .is_some_and(|m| is_ready(&m.pidfd, PollFlags::IN))
        {
            let id = self.container.id().to_owned();
            let killing = tokio::task::spawn_blocking(move || process::kill_monitor(&id));
            let _joined = killing.await.is_err();
        } else {
            // The container is dying still, in the kernel.
            self.report_by = Some(Instant::now() + REPORT_PATIENCE);
        }
    }
}
