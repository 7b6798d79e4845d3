//! One host and the conversation with it: requests with authorisation, redirects, and refusals as errors.
//!
//! Redirects are followed here, for requests that fetch: at most ten, never from TLS to none, and what is another
//! host gets neither the credentials nor the client certificate of the first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};

use crate::authorizer::Authorizer;
use crate::certificates::Trust;
use crate::challenge::{self, Challenge};
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Role, authority};
use crate::error::Error;
use crate::settings::Settings;
use crate::{backoff, transport, word};

/// As many as Go follows.
const MAX_REDIRECTS: usize = 10;
/// More of an error's body is not read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// A conversation with one host about one repository.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) endpoint: Endpoint,
    pub(crate) authorizer: Authorizer,
    pub(crate) http: Client,
    /// For hosts it is redirected to.
    foreign: Client,
    headers: HeaderMap,
    stall: Duration,
    answered: AtomicBool,
    /// It has sent something else than the part of a blob it was asked for.
    refuses_parts: AtomicBool,
}

/// A request that can be sent twice.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    /// Scopes of the token it needs, separated by spaces.
    pub(crate) scope: &'a str,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: Method, url: Url, scope: &'a str) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            scope,
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }
}

impl Session {
    /// Reads certificates; blocks shortly.
    pub(crate) fn new(
        settings: &Settings,
        endpoint: Endpoint,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let http = transport::client(settings, &endpoint.trust)?;
        let foreign = match endpoint.trust == Trust::default() {
            true => http.clone(),
            false => transport::client(settings, &Trust::default())?,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &endpoint.headers {
            let pair = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value),
            );
            let (Ok(name), Ok(value)) = pair else {
                return Err(Error::Configuration {
                    path: "hosts.toml".into(),
                    problem: format!("{name:?} is no header"),
                });
            };
            headers.append(name, value);
        }
        // A mirror is somebody else.
        let own = match endpoint.role {
            Role::Registry => credentials.clone(),
            Role::Mirror => Credentials::default(),
        };
        let secure = endpoint.base.scheme() == "https" && !endpoint.trust.any_certificate;
        Ok(Self {
            authorizer: Authorizer::new(own, secure),
            http,
            foreign,
            headers,
            stall: settings.stall_timeout,
            answered: AtomicBool::new(false),
            refuses_parts: AtomicBool::new(false),
            endpoint,
        })
    }

    /// Whether the host has answered anything yet: it is there, and speaks as it is spoken to.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether it is of use to ask for parts of a blob.
    pub(crate) fn may_send_parts(&self) -> bool {
        !self.refuses_parts.load(Ordering::Relaxed)
    }

    /// It need not be asked for parts again.
    pub(crate) fn sends_no_parts(&self) {
        self.refuses_parts.store(true, Ordering::Relaxed);
    }

    /// Sends a request, answers a challenge if there is one, and follows redirects of requests that fetch.
    ///
    /// Any status may come back; see [`Session::expect`].
    pub(crate) async fn send(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        let mut used = self.authorizer.known(ask.scope).await;
        let response = self.follow(ask, used.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = challenges(&response);
        let granted = self
            .authorizer
            .answer(&self.http, &challenges, ask.scope, used.as_deref(), false)
            .await
            .map_err(|error| named(error, &ask.method, &ask.url))?;
        match granted {
            None => Ok(response),
            Some(granted) => {
                used = Some(granted.header);
                self.follow(ask, used.as_deref()).await
            }
        }
    }

    /// The same, where only success is of use.
    pub(crate) async fn expect(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        let response = self.send(ask).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response, &ask.method, &ask.url).await)
    }

    async fn follow(&self, ask: &Ask<'_>, authorization: Option<&str>) -> Result<Response, Error> {
        let fetches = matches!(ask.method, Method::GET | Method::HEAD);
        let home = (ask.url.scheme().to_owned(), authority(&ask.url));
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let at_home = home == (url.scheme().to_owned(), authority(&url));
            let client = if at_home { &self.http } else { &self.foreign };
            let mut request = client
                .request(ask.method.clone(), url.clone())
                .headers(ask.headers.clone());
            if at_home {
                request = request.headers(self.headers.clone());
                if let Some(authorization) = authorization {
                    request = request.header(header::AUTHORIZATION, authorization);
                }
            }
            if let Some(body) = &ask.body {
                request = request.body(body.clone());
            }
            let response = self.within(request.send(), &ask.method, &url).await?;
            if !fetches || !is_redirect(response.status()) {
                return Ok(response);
            }
            let Some(next) = location(&response, &url) else {
                return Ok(response);
            };
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Error::Unreachable {
                    request: word::of_request(&ask.method, &url),
                    reason: format!("redirected from TLS to {next}, which has none"),
                });
            }
            url = next;
        }
        Err(Error::Answer {
            message: format!(
                "{}: stopped after {MAX_REDIRECTS} redirects",
                word::of_request(&ask.method, &ask.url)
            ),
            transient: false,
            after: None,
        })
    }

    /// Waits for a host as long as it may take.
    async fn within(
        &self,
        sending: impl Future<Output = reqwest::Result<Response>>,
        method: &Method,
        url: &Url,
    ) -> Result<Response, Error> {
        let failed = |reason| Error::Unreachable {
            request: word::of_request(method, url),
            reason,
        };
        match tokio::time::timeout(self.stall, sending).await {
            Ok(Ok(response)) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(response)
            }
            Ok(Err(error)) => Err(failed(word::of_failure(&error, url))),
            Err(_) => Err(failed(format!(
                "net/http: timeout awaiting response headers after {:?}",
                self.stall
            ))),
        }
    }

    /// The next piece of a body; `None` at its end.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Error> {
        let failed = |response: &Response, reason| Error::Unreachable {
            request: word::of_request(&Method::GET, response.url()),
            reason,
        };
        match tokio::time::timeout(self.stall, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => {
                let reason = word::of_failure(&error, response.url());
                Err(failed(response, reason))
            }
            Err(_) => Err(failed(response, format!("no data for {:?}", self.stall))),
        }
    }
}

