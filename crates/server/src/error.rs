//! Why a request is refused, and with which status: the one place where errors become statuses.

use conex_api::container::ParseWaitConditionError;
use conex_api::error::ErrorResponse;
use conex_api::filters::InvalidFilter;
use conex_api::query::InvalidValue;
use conex_api::version::{self, ApiVersion};
use conex_engine::ErrorKind;
use hyper::{Response, StatusCode};
use thiserror::Error;
use tokio::task::JoinError;

use crate::answer::{self, Body};
use crate::body;

/// Why a request is refused; the text is the answer's message.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] conex_engine::Error),
    /// A query value is not what the parameter takes.
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// A terminal cannot have this size.
    #[error("invalid resize {side} {value:?}: {reason}")]
    Size {
        /// `height` or `width`.
        side: &'static str,
        /// The value as sent.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// A filter cannot be read.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// An unknown condition to wait for.
    #[error(transparent)]
    Condition(#[from] ParseWaitConditionError),
    /// The request's body cannot be read.
    #[error(transparent)]
    Body(#[from] body::Error),
    /// No such route.
    #[error("page not found")]
    Route,
    /// The client speaks a version from the future.
    #[error("client version {0} is too new. Maximum supported API version is {max}", max = version::MAX)]
    TooNew(ApiVersion),
    /// The client speaks a version from the past.
    #[error(
        "client version {asked} is too old. Minimum supported API version is {min}, please upgrade your client to a newer version"
    )]
    TooOld {
        /// The client's version.
        asked: ApiVersion,
        /// The oldest version answered.
        min: ApiVersion,
    },
    /// Disk usage of something that takes none.
    #[error("unknown object type: {0}")]
    ObjectKind(String),
    /// A request that makes no sense as it is.
    #[error("{0}")]
    Invalid(&'static str),
    /// Something this engine cannot do.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// Only a swarm manager can answer.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
    )]
    NotASwarmManager,
    /// The engine panicked, or was ended, under this request.
    #[error("the engine failed while it worked on this request")]
    Interrupted(#[source] JoinError),
}

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Self::Engine(error) => status(error.kind()),
            Self::Body(error) => error.status(),
            Self::Value(_)
            | Self::Size { .. }
            | Self::Filter(_)
            | Self::Condition(_)
            | Self::ObjectKind(_)
            | Self::Invalid(_)
            | Self::TooNew(_)
            | Self::TooOld { .. } => StatusCode::BAD_REQUEST,
            Self::Route => StatusCode::NOT_FOUND,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::NotASwarmManager => StatusCode::SERVICE_UNAVAILABLE,
            Self::Interrupted(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The answer to the refused request.
    pub(crate) fn into_answer(self) -> Response<Body> {
        let status = self.status();
        if status == StatusCode::NOT_MODIFIED {
            return answer::empty(status);
        }
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = &self as &dyn std::error::Error, "request failed");
        }
        let message = self.to_string();
        match self {
            // Clients below 1.24 read no JSON errors.
            Self::TooOld { asked, .. } if asked < version::MIN => {
                let mut response =
                    answer::full(status, "text/plain; charset=utf-8", message + "\n");
                let nosniff = hyper::header::HeaderValue::from_static("nosniff");
                response
                    .headers_mut()
                    .insert("x-content-type-options", nosniff);
                response
            }
            _ => answer::json(status, &ErrorResponse { message }),
        }
    }
}

/// The status of an engine's error.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidParameter => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::System | ErrorKind::Cancelled | ErrorKind::Deadline => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;

    async fn text(error: Error) -> (StatusCode, String, String) {
        let response = error.into_answer();
        let status = response.status();
        let content_type = response
            .headers()
            .get("content-type")
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            content_type,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    #[test]
    fn kinds_have_dockers_statuses() {
        for (kind, expected) in [
            (ErrorKind::InvalidParameter, 400),
            (ErrorKind::Unauthorized, 401),
            (ErrorKind::Forbidden, 403),
            (ErrorKind::NotFound, 404),
            (ErrorKind::Conflict, 409),
            (ErrorKind::NotModified, 304),
            (ErrorKind::System, 500),
            (ErrorKind::Cancelled, 500),
            (ErrorKind::Deadline, 500),
            (ErrorKind::NotImplemented, 501),
            (ErrorKind::Unavailable, 503),
        ] {
            assert_eq!(status(kind).as_u16(), expected, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn an_unknown_route_is_told_in_json() {
        let (status, content_type, body) = text(Error::Route).await;
        assert_eq!(status, 404);
        assert_eq!(content_type, "application/json");
        assert_eq!(body, "{\"message\":\"page not found\"}\n");
    }

    #[tokio::test]
    async fn versions_out_of_range_name_the_limit() {
        let (status, _, body) = text(Error::TooNew(ApiVersion::new(1, 99))).await;
        assert_eq!(status, 400);
        assert_eq!(
            body,
            "{\"message\":\"client version 1.99 is too new. Maximum supported API version is 1.56\"}\n"
        );
        let error = Error::TooOld {
            asked: ApiVersion::new(1, 24),
            min: ApiVersion::new(1, 40),
        };
        let (_, content_type, body) = text(error).await;
        assert_eq!(content_type, "application/json");
        assert_eq!(
            body,
            "{\"message\":\"client version 1.24 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version\"}\n"
        );
    }

    #[tokio::test]
    async fn the_oldest_clients_get_plain_text() {
        let error = Error::TooOld {
            asked: ApiVersion::new(1, 23),
            min: version::MIN,
        };
        let (_, content_type, body) = text(error).await;
        assert_eq!(content_type, "text/plain; charset=utf-8");
        assert!(body.ends_with("to a newer version\n") && !body.starts_with('{'));
    }
}
