//! A connection to a container's resolver: messages with their length before
//! them, several one after the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Bytes read at once.
const READ: usize = 4096;

/// Bytes that may wait for a client that does not read.
const MAX_WAITING: usize = 256 * 1024;

/// One client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) container: u64,
    socket: OwnedFd,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Questions that are not answered yet.
    pub(super) open: usize,
    /// The client asks nothing more.
    ended: bool,
    /// When it is closed if nothing happens.
    pub(super) ends: Instant,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Connection {
    pub(super) fn new(container: u64, socket: OwnedFd, ends: Instant) -> Connection {
        Connection {
            container,
            socket,
            input: Vec::new(),
            output: Vec::new(),
            open: 0,
            ended: false,
            ends,
        }
    }

    /// Reads what there is; the queries that are complete. Errors: it broke.
    pub(super) fn read(&mut self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut chunk = [0; READ];
        let mut queries = Vec::new();
        while !self.ended {
            match rustix::net::recv(&self.socket, &mut chunk[..], RecvFlags::empty()) {
                Ok((_, 0)) => self.ended = true,
                Ok((_, count)) => self.input.extend_from_slice(&chunk[..count]),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
            while let Some((head, rest)) = self.input.split_first_chunk::<2>()
                && let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*head)))
            {
                let message = message.to_vec();
                self.input.drain(..2 + message.len());
                queries.push(message);
            }
        }
        self.open += queries.len();
        Ok(queries)
    }

    /// Answers one of the questions, or lets it be.
    pub(super) fn answer(&mut self, answer: Option<&[u8]>) {
        self.open = self.open.saturating_sub(1);
        if let Some(answer) = answer
            && let Ok(length) = u16::try_from(answer.len())
        {
            self.output.extend_from_slice(&length.to_be_bytes());
            self.output.extend_from_slice(answer);
        }
    }

    /// Sends what waits. Whether there is any more to be done for this client.
    pub(super) fn flush(&mut self) -> bool {
        let mut sent = 0;
        while sent < self.output.len() {
            match rustix::net::send(&self.socket, &self.output[sent..], SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return false,
            }
        }
        self.output.drain(..sent);
        let is_done = self.ended && self.open == 0 && self.output.is_empty();
        !is_done && self.output.len() <= MAX_WAITING
    }
}
