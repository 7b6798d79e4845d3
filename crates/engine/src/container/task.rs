//! The owner of one container: the only place where its state moves.
//!
//! It takes commands one after the other, listens to the monitor in between,
//! and never blocks on the container: a stop is a signal, a deadline and a list
//! of those who wait for the end.

mod attach;
mod exec;
mod health;
mod monitored;
mod network;
mod pause;
mod rename;
mod restart;
mod stop;
mod update;
mod volume;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use conex_api::container::{EndpointSettings, HostConfig, RemoveOptions};
use conex_monitor::protocol::{self, Event};
use conex_monitor::{ExitRecord, LinkError, send_request};
use conex_sys::process::pidfd_signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::files::Starting;
use super::state::{Change, Phase, State};
use super::{Container, Record, remove, start};
use crate::engine::Inner;
use crate::time::now_ns;
use crate::{Error, process};

pub(crate) use monitored::Monitored;
use monitored::Said;

pub(crate) type Reply = oneshot::Sender<Result<(), Error>>;

/// What a container's owner is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start it.
    Start(Reply),
    /// Send a signal, then SIGKILL after a time; answered when it ended.
    Stop {
        signal: i32,
        timeout: Option<Duration>,
        cause: Cause,
        reply: Reply,
    },
    /// Send a signal; SIGKILL is answered when it ended.
    Kill { signal: i32, reply: Reply },
    /// Remove it.
    Remove {
        options: RemoveOptions,
        reply: Reply,
    },
    /// Serve one more attacher.
    Attach {
        wanted: protocol::Attach,
        socket: OwnedFd,
        reply: attach::Reply,
    },
    /// Change the size of its terminal.
    Resize {
        rows: u16,
        columns: u16,
        reply: Reply,
    },
    /// Freeze it, or thaw it.
    Freeze { frozen: bool, reply: Reply },
    /// Give it another name.
    Rename { new_name: String, reply: Reply },
    /// Change limits and restart policy; answered with warnings.
    Update {
        wanted: Box<HostConfig>,
        reply: oneshot::Sender<Result<Vec<String>, Error>>,
    },
    /// Put it on one more network.
    Connect {
        network: String,
        settings: Box<EndpointSettings>,
        reply: Reply,
    },
    /// Take it off a network.
    Disconnect { network: String, reply: Reply },
    /// Start one more program; answered when its monitor is asked.
    Exec {
        request: Box<protocol::ExecRequest>,
        socket: Option<OwnedFd>,
        reply: Reply,
    },
    /// Send a signal to an exec; answered when its monitor is asked.
    ExecSignal {
        id: String,
        signal: i32,
        reply: Reply,
    },
    /// Change the size of an exec's terminal.
    ExecResize {
        id: String,
        rows: u16,
        columns: u16,
        reply: Reply,
    },
}

/// Who wants a container to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its user: restart policies leave it alone.
    User,
    /// The engine goes, and starts it again when it is back.
    EngineLeaves,
    /// It is started again at once: it is kept even if its end would remove it.
    Restart,
}

/// How long a monitor may take to report the end of a killed container before
/// it is looked at.
const REPORT_PATIENCE: Duration = Duration::from_secs(30);

