//! One seqpacket connection between a daemon and a netkeeper.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use conex_sys::socket;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// What travels in a message itself; longer ones in a memory descriptor.
const INLINE: usize = 16 * 1024;

/// The largest message: some hundred thousand published ports.
const MAX_MESSAGE: u64 = 64 * 1024 * 1024;

/// Stands in the message when its text is in the descriptor beside it.
const IN_MEMORY: &[u8] = b"memory";

/// Why a message could not be exchanged.
#[derive(Debug, Error)]
pub enum LinkFailure {
    /// The other side is gone.
    #[error("the connection to netkeeper was closed")]
    Closed,
    /// The socket failed; `EAGAIN` when nothing came in time.
    #[error("the connection to netkeeper failed")]
    Socket(#[from] Errno),
    /// The message is not one of this protocol.
    #[error("message not understood")]
    Malformed(#[from] serde_json::Error),
    /// A long message could not be handed over.
    #[error("a message could not be handed over")]
    Memory(#[from] std::io::Error),
}

/// A connection; both sides use the same type.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Link {
        Link(socket)
    }

    /// Sends one message with descriptors.
    pub(crate) fn send<M: Serialize>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), LinkFailure> {
        let json = serde_json::to_vec(message)?;
        if json.len() <= INLINE {
            socket::send(self.as_fd(), &json, fds)?;
            return Ok(());
        }
        let mut memory = File::from(memfd_create(c"message", MemfdFlags::CLOEXEC)?);
        memory.write_all(&json)?;
        let mut all = vec![memory.as_fd()];
        all.extend_from_slice(fds);
        socket::send(self.as_fd(), IN_MEMORY, &all)?;
        Ok(())
    }

    /// Receives one message and its descriptors.
    pub(crate) fn receive<M: DeserializeOwned>(&self) -> Result<(M, Vec<OwnedFd>), LinkFailure> {
        let mut buffer = vec![0; INLINE];
        let (length, mut fds) = match socket::receive(self.as_fd(), &mut buffer) {
            Err(Errno::CONNRESET) => return Err(LinkFailure::Closed),
            other => other?,
        };
        match &buffer[..length] {
            [] => Err(LinkFailure::Closed),
            IN_MEMORY if !fds.is_empty() => {
                let mut memory = File::from(fds.remove(0));
                memory.rewind()?;
                let mut json = Vec::new();
                memory.take(MAX_MESSAGE).read_to_end(&mut json)?;
                Ok((serde_json::from_slice(&json)?, fds))
            }
            json => Ok((serde_json::from_slice(json)?, fds)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::net::SocketType;

    #[test]
    fn a_message_of_any_length_arrives_with_its_descriptors() {
        let (ours, theirs) = socket::pair(SocketType::SEQPACKET).unwrap();
        let (ours, theirs) = (Link::new(ours), Link::new(theirs));
        for length in [1, INLINE - 2, INLINE - 1, 300_000] {
            let text = "x".repeat(length);
            let (read, _write) = rustix::pipe::pipe().unwrap();
            ours.send(&text, &[read.as_fd()]).unwrap();
            let (received, fds) = theirs.receive::<String>().unwrap();
            assert_eq!((received, fds.len()), (text, 1));
        }
        drop(ours);
        assert!(matches!(
            theirs.receive::<String>(),
            Err(LinkFailure::Closed)
        ));
    }
}
