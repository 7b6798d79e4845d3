//! The rest of a blob in parts, several at a time: for hosts and ways that are slow for each connection.
//!
//! ```text
//! part 0 ─────────────► sink          in order; what comes early waits in memory,
//! part 1 ──────► waits                at most `at_a_time` parts of `part_bytes`
//! part 2 ────► waits
//! ```
//!
//! The sink never has a gap, so that whatever interrupts this, the next try goes on behind its last byte.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use conex_spec::image::Descriptor;
use futures_util::stream::{self, StreamExt};
use reqwest::{Method, Response, StatusCode, Url, header};

use crate::backoff::Watch;
use crate::download::BlobSink;
use crate::error::Error;
use crate::repository::Repository;
use crate::session::{Ask, Session, refused};
use crate::word;

/// First and last byte.
type Range = (u64, u64);

impl Repository {
    /// Fills a sink to the blob's end; `false`: the host does not send parts as it is asked to.
    pub(crate) async fn fetch_parts<S: BlobSink>(
        &self,
        session: &Session,
        url: &Url,
        blob: &Descriptor,
        sink: &mut S,
        watch: &dyn Watch,
    ) -> Result<bool, Error> {
        let parts = self.settings.parts;
        let (from, end) = (sink.position(), blob.size_bytes);
        tracing::debug!(digest = %blob.digest, from, "one connection is slow: the rest comes in parts");
        let starts = std::iter::successors(Some(from), |start| start.checked_add(parts.part_bytes));
        let ranges = starts
            .take_while(|start| *start < end)
            .map(|start| (start, (start + parts.part_bytes).min(end) - 1));
        let received = AtomicU64::new(from);
        let fetching = ranges.map(|range| self.part(session, url, range, &received, watch));
        let mut fetched = stream::iter(fetching).buffered(parts.at_a_time.max(1));
        while let Some(part) = fetched.next().await {
            let Some(chunks) = part? else {
                return Ok(false);
            };
            for chunk in chunks {
                sink.write(chunk).await.map_err(Error::Local)?;
            }
        }
        Ok(true)
    }

    /// One part, in the pieces it came in; `None` if the host sends something else.
    async fn part(
        &self,
        session: &Session,
        url: &Url,
        (first, last): Range,
        received: &AtomicU64,
        watch: &dyn Watch,
    ) -> Result<Option<Vec<Bytes>>, Error> {
        let scope = self.scope(session);
        let ask = Ask::new(Method::GET, url.clone(), &scope)
            .header(header::ACCEPT, "*/*")
            .header(header::RANGE, &format!("bytes={first}-{last}"));
        let mut response = session.send(&ask).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if range_of(&response) == Some((first, last)) => {}
            status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                return Ok(None);
            }
            _ => return Err(refused(response, &ask.method, &ask.url).await),
        }
        let length = last - first + 1;
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        while let Some(chunk) = session.chunk(&mut response).await? {
            let more = chunk.len() as u64;
            bytes += more;
            if bytes > length {
                return Ok(None);
            }
            watch.progress(received.fetch_add(more, Ordering::Relaxed) + more);
            chunks.push(chunk);
        }
        match bytes == length {
            true => Ok(Some(chunks)),
            false => Err(Error::Unreachable {
                request: word::of_request(&Method::GET, response.url()),
                reason: "unexpected EOF".to_owned(),
            }),
        }
    }
}

/// Both bytes of `Content-Range: bytes 5-9/10`.
fn range_of(response: &Response) -> Option<Range> {
    let value = response.headers().get(header::CONTENT_RANGE)?;
    let range = value.to_str().ok()?.trim().strip_prefix("bytes ")?;
    let (first, rest) = range.split_once('-')?;
    let last = rest.split('/').next()?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}
