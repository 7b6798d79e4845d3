//! What can go wrong, sorted by what the caller can do about it. The texts are
//! API: clients print and match them.

use thiserror::Error as ThisError;

/// What a caller can do about an error; the server maps it to a status once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request makes no sense.
    InvalidParameter,
    /// No such object.
    NotFound,
    /// The object's state forbids it.
    Conflict,
    /// Nothing to do.
    NotModified,
    /// Who are you?
    Unauthorized,
    /// You may not.
    Forbidden,
    /// This engine cannot.
    NotImplemented,
    /// Not now.
    Unavailable,
    /// The host failed us.
    System,
    /// The caller gave up.
    Cancelled,
    /// It took too long.
    Deadline,
}

/// An error of the engine. Its text is one sentence for the user, as Docker
/// words it where Docker has words.
#[derive(Debug, ThisError)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
        }
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidParameter, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Conflict, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::NotFound, message)
    }

    pub(crate) fn not_modified() -> Error {
        Error::new(ErrorKind::NotModified, "not modified")
    }

    pub(crate) fn not_implemented(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::NotImplemented, message)
    }

    pub(crate) fn no_container(name: &str) -> Error {
        Error::not_found(format!("No such container: {name}"))
    }

    pub(crate) fn no_image(name: &str) -> Error {
        Error::not_found(format!("No such image: {name}"))
    }

    /// The host failed: what we were doing, and the whole chain of causes.
    pub(crate) fn system(doing: &str, cause: &dyn std::error::Error) -> Error {
        Error::new(ErrorKind::System, format!("{doing}: {}", chain(cause)))
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

impl From<conex_api::filters::InvalidFilter> for Error {
    fn from(error: conex_api::filters::InvalidFilter) -> Error {
        Error::invalid(error.to_string())
    }
}
