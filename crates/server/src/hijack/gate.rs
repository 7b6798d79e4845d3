//! The gate between a socket and the HTTP parser: lets attach and exec take the socket over whatever the
//! client sent, and hands the socket back without a byte lost.
//!
//! Docker's clients of old send `POST .../attach` without `Upgrade` and still expect the socket as a raw
//! stream after `200 OK`. The parser gives a socket away only for an upgrade, so the gate looks at the first
//! head of each connection and, when it is such a request:
//!
//! ```text
//! client ── head ──► gate ── head + Connection: Upgrade, Upgrade: tcp ──► parser     (if it had none)
//! client ◄── 200 OK ── gate ◄── 101 UPGRADED ── parser                               (if it had none)
//! client ── bytes after the request ──► held until the socket is taken over, or the answer is another
//! ```
//!
//! In the same first request line it encodes what the parser would refuse and Docker takes.
//! Holding also keeps an early end of input from the parser, which would take it for a vanished client.
//! A later request of the connection is not looked at: without `Upgrade` it gets an ordinary answer.
//! Knows nothing of containers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::HEAD_LIMIT_BYTES;

/// Bytes asked of the socket at a time while looking for the end of a head.
const HEAD_READ_BYTES: usize = 4096;

/// A socket whose first request may be made an upgrade.
pub(crate) struct Gate<S> {
    socket: S,
    reading: Reading,
    writing: Writing,
    forced: Arc<AtomicBool>,
}

/// What the parser gets to read.
enum Reading {
    /// The first head, as far as it has come.
    Head(Vec<u8>),
    /// A request that may take the socket over.
    Request {
        /// Head and the part of the body read with it.
        ready: Pending,
        /// Bytes of the body still in the socket.
        body_left: u64,
        /// Bytes of the client after the request.
        held: Vec<u8>,
        /// The parser, waiting for what is held.
        waker: Option<Waker>,
    },
    /// These bytes and then whatever comes.
    Open(Pending),
}

/// What happens to the bytes the parser writes.
enum Writing {
    /// The answer to a request that may take the socket over, as far as it has come.
    Head(Vec<u8>),
    /// These bytes and then whatever comes.
    Open(Pending),
}

/// Bytes on their way, from an offset on.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    offset: usize,
}

impl Pending {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.offset..]
    }

    fn is_empty(&self) -> bool {
        self.offset == self.bytes.len()
    }

    fn fill(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.rest().len().min(buf.remaining());
        buf.put_slice(&self.rest()[..length]);
        self.advance(length);
    }

    fn advance(&mut self, length: usize) {
        self.offset += length;
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

impl From<Vec<u8>> for Pending {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, offset: 0 }
    }
}

impl<S> Gate<S> {
    /// A gate before a fresh connection.
    pub(crate) fn new(socket: S) -> Self {
        Self {
            socket,
            reading: Reading::Head(Vec::new()),
            writing: Writing::Open(Pending::default()),
            forced: Arc::default(),
        }
    }