/// How long the next start waits for the last run's monitor to let go.
const RELEASE_PATIENCE: Duration = Duration::from_secs(60);

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

    /// Returns true when the container is gone.
    async fn command(&mut self, command: Command) -> bool {
        let (reply, result) = match command {
            Command::Start(reply) => {
                let result = self.start().await;
                let gone = self.container.state().removed;
                answer(reply, result);
                return gone;
            }
            Command::Stop {
                signal,
                timeout,
                cause,
                reply,
            } => {
                self.stop(signal, timeout, cause, reply).await;
                return false;
            }
            Command::Kill { signal, reply } => {
                self.kill(signal, reply).await;
                return false;
            }
            Command::Remove { options, reply } => {
                let result = self.remove(options).await;
                let gone = result.is_ok();
                answer(reply, result);
                return gone;
            }
            Command::Attach {
                wanted,
                socket,
                reply,
            } => {
                self.attach(wanted, socket, reply);
                return false;
            }
            Command::Resize {
                rows,
                columns,
                reply,
            } => (reply, self.resize(rows, columns)),
            Command::Freeze { frozen, reply } => {
                let result = self.freeze(frozen).await;
                let gone = self.container.state().removed;
                answer(reply, result);
                return gone;
            }
            Command::Update { wanted, reply } => {
                // A caller that went away does not need its answer.
                let _nobody = reply.send(self.update(*wanted).await).is_err();
                return false;
            }
            Command::Rename { new_name, reply } => (reply, self.rename(new_name).await),
            Command::Connect {
                network,
                settings,
                reply,
            } => (reply, self.connect(&network, *settings).await),
            Command::Disconnect { network, reply } => (reply, self.disconnect(&network).await),
            Command::Exec {
                request,
                socket,
                reply,
            } => (reply, self.exec(&request, socket)),
            Command::ExecSignal { id, signal, reply } => (reply, self.exec_signal(id, signal)),
            Command::ExecResize {
                id,
                rows,
                columns,
                reply,
            } => (reply, self.exec_resize(id, rows, columns)),
        };
        answer(reply, result);
        false
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

    async fn start(&mut self) -> Result<(), Error> {
        match self.container.state().phase {
            Phase::Running if self.container.state().paused => {
                return Err(Error::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Phase::Running => return Err(Error::not_modified()),
            Phase::Removing | Phase::Dead => {
                return Err(Error::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Phase::Created | Phase::Exited | Phase::Restarting => {}
        }
        self.restart_at = None;
        self.is_kept = false;
        if let Some(old) = self.monitored.take() {
            // The last run's monitor still gives back its cgroup.
            if tokio::time::timeout(RELEASE_PATIENCE, old.released())
                .await
                .is_err()
            {
                let id = self.container.id().to_owned();
                let killing = tokio::task::spawn_blocking(move || process::kill_monitor(&id));
                let _joined = killing.await.is_err();
            }
        }
        let attachers = std::mem::take(&mut self.pending);
        let starting = Starting::new(&self.container);
        match start::launch(&self.engine, &self.container, attachers).await {
            Ok(launched) => {
                let hello = launched.hello;
                self.monitored = Some(launched.monitored);
                self.execs_starting = 0;
                self.ended = false;
                for warning in &hello.warnings {
                    tracing::warn!(container = self.container.id(), "{warning}");
                }
                self.started(hello.pid, hello.started_ns, launched.sandbox.clone())
                    .await;
                drop(starting);
                self.publish_networks("connect", launched.sandbox.as_deref());
                self.container.publish(&self.engine.events, "start", &[]);
                Ok(())
            }
            Err(failed) => {
                self.unmount_volumes().await;
                let error = failed.error.to_string();
                let exit_code = failed.exit_code;
                self.fact(Change::StartFailed { exit_code, error }).await;
                drop(starting);
                if self.container.record.host_config.auto_remove {
                    let options = RemoveOptions {
                        force: true,
                        volumes: true,
                        link: false,
                    };
                    if let Err(error) = self.remove(options).await {
                        tracing::warn!(container = self.container.id(), %error, "not removed");
                    }
                }
                Err(failed.error)
            }
        }
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

    /// The monitor went without a word: killed. Nothing watches the container
    /// any more, so it ends too.
    async fn monitor_lost(&mut self, error: &LinkError, pidfd: OwnedFd) -> bool {
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

    async fn exited(&mut self, change: Change) -> bool {
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

    async fn remove(&mut self, options: RemoveOptions) -> Result<(), Error> {
        let state = self.container.state();
        if (state.is_running() || state.phase == Phase::Restarting) && !options.force {
            let (name, status) = (self.container.name(), state.status());
            return Err(Error::conflict(format!(
                "cannot remove container \"{name}\": container is {status}: stop the container \
                 before removing or force remove"
            )));
        }
        if state.is_running() {
            self.mark_stopped().await;
            self.signal_and_tell(libc::SIGKILL);
            while self.container.state().is_running() {
                let event = tokio::select! {
                    event = next_event(&mut self.monitored) => event,
                    () = at(self.report_by) => {
                        self.report_is_overdue().await;
                        continue;
                    }
                };
                // An auto-remove container is gone after its exit.
                if Box::pin(self.monitor_said(event)).await {
                    return Ok(());
                }
            }
        }
        self.restart_at = None;
        // Nothing is written down: a removal cut short is seen by what is gone.
        self.show(Change::Removing)?;
        let monitored = self.monitored.take();
        match remove::remove(&self.engine, &self.container, options.volumes, monitored).await {
            Ok(()) => {
                let mut gone = (*self.container.state()).clone();
                gone.removed = true;
                self.container.state.send_replace(Arc::new(gone));
                self.container.publish(&self.engine.events, "destroy", &[]);
                Ok(())
            }
            Err(error) => {
                self.fact(Change::RemovalFailed {
                    error: error.to_string(),
                })
                .await;
                Err(error)
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
