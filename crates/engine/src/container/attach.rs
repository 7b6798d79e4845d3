//! `attach`: a socket to the container's streams, handed over by its monitor.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use conex_api::container::{AttachOptions, LogsOptions};
use conex_monitor::protocol::Streams;
use conex_sys::socket;
use futures_util::stream::BoxStream;
use rustix::net::SocketType;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

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
    pub async fn container_attach(
        &self,
        name: &str,
        options: AttachOptions,
    ) -> Result<Attachment, Error> {
        let container = self.inner.find(name)?;
        let tty = container.record.config.tty;
        let streams = Streams {
            stdin: options.stdin && container.record.config.open_stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let live = if options.stream {
            let (ours, theirs) = socket::pair(SocketType::STREAM)
                .map_err(|e| Error::system("make an attach socket", &e))?;
            let (reply, answer) = oneshot::channel();
            container.command(Command::Attach {
                streams,
                socket: theirs,
                reply,
            })?;
            super::stop::wait(answer, name).await?;
            Some(into_stream(ours).map_err(|e| Error::system("attach", &e))?)
        } else {
            None
        };
        let replay = if options.logs {
            let query = LogsOptions {
                stdout: options.stdout,
                stderr: options.stderr,
                ..LogsOptions::default()
            };
            Some(self.container_logs(name, query).await?.stream)
        } else {
            None
        };
        Ok(Attachment { tty, replay, live })
    }
}

pub(crate) fn into_stream(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
