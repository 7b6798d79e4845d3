//! What ends a command early: a text for the user and an exit code.
//!
//! It must not know any single command.

use std::path::PathBuf;

/// The exit code of failures that say nothing about the container's command.
pub const EXIT_FAILURE: u8 = 1;
/// The exit code of wrong flags, and of failures of `run`, `create` and `exec` themselves.
pub const EXIT_STATUS: u8 = 125;

/// Why a command ended early.
///
/// The printed text is the error and the chain of its causes, joined by `: `.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The engine refused or could not be reached.
    #[error(transparent)]
    Client(#[from] conex_client::Error),
    /// A registry that is asked without an engine refused or could not be reached.
    #[error(transparent)]
    Registry(#[from] conex_distribution::Error),
    /// A complete text with the exit code it stands for; an empty text prints nothing.
    #[error("{text}")]
    Status {
        /// Exit code of the process.
        code: u8,
        /// Printed to standard error as it is.
        text: String,
    },
    /// A complete text, exit code 1.
    #[error("{0}")]
    Message(String),
    /// A file of the client could not be opened or read.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: SystemError,
    },
    /// A template could not be parsed or executed.
    #[error("{prefix}{source}")]
    Template {
        /// Words before the template's own text, with their colon and blank.
        prefix: &'static str,
        /// The template's text.
        source: crate::template::TemplateError,
        /// Exit code of the process.
        code: u8,
    },
    /// Standard output or error could not be written.
    #[error("write")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// A complete text with exit code 1.
    pub fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// Nothing more to say, only an exit code: the texts were printed before.
    pub fn silent(code: u8) -> Self {
        Self::Status {
            code,
            text: String::new(),
        }
    }

    /// A failure of `run`, `create` or `exec` itself: `program: text`, a blank
    /// line and where to find help.
    pub fn with_help(matches: &crate::flag::Matches, code: u8, text: &str) -> Self {
        Self::Status {
            code,
            text: format!(
                "{}: {}\n\nRun '{} --help' for more information",
                matches.program(),
                text.trim_end(),
                matches.command_path()
            ),
        }
    }

    /// A file that could not be opened, in the words `open PATH: reason`.
    pub fn open(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Open {
            path: path.into(),
            source: SystemError(source),
        }
    }

    /// The exit code it stands for.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Status { code, .. } | Self::Template { code, .. } => *code,
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
            _ => EXIT_FAILURE,
        }
    }

    /// The text for standard error, none when nothing is to be said.
    pub fn text(&self) -> Option<String> {
        match self {
            // The reader of our output has gone; it is not a failure worth words.
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => None,
            Self::Status { text, .. } if text.is_empty() => None,
            Self::Template { .. } => Some(self.to_string()),
            _ => Some(chain(self)),
        }
    }
}

/// An error and its causes joined by `: `.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A system error in the C library's words, lower case and without its number.
#[derive(Debug)]
pub struct SystemError(std::io::Error);

impl From<std::io::Error> for SystemError {
    fn from(error: std::io::Error) -> Self {
        Self(error)
    }
}

impl std::fmt::Display for SystemError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.to_string();
        let words = text.split(" (os error").next().unwrap_or_default();
        let mut chars = words.chars();
        match chars.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), chars.as_str()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SystemError {}
