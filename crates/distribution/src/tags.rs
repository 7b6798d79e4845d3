//! The tags of a repository, page by page.

use std::collections::BTreeSet;

use reqwest::{Method, header};
use serde::Deserialize;

use crate::error::Error;
use crate::repository::Repository;
use crate::session::{Ask, Session, read_limited};

const MAX_PAGE_BYTES: usize = 8 << 20;
/// A registry that always has another page has none.
const MAX_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    /// All tags, in order.
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        let mut round = self.round(|session| session.endpoint.capabilities.resolve);
        while let Some(session) = round.next() {
            if let Some(answer) = round.heard(self.tags_of(session).await)? {
                return Ok(answer);
            }
        }
        Err(round.error())
    }

    async fn tags_of(&self, session: &Session) -> Result<Vec<String>, Error> {
        let scope = self.scope(session);
        let mut url = session.endpoint.url("tags/list")?;
        let home = url.clone();
        let mut tags = BTreeSet::new();
        for _ in 0..MAX_PAGES {
            let ask = Ask::new(Method::GET, url.clone(), &scope);
            let response = session.expect(&ask).await?;
            let next = response
                .headers()
                .get_all(header::LINK)
                .iter()
                .filter_map(|value| next_page(value.to_str().ok()?))
                .next()
                .and_then(|target| url.join(target).ok());
            let body = read_limited(response, MAX_PAGE_BYTES, &url).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|_| Error::Answer {
                message: format!("{url} does not answer with a list of tags"),
                transient: false,
                after: None,
            })?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                // Tokens are for one host.
                Some(next) if next.origin() == home.origin() && next != url => url = next,
                _ => break,
            }
        }
        Ok(tags.into_iter().collect())
    }
}

/// The target of `</v2/a/tags/list?last=x>; rel="next"` (RFC 8288).
fn next_page(value: &str) -> Option<&str> {
    let (target, parameters) = value.trim().strip_prefix('<')?.split_once('>')?;
    let parameters = parameters.to_ascii_lowercase();
    (parameters.contains("rel=\"next\"") || parameters.contains("rel=next")).then_some(target)
}
