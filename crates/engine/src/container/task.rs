//! The owner of one container: the only place where its state moves.
//!
//! It takes commands one after the other, listens to the monitor in between,
//! and never blocks on the container: a stop is a signal, a deadline and a list
//! of those who wait for the end.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use conex_api::container::RemoveOptions;
use conex_monitor::protocol::{self, Event, Streams};
use conex_monitor::{ExitRecord, Link, LinkError, receive_event, send_request};
use conex_sys::process::pidfd_signal;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::state::{Change, Phase, State};
use super::{Container, Record, remove, start};
use crate::engine::Inner;
use crate::time::now_ns;
use crate::Error;

pub(crate) type Reply = oneshot::Sender<Result<(), Error>>;

/// What a container's owner is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start it.
    Start(Reply),
    /// Send a signal, then SIGKILL after a time; answered when it ended.
    Stop { signal: i32, timeout: Option<Duration>, reply: Reply },
    /// Send a signal; SIGKILL is answered when it ended.
    Kill { signal: i32, reply: Reply },
    /// Remove it.
    Remove { options: RemoveOptions, reply: Reply },
    /// Serve one more attacher.
    Attach { streams: Streams, socket: OwnedFd, reply: Reply },
    /// Change the size of its terminal.
    Resize { rows: u16, columns: u16, reply: Reply },
}

/// A connection to a monitor, and the process it watches.
#[derive(Debug)]
pub(crate) struct Monitored {
    /// A seqpacket socket: to the runtime, one with messages.
    pub(crate) link: UnixDatagram,
    pub(crate) pidfd: OwnedFd,
}

impl Monitored {
    /// Wraps a link whose hello has been received.
    pub(crate) fn new(link: Link, pidfd: OwnedFd) -> std::io::Result<Monitored> {
        let socket = std::os::unix::net::UnixDatagram::from(link.into_fd());
        socket.set_nonblocking(true)?;
        Ok(Monitored { link: UnixDatagram::from_std(socket)?, pidfd })
    }

    async fn event(&mut self) -> Result<Event, LinkError> {
        loop {
            self.link.readable().await?;
            // Only "would block" is an error to the runtime: it then waits.
            let received = self.link.try_io(Interest::READABLE, || {
                match receive_event(self.link.as_fd()) {
                    Err(LinkError::Socket(Errno::AGAIN)) => Err(ErrorKind::WouldBlock.into()),
                    other => Ok(other),
                }
            });
            if let Ok(event) = received {
                return event.map(|(event, _)| event);
            }
        }
    }

    /// Waits until the monitor let go of everything.
    pub(crate) async fn released(mut self) {
        while self.event().await.is_ok() {}
    }
}

struct Task {
    engine: Arc<Inner>,
    container: Arc<Container>,
    monitored: Option<Monitored>,
    /// The end of the run was recorded; the monitor is still tidying up.
    ended: bool,
    waiting: Vec<(Reply, bool)>,
    kill_at: Option<Instant>,
    restart_at: Option<Instant>,
    pending: Vec<(Streams, OwnedFd)>,
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
        commands,
    });
    let task = Task {
        engine: Arc::clone(engine),
        container: Arc::clone(&container),
        monitored,
        ended: false,
        waiting: Vec::new(),
        kill_at: None,
        restart_at: None,
        pending: Vec::new(),
    };
    tokio::spawn(task.run(receiver));
    container
}

