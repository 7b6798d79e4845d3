//! Sending: blobs that are not there yet, and manifests.
//!
//! ```text
//! HEAD blob ─ there ─► done
//!    │
//! POST uploads/?mount=&from= ─ 201 ─► mounted from another repository
//!    │ 202 + Location
//! PATCH bytes ─ broken ─► GET Location: Range ─► PATCH the rest
//!    │
//! PUT ?digest=
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use conex_spec::digest::Digest;
use conex_spec::image::Descriptor;
use futures_util::stream::{BoxStream, StreamExt};
use reqwest::header;
use reqwest::{Body, Method, Response, StatusCode, Url};

use crate::backoff::{self, Watch};
use crate::error::Error;
use crate::manifest::DIGEST_HEADER;
use crate::repository::Repository;
use crate::session::{Ask, Session, location, refused};
use crate::word;

/// Where the bytes of one blob come from.
pub trait BlobSource: Send + Sync {
    /// The blob from a byte on.
    fn read_from(&self, offset_bytes: u64) -> io::Result<BoxStream<'static, io::Result<Bytes>>>;
}

/// What a registry says to a blob that is about to be sent.
#[derive(Debug)]
pub enum Started {
    /// It has it.
    Exists,
    /// It took it out of another of its repositories.
    Mounted,
    /// It waits for the bytes.
    Upload(Upload),
}

/// A registry's place for the bytes of one blob.
#[derive(Debug, Clone)]
pub struct Upload {
    url: Url,
}

