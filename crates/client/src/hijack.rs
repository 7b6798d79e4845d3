//! Connections that stop being HTTP: attach, and exec's start.
//!
//! The request is written and its answer's head read by hand, because an engine may say
//! `101 UPGRADED` or, like older ones, `200 OK` and go raw all the same.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::error::Error;
use crate::head::{Head, MAX_HEAD_BYTES, unchunk};
use crate::host::Host;
use crate::socket::{Blocking, Socket};

/// What this client calls itself.
pub(crate) const USER_AGENT: &str = concat!("Conex-Client/", env!("CARGO_PKG_VERSION"), " (linux)");
/// Longest error body read from a refused upgrade.
const MAX_ERROR_BYTES: usize = 1 << 20;

/// What the engine says travels on a hijacked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// The bytes of a terminal, or (below API 1.42) frames all the same.
    Raw,
    /// Frames of stdout and stderr.
    Multiplexed,
}

/// A raw two-way stream to a container: it reads output and writes input.
///
/// [`AsyncWriteExt::shutdown`] ends the input only. Bytes that came together with the answer's
/// head are the first to be read.
#[derive(Debug)]
pub struct Hijacked {
    content: ContentKind,
    early: Bytes,
    socket: Socket,
}

impl Hijacked {
    /// What the engine announced.
    #[must_use]
    pub fn content(&self) -> ContentKind {
        self.content
    }

    /// The two directions for blocking use by a thread each.
    ///
    /// # Errors
    /// What making the socket blocking said.
    pub fn into_blocking(self) -> io::Result<(BlockingReader, BlockingWriter)> {
        let (read, write) = self.socket.into_blocking()?;
        Ok((
            BlockingReader {
                early: self.early,
                socket: read,
            },
            BlockingWriter { socket: write },
        ))
    }
}

impl AsyncRead for Hijacked {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        let take = this.early.len().min(buf.remaining());
        buf.put_slice(&this.early.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Hijacked {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// A connection on which nothing was said yet, for blocking use by a thread for each direction.
///
/// # Errors
/// When nobody answers at the address.
pub async fn dial(host: &Host) -> Result<(BlockingReader, BlockingWriter), Error> {
    let failed = |error| Error::connect(host, error);
    let socket = Socket::connect(host).await.map_err(failed)?;
    let (read, write) = socket.into_blocking().map_err(failed)?;
    let early = Bytes::new();
    let reader = BlockingReader {
        early,
        socket: read,
    };
    Ok((reader, BlockingWriter { socket: write }))
}

/// The output of a container, read by a thread.
#[derive(Debug)]
pub struct BlockingReader {
    early: Bytes,
    socket: Blocking,
}

impl Read for BlockingReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.early.is_empty() {
            return self.socket.read(buf);
        }
        let take = self.early.len().min(buf.len());
        self.early.copy_to_slice(&mut buf[..take]);
        Ok(take)
    }
}

/// The input of a container, written by a thread.
#[derive(Debug)]
pub struct BlockingWriter {
    socket: Blocking,
}

impl BlockingWriter {
    /// Ends the input: the container reads end of file, its output keeps flowing.
    ///
    /// # Errors
    /// `NotConnected` when the other side has gone already.
    pub fn close(self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Leaves the container: both directions end, and so does a thread reading the output.
    ///
    /// # Errors
    /// `NotConnected` when the other side has gone already.
    pub fn detach(self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Both)
    }
}

impl Write for BlockingWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A POST that asks for the connection, written down.
pub(crate) fn request(
    host: &Host,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
    body: Option<&[u8]>,
) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n", host.header()).into_bytes();
    let ours = [
        ("User-Agent", USER_AGENT),
        ("Connection", "Upgrade"),
        ("Upgrade", "tcp"),
    ];
    let ours = ours
        .into_iter()
        .map(|(name, value)| (name, value.as_bytes()));
    let theirs = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let json = body.map(|_| ("Content-Type", &b"application/json"[..]));
    for (name, value) in ours.chain(theirs).chain(json) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            request.extend_from_slice(part);
        }
    }
    let body = body.unwrap_or_default();
    request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    request.extend_from_slice(body);
    request
}

/// Sends a written request for `path` and returns the connection, or the engine's refusal.
pub(crate) async fn upgrade(
    mut socket: Socket,
    host: &Host,
    path: &str,
    request: &[u8],
) -> Result<Hijacked, Error> {
    let call = format!("POST {path}");
    let lost = |source: io::Error| Error::lost(host, &call, source);
    let protocol = |reason: &'static str| Error::Protocol {
        call: call.clone(),
        reason,
    };
    if let Some(bad) = path.bytes().find(|b| !b.is_ascii_graphic()) {
        let source = format!("byte {bad:#04x} in the path").into();
        return Err(Error::Encode { call, source });
    }

    socket.write_all(request).await.map_err(lost)?;
    socket.flush().await.map_err(lost)?;

    let mut buffer = BytesMut::with_capacity(4096);
    let head = loop {
        if let Some((head, len)) = Head::parse(&buffer).map_err(protocol)? {
            buffer.advance(len);
            // An engine may say 100 Continue before its real answer.
            if head.status != 100 {
                break head;
            }
            continue;
        }
        buffer.reserve(4096);
        let read = socket.read_buf(&mut buffer).await.map_err(lost)?;
        if read == 0 {
            return Err(lost(io::ErrorKind::UnexpectedEof.into()));
        }
        if buffer.len() > MAX_HEAD_BYTES + 4096 && Head::parse(&buffer).map_err(protocol)?.is_none()
        {
            return Err(protocol("the head of the answer is too long"));
        }
    };

    match head.status {
        101 | 200 => {
            let content = if head.content_type.contains("multiplexed-stream") {
                ContentKind::Multiplexed
            } else {
                ContentKind::Raw
            };
            Ok(Hijacked {
                content,
                early: buffer.freeze(),
                socket,
            })
        }
        400.. => Err(Error::api(
            head.status,
            &refusal(socket, &head, buffer).await,
            &call,
        )),
        _ => Err(protocol("the engine did not hand over the connection")),
    }
}

/// The body of a refusal, as much of it as arrives.
async fn refusal(mut socket: Socket, head: &Head, mut buffer: BytesMut) -> Vec<u8> {
    let whole = |bytes: &[u8]| match head.content_length {
        Some(length) => bytes.len() as u64 >= length,
        None => head.chunked && (bytes.ends_with(b"\r\n0\r\n\r\n") || bytes == b"0\r\n\r\n"),
    };
    while !whole(&buffer) && buffer.len() < MAX_ERROR_BYTES {
        buffer.reserve(4096);
        match socket.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    match head.content_length {
        Some(length) => {
            buffer.truncate(usize::try_from(length).unwrap_or(MAX_ERROR_BYTES));
            buffer.to_vec()
        }
        None if head.chunked => unchunk(&buffer),
        None => buffer.to_vec(),
    }
}
