//! The states of a container and the moves between them; pure.
//!
//! ```text
//!            start                    exited
//!  Created ─────────► Running ─────────────────► Exited ──start──► Running
//!     │  ▲               │  └─exited, policy──► Restarting ──start──► Running
//!     │  └─start failed──┘                          │ stop
//!     │  (Created again, with the error)            ▼
//!     └────────────► Removing ◄───────────────── Exited
//!                        │ failed
//!                        ▼
//!                       Dead
//! ```
//! Running has two forms: going on, and frozen (`pause`, `unpause`).

use std::collections::BTreeMap;
use std::sync::Arc;

use conex_api::container::{EndpointSettings, HostConfig};
use serde::{Deserialize, Serialize};

use super::health::{self, Health};
use crate::network::Sandbox;

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Never ran, or its last start failed before anything ran.
    #[default]
    Created,
    /// Its first process runs.
    Running,
    /// It ended and its restart policy will start it again.
    Restarting,
    /// It ended.
    Exited,
    /// It is being removed.
    Removing,
    /// Its removal failed half way.
    Dead,
}

/// Everything about a container that changes. Kept in `state.db` as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// PID 1 in the host's pid namespace while it runs.
    pub(crate) pid: i32,
    pub(crate) exit_code: i32,
    pub(crate) error: String,
    pub(crate) oom_killed: bool,
    /// Nanoseconds since the epoch; 0 is never.
    pub(crate) started_ns: i64,
    pub(crate) finished_ns: i64,
    pub(crate) restart_count: u32,
    /// The user stopped it: restart policies leave it alone.
    pub(crate) stopped_by_user: bool,
    /// Its processes are frozen; only while it runs.
    pub(crate) paused: bool,
    /// What its checks say, if it has any; of the last run when it does not run.
    pub(crate) health: Option<Health>,
    /// Its host configuration since somebody changed limits or policy; before, it
    /// is the record's.
    pub(crate) host_config: Option<Box<HostConfig>>,
    /// The networks it is to be on, by name, if that changed since it was
    /// created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoints: Option<BTreeMap<String, EndpointSettings>>,
    /// What it has of its networks; only while it runs, and on disk beside its
    /// monitor's socket.
    #[serde(skip)]
    pub(crate) sandbox: Option<Arc<Sandbox>>,
    /// Grows with every end; lets a waiter tell the next end from the last.
    #[serde(skip)]
    pub(crate) exits: u64,
    /// The record is gone.
    #[serde(skip)]
    pub(crate) removed: bool,
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Its first process runs.
    Started {
        pid: i32,
        at_ns: i64,
        sandbox: Option<Arc<Sandbox>>,
    },
    /// It could not be started; nothing of it runs.
    StartFailed { exit_code: i32, error: String },
    /// Its first process ended.
    Exited {
        exit_code: i32,
        oom_killed: bool,
        at_ns: i64,
    },
    /// Its end was not observed: the host rebooted, or its monitor was killed.
    Lost {
        exit_code: i32,
        error: String,
        at_ns: i64,
    },
    /// Its processes were frozen, or thawed.
    Frozen(bool),
    /// Its health was asked for.
    Probed(Health),
    /// The kernel killed a process of it for lack of memory.
    OutOfMemory,
    /// It was connected to a network, or disconnected from one.
    Networks {
        endpoints: BTreeMap<String, EndpointSettings>,
        sandbox: Option<Arc<Sandbox>>,
    },
    /// It will be started again after a while.
    RestartPlanned,
    /// A planned restart was called off.
    RestartCancelled,
    /// Its removal began.
    Removing,
    /// Its removal failed.
    RemovalFailed { error: String },
}

/// A change that makes no sense in a phase.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a container that is {phase:?} cannot take {change:?}")]
pub(crate) struct Illegal {
    phase: Phase,
    change: Change,
}

impl State {
    /// Whether it is being removed or is gone.
    pub(crate) fn is_leaving(&self) -> bool {
        self.removed || matches!(self.phase, Phase::Removing | Phase::Dead)
    }

