//! A TLS connection for blocking use by two threads, one for each direction.
//!
//! Both directions are one session of rustls, so that it has a lock; nobody holds it while waiting for
//! the network, or a full direction would stop the other.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ClientConnection;

/// Read at once: a record is at most this long (RFC 8446, 5.2).
const READ_BYTES: usize = 17 * 1024;

/// One direction.
#[derive(Debug)]
pub(crate) struct Half {
    shared: Arc<Shared>,
    incoming: TcpStream,
    /// Read of the network and not yet understood, from `start` on.
    buffer: Vec<u8>,
    start: usize,
}

#[derive(Debug)]
struct Shared {
    session: Mutex<ClientConnection>,
    /// Taken before the session by whoever writes, so that records go out in their order.
    outgoing: Mutex<TcpStream>,
}

/// The two directions, either of which can do both.
///
/// # Errors
/// What sharing the socket said.
pub(crate) fn split(socket: TcpStream, session: ClientConnection) -> io::Result<(Half, Half)> {
    let half = |shared: &Arc<Shared>, incoming| Half {
        shared: Arc::clone(shared),
        incoming,
        buffer: Vec::new(),
        start: 0,
    };
    let (one, other) = (socket.try_clone()?, socket.try_clone()?);
    let shared = Arc::new(Shared {
        session: Mutex::new(session),
        outgoing: Mutex::new(socket),
    });
    Ok((half(&shared, one), half(&shared, other)))
}

/// A poisoned lock holds a session that is as good as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Half {
    /// What the other side sent. Its end is told by a close_notify, or by the end of the connection alone,
    /// which is how an engine that is killed ends.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match lock(&self.shared.session).reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if self.start == self.buffer.len() {
                self.buffer.resize(READ_BYTES, 0);
                self.start = 0;
                let read = self.incoming.read(&mut self.buffer);
                self.buffer.truncate(*read.as_ref().unwrap_or(&0));
                if read? == 0 {
                    return Ok(0);
                }
            }
            let mut session = lock(&self.shared.session);
            let mut bytes = &self.buffer[self.start..];
            session.read_tls(&mut bytes)?;
            self.start = self.buffer.len() - bytes.len();
            session.process_new_packets().map_err(io::Error::other)?;
            let wants_write = session.wants_write();
            drop(session);
            // An answer to a change of keys; a writer that is at work takes it along.
            if wants_write && let Ok(mut outgoing) = self.shared.outgoing.try_lock() {
                self.shared.send(&mut outgoing)?;
            }
        }
    }

    /// Sends, all of it or a beginning.
    pub(crate) fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut outgoing = lock(&self.shared.outgoing);
        let taken = lock(&self.shared.session).writer().write(buf)?;
        self.shared.send(&mut outgoing)?;
        Ok(taken)
    }

    /// Ends our direction by a close_notify, as Go's `CloseWrite`, or both.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Both {
            // What is being sent then is not waited for.
            self.incoming.shutdown(Shutdown::Read)?;
        }
        let mut outgoing = lock(&self.shared.outgoing);
        lock(&self.shared.session).send_close_notify();
        let sent = self.shared.send(&mut outgoing);
        match how {
            Shutdown::Both => outgoing.shutdown(Shutdown::Both),
            _ => sent,
        }
    }
}

impl Shared {
    /// Sends the records that are ready.
    fn send(&self, outgoing: &mut TcpStream) -> io::Result<()> {
        let mut records = Vec::new();
        let mut session = lock(&self.session);
        while session.wants_write() {
            session.write_tls(&mut records)?;
        }
        drop(session);
        outgoing.write_all(&records)
    }
}
