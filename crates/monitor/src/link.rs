//! One seqpacket connection between a daemon and a monitor.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use conex_sys::socket;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::protocol::{Event, MAX_MESSAGE, Request, StartRequest};

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

/// Receives one message and its descriptors.
fn receive<M: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<(M, Vec<OwnedFd>), LinkError> {
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
        Link { socket, closed: false }
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

    /// Hands the start request over; `fds` are the root mount and the sockets
    /// of the attachers.
    pub fn send_start(
        &self,
        request: &StartRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), LinkError> {
        let memory = memfd_create(c"start", MemfdFlags::CLOEXEC)?;
        let mut memory = File::from(memory);
        serde_json::to_writer(std::io::BufWriter::new(&memory), request)?;
        memory.flush()?;
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
        let mut memory = File::from(fds.remove(0));
        memory.rewind()?;
        let mut json = Vec::new();
        memory.take(MAX_START).read_to_end(&mut json)?;
        Ok((serde_json::from_slice(&json)?, fds))
    }
}