/// The challenges of a refusal.
pub(crate) fn challenges(response: &Response) -> Vec<Challenge> {
    response
        .headers()
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenge::parse)
        .collect()
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where an answer points to, absolute.
pub(crate) fn location(response: &Response, url: &Url) -> Option<Url> {
    let value = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let next = url.join(value).ok()?;
    matches!(next.scheme(), "http" | "https").then_some(next)
}

/// An error of authorisation that names its request.
pub(crate) fn named(error: Error, method: &Method, url: &Url) -> Error {
    match error {
        Error::Unauthorized(text) => {
            Error::Unauthorized(format!("{}: {text}", word::of_request(method, url)))
        }
        other => other,
    }
}

/// A refusal as an error; reads what the body says.
pub(crate) async fn refused(response: Response, method: &Method, url: &Url) -> Error {
    let status = response.status();
    let after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(backoff::retry_after);
    let insufficient = challenges(&response).iter().any(|challenge| {
        challenge.parameters.get("error").map(String::as_str) == Some("insufficient_scope")
    });
    // A body that breaks off says as much as it says.
    let body = read_limited(response, MAX_ERROR_BYTES, url)
        .await
        .unwrap_or_default();
    let words = word::of_body(&body);
    let plain = || {
        format!(
            "unexpected status from {} request to {url}: {status}",
            method.as_str()
        )
    };
    match status.as_u16() {
        401 if insufficient => Error::Denied(
            words.unwrap_or_else(|| "denied: requested access to the resource is denied".into()),
        ),
        401 => {
            let words = words.unwrap_or_else(|| "unauthorized: authentication required".into());
            Error::Unauthorized(format!("{}: {words}", word::of_request(method, url)))
        }
        403 => Error::Denied(
            words.unwrap_or_else(|| "denied: requested access to the resource is denied".into()),
        ),
        404 => Error::NotFound(words.unwrap_or_else(plain)),
        429 => Error::Limited {
            message: words.unwrap_or_else(|| "toomanyrequests: too many requests".into()),
            after,
        },
        code => Error::Answer {
            message: words.map_or_else(plain, |words| format!("{}: {words}", plain())),
            transient: code >= 500 && code != 501 || code == 408,
            after,
        },
    }
}

/// A whole body of at most so many bytes.
pub(crate) async fn read_limited(
    mut response: Response,
    max_bytes: usize,
    url: &Url,
) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| Error::Unreachable {
            request: word::of_request(&Method::GET, url),
            reason: word::of_failure(&error, url),
        })?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > max_bytes {
            return Err(Error::Answer {
                message: format!("the answer of {url} is longer than {max_bytes} bytes"),
                transient: false,
                after: None,
            });
        }
        body.extend_from_slice(&chunk);
    }
}
