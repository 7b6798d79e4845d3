//! What can go wrong with a registry, sorted by what the caller can do. Texts that Docker has are Docker's.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use conex_spec::digest::Digest;
use conex_spec::image::ImageError;

/// Why a registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry could not be reached, or the connection broke.
    #[error("{request}: {reason}")]
    Unreachable {
        /// Method and URL: `Get "https://host/v2/"`.
        request: String,
        /// In the words of Docker's clients: `dial tcp host:port: connect: connection refused`.
        reason: String,
    },
    /// The registry does not believe the caller, or wants to know who it is.
    #[error("{0}")]
    Unauthorized(String),
    /// The caller may not.
    #[error("{0}")]
    Denied(String),
    /// There is no such repository, manifest or blob.
    #[error("{0}")]
    NotFound(String),
    /// Too many requests.
    #[error("{message}")]
    Limited {
        /// What the registry says.
        message: String,
        /// When to come again.
        after: Option<Duration>,
    },
    /// The registry answers what the protocol does not foresee.
    #[error("{message}")]
    Answer {
        /// What it answered to what.
        message: String,
        /// Whether another try may help: it failed, and does not refuse.
        transient: bool,
        /// When to come again.
        after: Option<Duration>,
    },
    /// Content is not what its digest says.
    #[error("filesystem layer verification failed for digest {digest}")]
    Digest {
        /// The digest it should have.
        digest: Digest,
    },
    /// Content is not as long as its descriptor says.
    #[error("{digest} is {found_bytes} bytes long and not {expected_bytes} as its manifest says")]
    Size {
        /// The content.
        digest: Digest,
        /// Its length in the manifest.
        expected_bytes: u64,
        /// What the registry sends.
        found_bytes: u64,
    },
    /// A manifest cannot be used.
    #[error("the registry's manifest for {name} cannot be used")]
    Manifest {
        /// What was asked for.
        name: String,
        /// Why.
        #[source]
        source: ImageError,
    },
    /// Bytes cannot be put where they belong, or read from there.
    #[error("cannot store or read the blob's bytes")]
    Local(#[source] io::Error),
    /// Certificates or `hosts.toml` of a registry cannot be used.
    #[error("{path}: {problem}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Limited { .. }
                | Self::Answer {
                    transient: true,
                    ..
                }
        )
    }

    /// Whether another host may have what this one has not: all but the caller's own faults.
    pub(crate) fn another_host_may_help(&self) -> bool {
        !matches!(self, Self::Local(_))
    }

    /// When the registry asks to come again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited { after, .. } | Self::Answer { after, .. } => *after,
            _ => None,
        }
    }

    /// The same, told as part of a larger step.
    #[must_use]
    pub(crate) fn within(self, step: &str) -> Self {
        match self {
            Self::Unreachable { request, reason } => Self::Unreachable {
                request: format!("{step}: {request}"),
                reason,
            },
            other => other,
        }
    }
}
