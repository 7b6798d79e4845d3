//! Execs: further programs in running containers, one file per verb. They live
//! in memory; a new engine learns of those that go on from their monitors.
//!
//! ```text
//!  Created ──start──► Starting ──► Running ──► Ended
//!                         └──────► Failed
//! ```
//!
//! The owner of the container ([`crate::container::task`]) talks to the monitor
//! and moves the status; waiters watch it.

mod create;
mod inspect;
mod start;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use conex_api::exec::CreateRequest;
use conex_monitor::protocol::MAX_NOTE;
use tokio::sync::watch;

/// How long the end of an exec can be asked for.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// How long an exec may wait for its start.
const UNSTARTED: Duration = Duration::from_secs(60 * 60);

/// How long the end of an exec can be asked for after its container has gone:
/// its client saw the streams end and asks now.
const AFTERMATH: Duration = Duration::from_secs(5);

/// Execs that are over and remembered at most.
const MAX_OVER: usize = 1024;

/// From how many execs on old ones are looked for.
const CROWD: usize = 64;

/// Docker's code for an exec that could not be started.
pub(crate) const NOT_STARTED: i32 = 126;

/// What a container's execs get when it ends under them.
const KILLED: i32 = 128 + libc::SIGKILL;

/// Where in its life an exec is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nobody started it.
    Created,
    /// Its monitor is asked.
    Starting,
    /// It runs.
    Running { pid: i32 },
    /// It could not be started.
    Failed {
        exit_code: i32,
        message: String,
        at: Instant,
    },
    /// It ended.
    Ended {
        pid: i32,
        exit_code: i32,
        at: Instant,
    },
}

impl Status {
    fn is_over(&self) -> bool {
        matches!(self, Status::Failed { .. } | Status::Ended { .. })
    }

    /// Since when nothing happens to it any more.
    fn over_since(&self) -> Option<Instant> {
        match self {
            Status::Failed { at, .. } | Status::Ended { at, .. } => Some(*at),
            _ => None,
        }
    }
}

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: String,
    /// Full id of its container.
    pub(crate) container_id: String,
    pub(crate) request: CreateRequest,
    made: Instant,
    status: watch::Sender<Status>,
}

impl Exec {
    fn new(id: String, container_id: String, request: CreateRequest, status: Status) -> Exec {
        Exec {
            id,
            container_id,
            request,
            made: Instant::now(),
            status: watch::Sender::new(status),
        }
    }

    /// A snapshot.
    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until nothing happens to it any more; `None` when it is forgotten.
    pub(crate) async fn over(&self) -> Option<Status> {
        let mut status = self.status.subscribe();
        let over = status.wait_for(Status::is_over).await;
        over.ok().map(|status| status.clone())
    }

    fn is_unstarted(&self) -> bool {
        *self.status.borrow() == Status::Created
    }

    fn ended_just_now(&self) -> bool {
        let since = self.status.borrow().over_since();
        since.is_some_and(|at| at.elapsed() < AFTERMATH)
    }

    /// Moves it on, unless it is over.
    pub(crate) fn advance(&self, next: Status) {
        self.status.send_if_modified(|status| {
            let moves = !status.is_over();
            if moves {
                *status = next;
            }
            moves
        });
    }

    /// Takes the right to start it.
    fn begin(&self) -> bool {
        self.status.send_if_modified(|status| {
            let is_first = *status == Status::Created;
            if is_first {
                *status = Status::Starting;
            }
            is_first
        })
    }

    /// The program with its arguments, as events show it.
    pub(crate) fn command_line(&self) -> String {
        let (program, arguments) = self.program();
        format!("{program} {}", arguments.join(" "))
    }

    fn program(&self) -> (&str, &[String]) {
        match self.request.cmd.as_deref() {
            Some([program, arguments @ ..]) => (program, arguments),
            _ => ("", &[]),
        }
    }