    /// Tells whether the upgrade was the gate's idea: then the client gets raw bytes after `200 OK`.
    pub(crate) fn forced(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.forced)
    }

    /// The socket and what was read of it and not handed on.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        let early = match self.reading {
            Reading::Head(bytes) => bytes,
            Reading::Request { ready, held, .. } => [ready.rest(), &held].concat(),
            Reading::Open(pending) => pending.rest().to_vec(),
        };
        (self.socket, early)
    }

    /// Decides about the bytes of the first head so far, and opens the gate when there is no more to see.
    fn judge(&mut self) {
        let Reading::Head(bytes) = &mut self.reading else {
            return;
        };
        match Verdict::of(bytes) {
            Verdict::Undecided => {}
            Verdict::Ordinary => {
                encode_target(bytes);
                self.reading = Reading::Open(std::mem::take(bytes).into());
            }
            Verdict::Hijack {
                head_len,
                body_len,
                upgrade,
            } => {
                let mut bytes = std::mem::take(bytes);
                let mut rest = bytes.split_off(head_len);
                encode_target(&mut bytes);
                if !upgrade {
                    self.forced.store(true, Ordering::Relaxed);
                    let line_len = bytes
                        .iter()
                        .position(|&byte| byte == b'\n')
                        .map_or(0, |at| at + 1);
                    bytes.splice(
                        line_len..line_len,
                        *b"Connection: Upgrade\r\nUpgrade: tcp\r\n",
                    );
                }
                self.writing = Writing::Head(Vec::new());
                self.reading = match body_len {
                    Some(body_len) => {
                        let here =
                            usize::try_from(body_len).map_or(rest.len(), |len| len.min(rest.len()));
                        let held = rest.split_off(here);
                        bytes.append(&mut rest);
                        Reading::Request {
                            ready: bytes.into(),
                            body_left: body_len - here as u64,
                            held,
                            waker: None,
                        }
                    }
                    None => {
                        bytes.append(&mut rest);
                        Reading::Open(bytes.into())
                    }
                };
            }
        }
    }

    /// Lets the parser read on: the answer leaves the connection to it.
    fn release(&mut self) {
        if let Reading::Request {
            ready, held, waker, ..
        } = &mut self.reading
        {
            // Either nothing is held yet or the whole body is ready, so the order is the client's.
            let bytes = [ready.rest(), held].concat();
            let waker = waker.take();
            self.reading = Reading::Open(bytes.into());
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Takes a part of the answer's head; once it is whole it is queued, as a `200 OK` if the upgrade was forced.
    fn collect_answer(&mut self, part: &[u8]) {
        let Writing::Head(answer) = &mut self.writing else {
            return;
        };
        answer.extend_from_slice(part);
        let Some(head_len) = head_len(answer) else {
            if answer.len() > HEAD_LIMIT_BYTES {
                self.writing = Writing::Open(std::mem::take(answer).into());
            }
            return;
        };
        let mut answer = std::mem::take(answer);
        if answer.starts_with(b"HTTP/1.1 100 ") {
            // An interim answer: the one that counts is still to come.
            self.writing = Writing::Open(answer.into());
            return;
        }
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            self.release();
        } else if self.forced.load(Ordering::Relaxed) {
            let rest = answer.split_off(head_len);
            answer = plain_answer(&answer);
            answer.extend(rest);
        }
        self.writing = Writing::Open(answer.into());
    }
}

