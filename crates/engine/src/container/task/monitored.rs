//! The daemon's end of the link to one monitor. It must not know what follows
//! from an event.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

use conex_monitor::protocol::Event;
use conex_monitor::{Link, LinkError, receive_event};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// One thing a monitor said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) event: Event,
    /// What came with it.
    pub(super) fds: Vec<OwnedFd>,
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
        Ok(Monitored {
            link: UnixDatagram::from_std(socket)?,
            pidfd,
        })
    }

    /// The next thing it says.
    pub(super) async fn event(&mut self) -> Result<Said, LinkError> {
        loop {
            self.link.readable().await?;
            // Only "would block" is an error to the runtime: it then waits.
            let received = self.link.try_io(Interest::READABLE, || {
                match receive_event(self.link.as_fd()) {
                    Err(LinkError::Socket(Errno::AGAIN)) => Err(ErrorKind::WouldBlock.into()),
                    other => Ok(other),
                }
            });
            match received {
                // A newer monitor's word: not for this daemon.
                Ok(Err(LinkError::Malformed(error))) => {
                    tracing::warn!(%error, "a monitor's message is not understood");
                }
                Ok(said) => return said.map(|(event, fds)| Said { event, fds }),
                Err(_) => {}
            }
        }
    }

    /// Waits until the monitor let go of everything.
    pub(crate) async fn released(mut self) {
        while self.event().await.is_ok() {}
    }
}

/// Whether a descriptor has one of some events, or its other end is closed.
pub(super) fn is_ready(fd: &OwnedFd, events: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, events)];
    let now = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::net::SocketType;

    fn link() -> (Monitored, OwnedFd) {
        let (ours, theirs) = conex_sys::socket::pair(SocketType::SEQPACKET).unwrap();
        let pidfd = rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        );
        (
            Monitored::new(Link::new(ours), pidfd.unwrap()).unwrap(),
            theirs,
        )
    }

    #[tokio::test]
    async fn a_word_of_a_newer_monitor_is_passed_over() {
        let (mut monitored, theirs) = link();
        conex_sys::socket::send(theirs.as_fd(), b"{\"Dreamt\":{}}", &[]).unwrap();
        conex_sys::socket::send(theirs.as_fd(), b"\"OutOfMemory\"", &[]).unwrap();
        let said = monitored.event().await.map(|said| said.event);
        assert!(matches!(said, Ok(Event::OutOfMemory)));
        drop(theirs);
        assert!(matches!(monitored.event().await, Err(LinkError::Closed)));
    }

    #[test]
    fn a_client_that_left_is_seen_on_its_socket() {
        let (ours, theirs) = conex_sys::socket::pair(SocketType::STREAM).unwrap();
        assert!(!is_ready(&ours, PollFlags::empty()));
        drop(theirs);
        assert!(is_ready(&ours, PollFlags::empty()));
    }
}
