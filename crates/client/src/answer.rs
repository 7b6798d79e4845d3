//! An answer whose head has arrived: its headers, and its body in the form the
//! caller wants it.

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde::de::DeserializeOwned;

use crate::body::ByteStream;
use crate::client::{Body, Client};
use crate::error::Error;

/// Longest JSON answer read into memory: a list of 100 000 containers fits.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// An answer whose head has arrived and whose body may still be on its way.
#[derive(Debug)]
pub struct Answer {
    client: Client,
    call: String,
    headers: HeaderMap,
    body: Incoming,
    sender: SendRequest<Body>,
}

impl Answer {
    pub(crate) fn new(
        client: Client,
        call: String,
        response: Response<Incoming>,
        sender: SendRequest<Body>,
    ) -> Self {
        let (head, body) = response.into_parts();
        Self {
            client,
            call,
            headers: head.headers,
            body,
            sender,
        }
    }

    /// A header of the answer; `None` if it is missing or no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads the body to its end and decodes it; at most 256 MiB.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection ends early, [`Error::Decode`] for another shape.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let (bytes, call) = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Decode { call, source })
    }

    /// Reads the body to its end, for the connection to be used again.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection ends early.
    pub async fn discard(self) -> Result<(), Error> {
        self.bytes().await.map(drop)
    }

    async fn bytes(self) -> Result<(Bytes, String), Error> {
        let Self {
            client,
            call,
            body,
            sender,
            ..
        } = self;
        match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => {
                client.keep(sender);
                Ok((body.to_bytes(), call))
            }
            Err(error) if error.is::<LengthLimitError>() => Err(Error::Protocol {
                call,
                reason: "it is longer than 256 MiB",
            }),
            Err(source) => Err(Error::Lost {
                host: client.host().clone(),
                call,
                source,
            }),
        }
    }

    /// The body as it comes.
    #[must_use]
    pub fn into_stream(self) -> ByteStream {
        // The connection lives as long as its sender: a stream keeps both.
        ByteStream::new(
            self.client.host().clone(),
            self.call,
            self.body,
            Box::new(self.sender),
        )
    }
}