impl<S: AsyncWrite + Unpin> Gate<S> {
    /// Writes what is queued.
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Writing::Open(pending) = &mut self.writing
            && !pending.is_empty()
        {
            let interim = pending.bytes.starts_with(b"HTTP/1.1 100 ");
            match ready!(Pin::new(&mut self.socket).poll_write(cx, pending.rest()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => pending.advance(written),
            }
            if interim && pending.is_empty() {
                self.writing = Writing::Head(Vec::new());
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        loop {
            match &mut gate.reading {
                Reading::Head(bytes) => {
                    let mut space = [0; HEAD_READ_BYTES];
                    let mut space = ReadBuf::new(&mut space);
                    ready!(Pin::new(&mut gate.socket).poll_read(cx, &mut space))?;
                    if space.filled().is_empty() {
                        let bytes = std::mem::take(bytes);
                        gate.reading = Reading::Open(bytes.into());
                    } else {
                        bytes.extend_from_slice(space.filled());
                        gate.judge();
                    }
                }
                Reading::Request { ready, .. } if !ready.is_empty() => {
                    ready.fill(buf);
                    return Poll::Ready(Ok(()));
                }
                Reading::Request { body_left, .. } if *body_left > 0 => {
                    let limit = usize::try_from(*body_left).unwrap_or(usize::MAX);
                    let mut space = [0; HEAD_READ_BYTES];
                    let limit = limit.min(buf.remaining()).min(space.len());
                    let mut space = ReadBuf::new(&mut space[..limit]);
                    ready!(Pin::new(&mut gate.socket).poll_read(cx, &mut space))?;
                    buf.put_slice(space.filled());
                    *body_left -= space.filled().len() as u64;
                    return Poll::Ready(Ok(()));
                }
                Reading::Request { waker, .. } => {
                    *waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Reading::Open(pending) if !pending.is_empty() => {
                    pending.fill(buf);
                    return Poll::Ready(Ok(()));
                }
                Reading::Open(_) => return Pin::new(&mut gate.socket).poll_read(cx, buf),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        ready!(gate.poll_queue(cx))?;
        if matches!(gate.writing, Writing::Open(_)) {
            return Pin::new(&mut gate.socket).poll_write(cx, data);
        }
        gate.collect_answer(data);
        // What the socket does not take now goes with the next write or flush.
        match gate.poll_queue(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(data.len())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        ready!(gate.poll_queue(cx))?;
        if matches!(gate.writing, Writing::Open(_)) {
            return Pin::new(&mut gate.socket).poll_write_vectored(cx, data);
        }
        let first = data
            .iter()
            .find(|slice| !slice.is_empty())
            .map_or(&[][..], |slice| slice);
        Pin::new(gate).poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        ready!(gate.poll_queue(cx))?;
        Pin::new(&mut gate.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        ready!(gate.poll_queue(cx))?;
        Pin::new(&mut gate.socket).poll_shutdown(cx)
    }
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Not enough to tell.
    Undecided,
    /// Nothing that takes the socket over, or nothing this understands.
    Ordinary,
    /// A request that may take the socket over.
    Hijack {
        /// Bytes of the head.
        head_len: usize,
        /// Bytes of the body; `None` if it comes in chunks.
        body_len: Option<u64>,
        /// Whether the client asks for the upgrade itself.
        upgrade: bool,
    },
}

impl Verdict {
    fn of(bytes: &[u8]) -> Self {
        // What speaks TLS, say, is refused without waiting for a line.
        if bytes
            .first()
            .is_some_and(|byte| !byte.is_ascii_alphabetic())
        {
            return Self::Ordinary;
        }
        let Some(line_len) = bytes.iter().position(|&byte| byte == b'\n') else {
            return Self::unless_too_long(bytes);
        };
        if !takes_the_socket(&bytes[..line_len]) {
            return Self::Ordinary;
        }
        let Some(head_len) = head_len(bytes) else {
            return Self::unless_too_long(bytes);
        };
        let (mut body_len, mut upgrade) = (Some(0), false);
        for line in bytes[line_len + 1..head_len].split(|&byte| byte == b'\n') {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"upgrade") {
                upgrade = true;
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                body_len = None;
            } else if name.eq_ignore_ascii_case(b"content-length") && body_len.is_some() {
                let length = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let Some(length) = length else {
                    return Self::Ordinary;
                };
                body_len = Some(length);
            }
        }
        Self::Hijack {
            head_len,
            body_len,
            upgrade,
        }
    }

    fn unless_too_long(bytes: &[u8]) -> Self {
        if bytes.len() < HEAD_LIMIT_BYTES {
            Self::Undecided
        } else {
            Self::Ordinary
        }
    }
}

/// Encodes what people write into a request line by hand (`?filters={"status":["exited"]}`) and the parser, other
/// than Docker's, refuses.
fn encode_target(head: &mut Vec<u8>) {
    let refused = |byte: &u8| matches!(byte, b'"' | b'<' | b'>');
    let line_len = head.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    if !head[..line_len].iter().any(refused) {
        return;
    }
    let mut line = Vec::with_capacity(line_len * 2);
    for byte in &head[..line_len] {
        if refused(byte) {
            line.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            line.push(*byte);
        }
    }
    head.splice(..line_len, line);
}

/// Bytes of the head with its empty line, if it is whole.
fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Whether a request line is that of attach or of the start of an exec.
fn takes_the_socket(line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else {
        return false;
    };
    let mut words = line.trim_end().split(' ');
    let (Some("POST"), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    if segments
        .first()
        .is_some_and(|first| first.starts_with("v1."))
    {
        segments.remove(0);
    }
    matches!(
        segments[..],
        ["containers", _, "attach"] | ["exec", _, "start"]
    )
}

/// The head of a `101` answer as that of a `200 OK` without the headers of the upgrade.
fn plain_answer(head: &[u8]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
    for line in head.split_inclusive(|&byte| byte == b'\n').skip(1) {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if !name.eq_ignore_ascii_case(b"connection") && !name.eq_ignore_ascii_case(b"upgrade") {
            answer.extend_from_slice(line);
        }
    }
    answer
}

#[cfg(test)]
mod tests;
