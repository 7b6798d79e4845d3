//! Requests and answers: connections, API version, JSON in both directions.
//!
//! The first request is sent at the newest version ([`version::MAX`]); only an engine that refuses it as too new costs a
//! second round trip, after which its own maximum is used. A request whose body is a stream cannot
//! be repeated, so it asks `/_ping` first if the version is still open.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use conex_api::version::{self, ApiVersion};
use futures_util::{Stream, TryStreamExt};
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::Answer;
use crate::body::{ByteStream, JsonStream};
use crate::error::Error;
use crate::hijack::{self, Hijacked};
use crate::host::Host;
use crate::socket::Socket;

/// Longest error answer read; the rest is not of use to anybody.
const MAX_ERROR_BYTES: usize = 1 << 20;
/// Connections kept for the next call.
const MAX_IDLE: usize = 4;
/// What an engine begins its refusal of a too new version with, up to the version itself.
const TOO_NEW: &str = "Maximum supported API version is ";

/// The body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The version a refusal (`client version 1.99 is too new. Maximum …`) offers instead.
fn offered_by(error: &Error) -> Option<ApiVersion> {
    let Error::Api {
        status: 400,
        message,
    } = error
    else {
        return None;
    };
    let (_, offered) = message.split_once(TOO_NEW)?;
    offered.trim().trim_end_matches('.').parse().ok()
}

/// Which version requests are sent at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreement {
    /// Nothing heard from the engine yet.
    Open,
    /// The engine has taken a request at this version.
    Agreed(ApiVersion),
    /// The user said so; no refusal changes it.
    Fixed(ApiVersion),
}

impl Agreement {
    fn version(self) -> ApiVersion {
        match self {
            Self::Open => version::MAX,
            Self::Agreed(version) | Self::Fixed(version) => version,
        }
    }
}

/// A client of one engine; clones share connections and the agreed version.
///
/// Calls must run inside a tokio runtime with I/O; a single-threaded one will do.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    /// Sent with every request, as names and values.
    headers: Mutex<Vec<(HeaderName, HeaderValue)>>,
    agreement: Mutex<Agreement>,
    idle: Mutex<Vec<SendRequest<Body>>>,
    /// A connection made by [`Client::connect`] that no request has used yet.
    fresh: Mutex<Option<Socket>>,
}

