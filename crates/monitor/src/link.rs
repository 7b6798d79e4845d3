//! One seqpacket connection between a daemon and a monitor.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use conex_sys::socket;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::protocol::{Event, ExecRequest, MAX_MESSAGE, Request, StartRequest};

/// The socket's name in the run directory.
const SOCKET: &str = "monitor.sock";

/// The largest start request; `execve` itself takes less.
const MAX_START: u64 = 16 * 1024 * 1024;

/// Why a message could not be exchanged.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The other side is gone.
    #[error("the connection was closed")]
    Closed,
    /// The socket failed.
    #[error("the connection failed")]
    Socket(#[from] Errno),
    /// The message is not one of this protocol.
    #[error("message not understood")]
    Malformed(#[from] serde_json::Error),
    /// The start request could not be written or read.
    #[error("the start request could not be handed over")]
    Start(#[from] std::io::Error),
}

/// Receives what a monitor says, on a socket that somebody else owns.
///
/// Errors: [`LinkError::Socket`] with `EAGAIN` when the socket does not block
/// and nothing is there.
pub fn receive_event(socket: BorrowedFd<'_>) -> Result<(Event, Vec<OwnedFd>), LinkError> {
    receive(socket)
}

/// Asks a monitor, on a socket that somebody else owns.
pub fn send_request(
    socket: BorrowedFd<'_>,
    request: &Request,
    fds: &[BorrowedFd<'_>],
) -> Result<(), LinkError> {
    send(socket, request, fds)
}

/// Asks a monitor for an exec; `attacher` is the socket for
/// [`ExecRequest::attach`].
pub fn send_exec(
    socket: BorrowedFd<'_>,
    request: &ExecRequest,
    attacher: Option<BorrowedFd<'_>>,
) -> Result<(), LinkError> {
    let memory = to_memory(c"exec", request)?;
    let fds: Vec<_> = std::iter::once(memory.as_fd()).chain(attacher).collect();
    send(socket, &Request::Exec, &fds)
}

fn to_memory(name: &std::ffi::CStr, message: &impl Serialize) -> Result<File, LinkError> {
    let memory = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    let mut writer = std::io::BufWriter::new(memory);
    serde_json::to_writer(&mut writer, message)?;
    writer
        .into_inner()
        .map_err(|e| LinkError::Start(e.into_error()))
}

fn from_memory<M: DeserializeOwned>(memory: OwnedFd) -> Result<M, LinkError> {
    let mut memory = File::from(memory);
    memory.rewind()?;
    let mut json = Vec::new();
    memory.take(MAX_START).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

impl ExecRequest {
    /// Reads what came with a [`Request::Exec`], and the attacher's socket.
    pub(crate) fn from_memory(
        fds: Vec<OwnedFd>,
    ) -> Result<(ExecRequest, Option<OwnedFd>), LinkError> {
        let mut fds = fds.into_iter();
        let memory = fds.next().ok_or(LinkError::Closed)?;
        Ok((from_memory(memory)?, fds.next()))
    }
}

/// Binds and listens on `monitor.sock` in a container's run directory.
pub fn listen(run_dir: &Path) -> Result<OwnedFd, Errno> {
    socket::listen_at(run_dir, SOCKET)
}

/// Receives one message and its descriptors.
fn receive<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<(M, Vec<OwnedFd>), LinkError> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let (length, fds) = socket::receive(socket, &mut buffer)?;
    if length == 0 {
        return Err(LinkError::Closed);
    }
    Ok((serde_json::from_slice(&buffer[..length])?, fds))
}

fn send<M: Serialize>(
    socket: BorrowedFd<'_>,
    message: &M,
    fds: &[BorrowedFd<'_>],
) -> Result<(), LinkError> {
    let json = serde_json::to_vec(message)?;
    socket::send(socket, &json, fds)?;
    Ok(())
}

/// A connection; both sides use the same type.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    closed: bool,
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Link {
    /// Wraps a connected seqpacket socket.
    pub fn new(socket: OwnedFd) -> Link {
        Link {
            socket,
            closed: false,
        }
    }

    /// Connects to the monitor of a run directory. Connecting, and whatever
    /// is received later, waits no longer than `patience`.
    ///
    /// Errors: `ENOENT` and `ECONNREFUSED` where there is no monitor, `EAGAIN`
    /// when it does not answer in time.
    pub fn connect(run_dir: &Path, patience: Duration) -> Result<Link, Errno> {
        socket::connect_at(run_dir, SOCKET, patience).map(Link::new)
    }

    /// Receives wait no longer than `patience` from now on, and then fail
    /// with `EAGAIN`.
    pub fn set_patience(&self, patience: Duration) -> Result<(), Errno> {
        socket::set_patience(self, patience)
    }

    /// Whether it failed because nothing came, or was taken, in time.
    pub fn is_timeout(error: &LinkError) -> bool {
        matches!(error, LinkError::Socket(Errno::AGAIN))
    }

    /// From now on nothing waits: a full or empty socket is `EAGAIN`.
    pub(crate) fn set_non_blocking(&self) {
        crate::start::non_blocking(&self.socket);
    }

    /// Remembers that the other side is gone.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether the other side is known to be gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes the socket out.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// Sends one message with descriptors.
    pub fn send<M: Serialize>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        send(self.as_fd(), message, fds)
    }

    /// Receives what a monitor says.
    pub fn receive_event(&self) -> Result<(Event, Vec<OwnedFd>), LinkError> {
        receive(self.as_fd())
    }

    /// Receives what a daemon asks.
    pub(crate) fn receive_request(&self) -> Result<(Request, Vec<OwnedFd>), LinkError> {
        receive(self.as_fd())
    }

    /// Hands the start request over; `fds` are the root mount, the listening
    /// socket and the sockets of the attachers.
    pub fn send_start(
        &self,
        request: &StartRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), LinkError> {
        let memory = to_memory(c"start", request)?;
        let mut all = vec![memory.as_fd()];
        all.extend_from_slice(fds);
        socket::send(self.as_fd(), b"start", &all)?;
        Ok(())
    }

    pub(crate) fn receive_start(&self) -> Result<(StartRequest, Vec<OwnedFd>), LinkError> {
        let mut buffer = [0; 16];
        let (length, mut fds) = socket::receive(self.as_fd(), &mut buffer)?;
        if length == 0 || fds.is_empty() {
            return Err(LinkError::Closed);
        }
        Ok((from_memory(fds.remove(0))?, fds))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::net::SocketType;

    const SOON: Duration = Duration::from_millis(50);

    #[test]
    fn a_monitor_is_reached_below_a_path_of_any_length() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(Link::connect(&dir, SOON).unwrap_err(), Errno::NOENT);
        let listener = listen(&dir).unwrap();
        let link = Link::connect(&dir, SOON).unwrap();
        // Nobody accepts: there may be a monitor, but it says nothing.
        assert!(Link::is_timeout(&link.receive_event().unwrap_err()));
        drop(listener);
        assert!(matches!(
            link.receive_event(),
            Err(LinkError::Closed | LinkError::Socket(_))
        ));
        assert_eq!(Link::connect(&dir, SOON).unwrap_err(), Errno::CONNREFUSED);
        // What a killed monitor left is replaced.
        listen(&dir).unwrap();
    }

    #[test]
    fn foreign_bytes_are_malformed_and_no_end() {
        let (ours, theirs) = socket::pair(SocketType::SEQPACKET).unwrap();
        socket::send(theirs.as_fd(), b"{\"Sneezed\":1}", &[]).unwrap();
        assert!(matches!(
            receive_event(ours.as_fd()),
            Err(LinkError::Malformed(_))
        ));
        drop(theirs);
        assert!(matches!(
            receive_event(ours.as_fd()),
            Err(LinkError::Closed)
        ));
    }
}
