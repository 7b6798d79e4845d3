//! A container's streams over a websocket, for consoles in browsers (RFC 6455).
//!
//! ```text
//! client ── text or binary, as it likes ──► container's input; a close is its end
//! client ◄── binary, text below 1.28 ────── output of both streams, without Docker's frames; then a close
//! ```
//! Source: moby's use of golang.org/x/net/websocket, whose words and rules of the handshake these are.

use std::io;

use bytes::Bytes;
use conex_api::version::ApiVersion;
use futures_util::stream::{self, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::relay::LINGER;
use super::{Input, Streams, chunks, into_socket};
use crate::answer::{self, Body};
use crate::connection::{Closing, Peer, Socket};
use crate::error::Error;

/// Bytes of a message of the client at most, whole or in fragments.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Bytes written to the client at most before it takes some.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Since when output is sent in binary messages.
const BINARY_SINCE: ApiVersion = ApiVersion::new(1, 28);

/// A handshake that is in order.
pub(crate) struct Accepted {
    key: HeaderValue,
    protocol: Option<HeaderValue>,
}

/// Judges a handshake. Errors: 400 with what is wrong with it.
pub(crate) fn accept<B>(request: &Request<B>) -> Result<Accepted, Error> {
    let headers = request.headers();
    if !names(headers, &UPGRADE, "websocket")
        || !names(headers, &CONNECTION, "upgrade")
        || request.extensions().get::<OnUpgrade>().is_none()
    {
        return Err(Error::Invalid("not websocket protocol"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or(Error::Invalid("mismatch challenge/response"))?;
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .map(HeaderValue::as_bytes)
        != Some(b"13")
    {
        return Err(Error::Invalid("missing or bad WebSocket Version"));
    }
    let mut protocols = elements(headers, &SEC_WEBSOCKET_PROTOCOL);
    let protocol = match (protocols.next(), protocols.next()) {
        (first, None) => first.map(str::to_owned),
        // There is none among them that this side would prefer.
        (_, Some(_)) => return Err(Error::Invalid("missing or bad WebSocket-Protocol")),
    };
    let key = derive_accept_key(key.as_bytes());
    let header = |text: &str| HeaderValue::from_str(text).ok();
    Ok(Accepted {
        key: header(&key).ok_or(Error::Invalid("mismatch challenge/response"))?,
        protocol: protocol.as_deref().and_then(header),
    })
}

/// The elements of a header that is a list.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

fn names(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(wanted))
}

/// Gives the socket of `request` to `streams`, after `101 Switching Protocols`.
pub(crate) fn hand_over<B>(
    mut request: Request<B>,
    accepted: Accepted,
    peer: &Peer,
    mut closing: Closing,
    (version, tty): (ApiVersion, bool),
    streams: Streams,
    input: Input,
) -> Response<Body> {
    let taking = hyper::upgrade::on(&mut request);
    let counted = peer.keep();
    let kind = match version >= BINARY_SINCE {
        true => Data::Binary,
        false => Data::Text,
    };
    tokio::spawn(async move {
        let _counted = counted;
        let taken = async {
            let (socket, early) = into_socket(taking.await.map_err(io::Error::other)?);
            tokio::select! {
                ended = relay(socket, early, streams, tty, kind, input) => ended,
                () = closing.begun() => Ok(()),
            }
        };
        if let Err(error) = taken.await {
            tracing::debug!(%error, "client attached by websocket is gone");
        }
    });
    let mut response = answer::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted.key);
    if let Some(protocol) = accepted.protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

type Sink = SplitSink<WebSocketStream<Socket>, Message>;

/// Copies both ways until the container ends or the client leaves: a websocket has no half-close.
async fn relay(
    socket: Socket,
    early: Vec<u8>,
    streams: Streams,
    tty: bool,
    kind: Data,
    input: Input,
) -> io::Result<()> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .max_write_buffer_size(MAX_WAITING_BYTES)
        // Every message is sent at once.
        .write_buffer_size(0);
    let client = WebSocketStream::from_partially_read(socket, early, Role::Server, Some(config));
    let (mut sink, mut client) = client.await.split();
    let (live, to_container) = streams.live.map(UnixStream::into_split).unzip();
    let output = async {
        let replay = streams.replay.unwrap_or_else(|| stream::empty().boxed());
        let live = stream::iter(live).flat_map(chunks);
        let mut pieces = std::pin::pin!(replay.chain(live));
        let mut unframing = (!tty).then(Unframing::default);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            match &mut unframing {
                None => send(&mut sink, kind, piece).await?,
                Some(unframing) => {
                    for payload in unframing.feed(piece) {
                        send(&mut sink, kind, payload).await?;
                    }
                }
            }
        }
        let end = Message::Close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::default(),
        }));
        sink.send(end).await.map_err(io::Error::other)
    };
    let input = take_input(&mut client, to_container, input);
    let (mut output, mut input) = (std::pin::pin!(output), std::pin::pin!(input));
    tokio::select! {
        ended = &mut output => ended?,
        left = &mut input => return left,
    }
    // It answers the close; one that does not in time is closed.
    tokio::time::timeout(LINGER, input).await.unwrap_or(Ok(()))
}

