//! Handshakes, bounded in time and number.
//!
//! Nobody has shown a certificate yet, so nobody may hold anything for long: a handshake has
//! [`PATIENCE`], and when [`MOST`] are under way the oldest gives way to the newest. Honest clients
//! take milliseconds, so that whoever stalls loses his place and not theirs.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Handshakes under way at most.
const MOST: usize = 256;

/// How a record of a handshake begins (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What Go's server, and so Docker's clients, tell one who speaks HTTP without TLS.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// What is read and thrown away of a client that was turned away, and for how long.
///
/// Closing a socket with unread bytes resets it, and a reset overtakes the alert that says why.
const DISCARDED_BYTES: u64 = 64 * 1024;
const DISCARDING: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum Refused {
    /// It spoke HTTP, and was told.
    #[error("it sent an HTTP request to an HTTPS server")]
    Plain,
    /// It took too long.
    #[error("it took too long")]
    Slow,
    /// It had to give way.
    #[error("too many others came meanwhile")]
    Crowded,
    /// The handshake failed: another protocol, no certificate or a wrong one, a connection cut.
    #[error("{0}")]
    Failed(io::Error),
}

/// The handshakes under way.
#[derive(Debug)]
pub(super) struct Handshakes {
    patience: Duration,
    most: usize,
    waiting: Mutex<Waiting>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self::bounded(PATIENCE, MOST)
    }
}

/// By age, the oldest in front; dropping a sender ends its handshake.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    line: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// A place in the line, until it is dropped.
struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
}

impl Handshakes {
    /// None under way yet.
    pub(super) fn bounded(patience: Duration, most: usize) -> Self {
        Self {
            patience,
            most,
            waiting: Mutex::default(),
        }
    }

    /// Shakes hands, or tells why not and closes.
    pub(super) async fn perform(
        &self,
        acceptor: &TlsAcceptor,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Refused> {
        let (_place, pushed_out) = self.enter();
        tokio::select! {
            done = timeout(self.patience, shake(acceptor, socket)) => done.unwrap_or(Err(Refused::Slow)),
            _ = pushed_out => Err(Refused::Crowded),
        }
    }

    fn enter(&self) -> (Place<'_>, oneshot::Receiver<()>) {
        let (sender, pushed_out) = oneshot::channel();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.line.push_back((number, sender));
        if waiting.line.len() > self.most {
            waiting.line.pop_front();
        }
        let place = Place {
            handshakes: self,
            number,
        };
        (place, pushed_out)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().line.len()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.handshakes.lock();
        if let Ok(at) = waiting
            .line
            .binary_search_by_key(&self.number, |(number, _)| *number)
        {
            waiting.line.remove(at);
        }
    }
}

async fn shake(acceptor: &TlsAcceptor, socket: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
    let mut first = [0];
    let read = socket.peek(&mut first).await.map_err(Refused::Failed)?;
    if read > 0 && first[0] != HANDSHAKE_RECORD && first[0].is_ascii_alphabetic() {
        turn_away(socket, PLAIN_ANSWER).await;
        return Err(Refused::Plain);
    }
    match acceptor.accept(socket).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, socket)) => {
            // The alert was sent with the failure.
            turn_away(socket, b"").await;
            Err(Refused::Failed(error))
        }
    }
}

/// Says a last word and closes, so that it arrives.
async fn turn_away(mut socket: TcpStream, word: &[u8]) {
    let closing = async {
        socket.write_all(word).await?;
        socket.shutdown().await?;
        let mut rest = socket.take(DISCARDED_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whoever does not listen misses it.
    timeout(DISCARDING, closing).await.ok();
}