    /// What a later engine needs to answer for it, without its variables:
    /// those may be secret and long.
    fn note(&self) -> String {
        let mut shown = CreateRequest {
            env: None,
            ..self.request.clone()
        };
        let text =
            |shown: &CreateRequest| serde_json::to_string(shown).expect("a request is plain data");
        let note = text(&shown);
        if note.len() <= MAX_NOTE {
            return note;
        }
        shown.cmd = Some(vec!["...".to_owned()]);
        let note = text(&shown);
        if note.len() <= MAX_NOTE {
            note
        } else {
            "{}".to_owned()
        }
    }
}

/// Every exec the engine knows.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    all: Mutex<All>,
}

/// What the lock guards.
#[derive(Debug, Default)]
struct All {
    by_id: HashMap<String, Arc<Exec>>,
    /// How many there may be before old ones are looked for again.
    room: usize,
}

impl All {
    /// Forgets what is long over, what lost its container, and of too many
    /// that are over the oldest.
    fn sweep(&mut self, lives: impl Fn(&str) -> bool) {
        let mut over = Vec::new();
        self.by_id.retain(|id, exec| {
            let since = exec.status.borrow().over_since();
            over.extend(since.map(|at| (at, id.clone())));
            let is_old = match since {
                Some(at) => at.elapsed() >= REMEMBERED,
                None => exec.is_unstarted() && exec.made.elapsed() >= UNSTARTED,
            };
            !is_old && (lives(&exec.container_id) || exec.ended_just_now())
        });
        over.retain(|(_, id)| self.by_id.contains_key(id));
        over.sort_unstable();
        for (_, id) in &over[..over.len().saturating_sub(MAX_OVER)] {
            self.by_id.remove(id);
        }
        self.room = (self.by_id.len() * 2).max(CROWD);
    }
}