    /// Whether its first process runs.
    pub(crate) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether its processes are frozen.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_running() && self.paused
    }

    /// The state after a change. Total: every pair of phase and change has an
    /// answer.
    pub(crate) fn after(&self, change: Change) -> Result<State, Illegal> {
        use Phase as P;
        let mut next = self.clone();
        match (self.phase, change) {
            (
                P::Created | P::Exited | P::Restarting,
                Change::Started {
                    pid,
                    at_ns,
                    sandbox,
                },
            ) => {
                next.phase = P::Running;
                next.sandbox = sandbox;
                next.pid = pid;
                next.started_ns = at_ns;
                next.exit_code = 0;
                next.error.clear();
                next.oom_killed = false;
                next.stopped_by_user = false;
                next.health = None;
                if self.phase != P::Restarting {
                    next.restart_count = 0;
                }
            }
            (P::Created | P::Exited | P::Restarting, Change::StartFailed { exit_code, error }) => {
                next.exit_code = exit_code;
                next.error = error;
                next.pid = 0;
                if self.phase == P::Restarting {
                    next.phase = P::Exited;
                }
                next.exits += 1;
            }
            (P::Running, Change::Frozen(frozen)) => next.paused = frozen,
            (P::Running, Change::OutOfMemory) => next.oom_killed = true,
            (P::Running, Change::Probed(health)) => next.health = Some(health),
            (_, Change::Networks { endpoints, sandbox }) => {
                next.endpoints = Some(endpoints);
                next.sandbox = sandbox;
            }
            (
                P::Running,
                Change::Exited {
                    exit_code,
                    oom_killed,
                    at_ns,
                },
            ) => {
                next.phase = P::Exited;
                next.paused = false;
                next.end_health();
                next.sandbox = None;
                next.pid = 0;
                next.exit_code = exit_code;
                next.oom_killed = oom_killed;
                next.finished_ns = at_ns;
                next.exits += 1;
            }
            (
                P::Running,
                Change::Lost {
                    exit_code,
                    error,
                    at_ns,
                },
            ) => {
                next.phase = P::Exited;
                next.paused = false;
                next.end_health();
                next.sandbox = None;
                next.pid = 0;
                next.exit_code = exit_code;
                next.error = error;
                next.finished_ns = at_ns;
                next.exits += 1;
            }
            (P::Exited, Change::RestartPlanned) => {
                next.phase = P::Restarting;
                next.restart_count += 1;
            }
            (P::Restarting, Change::RestartCancelled) => next.phase = P::Exited,
            (P::Created | P::Exited | P::Restarting | P::Dead, Change::Removing) => {
                next.phase = P::Removing;
            }
            (P::Removing, Change::RemovalFailed { error }) => {
                next.phase = P::Dead;
                next.error = error;
            }
            (phase, change) => return Err(Illegal { phase, change }),
        }
        Ok(next)
    }

    /// Nobody is healthy in a container that does not run.
    fn end_health(&mut self) {
        if let Some(health) = &mut self.health {
            health.status = health::Status::Unhealthy;
        }
    }

    /// `State.Status` of the API.
    pub(crate) fn status(&self) -> &'static str {
        match self.phase {
            Phase::Created => "created",
            Phase::Running if self.paused => "paused",
            Phase::Running => "running",
            Phase::Restarting => "restarting",
            Phase::Exited => "exited",
            Phase::Removing => "removing",
            Phase::Dead => "dead",
        }
    }

    /// The STATUS column: `Up 5 minutes`, `Exited (0) 3 seconds ago`.
    pub(crate) fn description(&self, now_ns: i64) -> String {
        let since = |then: i64| crate::time::human_duration(now_ns - then);
        match self.phase {
            Phase::Created => "Created".into(),
            Phase::Running if self.paused => format!("Up {} (Paused)", since(self.started_ns)),
            Phase::Running => match self.health.as_ref().map(|health| health.status) {
                None => format!("Up {}", since(self.started_ns)),
                Some(health::Status::Starting) => {
                    format!("Up {} (health: starting)", since(self.started_ns))
                }
                Some(status) => format!("Up {} ({})", since(self.started_ns), status.as_str()),
            },
            Phase::Restarting => {
                format!(
                    "Restarting ({}) {} ago",
                    self.exit_code,
                    since(self.finished_ns)
                )
            }
            Phase::Exited => format!(
                "Exited ({}) {} ago",
                self.exit_code,
                since(self.finished_ns)
            ),
            Phase::Removing => "Removal In Progress".into(),
            Phase::Dead => "Dead".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn started(pid: i32, at_ns: i64) -> Change {
        Change::Started {
            pid,
            at_ns,
            sandbox: None,
        }
    }

    fn running() -> State {
        State::default().after(started(7, 5)).unwrap()
    }

    fn exited(exit_code: i32) -> State {
        running()
            .after(Change::Exited {
                exit_code,
                oom_killed: false,
                at_ns: 9,
            })
            .unwrap()
    }

    #[test]
    fn only_a_running_container_is_frozen_and_its_end_thaws_it() {
        let frozen = running().after(Change::Frozen(true)).unwrap();
        assert_eq!((frozen.status(), frozen.is_paused()), ("paused", true));
        assert!(frozen.is_running());
        assert_eq!(frozen.description(5_000_000_005), "Up 5 seconds (Paused)");
        assert_eq!(frozen.after(Change::Frozen(false)).unwrap(), running());
        for end in [
            Change::Exited {
                exit_code: 0,
                oom_killed: false,
                at_ns: 9,
            },
            Change::Lost {
                exit_code: 137,
                error: String::new(),
                at_ns: 9,
            },
        ] {
            assert!(!frozen.after(end).unwrap().paused);
        }
        assert!(State::default().after(Change::Frozen(true)).is_err());
        assert!(exited(0).after(Change::Frozen(false)).is_err());
    }

    #[test]
    fn a_failed_start_stays_created_with_its_error() {
        let change = Change::StartFailed {
            exit_code: 127,
            error: "no".into(),
        };
        let state = State::default().after(change).unwrap();
        assert_eq!(
            (state.phase, state.exit_code, state.error.as_str()),
            (Phase::Created, 127, "no")
        );
        assert_eq!(state.after(started(1, 1)).unwrap().error, "");
    }

    #[test]
    fn an_end_is_counted_so_that_a_waiter_can_tell_the_next_from_the_last() {
        let state = exited(3);
        assert_eq!((state.exits, state.exit_code, state.pid), (1, 3, 0));
        let again = state.after(started(8, 10)).unwrap();
        assert_eq!((again.exits, again.exit_code), (1, 0));
    }

    #[test]
    fn a_running_container_cannot_be_started_or_removed() {
        assert!(running().after(started(9, 1)).is_err());
        assert!(running().after(Change::Removing).is_err());
    }

    #[test]
    fn a_planned_restart_can_be_called_off() {
        let state = exited(1).after(Change::RestartPlanned).unwrap();
        assert_eq!((state.status(), state.restart_count), ("restarting", 1));
        assert_eq!(
            state.after(Change::RestartCancelled).unwrap().phase,
            Phase::Exited
        );
    }

    #[test]
    fn a_failed_removal_leaves_a_dead_container_that_can_be_removed() {
        let dead = exited(0)
            .after(Change::Removing)
            .unwrap()
            .after(Change::RemovalFailed {
                error: "busy".into(),
            })
            .unwrap();
        assert_eq!(dead.status(), "dead");
        assert!(dead.after(Change::Removing).is_ok());
    }

    #[test]
    fn statuses_read_as_docker_words_them() {
        let second = 1_000_000_000;
        let mut state = exited(4);
        state.finished_ns = second;
        assert_eq!(state.description(4 * second), "Exited (4) 3 seconds ago");
        let mut state = running();
        state.started_ns = second;
        assert_eq!(state.description(301 * second), "Up 5 minutes");
        state.health = Some(Health::starting());
        assert_eq!(
            state.description(301 * second),
            "Up 5 minutes (health: starting)"
        );
        state.end_health();
        assert_eq!(state.description(301 * second), "Up 5 minutes (unhealthy)");
    }
}
