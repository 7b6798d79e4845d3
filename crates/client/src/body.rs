//! Answers read piece by piece: bytes as they come, or JSON messages one after the other.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http_body::Body as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::host::Host;

/// Longest single JSON message accepted, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// The bytes of an answer as they arrive.
pub struct ByteStream {
    host: Host,
    call: String,
    body: Incoming,
    /// Whatever must live as long as the body is read.
    _connection: Box<dyn Any + Send>,
}

impl ByteStream {
    pub(crate) fn new(
        host: Host,
        call: String,
        body: Incoming,
        connection: Box<dyn Any + Send>,
    ) -> Self {
        Self {
            host,
            call,
            body,
            _connection: connection,
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next_chunk(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => frame,
                Some(Err(source)) => {
                    return Poll::Ready(Some(Err(Error::Lost {
                        host: self.host.clone(),
                        call: self.call.clone(),
                        source: Box::new(source),
                    })));
                }
            };
            // Trailers carry nothing the API knows.
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

/// JSON messages of one type as they arrive.
#[derive(Debug)]
pub struct JsonStream<T> {
    bytes: ByteStream,
    splitter: Splitter,
    ended: bool,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonStream<T> {
    pub(crate) fn new(bytes: ByteStream) -> Self {
        Self {
            bytes,
            splitter: Splitter::default(),
            ended: false,
            message: PhantomData,
        }
    }

    /// The next message; `None` at the end and after the first error.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        loop {
            if let Some(message) = self.splitter.complete.pop_front() {
                let decoded = serde_json::from_slice(&message).map_err(|source| {
                    self.ended = true;
                    Error::Decode {
                        call: self.bytes.call.clone(),
                        source,
                    }
                });
                return Poll::Ready(Some(decoded));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let fed = match ready!(self.bytes.poll_chunk(cx)) {
                Some(Ok(chunk)) => self.splitter.feed(&chunk),
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    if self.splitter.partial.is_empty() {
                        return Poll::Ready(None);
                    }
                    Err("it ends in the middle of a message")
                }
            };
            if let Err(reason) = fed {
                self.ended = true;
                self.splitter.complete.clear();
                let call = self.bytes.call.clone();
                return Poll::Ready(Some(Err(Error::Protocol { call, reason })));
            }
        }
    }
}

impl<T: DeserializeOwned> Stream for JsonStream<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(cx)
    }
}

/// Finds where JSON objects end, looking at every byte once.
#[derive(Debug, Default)]
struct Splitter {
    partial: Vec<u8>,
    depth: u32,
    in_string: bool,
    escaped: bool,
    complete: VecDeque<Vec<u8>>,
}

impl Splitter {
    fn feed(&mut self, chunk: &[u8]) -> Result<(), &'static str> {
        let mut start = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' => {
                    if self.depth == 0 {
                        start = at;
                    }
                    self.depth += 1;
                }
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.keep(&chunk[start..=at])?;
                        self.complete.push_back(std::mem::take(&mut self.partial));
                        start = at + 1;
                    }
                }
                b'"' if self.depth > 0 => self.in_string = true,
                _ if self.depth > 0 => {}
                // Between messages: white space, and the record separator of json-seq.
                b' ' | b'\t' | b'\r' | b'\n' | 0x1e => start = at + 1,
                _ => return Err("it holds something that is not a JSON message"),
            }
        }
        if self.depth > 0 {
            self.keep(&chunk[start..])
        } else {
            Ok(())
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        if self.partial.len() + bytes.len() > MAX_MESSAGE_BYTES {
            return Err("a message is longer than 16 MiB");
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn split(chunks: &[&[u8]]) -> Result<Vec<String>, &'static str> {
        let mut splitter = Splitter::default();
        for chunk in chunks {
            splitter.feed(chunk)?;
        }
        Ok(splitter
            .complete
            .into_iter()
            .map(|m| String::from_utf8(m).unwrap())
            .collect())
    }

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let text = b"{\"a\":\"}\\\"{\"}\r\n\x1e{\"b\":[{},[1]]} {}[1]\n";
        let want = ["{\"a\":\"}\\\"{\"}", "{\"b\":[{},[1]]}", "{}", "[1]"];
        for cut in 0..=text.len() {
            let (left, right) = text.split_at(cut);
            assert_eq!(split(&[left, right]).unwrap(), want, "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(split(&single).unwrap(), want);
    }

    #[test]
    fn text_between_messages_is_refused() {
        assert!(split(&[b"{}x{}"]).is_err());
        assert!(split(&[b"}"]).is_err());
        assert!(split(&[b"\"a\""]).is_err());
    }

    #[test]
    fn an_endless_message_is_refused_before_it_fills_the_memory() {
        let mut splitter = Splitter::default();
        splitter.feed(b"{\"a\":\"").unwrap();
        let piece = vec![b'x'; 1 << 20];
        let fed = (0..17).map(|_| splitter.feed(&piece)).find(Result::is_err);
        assert_eq!(fed, Some(Err("a message is longer than 16 MiB")));
    }
}
