//! What a container's owner is asked to do, and who of its files does it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use conex_api::container::{EndpointSettings, HostConfig, RemoveOptions};
use conex_monitor::protocol;
use tokio::sync::oneshot;

use super::{Task, answer, attach};
use crate::Error;

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

impl Task {
    /// Returns true when the container is gone.
    pub(super) async fn command(&mut self, command: Command) -> bool {
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
}