impl Client {
    /// A client that connects when it first has to.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self {
            shared: Arc::new(Shared {
                host,
                headers: Mutex::new(Vec::new()),
                agreement: Mutex::new(Agreement::Open),
                idle: Mutex::new(Vec::new()),
                fresh: Mutex::new(None),
            }),
        }
    }

    /// A client whose first connection exists already, so that an absent engine is known at once.
    ///
    /// # Errors
    /// [`Error::Connect`] and [`Error::Denied`].
    pub async fn connect(host: &Host) -> Result<Self, Error> {
        let socket = Socket::connect(host)
            .await
            .map_err(|e| Error::connect(host, e))?;
        let client = Self::new(host.clone());
        *lock(&client.shared.fresh) = Some(socket);
        Ok(client)
    }

    /// The same client held to one API version (`1.43`), as `DOCKER_API_VERSION` asks for.
    ///
    /// A text that is no version leaves the client as it was.
    #[must_use]
    pub fn with_version(self, version: &str) -> Self {
        if let Ok(version) = version.parse() {
            *lock(&self.shared.agreement) = Agreement::Fixed(version);
        }
        self
    }

    /// The same client sending one more header with every request.
    ///
    /// A pair that is no header leaves the client as it was.
    #[must_use]
    pub fn with_header(self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse(), value.parse()) {
            lock(&self.shared.headers).push((name, value));
        }
        self
    }

    /// Another client of the same engine, sending one more header: for what only some requests may carry.
    #[must_use]
    pub fn also_with_header(&self, name: &str, value: &str) -> Self {
        let other = Self::new(self.shared.host.clone());
        *lock(&other.shared.agreement) = self.agreement();
        *lock(&other.shared.headers) = lock(&self.shared.headers).clone();
        other.with_header(name, value)
    }

    /// The address of the engine.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.shared.host
    }

    /// The API version requests are sent at, such as `1.56`.
    #[must_use]
    pub fn version(&self) -> String {
        self.agreement().version().to_string()
    }

    /// GET, decoded.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::GET, path, None).await?.json().await
    }

    /// GET, decoded without a shape, every key kept.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn get_value(&self, path: &str) -> Result<serde_json::Value, Error> {
        self.get_json(path).await
    }

    /// POST of JSON (or of nothing), answer decoded.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn post_json<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Error> {
        let body = encode(path, body)?;
        self.call(Method::POST, path, body).await?.json().await
    }

    /// POST without a body, whose answer has none of interest (204, or 304 for "already so").
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn post_empty(&self, path: &str) -> Result<(), Error> {
        self.call(Method::POST, path, None).await?.discard().await
    }

    /// POST of JSON, whose answer has no body of interest.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn post_discard<B: Serialize + ?Sized>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<(), Error> {
        let body = encode(path, Some(body))?;
        self.call(Method::POST, path, body).await?.discard().await
    }

    /// POST without a body that returns with the answer's *head*.
    ///
    /// For calls that promise something with their head and answer later, such as a wait.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn post_answer(&self, path: &str) -> Result<Answer, Error> {
        self.call(Method::POST, path, None).await
    }

    /// DELETE, answer decoded.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn delete_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::DELETE, path, None).await?.json().await
    }

    /// DELETE whose answer has no body of interest.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn delete_empty(&self, path: &str) -> Result<(), Error> {
        self.call(Method::DELETE, path, None).await?.discard().await
    }

    /// GET whose answer is read piece by piece.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn get_stream(&self, path: &str) -> Result<ByteStream, Error> {
        Ok(self.call(Method::GET, path, None).await?.into_stream())
    }

    /// GET that returns with the answer's head, for what its headers say.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn get_answer(&self, path: &str) -> Result<Answer, Error> {
        self.call(Method::GET, path, None).await
    }

    /// HEAD, for what the answer's headers say. A refusal has no words.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn head_answer(&self, path: &str) -> Result<Answer, Error> {
        self.call(Method::HEAD, path, None).await
    }

    /// GET whose answer is JSON messages one after the other, such as events.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn get_messages<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<JsonStream<T>, Error> {
        Ok(JsonStream::new(self.get_stream(path).await?))
    }

    /// POST without a body whose answer is JSON messages, such as a pull.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn post_messages<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<JsonStream<T>, Error> {
        let answer = self.call(Method::POST, path, None).await?;
        Ok(JsonStream::new(answer.into_stream()))
    }

    /// POST of a stream of bytes whose answer is progress messages.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn post_stream<T: DeserializeOwned>(
        &self,
        path: &str,
        content_type: &'static str,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<JsonStream<T>, Error> {
        let answer = self.send_stream(Method::POST, path, content_type, body);
        Ok(JsonStream::new(answer.await?.into_stream()))
    }

    /// PUT of a stream of bytes, whose answer has no body of interest.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn put_stream(
        &self,
        path: &str,
        content_type: &'static str,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), Error> {
        let answer = self.send_stream(Method::PUT, path, content_type, body);
        answer.await?.discard().await
    }

    async fn send_stream(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Answer, Error> {
        if self.agreement() == Agreement::Open {
            self.negotiate().await?;
        }
        let call = format!("{method} {path}");
        let body = StreamBody::new(body.map_ok(Frame::data)).boxed_unsync();
        let request = self.request(method, path, Some(content_type), body)?;
        let (response, sender) = self.exchange(&call, request).await?;
        self.judge(call, response, sender).await
    }

    /// POST that turns the connection into a raw two-way stream.
    ///
    /// # Errors
    /// Any; [`Error::Api`] when the engine refuses.
    pub async fn hijack<B: Serialize + ?Sized>(
        &self,
        path: &str,
        body: Option<&B>,
    ) -> Result<Hijacked, Error> {
        let body = encode(path, body)?;
        loop {
            let socket = self.socket().await?;
            let version = self.agreement().version();
            let full_path = versioned(version, path);
            let headers = lock(&self.shared.headers).clone();
            let request = hijack::request(&self.shared.host, &full_path, &headers, body.as_deref());
            match hijack::upgrade(socket, &self.shared.host, &full_path, &request).await {
                Err(error) if self.step_down(version, &error) => {}
                result => {
                    if result.is_ok() {
                        self.agree(version);
                    }
                    return result;
                }
            }
        }
    }

    /// Asks the engine for its newest version and settles on the lower of its and ours.
    ///
    /// # Errors
    /// Any; an engine without the header is taken to speak 1.24.
    pub async fn negotiate(&self) -> Result<(), Error> {
        let call = "HEAD /_ping".to_owned();
        let request = self.build(Method::HEAD, "/_ping", None, empty(), &call)?;
        let (response, sender) = self.exchange(&call, request).await?;
        let theirs = response
            .headers()
            .get("api-version")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok())
            .unwrap_or(version::MIN);
        let mut agreement = lock(&self.shared.agreement);
        if !matches!(*agreement, Agreement::Fixed(_)) {
            *agreement = Agreement::Agreed(theirs.min(version::MAX));
        }
        drop(agreement);
        self.keep(sender);
        Ok(())
    }

    /// One request with a body that can be sent again, its answer judged by status.
    async fn call(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Answer, Error> {
        let call = format!("{method} {path}");
        loop {
            let version = self.agreement().version();
            let content_type = body.is_some().then_some("application/json");
            let bytes = body.clone().unwrap_or_default();
            let request = self.request(method.clone(), path, content_type, full(bytes))?;
            let (response, sender) = self.exchange(&call, request).await?;
            match self.judge(call.clone(), response, sender).await {
                Err(error) if self.step_down(version, &error) => {}
                result => {
                    if result.is_ok() {
                        self.agree(version);
                    }
                    return result;
                }
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Body,
    ) -> Result<Request<Body>, Error> {
        let call = format!("{method} {path}");
        let path = versioned(self.agreement().version(), path);
        self.build(method, &path, content_type, body, &call)
    }

    fn build(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Body,
        call: &str,
    ) -> Result<Request<Body>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.shared.host.header())
            .header(header::USER_AGENT, hijack::USER_AGENT);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, value) in lock(&self.shared.headers).iter() {
            request = request.header(name, value);
        }
        request.body(body).map_err(|source| Error::Encode {
            call: call.to_owned(),
            source: Box::new(source),
        })
    }

    /// Sends a request and returns with the head of its answer.
    async fn exchange(
        &self,
        call: &str,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, SendRequest<Body>), Error> {
        let lost = |source: hyper::Error| Error::lost(&self.shared.host, call, source);
        // A kept connection may have been closed by the engine meanwhile: hyper gives the request
        // back if not a byte of it was written, and only then is it sent on another one.
        loop {
            let kept = lock(&self.shared.idle).pop();
            let Some(mut sender) = kept else { break };
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(lost(error.into_error())),
                },
            }
        }
        let socket = self.socket().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(lost)?;
        tokio::spawn(async move {
            // Its failure reaches the caller through the request and its body.
            connection.await.ok();
        });
        let response = sender.send_request(request).await.map_err(lost)?;
        Ok((response, sender))
    }

    /// The unused first connection, or a new one.
    async fn socket(&self) -> Result<Socket, Error> {
        let fresh = lock(&self.shared.fresh).take();
        match fresh {
            Some(socket) => Ok(socket),
            None => {
                let host = &self.shared.host;
                Socket::connect(host)
                    .await
                    .map_err(|e| Error::connect(host, e))
            }
        }
    }

    /// Turns an answer of status 400 and above into its error.
    async fn judge(
        &self,
        call: String,
        response: Response<Incoming>,
        sender: SendRequest<Body>,
    ) -> Result<Answer, Error> {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(Answer::new(self.clone(), call, response, sender));
        }
        let body = Limited::new(response.into_body(), MAX_ERROR_BYTES)
            .collect()
            .await;
        let bytes = body.map(|b| b.to_bytes()).unwrap_or_default();
        self.keep(sender);
        Err(Error::api(status.as_u16(), &bytes, &call))
    }

    /// Keeps a connection whose last answer has been read to its end.
    pub(crate) fn keep(&self, sender: SendRequest<Body>) {
        let mut idle = lock(&self.shared.idle);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }

    fn agreement(&self) -> Agreement {
        *lock(&self.shared.agreement)
    }

    fn agree(&self, version: ApiVersion) {
        let mut agreement = lock(&self.shared.agreement);
        if *agreement == Agreement::Open {
            *agreement = Agreement::Agreed(version);
        }
    }

    /// Settles on the version a refusal offers; whether the call is to be repeated at it.
    fn step_down(&self, sent: ApiVersion, error: &Error) -> bool {
        let Some(offered) = offered_by(error).filter(|offered| *offered < sent) else {
            return false;
        };
        let mut agreement = lock(&self.shared.agreement);
        if matches!(*agreement, Agreement::Fixed(_)) {
            return false;
        }
        *agreement = Agreement::Agreed(offered);
        true
    }
}

fn versioned(version: ApiVersion, path: &str) -> String {
    format!("/v{version}{path}")
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn empty() -> Body {
    full(Bytes::new())
}

fn encode<B: Serialize + ?Sized>(path: &str, body: Option<&B>) -> Result<Option<Bytes>, Error> {
    body.map(|body| {
        serde_json::to_vec(body)
            .map(Bytes::from)
            .map_err(|source| Error::Encode {
                call: format!("POST {path}"),
                source: Box::new(source),
            })
    })
    .transpose()
}

/// A poisoned lock holds plain data that is right at every point.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