async fn send(sink: &mut Sink, kind: Data, payload: Bytes) -> io::Result<()> {
    // Not a text message of the library's, which has to be UTF-8: what a program prints is what it is.
    let frame = Frame::message(payload, OpCode::Data(kind), true);
    let sent = sink.send(Message::Frame(frame)).await;
    sent.map_err(io::Error::other)
}

/// Passes the client's messages on, until it leaves.
async fn take_input(
    client: &mut SplitStream<WebSocketStream<Socket>>,
    mut to_container: Option<OwnedWriteHalf>,
    input: Input,
) -> io::Result<()> {
    while let Some(message) = client.next().await {
        let payload = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => text.into(),
            Ok(_) => continue,
            Err(tungstenite::Error::ConnectionClosed) => break,
            Err(error) => return Err(io::Error::other(error)),
        };
        // A container that takes no more is not an error.
        if input == Input::Forwarded
            && let Some(container) = &mut to_container
            && container.write_all(&payload).await.is_err()
        {
            to_container = None;
        }
    }
    if input == Input::Discarded
        && let Some(container) = to_container
    {
        // Dropped, it would tell the container that its input has ended.
        container.forget();
    }
    Ok(())
}

/// Takes Docker's frames off a stream: a header of eight bytes, the last four of them the length of what follows.
#[derive(Debug, Default)]
struct Unframing {
    header: Vec<u8>,
    left: usize,
}

impl Unframing {
    const HEADER_BYTES: usize = 8;

    /// What of a piece is payload.
    fn feed(&mut self, mut piece: Bytes) -> Vec<Bytes> {
        let mut payloads = Vec::new();
        while !piece.is_empty() {
            if self.left > 0 {
                let payload = piece.split_to(self.left.min(piece.len()));
                self.left -= payload.len();
                payloads.push(payload);
                continue;
            }
            let missing = Self::HEADER_BYTES - self.header.len();
            self.header
                .extend_from_slice(&piece.split_to(missing.min(piece.len())));
            if let [_, _, _, _, size @ ..] = &self.header[..]
                && let Ok(size) = <[u8; 4]>::try_from(size)
            {
                self.left = u32::from_be_bytes(size) as usize;
                self.header.clear();
            }
        }
        payloads
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_are_taken_off_wherever_they_are_cut() {
        let frames = b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x03cde";
        for size in 1..=frames.len() {
            let mut unframing = Unframing::default();
            let payloads = frames
                .chunks(size)
                .flat_map(|piece| unframing.feed(Bytes::copy_from_slice(piece)));
            assert_eq!(payloads.collect::<Vec<_>>().concat(), b"abcde", "{size}");
        }
    }

    #[test]
    fn lists_in_headers_are_told_apart() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        assert!(names(&headers, &CONNECTION, "upgrade"));
        assert!(!names(&headers, &UPGRADE, "websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("a, ,b"));
        let protocols = elements(&headers, &SEC_WEBSOCKET_PROTOCOL);
        assert_eq!(protocols.collect::<Vec<_>>(), ["a", "b"]);
    }
}
