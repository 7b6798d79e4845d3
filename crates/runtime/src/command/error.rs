//! Why a command failed, in the words runc's callers match.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use conex_spec::runtime::{SpecError, Status};

use crate::cgroup;
use crate::launch::LaunchError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The command line is not understood.
    #[error("{0}")]
    Usage(String),
    /// containerd matches this text.
    #[error("container does not exist: {0}")]
    NotFound(String),
    /// podman and containerd match this text.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// The id is not one.
    #[error("invalid container ID format: {0:?}")]
    Id(String),
    /// The container is not in the state that the command needs.
    #[error("{0}")]
    State(String),
    /// podman and containerd match this text.
    #[error("container not running")]
    NotRunning,
    /// The configuration is refused.
    #[error("{path}")]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SpecError,
    },
    /// A file of ours is not what we wrote.
    #[error("{path}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file, socket or process.
    #[error("{doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The process could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
}

impl Error {
    pub(super) fn usage(text: impl Into<String>) -> Error {
        Error::Usage(text.into())
    }

    pub(super) fn io(
        doing: &'static str,
        path: impl AsRef<OsStr>,
        source: impl Into<io::Error>,
    ) -> Error {
        Error::Io {
            doing,
            path: path.as_ref().into(),
            source: source.into(),
        }
    }

    /// JSON that cannot be written: a path that is no text.
    pub(super) fn encode(source: serde_json::Error) -> Error {
        Error::Json {
            path: "answer".into(),
            source,
        }
    }

    pub(super) fn cannot(verb: &str, id: &str, status: Status) -> Error {
        Error::State(format!("cannot {verb} container {id}: it is {status}"))
    }

    /// The whole chain in one line.
    pub(super) fn report(&self) -> String {
        if let Error::Launch(error) = self {
            return error.report();
        }
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
