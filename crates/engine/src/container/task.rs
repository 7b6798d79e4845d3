//! The owner of one container: the only place where its state moves.
//!
//! It takes commands one after the other, listens to the monitor in between,
//! and never blocks on the container: a stop is a signal, a deadline and a list
//! of those who wait for the end.

mod attach;
mod command;
mod end;
mod exec;
mod health;
mod monitored;
mod network;
mod pause;
mod remove;
mod rename;
mod restart;
mod start;
mod stop;
mod update;
mod volume;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use conex_monitor::protocol::{self, Event};
use conex_monitor::{LinkError, send_request};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::state::{Change, State};
use super::{Container, Record};
use crate::Error;
use crate::engine::Inner;

pub(crate) use command::{Cause, Command, Reply};
pub(crate) use monitored::Monitored;
use monitored::Said;

/// How long a monitor may take to report the end of a killed container before
/// it is looked at.
const REPORT_PATIENCE: Duration = Duration::from_secs(30);

struct Task {
    engine: Arc<Inner>,
    container: Arc<Container>,
    monitored: Option<Monitored>,
    /// The end of the run was recorded; the monitor is still tidying up.
    ended: bool,
    waiting: Vec<(Reply, bool)>,
    kill_at: Option<Instant>,
    /// When the monitor should have reported the end of a killed container.
    report_by: Option<Instant>,
    restart_at: Option<Instant>,
    /// Restarts in a row by its policy, since it last ran for a while.
    quick_ends: u32,
    /// Its end is half of a restart.
    is_kept: bool,
    watch: health::Watch,
    pending: Vec<(protocol::Attach, OwnedFd)>,
    /// Attachers the monitor was asked to serve and said nothing about yet.
    attaching: VecDeque<Option<attach::Reply>>,
    /// Execs the monitor was asked for and said nothing about yet.
    execs_starting: usize,
}

/// Makes a container and spawns its owner.
pub(crate) fn spawn(
    engine: &Arc<Inner>,
    record: Record,
    name: String,
    state: State,
    monitored: Option<Monitored>,
) -> Arc<Container> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let container = Arc::new(Container {
        dir: engine.root.container(&record.id),
        run_dir: engine.root.container_run(&record.id),
        name: arc_swap::ArcSwap::from_pointee(name),
        record,
        state: watch::Sender::new(Arc::new(state)),
        shared: super::files::Shared::default(),
        commands,
    });
    let task = Task {
        watch: health::Watch::of(&container.record.config),
        engine: Arc::clone(engine),
        container: Arc::clone(&container),
        monitored,
        ended: false,
        waiting: Vec::new(),
        kill_at: None,
        report_by: None,
        restart_at: None,
        quick_ends: 0,
        is_kept: false,
        pending: Vec::new(),
        attaching: VecDeque::new(),
        execs_starting: 0,
    };
    tokio::spawn(task.run(receiver));
    container
}

impl Task {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        self.watch_health();
        loop {
            tokio::select! {
                command = commands.recv() => {
                    let Some(command) = command else { return };
                    if self.command(command).await {
                        return;
                    }
                }
                event = next_event(&mut self.monitored) => {
                    if self.monitor_said(event).await {
                        return;
                    }
                }
                () = at(self.kill_at) => {
                    self.kill_at = None;
                    self.signal_and_tell(libc::SIGKILL);
                }
                () = at(self.report_by) => self.report_is_overdue().await,
                due = self.watch.next() => self.health_is_due(due).await,
                () = at(self.restart_at) => {
                    self.restart_at = None;
                    let _told_in_state = self.start().await.is_err();
                }
            }
        }
    }

    /// Persists what happened, then shows it. It did happen: a full disk
    /// does not keep it from being seen, and the monitor's own records tell
    /// the next engine.
    async fn fact(&mut self, change: Change) {
        match self.container.state().after(change) {
            Ok(next) => self.store(next).await,
            Err(error) => {
                tracing::error!(container = self.container.id(), %error, "state not moved");
            }
        }
    }

    /// Moves the state in memory alone; the next engine starts from the last
    /// one on disk.
    fn show(&self, change: Change) -> Result<(), Error> {
        let next = self.container.state().after(change);
        let next = next.map_err(|e| Error::new(crate::ErrorKind::System, e.to_string()))?;
        self.container.state.send_replace(Arc::new(next));
        Ok(())
    }

    async fn store(&mut self, next: State) {
        if let Err(error) = self.engine.save_state(self.container.id(), &next).await {
            tracing::error!(container = self.container.id(), %error, "state not saved");
        }
        self.container.state.send_replace(Arc::new(next));
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<(), Error> {
        let Some(monitored) = self.monitored.as_ref().filter(|_| !self.ended) else {
            let id = self.container.id();
            return Err(Error::conflict(format!("container {id} is not running")));
        };
        let request = protocol::Request::Resize { rows, columns };
        let sent = send_request(monitored.link.as_fd(), &request, &[]);
        sent.map_err(|e| Error::system("resize", &e))?;
        let extra = [("height", rows.to_string()), ("width", columns.to_string())];
        self.container
            .publish(&self.engine.events, "resize", &extra);
        Ok(())
    }

    /// Returns true when the container removed itself.
    async fn monitor_said(&mut self, said: Result<Said, LinkError>) -> bool {
        let (event, fds) = match said {
            Ok(said) => (Ok(said.event), said.fds),
            Err(error) => (Err(error), Vec::new()),
        };
        match event {
            Ok(Event::Attached { log_bytes }) => {
                self.attached(log_bytes, fds);
                false
            }
            Ok(Event::Detached { exec }) => {
                self.detached(exec);
                false
            }
            Ok(Event::Exited(record)) => {
                self.ended = true;
                let change = Change::Exited {
                    exit_code: record.exit_code,
                    oom_killed: record.oom_killed,
                    at_ns: record.finished_ns,
                };
                self.exited(change).await
            }
            Ok(Event::ExecStarted(started)) => {
                self.exec_started(&started);
                false
            }
            Ok(Event::ExecFailed(failed)) => {
                self.exec_failed(failed);
                false
            }
            Ok(Event::ExecExited(exit)) => {
                self.exec_exited(exit);
                false
            }
            Ok(Event::OutOfMemory) => {
                // An old monitor tells after the end.
                if self.container.state().is_running() {
                    self.fact(Change::OutOfMemory).await;
                }
                self.container.publish(&self.engine.events, "oom", &[]);
                false
            }
            Ok(Event::Warning(text)) => {
                tracing::warn!(container = self.container.id(), "{text}");
                false
            }
            Ok(Event::Hello(_) | Event::Started(_) | Event::Failed(_)) => false,
            Err(error) => {
                let lost = self.monitored.take();
                match lost.filter(|_| !self.ended) {
                    Some(lost) => self.monitor_lost(&error, lost.pidfd).await,
                    None => false,
                }
            }
        }
    }
}

async fn next_event(monitored: &mut Option<Monitored>) -> Result<Said, LinkError> {
    match monitored {
        Some(monitored) => monitored.event().await,
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A caller that went away does not need its answer.
fn answer(reply: Reply, result: Result<(), Error>) {
    let _nobody = reply.send(result).is_err();
}
