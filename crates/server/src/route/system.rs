//! Handlers of the engine itself: `_ping`, `info`, `version`, `events`, `system/df`, and checks.

use conex_api::event;
use conex_api::filters::Filters;
use conex_api::usage::Kinds;
use conex_api::version::ApiVersion;
use futures_util::stream::StreamExt;
use hyper::header::{ACCEPT, CONTENT_LENGTH, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};

use super::{Call, to_the_end};
use crate::answer::{self, Body};
use crate::error::Error;
use crate::legacy::{self, Shape};

/// The builder the CLI is to choose. There is none to serve BuildKit's protocol, and a client that is told
/// `2` fails for want of it before it asks anything.
const BUILDER_VERSION: &str = "1";

pub(super) fn ping(call: &Call) -> Response<Body> {
    let head = call.request.method() == Method::HEAD;
    let (body, length) = if head { ("", "0") } else { ("OK", "2") };
    let mut response = answer::full(StatusCode::OK, "text/plain; charset=utf-8", body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static(length));
    headers.insert("builder-version", HeaderValue::from_static(BUILDER_VERSION));
    headers.insert(
        "cache-control",
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert("pragma", HeaderValue::from_static("no-cache"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    response
}

/// Nothing is built here, so nothing is kept for the next build.
pub(super) fn build_prune() -> Response<Body> {
    let report = serde_json::json!({"CachesDeleted": null, "SpaceReclaimed": 0});
    answer::json(StatusCode::OK, &report)
}

pub(super) fn info(call: &Call) -> Response<Body> {
    let info = legacy::object_for(call.version, Shape::Info, &call.engine().info());
    answer::json(StatusCode::OK, &info)
}

pub(super) fn version(call: &Call) -> Response<Body> {
    let mut version = call.engine().version();
    // The engine knows what it can speak, the server what it was told to.
    let min = call.context.min_api_version.to_string();
    for component in &mut version.components {
        if let Some(known) = component.details.get_mut("MinAPIVersion") {
            known.clone_from(&min);
        }
    }
    version.min_api_version = min;
    answer::json(StatusCode::OK, &version)
}

pub(super) fn events(call: &Call) -> Result<Response<Body>, Error> {
    let query = event::Query {
        since_ns: call.query.unix_ns("since")?,
        until_ns: call.query.unix_ns("until")?,
        filters: Filters::parse(call.query.get("filters").unwrap_or_default())?,
    };
    let version = call.version;
    let encoding = Encoding::negotiate(version, call.request.headers());
    let events = call.engine().events(query)?.map(move |event| {
        let event = legacy::object_for(version, Shape::Event, &event);
        Ok(encoding.encode(&event).into())
    });
    Ok(answer::stream(
        encoding.media_type,
        call.until_closing(events),
    ))
}

pub(super) async fn disk_usage(call: &Call) -> Result<Response<Body>, Error> {
    let kinds =
        Kinds::parse(call.query.all("type")).map_err(|word| Error::ObjectKind(word.to_owned()))?;
    let usage = call.engine().disk_usage(kinds).await?;
    let verbose = call.query.flag("verbose");
    let usage = legacy::disk_usage_for(call.version, usage, verbose);
    Ok(answer::json(StatusCode::OK, &usage))
}

/// A route of this engine's own.
pub(super) async fn check(call: &Call, repair: bool) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let report = to_the_end(async move { engine.check(repair).await }).await?;
    Ok(answer::json(StatusCode::OK, &report))
}

/// How events follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Encoding {
    media_type: &'static str,
    /// Bytes before each event.
    prefix: &'static [u8],
}

/// Every encoding and since when a client may ask for it; the first is that of a client that asks for none.
const ENCODINGS: [(ApiVersion, Encoding); 4] = [
    (
        ApiVersion::new(1, 24),
        Encoding {
            media_type: "application/json",
            prefix: b"",
        },
    ),
    (
        ApiVersion::new(1, 52),
        Encoding {
            media_type: "application/x-ndjson",
            prefix: b"",
        },
    ),
    (
        ApiVersion::new(1, 52),
        Encoding {
            media_type: "application/json-seq",
            prefix: b"\x1e",
        },
    ),
    (
        ApiVersion::new(1, 53),
        Encoding {
            media_type: "application/jsonl",
            prefix: b"",
        },
    ),
];

impl Encoding {
    /// The first encoding of the client's list that its version knows.
    fn negotiate(version: ApiVersion, headers: &HeaderMap) -> Self {
        headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|entry| entry.split(';').next().unwrap_or_default().trim())
            .find_map(|wanted| {
                ENCODINGS.iter().find(|(since, it)| {
                    version >= *since && it.media_type.eq_ignore_ascii_case(wanted)
                })
            })
            .unwrap_or(&ENCODINGS[0])
            .1
    }

    fn encode(self, event: &impl serde::Serialize) -> Vec<u8> {
        [self.prefix, &answer::to_line(event, b"\n")].concat()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn media_type(minor: u16, accept: &[&str]) -> &'static str {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        Encoding::negotiate(ApiVersion::new(1, minor), &headers).media_type
    }

    #[test]
    fn events_are_encoded_as_the_client_asks_and_its_version_allows() {
        assert_eq!(media_type(56, &[]), "application/json");
        assert_eq!(media_type(56, &["*/*"]), "application/json");
        assert_eq!(
            media_type(52, &["application/x-ndjson;q=0.9, application/json"]),
            "application/x-ndjson"
        );
        assert_eq!(
            media_type(52, &["text/plain", "application/json-seq"]),
            "application/json-seq"
        );
        assert_eq!(
            media_type(51, &["application/json-seq"]),
            "application/json"
        );
        assert_eq!(media_type(52, &["application/jsonl"]), "application/json");
        assert_eq!(media_type(53, &["application/jsonl"]), "application/jsonl");
    }

    #[test]
    fn a_sequence_has_its_record_separator() {
        let (_, encoding) = ENCODINGS[2];
        assert_eq!(encoding.encode(&1), b"\x1e1\n");
    }
}
