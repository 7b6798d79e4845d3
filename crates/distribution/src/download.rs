//! Blobs: from a registry into a sink, going on where the last try stopped.
//!
//! One connection is asked for all of a blob. If that turns out to be slow the rest comes in parts, several at a time
//! (`parts.rs`), where the registry can send parts.
//!
//! What arrives is counted here and hashed by whoever keeps it: the sink reads the blob's first bytes again anyway if
//! they are from an earlier day.

use std::future::Future;
use std::io;
use std::time::Instant;

use bytes::Bytes;
use conex_spec::image::{Descriptor, media_type};
use reqwest::header;
use reqwest::{Method, Response, StatusCode, Url};

use crate::backoff::{self, Watch};
use crate::error::Error;
use crate::repository::Repository;
use crate::session::{Ask, Session, refused};
use crate::settings::Parts;

/// A try that brought at least this much does not count as a failure in a row.
const WORTH_A_TRY_BYTES: u64 = 1 << 20;

/// Where the bytes of one blob go, in order.
pub trait BlobSink: Send {
    /// Bytes it has, of this and earlier days.
    fn position(&self) -> u64;

    /// Takes the next bytes; waits while it has no room.
    fn write(&mut self, piece: Bytes) -> impl Future<Output = io::Result<()>> + Send;
}

impl Repository {
    /// Fills a sink to the blob's end.
    ///
    /// Connections that break are made again, each from the byte where the last stopped, with pauses that
    /// [`Watch::retrying`] is told of. Errors: the registry has no such blob, keeps failing, or sends another length
    /// than the descriptor's; the sink fails. The digest is the sink's owner's to check.
    pub async fn download<S: BlobSink>(
        &self,
        blob: &Descriptor,
        sink: &mut S,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let mut failures = 0;
        loop {
            let before = sink.position();
            if before == blob.size_bytes {
                return Ok(());
            }
            let tried = self.fetch_blob(blob, sink, watch).await;
            let error = match tried {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if sink.position() - before >= WORTH_A_TRY_BYTES {
                failures = 0;
            }
            failures += 1;
            tracing::debug!(digest = %blob.digest, %error, at = sink.position(), "a download broke off");
            if !backoff::pause(&self.settings, failures, &error, watch).await {
                return Err(error);
            }
        }
    }

    async fn fetch_blob<S: BlobSink>(
        &self,
        blob: &Descriptor,
        sink: &mut S,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let mut round = self.round(|session| session.endpoint.capabilities.pull);
        while let Some(session) = round.next() {
            if let Some(answer) = round.heard(self.fetch_from(session, blob, sink, watch).await)? {
                return Ok(answer);
            }
        }
        Err(round.error())
    }

    async fn fetch_from<S: BlobSink>(
        &self,
        session: &Session,
        blob: &Descriptor,
        sink: &mut S,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        // Layers that registries must not pass on say themselves where they are.
        let foreign = media_type::is_foreign_layer(&blob.media_type);
        for url in blob.urls.iter().filter(|_| foreign) {
            if let Ok(url) = Url::parse(url)
                && matches!(url.scheme(), "http" | "https")
                && let Ok(response) = self.open(session, blob, url, sink.position()).await
            {
                let none = None;
                return receive(session, response, blob, sink, watch, none)
                    .await
                    .map(drop);
            }
        }
        let url = session.endpoint.url(&format!("blobs/{}", blob.digest))?;
        loop {
            let from = sink.position();
            let response = self.open(session, blob, url.clone(), from).await?;
            let parts = session.may_send_parts().then_some(&self.settings.parts);
            let received = receive(session, response, blob, sink, watch, parts).await?;
            if received == Received::All {
                return Ok(());
            }
            if self.fetch_parts(session, &url, blob, sink, watch).await? {
                return Ok(());
            }
            session.sends_no_parts();
        }
    }

    /// Asks for a blob from a byte on.
    async fn open(
        &self,
        session: &Session,
        blob: &Descriptor,
        url: Url,
        from: u64,
    ) -> Result<Response, Error> {
        let scope = self.scope(session);
        let mut ask = Ask::new(Method::GET, url, &scope).header(header::ACCEPT, "*/*");
        if from > 0 {
            ask = ask.header(header::RANGE, &format!("bytes={from}-"));
        }
        let response = session.send(&ask).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(Error::NotFound(format!(
                "blob unknown: {} is not in {}",
                blob.digest,
                session.endpoint.authority()
            ))),
            _ => Err(refused(response, &ask.method, &ask.url).await),
        }
    }
}

/// How far one connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    All,
    /// It is too slow to be the only one.
    Some,
}

/// Whether the rest of a blob would take one connection too long, as far as can be told yet.
fn is_slow(parts: &Parts, since: Instant, received_bytes: u64, left_bytes: u64) -> bool {
    let took = since.elapsed();
    if took < parts.watched || left_bytes <= parts.part_bytes {
        return false;
    }
    let rate = received_bytes as f64 / took.as_secs_f64();
    left_bytes as f64 > rate * parts.patience.as_secs_f64()
}

/// With `parts` it may stop in the middle for being slow.
async fn receive<S: BlobSink>(
    session: &Session,
    mut response: Response,
    blob: &Descriptor,
    sink: &mut S,
    watch: &dyn Watch,
    parts: Option<&Parts>,
) -> Result<Received, Error> {
    let wrong_size = |found_bytes| Error::Size {
        digest: blob.digest.clone(),
        expected_bytes: blob.size_bytes,
        found_bytes,
    };
    let start = match response.status() {
        StatusCode::PARTIAL_CONTENT => range_start(&response).unwrap_or(u64::MAX),
        // It sends everything, whatever was asked for.
        _ => 0,
    };
    let Some(mut skip) = sink.position().checked_sub(start) else {
        return Err(Error::Answer {
            message: format!(
                "the registry sent another part of {} than asked for",
                blob.digest
            ),
            transient: true,
            after: None,
        });
    };
    if let Some(length) = response.content_length()
        && start + length != blob.size_bytes
    {
        return Err(wrong_size(start + length));
    }
    let (begun, since) = (sink.position(), Instant::now());
    while let Some(mut chunk) = session.chunk(&mut response).await? {
        let skipped = skip.min(chunk.len() as u64);
        skip -= skipped;
        let chunk = chunk.split_off(skipped as usize);
        if chunk.is_empty() {
            continue;
        }
        let after = sink.position() + chunk.len() as u64;
        if after > blob.size_bytes {
            return Err(wrong_size(after));
        }
        sink.write(chunk).await.map_err(Error::Local)?;
        watch.progress(after);
        let left = blob.size_bytes - after;
        if parts.is_some_and(|parts| is_slow(parts, since, after - begun, left)) {
            return Ok(Received::Some);
        }
    }
    if sink.position() < blob.size_bytes {
        return Err(Error::Unreachable {
            request: crate::word::of_request(&Method::GET, response.url()),
            reason: "unexpected EOF".to_owned(),
        });
    }
    Ok(Received::All)
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    let range = value.trim().strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}
