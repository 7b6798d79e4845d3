//! `attach`: a socket to the container's streams, handed over by its monitor.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use conex_api::container::{AttachOptions, LogsOptions};
use conex_api::detach;
use conex_monitor::protocol::{Attach, Streams};
use conex_sys::socket;
use futures_util::stream::BoxStream;
use rustix::net::SocketType;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::Container;
use super::state::Phase;
use super::task::Command;
use crate::{Engine, Error};

/// The streams of a container, for one client.
pub struct Attachment {
    /// Bytes are raw; otherwise they are Docker's frames.
    pub tty: bool,
    /// What was logged before (`logs=1`).
    pub replay: Option<BoxStream<'static, io::Result<Bytes>>>,
    /// What comes from now on. Bytes written are standard input, a half-close
    /// is its end. Ends when the container's output ends.
    pub live: Option<UnixStream>,
}

impl Engine {
    /// Attaches to a container; to one that does not run, for its next start.
    ///
    /// With `logs` and `stream` nothing is missing between the two, and nothing comes twice
    /// (COMPAT D1.7). Errors: conflict when it is paused or restarting; invalid parameter for
    /// detach keys that are none.
    pub async fn container_attach(
        &self,
        name: &str,
        options: AttachOptions,
    ) -> Result<Attachment, Error> {
        let container = self.inner.find(name)?;
        let record = &container.record;
        let detach_keys = detach_keys(options.detach_keys.as_deref()).ok_or_else(|| {
            let keys = options.detach_keys.as_deref().unwrap_or_default();
            Error::invalid(format!("Invalid detach keys ({keys}) provided"))
        })?;
        check_attachable(&container, name)?;
        let wanted = Attach {
            streams: Streams {
                stdin: options.stdin && record.config.open_stdin,
                stdout: options.stdout,
                stderr: options.stderr,
            },
            detach_keys,
            reads_log: options.logs,
        };
        let query = options.logs.then(|| LogsOptions {
            stdout: options.stdout,
            stderr: options.stderr,
            ..LogsOptions::default()
        });
        if let Some(query) = &query {
            // Known before anything is attached.
            super::logs::check_readable(&container, query)?;
        }
        let mut log_end = None;
        let live = if options.stream {
            let (ours, theirs) = socket::pair(SocketType::STREAM)
                .map_err(|e| Error::system("make an attach socket", &e))?;
            let (reply, answer) = oneshot::channel();
            container.command(Command::Attach {
                wanted,
                socket: theirs,
                reply,
            })?;
            // No answer: it ended meanwhile, and its whole output is in the log.
            log_end = answer.await.unwrap_or(Ok(None))?;
            Some(into_stream(ours).map_err(|e| Error::system("attach", &e))?)
        } else {
            None
        };
        let replay = query.map(|query| super::logs::stream(&container, &query, log_end));
        Ok(Attachment {
            tty: record.config.tty,
            replay,
            live,
        })
    }
}

/// The keys asked for, or the usual ones; `None` for what are no keys.
pub(crate) fn detach_keys(text: Option<&str>) -> Option<Vec<u8>> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => detach::parse(text),
        None => Some(detach::DEFAULT.to_vec()),
    }
}

fn check_attachable(container: &Container, named: &str) -> Result<(), Error> {
    let state = container.state();
    let problem = if state.is_paused() {
        "paused, unpause the container before attach"
    } else if state.phase == Phase::Restarting {
        "restarting, wait until the container is running"
    } else {
        return Ok(());
    };
    Err(Error::conflict(format!("container {named} is {problem}")))
}

pub(crate) fn into_stream(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