impl Repository {
    /// Whether the registry has a blob.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let mut round = self.round(|_| true);
        while let Some(session) = round.next() {
            if let Some(answer) = round.heard(self.look_for(session, digest).await)? {
                return Ok(answer);
            }
        }
        Err(round.error())
    }

    async fn look_for(&self, session: &Session, digest: &Digest) -> Result<bool, Error> {
        let scope = self.scope(session);
        let url = session.endpoint.url(&format!("blobs/{digest}"))?;
        let ask = Ask::new(Method::HEAD, url, &scope);
        let response = session.send(&ask).await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refused(response, &ask.method, &ask.url).await),
        }
    }

    /// Begins to send a blob: asks whether it is there, and whether it can be had from `mount_from`, another
    /// repository of the same registry.
    pub async fn start_upload(
        &self,
        digest: Option<&Digest>,
        mount_from: Option<&str>,
    ) -> Result<Started, Error> {
        if let Some(digest) = digest
            && self.has_blob(digest).await?
        {
            return Ok(Started::Exists);
        }
        let mounting = digest.zip(mount_from);
        let mut round = self.round(|_| true);
        while let Some(session) = round.next() {
            let mut asked = self.ask_for_place(session, mounting).await;
            // Who may not read the other repository, or asks a registry that mounts nothing, can still send the blob.
            if mounting.is_some() && asked.as_ref().is_err_and(|error| !error.is_transient()) {
                asked = self.ask_for_place(session, None).await;
            }
            if let Some(answer) = round.heard(asked)? {
                return Ok(answer);
            }
        }
        Err(round.error())
    }

    async fn ask_for_place(
        &self,
        session: &Session,
        mounting: Option<(&Digest, &str)>,
    ) -> Result<Started, Error> {
        let mut scope = self.scope(session);
        let mut url = session.endpoint.url("blobs/uploads/")?;
        if let Some((digest, from)) = mounting {
            // A token that also reads the other repository; for this request alone, since it may not be given.
            scope = format!("repository:{from}:pull {scope}");
            url.query_pairs_mut()
                .append_pair("mount", digest.as_str())
                .append_pair("from", from);
        }
        let mut ask = Ask::new(Method::POST, url, &scope);
        ask.body = Some(Bytes::new());
        let response = session.send(&ask).await?;
        match response.status() {
            StatusCode::CREATED if mounting.is_some() => Ok(Started::Mounted),
            StatusCode::ACCEPTED => Ok(Started::Upload(Upload {
                url: upload_url(&response, &ask.url)?,
            })),
            _ => Err(refused(response, &ask.method, &ask.url).await),
        }
    }

    /// Sends the bytes of a blob to its place, and names it by its digest.
    ///
    /// A connection that breaks is made again, from the byte where the registry stopped, as [`Repository::download`].
    pub async fn upload(
        &self,
        blob: &Descriptor,
        source: &dyn BlobSource,
        mut upload: Upload,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let mut failures = 0;
        loop {
            let broken = failures > 0;
            let tried = self.upload_anywhere(blob, source, &mut upload, broken, watch);
            let Err(error) = tried.await else {
                return Ok(());
            };
            failures += 1;
            if !backoff::pause(&self.settings, failures, &error, watch).await {
                return Err(error);
            }
        }
    }

    async fn upload_anywhere(
        &self,
        blob: &Descriptor,
        source: &dyn BlobSource,
        upload: &mut Upload,
        broken: bool,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let mut round = self.round(|_| true);
        while let Some(session) = round.next() {
            if let Some(answer) = round.heard(
                self.upload_to(session, blob, source, upload, broken, watch)
                    .await,
            )? {
                return Ok(answer);
            }
        }
        Err(round.error())
    }

    async fn upload_to(
        &self,
        session: &Session,
        blob: &Descriptor,
        source: &dyn BlobSource,
        upload: &mut Upload,
        broken: bool,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let offset = match broken {
            false => 0,
            true => match self.stand(session, upload).await? {
                Some(offset) if offset <= blob.size_bytes => offset,
                // It has forgotten the upload: once more from the start.
                _ => {
                    *upload = self.restart(session).await?;
                    0
                }
            },
        };
        if offset < blob.size_bytes || blob.size_bytes == 0 {
            self.send_rest(session, blob, source, offset, upload, watch)
                .await?;
        }
        self.commit(session, &blob.digest, upload).await
    }

    async fn restart(&self, session: &Session) -> Result<Upload, Error> {
        let scope = self.scope(session);
        let url = session.endpoint.url("blobs/uploads/")?;
        let mut ask = Ask::new(Method::POST, url, &scope);
        ask.body = Some(Bytes::new());
        let response = session.expect(&ask).await?;
        Ok(Upload {
            url: upload_url(&response, &ask.url)?,
        })
    }

    /// How many bytes a registry has of an upload; `None`: it knows no such upload.
    async fn stand(&self, session: &Session, upload: &mut Upload) -> Result<Option<u64>, Error> {
        let scope = self.scope(session);
        let ask = Ask::new(Method::GET, upload.url.clone(), &scope);
        let response = session.send(&ask).await?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Ok(None),
            status if status.is_success() => {
                if let Ok(url) = upload_url(&response, &ask.url) {
                    upload.url = url;
                }
                Ok(range_end(&response))
            }
            _ => Err(refused(response, &ask.method, &ask.url).await),
        }
    }

    async fn send_rest(
        &self,
        session: &Session,
        blob: &Descriptor,
        source: &dyn BlobSource,
        offset: u64,
        upload: &mut Upload,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let scope = self.scope(session);
        let sent = Arc::new(AtomicU64::new(offset));
        let counting = Arc::clone(&sent);
        let bytes = source.read_from(offset).map_err(Error::Local)?;
        let bytes = bytes.inspect(move |piece| {
            if let Ok(piece) = piece {
                counting.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        });
        let mut request = session
            .http
            .request(Method::PATCH, upload.url.clone())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, blob.size_bytes - offset)
            .body(Body::wrap_stream(bytes));
        if offset > 0 {
            let range = format!("{offset}-{}", blob.size_bytes - 1);
            request = request.header(header::CONTENT_RANGE, range);
        }
        if let Some(authorization) = session.authorizer.known(&scope).await {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let failed = |reason| Error::Unreachable {
            request: word::of_request(&Method::PATCH, &upload.url),
            reason,
        };
        let sending = request.send();
        tokio::pin!(sending);
        let mut seen = offset;
        let mut quiet = Duration::ZERO;
        const LOOK: Duration = Duration::from_millis(200);
        let response = loop {
            match tokio::time::timeout(LOOK, &mut sending).await {
                Ok(Ok(response)) => break response,
                Ok(Err(error)) => return Err(failed(word::of_failure(&error, &upload.url))),
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    quiet = if now > seen {
                        Duration::ZERO
                    } else {
                        quiet + LOOK
                    };
                    seen = now;
                    watch.progress(seen);
                    if quiet >= self.settings.stall_timeout {
                        return Err(failed(format!("nothing was taken for {quiet:?}")));
                    }
                }
            }
        };
        watch.progress(sent.load(Ordering::Relaxed));
        match response.status() {
            status if status.is_success() => {
                upload.url = upload_url(&response, &upload.url)?;
                Ok(())
            }
            // The token ran out on the way: the next try gets a new one.
            StatusCode::UNAUTHORIZED => Err(Error::Answer {
                message: refused(response, &Method::PATCH, &upload.url)
                    .await
                    .to_string(),
                transient: true,
                after: None,
            }),
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => Err(Error::Answer {
                message: refused(response, &Method::PATCH, &upload.url)
                    .await
                    .to_string(),
                transient: true,
                after: None,
            }),
            _ => Err(refused(response, &Method::PATCH, &upload.url).await),
        }
    }

    async fn commit(
        &self,
        session: &Session,
        digest: &Digest,
        upload: &Upload,
    ) -> Result<(), Error> {
        let scope = self.scope(session);
        let mut url = upload.url.clone();
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let mut ask = Ask::new(Method::PUT, url, &scope);
        ask.body = Some(Bytes::new());
        session.expect(&ask).await.map(drop)
    }

    /// Puts a manifest under a tag or its digest, and returns the digest the registry has for it.
    ///
    /// Errors: the registry refuses it, or has made another one of it.
    pub async fn put_manifest(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<Digest, Error> {
        let expected = Digest::of(bytes);
        let mut failures = 0;
        loop {
            let put = self.put_anywhere(tag_or_digest, media_type, bytes).await;
            let response = match put {
                Ok(response) => response,
                Err(error) => {
                    failures += 1;
                    if backoff::pause(&self.settings, failures, &error, &()).await {
                        continue;
                    }
                    return Err(error);
                }
            };
            let told = response.headers().get(DIGEST_HEADER);
            let told: Option<Digest> = told.and_then(|v| v.to_str().ok()?.parse().ok());
            return match told {
                Some(told) if told != expected => Err(Error::Answer {
                    message: format!("the registry stored {told} and not {expected}"),
                    transient: false,
                    after: None,
                }),
                _ => Ok(expected),
            };
        }
    }

    async fn put_anywhere(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<Response, Error> {
        let mut round = self.round(|_| true);
        while let Some(session) = round.next() {
            if let Some(answer) =
                round.heard(self.put(session, tag_or_digest, media_type, bytes).await)?
            {
                return Ok(answer);
            }
        }
        Err(round.error())
    }

    async fn put(
        &self,
        session: &Session,
        tag_or_digest: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<Response, Error> {
        let scope = self.scope(session);
        let url = session
            .endpoint
            .url(&format!("manifests/{tag_or_digest}"))?;
        let mut ask = Ask::new(Method::PUT, url, &scope).header(header::CONTENT_TYPE, media_type);
        ask.body = Some(bytes.clone());
        session.expect(&ask).await
    }
}

fn upload_url(response: &Response, asked: &Url) -> Result<Url, Error> {
    let base = asked.clone();
    let mut url = location(response, &base).ok_or_else(|| Error::Answer {
        message: format!("{asked} accepts an upload and does not say where"),
        transient: false,
        after: None,
    })?;
    // Registries behind a proxy that ends TLS name themselves without it.
    if asked.scheme() == "https"
        && url.scheme() == "http"
        && url.host_str() == asked.host_str()
        && url.set_scheme("https").is_err()
    {
        return Err(Error::Answer {
            message: format!("{asked} sends uploads to {url}, which has no TLS"),
            transient: false,
            after: None,
        });
    }
    Ok(url)
}

/// Bytes of `Range: 0-9`, which is ten; nothing is `0-0` or no header.
fn range_end(response: &Response) -> Option<u64> {
    let Some(value) = response.headers().get(header::RANGE) else {
        return Some(0);
    };
    let value = value.to_str().ok()?.trim();
    let value = value.strip_prefix("bytes=").unwrap_or(value);
    let last: u64 = value.split_once('-')?.1.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