impl Task {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
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
            Command::Stop { signal, timeout, reply } => {
                self.stop(signal, timeout, reply).await;
                return false;
            }
            Command::Kill { signal, reply } => {
                self.kill(signal, reply);
                return false;
            }
            Command::Remove { options, reply } => {
                let result = self.remove(options).await;
                let gone = result.is_ok();
                answer(reply, result);
                return gone;
            }
            Command::Attach { streams, socket, reply } => (reply, self.attach(streams, socket)),
            Command::Resize { rows, columns, reply } => (reply, self.resize(rows, columns)),
        };
        answer(reply, result);
        false
    }

    /// Persists a change, then shows it.
    async fn change(&mut self, change: Change) -> Result<(), Error> {
        let next = self
            .container
            .state()
            .after(change)
            .map_err(|e| Error::new(crate::ErrorKind::System, e.to_string()))?;
        self.store(next).await
    }

    async fn store(&mut self, next: State) -> Result<(), Error> {
        self.engine.save_state(self.container.id(), &next).await?;
        self.container.state.send_replace(Arc::new(next));
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Error> {
        match self.container.state().phase {
            Phase::Running => return Err(Error::not_modified()),
            Phase::Removing | Phase::Dead => {
                return Err(Error::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Phase::Created | Phase::Exited | Phase::Restarting => {}
        }
        self.restart_at = None;
        if let Some(old) = self.monitored.take() {
            // The last run's monitor still gives back its cgroup.
            old.released().await;
        }
        let attachers = std::mem::take(&mut self.pending);
        match start::launch(&self.engine, &self.container, attachers).await {
            Ok(launched) => {
                let hello = launched.hello;
                self.monitored = Some(launched.monitored);
                self.ended = false;
                for warning in &hello.warnings {
                    tracing::warn!(container = self.container.id(), "{warning}");
                }
                self.change(Change::Started { pid: hello.pid, at_ns: hello.started_ns }).await?;
                self.container.publish(&self.engine.events, "start", &[]);
                Ok(())
            }
            Err(failed) => {
                let error = failed.error.to_string();
                let exit_code = failed.exit_code;
                self.change(Change::StartFailed { exit_code, error }).await?;
                if self.container.record.host_config.auto_remove {
                    let options = RemoveOptions { force: true, volumes: true, link: false };
                    if let Err(error) = self.remove(options).await {
                        tracing::warn!(container = self.container.id(), %error, "not removed");
                    }
                }
                Err(failed.error)
            }
        }
    }

    async fn stop(&mut self, signal: i32, timeout: Option<Duration>, reply: Reply) {
        match self.container.state().phase {
            Phase::Running => {}
            Phase::Restarting => {
                self.restart_at = None;
                let mut next = (*self.container.state()).clone();
                next.stopped_by_user = true;
                let result = match next.after(Change::RestartCancelled) {
                    Ok(next) => self.store(next).await,
                    Err(error) => Err(Error::new(crate::ErrorKind::System, error.to_string())),
                };
                self.container.publish(&self.engine.events, "stop", &[]);
                return answer(reply, result);
            }
            _ => return answer(reply, Err(Error::not_modified())),
        }
        self.mark_stopped().await;
        self.signal_and_tell(signal);
        self.waiting.push((reply, true));
        let deadline = timeout.map(|t| Instant::now() + t);
        self.kill_at = match (self.kill_at, deadline) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
    }

    fn kill(&mut self, signal: i32, reply: Reply) {
        if !self.container.state().is_running() {
            let id = self.container.id();
            return answer(reply, Err(Error::conflict(format!("container {id} is not running"))));
        }
        let stop_signal = super::stop::signal_of(&self.container.record.config.stop_signal);
        if signal == libc::SIGKILL || stop_signal.is_ok_and(|s| s == signal) {
            // Restart policies leave a container alone that its user ended.
            let mut next = (*self.container.state()).clone();
            next.stopped_by_user = true;
            self.container.state.send_replace(Arc::new(next));
        }
        self.signal_and_tell(signal);
        if signal == libc::SIGKILL {
            self.waiting.push((reply, false));
        } else {
            answer(reply, Ok(()));
        }
    }

    async fn mark_stopped(&mut self) {
        let mut next = (*self.container.state()).clone();
        next.stopped_by_user = true;
        if let Err(error) = self.store(next).await {
            tracing::error!(container = self.container.id(), %error, "state not saved");
        }
    }

    fn signal_and_tell(&self, signal: i32) {
        if let Some(monitored) = &self.monitored {
            // ESRCH: it ended on its own, its exit is on the way.
            let _ended = pidfd_signal(monitored.pidfd.as_fd(), signal).is_err();
        }
        let extra = [("signal", signal.to_string())];
        self.container.publish(&self.engine.events, "kill", &extra);
    }

    fn attach(&mut self, streams: Streams, socket: OwnedFd) -> Result<(), Error> {
        match &self.monitored {
            Some(monitored) if !self.ended => {
                let request = protocol::Request::Attach(streams);
                let sent = send_request(monitored.link.as_fd(), &request, &[socket.as_fd()]);
                sent.map_err(|e| Error::system("attach", &e))?;
            }
            _ => self.pending.push((streams, socket)),
        }
        self.container.publish(&self.engine.events, "attach", &[]);
        Ok(())
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
        self.container.publish(&self.engine.events, "resize", &extra);
        Ok(())
    }

    /// Returns true when the container removed itself.
    async fn monitor_said(&mut self, event: Result<Event, LinkError>) -> bool {
        match event {
            Ok(Event::Exited(record)) => {
                self.ended = true;
                let change = Change::Exited {
                    exit_code: record.exit_code,
                    oom_killed: record.oom_killed,
                    at_ns: record.finished_ns,
                };
                self.exited(change).await
            }
            Ok(Event::OutOfMemory) => {
                self.container.publish(&self.engine.events, "oom", &[]);
                false
            }
            Ok(Event::Warning(text)) => {
                tracing::warn!(container = self.container.id(), "{text}");
                false
            }
            Ok(Event::Attached { .. } | Event::Hello(_) | Event::Started(_) | Event::Failed(_)) => {
                false
            }
            Err(error) => {
                self.monitored = None;
                if self.ended {
                    return false;
                }
                self.monitor_lost(&error).await
            }
        }
    }

    /// The monitor went without a word: killed. Nothing watches the container
    /// any more, so it ends too.
    async fn monitor_lost(&mut self, error: &LinkError) -> bool {
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
        let (engine, id) = (Arc::clone(&self.engine), self.container.id().to_owned());
        let cleaned = tokio::task::spawn_blocking(move || engine.kill_cgroup(&id)).await;
        if let Err(error) = cleaned {
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
        if let Err(error) = self.change(change).await {
            tracing::error!(container = self.container.id(), %error, "exit not recorded");
        }
        let state = self.container.state();
        let ran_ns = (state.finished_ns - state.started_ns).max(0);
        let extra = [
            ("exitCode", state.exit_code.to_string()),
            ("execDuration", (ran_ns / 1_000_000_000).to_string()),
        ];
        self.container.publish(&self.engine.events, "die", &extra);
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.iter().any(|(_, stop)| *stop) {
            self.container.publish(&self.engine.events, "stop", &[]);
        }
        for (reply, _) in waiting {
            answer(reply, Ok(()));
        }
        if self.container.record.host_config.auto_remove {
            let options = RemoveOptions { force: true, volumes: true, link: false };
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

    /// COMPAT D2.8: 100 ms, doubled up to a minute, from the start again when
    /// the container ran for ten seconds.
    async fn plan_restart(&mut self, ran: Duration) {
        let state = self.container.state();
        let policy = &self.container.record.host_config.restart_policy;
        let wanted = match policy.name.as_str() {
            "always" | "unless-stopped" => !state.stopped_by_user,
            "on-failure" => {
                let limit = policy.maximum_retry_count;
                let left = limit == 0 || i64::from(state.restart_count) < limit;
                !state.stopped_by_user && state.exit_code != 0 && left
            }
            _ => false,
        };
        if !wanted {
            return;
        }
        let doublings = if ran >= Duration::from_secs(10) { 0 } else { state.restart_count.min(10) };
        let pause = Duration::from_millis(100 << doublings).min(Duration::from_secs(60));
        match self.change(Change::RestartPlanned).await {
            Ok(()) => self.restart_at = Some(Instant::now() + pause),
            Err(error) => tracing::error!(%error, "restart not planned"),
        }
    }

    async fn remove(&mut self, options: RemoveOptions) -> Result<(), Error> {
        if self.container.state().is_running() {
            if !options.force {
                let name = self.container.name();
                return Err(Error::conflict(format!(
                    "cannot remove container \"{name}\": container is running: stop the \
                     container before removing or force remove"
                )));
            }
            self.mark_stopped().await;
            self.signal_and_tell(libc::SIGKILL);
            while self.container.state().is_running() {
                let event = next_event(&mut self.monitored).await;
                // An auto-remove container is gone after its exit.
                if Box::pin(self.monitor_said(event)).await {
                    return Ok(());
                }
            }
        }
        self.restart_at = None;
        self.change(Change::Removing).await?;
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
                let text = error.to_string();
                self.change(Change::RemovalFailed { error: text }).await?;
                Err(error)
            }
        }
    }
}

async fn next_event(monitored: &mut Option<Monitored>) -> Result<Event, LinkError> {
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