impl Execs {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, and now and then forgets old ones; `lives` says whether a
    /// container is still there.
    fn insert(&self, exec: Arc<Exec>, lives: impl Fn(&str) -> bool) {
        let mut all = self.all();
        if all.by_id.len() >= all.room {
            all.sweep(lives);
        }
        all.by_id.insert(exec.id.clone(), exec);
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Exec>> {
        self.all().by_id.get(id).cloned()
    }

    fn forget(&self, id: &str) {
        self.all().by_id.remove(id);
    }

    /// An exec that goes on since before this engine, as its monitor tells.
    pub(crate) fn adopt(&self, container_id: &str, id: &str, note: &str, pid: i32) {
        let request = serde_json::from_str(note).unwrap_or_default();
        let status = Status::Running { pid };
        let exec = Exec::new(id.to_owned(), container_id.to_owned(), request, status);
        self.all().by_id.insert(id.to_owned(), Arc::new(exec));
    }

    /// Ids of a container's execs that are not over.
    pub(crate) fn of_container(&self, container_id: &str) -> Vec<String> {
        let all = self.all();
        let present = |exec: &&Arc<Exec>| {
            exec.container_id == container_id && !exec.status.borrow().is_over()
        };
        let mut ids: Vec<String> = all
            .by_id
            .values()
            .filter(present)
            .map(|e| e.id.clone())
            .collect();
        ids.sort();
        ids
    }

    /// A container ended: whatever ran in it did too.
    pub(crate) fn container_ended(&self, container_id: &str) {
        let at = Instant::now();
        for exec in self
            .all()
            .by_id
            .values()
            .filter(|exec| exec.container_id == container_id)
        {
            let next = match exec.status() {
                Status::Starting => Status::Failed {
                    exit_code: NOT_STARTED,
                    message: format!("container {container_id} is not running"),
                    at,
                },
                Status::Running { pid } => Status::Ended {
                    pid,
                    exit_code: KILLED,
                    at,
                },
                _ => continue,
            };
            exec.advance(next);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn exec(id: &str, status: Status) -> Arc<Exec> {
        let request = CreateRequest {
            cmd: Some(vec!["sh".into(), "-c".into(), "exit 3".into()]),
            env: Some(vec!["TOKEN=secret".into()]),
            tty: true,
            ..CreateRequest::default()
        };
        Arc::new(Exec::new(id.into(), "c".into(), request, status))
    }

    #[test]
    fn an_exec_is_started_once_and_ends_once() {
        let exec = exec("e", Status::Created);
        assert!(exec.begin());
        assert!(!exec.begin());
        exec.advance(Status::Running { pid: 7 });
        let at = Instant::now();
        exec.advance(Status::Ended {
            pid: 7,
            exit_code: 3,
            at,
        });
        exec.advance(Status::Ended {
            pid: 7,
            exit_code: KILLED,
            at,
        });
        assert_eq!(
            exec.status(),
            Status::Ended {
                pid: 7,
                exit_code: 3,
                at
            }
        );
    }

    #[test]
    fn the_end_of_a_container_ends_its_execs() {
        let execs = Execs::default();
        execs.insert(exec("starts", Status::Starting), |_| true);
        execs.insert(exec("runs", Status::Running { pid: 7 }), |_| true);
        execs.insert(exec("waits", Status::Created), |_| true);
        assert_eq!(execs.of_container("c"), ["runs", "starts", "waits"]);
        execs.container_ended("c");
        let status = |id: &str| execs.get(id).unwrap().status();
        assert!(matches!(
            status("starts"),
            Status::Failed { exit_code: 126, .. }
        ));
        assert!(matches!(
            status("runs"),
            Status::Ended {
                exit_code: 137,
                pid: 7,
                ..
            }
        ));
        assert_eq!(status("waits"), Status::Created);
        assert_eq!(execs.of_container("c"), ["waits"]);
    }

    #[test]
    fn old_ends_and_execs_of_gone_containers_are_forgotten() {
        let execs = Execs::default();
        let old = Instant::now().checked_sub(REMEMBERED).unwrap();
        let ended = |at| Status::Ended {
            pid: 1,
            exit_code: 0,
            at,
        };
        execs.insert(exec("old", ended(old)), |_| true);
        execs.insert(exec("fresh", ended(Instant::now())), |_| true);
        execs.all().sweep(|_| true);
        assert!(execs.get("old").is_none() && execs.get("fresh").is_some());
        execs.insert(exec("waits", Status::Created), |_| true);
        execs.all().sweep(|_| false);
        assert!(execs.get("waits").is_none());
        // Its client may be on the way.
        assert!(execs.get("fresh").is_some());
    }

    #[test]
    fn however_many_end_a_bounded_number_is_remembered() {
        let execs = Execs::default();
        execs.insert(exec("runs", Status::Running { pid: 7 }), |_| true);
        for number in 0..10 * MAX_OVER {
            let status = Status::Ended {
                pid: 1,
                exit_code: 0,
                at: Instant::now(),
            };
            execs.insert(exec(&number.to_string(), status), |_| true);
        }
        assert!(execs.all().by_id.len() <= 2 * MAX_OVER + 2);
        assert!(execs.get("runs").is_some());
        assert!(execs.get(&(10 * MAX_OVER - 1).to_string()).is_some());
    }

    #[test]
    fn a_later_engine_learns_everything_but_the_variables() {
        let note = exec("e", Status::Created).note();
        assert!(!note.contains("secret"));
        let execs = Execs::default();
        execs.adopt("c", "e", &note, 9);
        let adopted = execs.get("e").unwrap();
        assert_eq!(adopted.command_line(), "sh -c exit 3");
        assert!(adopted.request.tty);
        assert_eq!(adopted.status(), Status::Running { pid: 9 });
    }

    #[test]
    fn a_note_fits_into_a_message_however_long_the_command() {
        let request = CreateRequest {
            cmd: Some(vec!["x".repeat(MAX_NOTE)]),
            ..CreateRequest::default()
        };
        let exec = Exec::new("e".into(), "c".into(), request, Status::Created);
        assert!(exec.note().len() <= MAX_NOTE);
    }
}
