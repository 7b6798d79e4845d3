//! Bodies of requests: JSON with a limit, and streams.

mod syntax;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Bytes of a JSON body at most. Docker has no limit; the largest bodies in use are environments and labels
/// of some hundred kilobytes, and one client must not fill the engine's memory.
const LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Why a body cannot be read; the texts are Docker's where Docker has the case.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// There is a body and no type.
    #[error("malformed Content-Type header ({0}): mime: no media type")]
    NoContentType(String),
    /// The body is of another type.
    #[error("unsupported Content-Type header ({0}): must be 'application/json'")]
    ContentType(String),
    /// The body is no JSON.
    #[error("invalid JSON: {0}")]
    Syntax(#[from] syntax::Fault),
    /// The body is JSON and not what the request takes.
    #[error("invalid JSON: {0}")]
    Data(String),
    /// Something follows the JSON.
    #[error("unexpected content after JSON")]
    Trailing,
    /// The body is too long.
    #[error("request body is larger than {LIMIT_BYTES} bytes")]
    TooLarge,
    /// The client did not send it all.
    #[error("cannot read the request body: {0}")]
    Read(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads the JSON body of a request; `None` if it has no body.
pub(crate) async fn json<T: DeserializeOwned>(
    request: Request<Incoming>,
) -> Result<Option<T>, Error> {
    let (head, body) = request.into_parts();
    if body.is_end_stream() && !head.headers.contains_key(CONTENT_TYPE) {
        return Ok(None);
    }
    check_content_type(&head.headers)?;
    if body.is_end_stream() {
        return Ok(None);
    }
    let collected = Limited::new(body, LIMIT_BYTES)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                Error::TooLarge
            } else {
                Error::Read(error)
            }
        })?;
    parse(&collected.to_bytes()).map(Some)
}

/// The body of a request as it comes. What its user leaves of it is read and
/// thrown away, within bounds: a client that is still sending when it is refused
/// would not see the answer otherwise.
pub(crate) fn stream(request: Request<Incoming>) -> BoxStream<'static, io::Result<Bytes>> {
    let body = Draining(Some(request.into_body()));
    futures_util::stream::unfold(body, |mut body| async move {
        let piece = body.next().await?;
        Some((piece, body))
    })
    .boxed()
}

/// Bytes that are thrown away at most, and how long it may take: an archive of
/// this size is sent within seconds on one machine.
const DRAINED_BYTES: usize = 1 << 30;
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

struct Draining(Option<Incoming>);

impl Draining {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let body = self.0.as_mut()?;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    // Trailers carry nothing the API knows.
                    if let Ok(bytes) = frame.into_data() {
                        return Some(Ok(bytes));
                    }
                }
                Some(Err(error)) => {
                    self.0 = None;
                    return Some(Err(io::Error::other(error)));
                }
                None => {
                    self.0 = None;
                    return None;
                }
            }
        }
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        let left = self.0.take().filter(|body| !body.is_end_stream());
        let (Some(mut body), Ok(runtime)) = (left, tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            let drain = async {
                let mut bytes = 0;
                while bytes < DRAINED_BYTES
                    && let Some(Ok(frame)) = body.frame().await
                {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                }
            };
            let _in_time = tokio::time::timeout(DRAIN_PATIENCE, drain).await.is_ok();
        });
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Error> {
    let value = headers
        .get(CONTENT_TYPE)
        .map_or(&[][..], |value| value.as_bytes());
    let value = String::from_utf8_lossy(value);
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.is_empty() {
        Err(Error::NoContentType(value.into_owned()))
    } else if !media_type.eq_ignore_ascii_case("application/json") {
        Err(Error::ContentType(value.into_owned()))
    } else {
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match T::deserialize(&mut reader) {
        Ok(value) => reader.end().map(|()| value).map_err(|_| Error::Trailing),
        Err(error) => {
            // Only a broken body pays for the second reading.
            syntax::check(bytes)?;
            Err(Error::Data(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_api::container::CreateRequest;

    fn refused(bytes: &[u8]) -> String {
        parse::<CreateRequest>(bytes).unwrap_err().to_string()
    }

    #[test]
    fn broken_json_is_refused_with_gos_words() {
        assert_eq!(
            refused(b"{bad json"),
            "invalid JSON: invalid character 'b' looking for beginning of object key string"
        );
        assert_eq!(refused(b"{"), "invalid JSON: unexpected EOF");
        assert_eq!(
            refused(b" "),
            "invalid JSON: got EOF while reading request body"
        );
    }

    #[test]
    fn what_follows_the_json_is_refused() {
        assert_eq!(refused(b"{} {}"), "unexpected content after JSON");
        assert!(parse::<CreateRequest>(b"{}\n").is_ok());
    }

    #[test]
    fn json_of_another_shape_is_refused_and_deep_json_does_no_harm() {
        assert!(refused(b"[]").starts_with("invalid JSON: invalid type"));
        let deep = "[".repeat(100_000);
        assert!(refused(format!("{{\"Labels\":{deep}").as_bytes()).starts_with("invalid JSON: "));
    }

    #[test]
    fn only_json_is_taken_for_json() {
        let check = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(CONTENT_TYPE, value.parse().unwrap());
            }
            check_content_type(&headers).map_err(|error| error.to_string())
        };
        assert_eq!(check(Some("application/json")), Ok(()));
        assert_eq!(check(Some("Application/JSON; charset=utf-8")), Ok(()));
        assert_eq!(
            check(Some("text/plain")),
            Err("unsupported Content-Type header (text/plain): must be 'application/json'".into())
        );
        assert_eq!(
            check(None),
            Err("malformed Content-Type header (): mime: no media type".into())
        );
    }
}
