//! The owner's part in health checks: when the next probe is due, and what its result
//! changes. A container without a check has no timer and pays nothing.
//!
//! ```text
//!  resting ──start, unpause──► waiting ──due──► probing ──result──► waiting …
//!     ▲                            │               │
//!     └──────── end, pause ────────┴───────────────┘ (the probe is killed)
//! ```

use std::sync::Arc;
use std::time::Duration;

use conex_api::container::Config;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Task, at};
use crate::container::health::{Check, Health, Probe};
use crate::container::probe;
use crate::container::state::Change;
use crate::network::Sandbox;
use crate::time::now_ns;

/// What happens next.
#[derive(Debug)]
pub(super) enum Due {
    /// Time for a probe.
    Probe,
    /// One has a result; none if it died.
    Result(Option<Probe>),
}

#[derive(Debug)]
enum Now {
    Resting,
    Waiting(Instant),
    /// Dropped, it tells the probe that nobody wants its result.
    Probing(oneshot::Receiver<Probe>),
}

/// The watch over one container's health.
#[derive(Debug)]
pub(super) struct Watch {
    check: Option<Check>,
    now: Now,
}

impl Watch {
    pub(super) fn of(config: &Config) -> Watch {
        Watch {
            check: Check::of(config),
            now: Now::Resting,
        }
    }

    /// Stops probing.
    pub(super) fn rest(&mut self) {
        self.now = Now::Resting;
    }

    pub(super) async fn next(&mut self) -> Due {
        match &mut self.now {
            Now::Resting => std::future::pending().await,
            Now::Waiting(until) => {
                at(Some(*until)).await;
                Due::Probe
            }
            Now::Probing(result) => Due::Result(result.await.ok()),
        }
    }
}

impl Task {
    /// The program runs; its health, if it is asked for, begins anew.
    pub(super) async fn started(&mut self, pid: i32, at_ns: i64, sandbox: Option<Arc<Sandbox>>) {
        let started = Change::Started {
            pid,
            at_ns,
            sandbox,
        };
        match self.container.state().after(started) {
            Ok(mut next) => {
                next.health = self.watch.check.as_ref().map(|_| Health::starting());
                self.store(next).await;
            }
            Err(error) => {
                tracing::error!(container = self.container.id(), %error, "state not moved");
            }
        }
        self.watch_health();
    }

    /// Plans the next probe of a container that runs and is not paused.
    pub(super) fn watch_health(&mut self) {
        let state = self.container.state();
        self.watch.now = match (&self.watch.check, &state.health) {
            (Some(check), Some(health)) if state.is_running() && !state.is_paused() => {
                let ran_ns = u64::try_from(now_ns() - state.started_ns).unwrap_or(0);
                let pause = check.pause(health, Duration::from_nanos(ran_ns));
                Now::Waiting(Instant::now() + pause)
            }
            _ => Now::Resting,
        };
    }

    pub(super) async fn health_is_due(&mut self, due: Due) {
        let Some(check) = self.watch.check.clone() else {
            return;
        };
        match due {
            Due::Probe => {
                let (mut sender, receiver) = oneshot::channel();
                let (engine, container) = (Arc::clone(&self.engine), Arc::clone(&self.container));
                tokio::spawn(async move {
                    let result = probe::run(engine, container, check, sender.closed()).await;
                    let _unwanted = sender.send(result).is_err();
                });
                self.watch.now = Now::Probing(receiver);
            }
            Due::Result(result) => {
                if let Some(result) = result {
                    self.probed(result, &check).await;
                }
                self.watch_health();
            }
        }
    }

    /// Only a change of the status is worth a write: the next engine probes anew.
    async fn probed(&mut self, result: Probe, check: &Check) {
        let state = self.container.state();
        let Some(before) = &state.health else { return };
        let health = before.after(result, check, state.started_ns);
        let status = health.status;
        if status == before.status {
            // The phase is known to allow it: probing ends with the run.
            let _shown = self.show(Change::Probed(health)).is_ok();
            return;
        }
        self.fact(Change::Probed(health)).await;
        let action = format!("health_status: {}", status.as_str());
        self.container.publish(&self.engine.events, &action, &[]);
    }
}
