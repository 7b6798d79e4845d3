//! What can go wrong between a client and an engine, by what a caller can do about it.

use std::io;

use crate::host::Host;
use crate::tls;

/// A failed call.
///
/// The text of [`Error::Api`], [`Error::Connect`] and [`Error::Denied`] is what Docker's client
/// prints, first letter included: scripts match it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine answered with an error.
    #[error("Error response from daemon: {message}")]
    Api {
        /// The HTTP status, 400 or above.
        status: u16,
        /// The engine's own sentence.
        message: String,
    },
    /// Nobody answers at the address; starting an engine may help.
    #[error("Cannot connect to the Conex daemon at {host}. Is the conex daemon running?")]
    Connect {
        /// The address tried.
        host: Host,
        /// What connecting said: usually `NotFound` or `ConnectionRefused`. Not part of the
        /// chain, since the sentence above is all that Docker's users are shown.
        cause: io::Error,
    },
    /// The caller may not use the socket; starting an engine does not help.
    #[error("permission denied while trying to connect to the Conex daemon socket at {host}")]
    Denied {
        /// The address tried.
        host: Host,
        /// What connecting said.
        source: io::Error,
    },
    /// The engine or we are not whom the other side wants, or one of both does not speak TLS.
    #[error("error during connect: {host}: {reason}")]
    Tls {
        /// The address tried.
        host: Host,
        /// What is wrong, in the words of Go's TLS.
        reason: String,
    },
    /// The connection broke during the call: what the engine did is unknown.
    #[error("connection to {host} lost during {call}")]
    Lost {
        /// The engine's address.
        host: Host,
        /// The method and path of the call.
        call: String,
        /// The transport's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The other side does not speak the Engine API as it should.
    #[error("unexpected answer to {call}: {reason}")]
    Protocol {
        /// The method and path of the call.
        call: String,
        /// What was wrong with the answer.
        reason: &'static str,
    },
    /// The answer is JSON of another shape than asked for, or no JSON.
    #[error("cannot read the answer to {call}")]
    Decode {
        /// The method and path of the call.
        call: String,
        /// What the decoder said.
        source: serde_json::Error,
    },
    /// The request could not be written down as JSON or as a URL.
    #[error("cannot write the request {call}")]
    Encode {
        /// The method and path of the call.
        call: String,
        /// What the encoder said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// The HTTP status, if the engine itself refused the call.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the engine said that the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether nobody listens at the address.
    #[must_use]
    pub fn is_nobody_listening(&self) -> bool {
        let Self::Connect { cause, .. } = self else {
            return false;
        };
        matches!(
            cause.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        )
    }

    pub(crate) fn connect(host: &Host, cause: io::Error) -> Self {
        let host = host.clone();
        if let Some(error) = tls::within(&cause) {
            let reason = tls::reason(error);
            return Self::Tls { host, reason };
        }
        if cause.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied {
                host,
                source: cause,
            }
        } else {
            Self::Connect { host, cause }
        }
    }

    /// The error of a connection that broke during `call`. An engine that wants a certificate says so only after
    /// the handshake (RFC 8446, 4.4.2.4), in place of an answer.
    pub(crate) fn lost(
        host: &Host,
        call: &str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let host = host.clone();
        if let Some(error) = tls::within(&source) {
            let reason = tls::reason(error);
            return Self::Tls { host, reason };
        }
        Self::Lost {
            host,
            call: call.to_owned(),
            source: Box::new(source),
        }
    }

    /// The error an answer with `status` and `body` stands for.
    pub(crate) fn api(status: u16, body: &[u8], call: &str) -> Self {
        let message = serde_json::from_slice::<Message>(body)
            .map(|m| m.message)
            .unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
        let message = message.trim();
        let message = if message.is_empty() {
            format!(
                "request returned status {status} for {call}, check if the server supports the requested API version"
            )
        } else {
            message.to_owned()
        };
        Self::Api { status, message }
    }
}

/// The body of an error answer.
#[derive(serde::Deserialize)]
struct Message {
    message: String,
}
