//! Options of the container verbs, read from the query by the server and obeyed by the engine.

use std::str::FromStr;

use thiserror::Error;

use crate::filters::Filters;

/// Options of `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOptions {
    /// Whether stopped containers are listed too.
    pub all: bool,
    /// The newest this many, running or not.
    pub limit: Option<i64>,
    /// Whether sizes are computed.
    pub size: bool,
    /// Which containers to list.
    pub filters: Filters,
}

/// Options of stop and restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Signal instead of the container's stop signal.
    pub signal: Option<String>,
    /// Seconds until SIGKILL instead of the container's; negative waits for ever.
    pub timeout_seconds: Option<i64>,
}

/// Options of `DELETE /containers/{id}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Whether a running container is killed first.
    pub force: bool,
    /// Whether its anonymous volumes go too.
    pub volumes: bool,
    /// Whether only the legacy link of that name is removed.
    pub link: bool,
}

/// Options of `POST /containers/{id}/attach`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Whether the log so far is replayed first.
    pub logs: bool,
    /// Whether the live streams follow.
    pub stream: bool,
    /// Whether stdin is attached.
    pub stdin: bool,
    /// Whether stdout is attached.
    pub stdout: bool,
    /// Whether stderr is attached.
    pub stderr: bool,
    /// Detach keys instead of the default `ctrl-p,ctrl-q`.
    pub detach_keys: Option<String>,
}

/// Options of `GET /containers/{id}/logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsOptions {
    /// Whether new lines follow until the container ends.
    pub follow: bool,
    /// Whether stdout is wanted.
    pub stdout: bool,
    /// Whether stderr is wanted.
    pub stderr: bool,
    /// First moment, nanoseconds since the epoch, inclusive.
    pub since_ns: Option<i128>,
    /// Last moment, nanoseconds since the epoch, inclusive.
    pub until_ns: Option<i128>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// Whether each line begins with its attributes.
    pub details: bool,
    /// The last this many lines; `None` is all.
    pub tail: Option<usize>,
}

/// What `POST /containers/{id}/wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// The container does not run (at once if it does not).
    #[default]
    NotRunning,
    /// The next exit, even if it does not run yet.
    NextExit,
    /// The container is gone.
    Removed,
}

/// A wait condition nobody knows; its text is part of the API.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid condition: {0:?}")]
pub struct ParseWaitConditionError(pub String);

impl WaitCondition {
    /// The condition's word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "not-running",
            Self::NextExit => "next-exit",
            Self::Removed => "removed",
        }
    }
}

impl FromStr for WaitCondition {
    type Err = ParseWaitConditionError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            _ => Err(ParseWaitConditionError(word.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_conditions_read_their_own_words() {
        for condition in [
            WaitCondition::NotRunning,
            WaitCondition::NextExit,
            WaitCondition::Removed,
        ] {
            assert_eq!(condition.as_str().parse(), Ok(condition));
        }
        assert_eq!("".parse(), Ok(WaitCondition::NotRunning));
    }

    #[test]
    fn an_unknown_wait_condition_is_refused_with_dockers_text() {
        let error = "soon"
            .parse::<WaitCondition>()
            .map_err(|error| error.to_string());
        assert_eq!(error, Err(r#"invalid condition: "soon""#.to_owned()));
    }
}
