//! A file by its URL, as `import` takes one: no registry, no credentials, and
//! what was begun is not resumed.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, Response, StatusCode, Url};

use crate::certificates::Trust;
use crate::error::Error;
use crate::registries::Registries;
use crate::session::location;
use crate::{transport, word};

const MAX_REDIRECTS: usize = 10;

/// A file on its way.
#[derive(Debug)]
pub struct RemoteFile {
    response: Response,
    stall: Duration,
}

impl Registries {
    /// Begins to fetch a file from an `http:` or `https:` URL, with the proxies
    /// and the patience of registries; a URL without a scheme is `http:`.
    ///
    /// Errors: it is no such URL, cannot be reached, or is answered with
    /// anything but 200.
    pub async fn file(&self, url: &str) -> Result<RemoteFile, Error> {
        let settings = self.settings();
        let full = match url.contains("://") {
            true => url.to_owned(),
            false => format!("http://{url}"),
        };
        let parsed = Url::parse(&full).ok();
        let parsed = parsed.filter(|url| matches!(url.scheme(), "http" | "https"));
        let mut at = parsed.ok_or_else(|| Error::Answer {
            message: format!("{url:?} is not a URL that can be fetched"),
            transient: false,
            after: None,
        })?;
        let client = transport::client(&settings, &Trust::default())?;
        let stall = settings.stall_timeout;
        for _ in 0..=MAX_REDIRECTS {
            let unreachable = |reason| Error::Unreachable {
                request: word::of_request(&Method::GET, &at),
                reason,
            };
            let sending = client.get(at.clone()).send();
            let response = match tokio::time::timeout(stall, sending).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(unreachable(word::of_failure(&error, &at))),
                Err(_) => return Err(unreachable(format!("no answer for {stall:?}"))),
            };
            if response.status().is_redirection()
                && let Some(next) = location(&response, &at)
            {
                at = next;
                continue;
            }
            if response.status() != StatusCode::OK {
                return Err(Error::Answer {
                    message: format!("Got HTTP status code >= 400: {}", response.status()),
                    transient: false,
                    after: None,
                });
            }
            return Ok(RemoteFile { response, stall });
        }
        Err(Error::Answer {
            message: format!("{url}: stopped after {MAX_REDIRECTS} redirects"),
            transient: false,
            after: None,
        })
    }
}

impl RemoteFile {
    /// The next piece; `None` at the end.
    ///
    /// Errors: the connection broke, or nothing comes any more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let url = self.response.url().clone();
        let broken = |reason| Error::Unreachable {
            request: word::of_request(&Method::GET, &url),
            reason,
        };
        match tokio::time::timeout(self.stall, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(broken(word::of_failure(&error, &url))),
            Err(_) => Err(broken(format!("no data for {:?}", self.stall))),
        }
    }
}
