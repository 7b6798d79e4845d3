//! Search: the index's first API, which is the only one that has a search.
//!
//! `GET /v1/search?q=term&n=25` of `index.docker.io`, or of the registry that stands before the term.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::credentials::Credentials;
use crate::endpoint;
use crate::error::Error;
use crate::registries::Registries;
use crate::session::{Ask, Session, read_limited};

const INDEX: &str = "index.docker.io";
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// What is looked for.
#[derive(Debug, Clone)]
pub struct SearchQuery {
    /// `nginx`, or `registry.lan:5000/nginx`.
    pub term: String,
    /// At most so many.
    pub limit: u32,
}

/// A repository that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Number of stars.
    pub star_count: i64,
    /// Whether it is official.
    pub is_official: bool,
    /// Its name.
    pub name: String,
    /// Whether it is built by the index.
    pub is_automated: bool,
    /// One line.
    pub description: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Found>,
}

impl Registries {
    /// Asks an index.
    ///
    /// Errors: it cannot be reached, has no search, or the term is none.
    pub async fn search(
        &self,
        query: &SearchQuery,
        credentials: &Credentials,
    ) -> Result<Vec<Found>, Error> {
        let (registry, term) = split(&query.term);
        let settings = self.settings();
        let credentials = credentials.clone();
        let (host, limit) = (registry.to_owned(), query.limit);
        let opening = tokio::task::spawn_blocking(move || {
            endpoint::of_registry(&settings, &host, "")?
                .into_iter()
                .map(|endpoint| Session::new(&settings, endpoint, &credentials))
                .collect::<Result<Vec<_>, _>>()
        });
        let sessions = opening.await.map_err(|e| Error::Local(e.into()))??;
        let mut failure = None;
        for session in &sessions {
            match ask(session, term, limit).await {
                Err(error @ Error::Unreachable { .. }) => {
                    failure.get_or_insert(error);
                }
                answered => return answered,
            }
        }
        Err(failure.unwrap_or_else(|| Error::NotFound("no such index".into())))
    }
}

async fn ask(session: &Session, term: &str, limit: u32) -> Result<Vec<Found>, Error> {
    let mut url = session.endpoint.base.clone();
    url.set_path("/v1/search");
    url.query_pairs_mut()
        .append_pair("q", term)
        .append_pair("n", &limit.to_string());
    let ask = Ask::new(Method::GET, url, "");
    let response = match session.expect(&ask).await {
        Err(Error::NotFound(_)) => {
            return Err(Error::NotFound(format!(
                "{} has no search: unexpected status code 404",
                session.endpoint.authority()
            )));
        }
        answered => answered?,
    };
    let body = read_limited(response, MAX_ANSWER_BYTES, &ask.url).await?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| Error::Answer {
        message: format!("{} does not answer with a search's results", ask.url),
        transient: false,
        after: None,
    })?;
    Ok(answer.results)
}

/// The index and the term: a first component that looks like a host is one.
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | INDEX => (INDEX, rest.strip_prefix("library/").unwrap_or(rest)),
            host => (host, rest),
        },
        _ => (INDEX, term.strip_prefix("library/").unwrap_or(term)),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_host_before_the_term_is_the_index() {
        assert_eq!(split("nginx"), ("index.docker.io", "nginx"));
        assert_eq!(split("user/nginx"), ("index.docker.io", "user/nginx"));
        assert_eq!(split("r.lan:5000/nginx"), ("r.lan:5000", "nginx"));
        assert_eq!(split("docker.io/library/x"), ("index.docker.io", "x"));
    }
}
