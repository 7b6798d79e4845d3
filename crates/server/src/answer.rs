//! Answers: their bodies, and the headers every one of them carries.
//! Knows nothing of any particular route.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use conex_api::version;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// `Server` of every answer.
const SERVER: &str = concat!("Conex/", env!("CARGO_PKG_VERSION"), " (linux)");

/// The body of an answer.
pub(crate) enum Body {
    /// These bytes.
    Full(Bytes),
    /// Bytes as they come; an error cuts the connection.
    Stream(BoxStream<'static, io::Result<Bytes>>),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|item| item.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// An answer of these bytes.
pub(crate) fn full(
    status: StatusCode,
    content_type: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::Full(bytes.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer of one JSON value and a line feed.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    full(status, "application/json", to_line(value, b"\n"))
}

/// An answer that comes as it comes; its head is sent at once.
pub(crate) fn stream(
    content_type: &'static str,
    stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(Body::Stream(stream.boxed()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A value as one line of JSON.
pub(crate) fn to_line(value: &impl Serialize, end: &[u8]) -> Vec<u8> {
    let mut line =
        serde_json::to_vec(value).expect("API types have string keys and serialise infallibly");
    line.extend_from_slice(end);
    line
}

/// Adds the headers every answer carries.
pub(crate) fn finish(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    let api_version = HeaderValue::try_from(version::MAX.to_string())
        .expect("a version is digits and a full stop");
    headers.insert("api-version", api_version);
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert("server", HeaderValue::from_static(SERVER));
    response
}
