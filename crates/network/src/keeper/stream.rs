//! One TCP connection passed on: two sockets and two pipes, through which the
//! kernel moves the bytes without showing them to us.
//!
//! ```text
//!   client ──splice──► pipe ──splice──► container
//!   client ◄──splice── pipe ◄──splice── container
//! ```
//!
//! Sockets are watched for edges, so a pump runs until neither side moves.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// The most one pipe holds by default.
const PIPE: usize = 64 * 1024;

/// One direction.
#[derive(Debug)]
struct Half {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes in the pipe.
    filled: usize,
    /// Its source has said all.
    ended: bool,
    /// Its sink was told.
    closed: bool,
}

/// A connection that is passed on.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) client: OwnedFd,
    pub(super) target: OwnedFd,
    connected: bool,
    to_target: Half,
    to_client: Half,
}

/// What is left to do for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// To wait.
    More,
    /// Nothing: both directions ended, or one broke.
    Over,
}

impl Half {
    fn new() -> Result<Half, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Half {
            read,
            write,
            filled: 0,
            ended: false,
            closed: false,
        })
    }

    /// Moves what can be moved.
    fn pump(&mut self, source: &OwnedFd, sink: &OwnedFd) -> Result<(), Errno> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        loop {
            let mut moved = false;
            if !self.ended && self.filled < PIPE {
                match splice(source, None, &self.write, None, PIPE - self.filled, flags) {
                    Ok(0) => self.ended = true,
                    Ok(count) => {
                        self.filled += count;
                        moved = true;
                    }
                    Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => {}
                    Err(error) => return Err(error),
                }
            }
            if self.filled > 0 {
                match splice(&self.read, None, sink, None, self.filled, flags) {
                    Ok(count) => {
                        self.filled -= count;
                        moved = true;
                    }
                    Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => {}
                    Err(error) => return Err(error),
                }
            }
            if self.ended && self.filled == 0 && !self.closed {
                self.closed = true;
                rustix::net::shutdown(sink, Shutdown::Write)?;
            }
            if !moved {
                return Ok(());
            }
        }
    }
}

impl Stream {
    /// Begins to connect a client to a container.
    pub(super) fn open(client: OwnedFd, target: SocketAddr) -> Result<Stream, Errno> {
        let family = match target {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        let connected = match rustix::net::connect(&socket, &target) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(error) => return Err(error),
        };
        for end in [client.as_fd(), socket.as_fd()] {
            sockopt::set_tcp_nodelay(end, true)?;
        }
        Ok(Stream {
            client,
            target: socket,
            connected,
            to_target: Half::new()?,
            to_client: Half::new()?,
        })
    }

    /// Called when either socket can do something it could not before.
    pub(super) fn serve(&mut self) -> Progress {
        if !self.connected {
            match sockopt::socket_error(&self.target) {
                Ok(Ok(())) => self.connected = rustix::net::getpeername(&self.target).is_ok(),
                Ok(Err(_)) | Err(_) => return Progress::Over,
            }
            if !self.connected {
                return Progress::More;
            }
        }
        let forth = self.to_target.pump(&self.client, &self.target);
        let back = self.to_client.pump(&self.target, &self.client);
        let over = self.to_target.closed && self.to_client.closed;
        match (forth, back) {
            (Ok(()), Ok(())) if !over => Progress::More,
            _ => Progress::Over,
        }
    }
}
