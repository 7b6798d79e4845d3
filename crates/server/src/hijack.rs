//! Giving a connection's socket to a container: the answer that announces it, and who copies afterwards.

pub(crate) mod gate;
mod relay;
pub(crate) mod websocket;

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use conex_api::stream::{MULTIPLEXED_STREAM, RAW_STREAM};
use conex_api::version::ApiVersion;
use futures_util::stream::{self, Stream, StreamExt};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, Interest};

use crate::answer::{self, Body};
use crate::connection::{Closing, Peer, Socket};
use gate::Gate;
pub(crate) use relay::{Input, Streams};

/// Since when frames are told from raw bytes by their media type.
const MULTIPLEXED_SINCE: ApiVersion = ApiVersion::new(1, 42);

/// Bytes read at a time of a stream that became the body of an answer.
const BUFFER_BYTES: usize = 64 * 1024;

/// The media type of a container's output.
pub(crate) fn content_type(version: ApiVersion, tty: bool) -> &'static str {
    if !tty && version >= MULTIPLEXED_SINCE {
        MULTIPLEXED_STREAM
    } else {
        RAW_STREAM
    }
}

/// Whether a request can have the socket.
pub(crate) fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().contains_key(UPGRADE)
        && request.extensions().get::<OnUpgrade>().is_some()
}

/// Gives the socket of `request` to `streams`, after `101 UPGRADED`.
///
/// A request that cannot have it gets the output as the body of an ordinary answer, and no input.
pub(crate) fn hand_over<B>(
    mut request: Request<B>,
    peer: &Peer,
    closing: Closing,
    (version, tty): (ApiVersion, bool),
    streams: Streams,
    input: Input,
) -> Response<Body> {
    if !is_upgrade(&request) {
        return answer::stream(RAW_STREAM, output(streams));
    }
    let taking = hyper::upgrade::on(&mut request);
    let counted = peer.keep();
    tokio::spawn(async move {
        let _counted = counted;
        if let Err(error) = take_over(taking, closing, streams, input).await {
            tracing::debug!(%error, "attached client is gone");
        }
    });
    let content_type = if peer.upgrade_was_forced() {
        RAW_STREAM
    } else {
        content_type(version, tty)
    };
    let mut response = answer::empty(StatusCode::SWITCHING_PROTOCOLS);
    response
        .extensions_mut()
        .insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    response
}

/// Waits for the answer to be out and copies until an end.
async fn take_over(
    taking: OnUpgrade,
    mut closing: Closing,
    streams: Streams,
    input: Input,
) -> io::Result<()> {
    let upgraded = taking.await.map_err(io::Error::other)?;
    let (socket, early) = into_socket(upgraded);
    head_was_read(&socket).await;
    let gone = hung_up(socket.as_fd());
    tokio::select! {
        ended = relay::relay(socket, early, streams, input, gone) => ended,
        () = closing.begun() => Ok(()),
    }
}

/// Waits until both directions of a socket are closed: by its peer alone where that is local, over TCP by both.
///
/// Readiness to read cannot tell that from an end of input, so this listens for the hang-up alone, through a
/// descriptor of its own. Without one to be had, nothing is ever told.
#[expect(
    deprecated,
    reason = "its successor is unsafe for types that may close their descriptor, which an OwnedFd does not"
)]
fn hung_up(socket: BorrowedFd<'_>) -> impl Future<Output = ()> + use<> {
    let watched = socket
        .try_clone_to_owned()
        .and_then(|fd| AsyncFd::with_interest(fd, Interest::PRIORITY));
    async move {
        if let Ok(watched) = watched
            && watched.ready(Interest::PRIORITY).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Waits until the client has read the head, for a moment at most.
///
/// Python's SDK reads it through a buffer and then goes on with the bare socket: output that
/// comes in the same read is lost to it. Docker's engine is slow enough for that never to show.
/// The kernel has no event for "the peer has read", so this looks a few times.
async fn head_was_read(socket: &Socket) {
    const LOOKS: u32 = 50;
    let Socket::Unix(socket) = socket else { return };
    for _ in 0..LOOKS {
        if !matches!(conex_sys::socket::unread_by_peer(socket), Ok(1..)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The socket below an upgraded connection and the bytes read of it too early.
fn into_socket(upgraded: Upgraded) -> (Socket, Vec<u8>) {
    let parts = upgraded
        .downcast::<TokioIo<Gate<Socket>>>()
        .expect("every connection is served through a gate over a socket");
    let (socket, held) = parts.io.into_inner().into_parts();
    (socket, [parts.read_buf.as_ref(), held.as_slice()].concat())
}

/// All output as one stream; the live part gets no input and keeps its input open.
fn output(streams: Streams) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let replay = streams.replay.unwrap_or_else(|| stream::empty().boxed());
    replay.chain(stream::iter(streams.live).flat_map(chunks))
}

fn chunks(
    live: impl AsyncRead + Unpin + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(live, async |mut live| {
        let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
        // A reset is the end of a container that left input unread.
        match live.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some((Ok(buffer.freeze()), live)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_own_media_type_since_1_42() {
        assert_eq!(
            content_type(ApiVersion::new(1, 42), false),
            MULTIPLEXED_STREAM
        );
        assert_eq!(content_type(ApiVersion::new(1, 41), false), RAW_STREAM);
        assert_eq!(content_type(ApiVersion::new(1, 56), true), RAW_STREAM);
    }
}
