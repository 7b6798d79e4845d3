//! `wait`: how a container ended, or will end.

use std::future::Future;
use std::sync::Arc;

use conex_api::container::{WaitCondition, WaitExitError, WaitResponse};

use super::State;
use crate::{Engine, Error};

impl Engine {
    /// Registers a wait now and returns what completes when it is over, so
    /// that a caller can start the container in between (COMPAT D1.9).
    pub fn container_wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<WaitResponse, Error>> + Send + use<>, Error> {
        let container = self.inner.find(name)?;
        let mut states = container.watch();
        let before = Arc::clone(&states.borrow());
        let id = container.id().to_owned();
        // The owner holds the sending side: a removed container ends the wait.
        drop(container);
        Ok(async move {
            let state = match states
                .wait_for(|now| is_over(condition, &before, now))
                .await
            {
                Ok(state) => (**state).clone(),
                Err(_) => return Err(Error::no_container(&id)),
            };
            Ok(response(&state))
        })
    }
}

/// Whether what is waited for has come, since `before`.
fn is_over(condition: WaitCondition, before: &State, now: &State) -> bool {
    now.removed
        || match condition {
            WaitCondition::NotRunning => !now.is_running() && now.status() != "restarting",
            // A failed start counts too, but nothing ended: whoever started
            // the container hears of it there.
            WaitCondition::NextExit => {
                now.exits > before.exits && now.finished_ns != before.finished_ns
            }
            WaitCondition::Removed => false,
        }
}

/// A removed container has no error any more: whoever started it heard of it
/// there, and `run --rm` would tell it twice.
fn response(state: &State) -> WaitResponse {
    let error = (!state.removed && !state.error.is_empty()).then(|| WaitExitError {
        message: state.error.clone(),
    });
    WaitResponse {
        status_code: state.exit_code.into(),
        error,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::state::Change;

    #[test]
    fn the_next_exit_is_neither_the_last_one_nor_a_failed_start() {
        let over = |before: &State, now: &State| is_over(WaitCondition::NextExit, before, now);
        let last = State::default()
            .after(Change::Started {
                pid: 7,
                at_ns: 1,
                sandbox: None,
            })
            .and_then(|s| {
                s.after(Change::Exited {
                    exit_code: 3,
                    oom_killed: false,
                    at_ns: 2,
                })
            })
            .unwrap();
        assert!(!over(&last, &last));
        let failed = last
            .after(Change::StartFailed {
                exit_code: 127,
                error: "no".into(),
            })
            .unwrap();
        assert!(!over(&last, &failed));
        let again = failed
            .after(Change::Started {
                pid: 8,
                at_ns: 3,
                sandbox: None,
            })
            .unwrap();
        let ended = Change::Exited {
            exit_code: 0,
            oom_killed: false,
            at_ns: 4,
        };
        assert!(over(&last, &again.after(ended).unwrap()));
        assert!(over(
            &last,
            &State {
                removed: true,
                ..last.clone()
            }
        ));
    }

    #[test]
    fn a_failed_start_is_told_until_the_container_is_removed() {
        let failed = State {
            exit_code: 127,
            error: "not found".into(),
            ..State::default()
        };
        let told = response(&failed);
        assert_eq!(
            (told.status_code, told.error.unwrap().message.as_str()),
            (127, "not found")
        );
        let gone = response(&State {
            removed: true,
            ..failed
        });
        assert_eq!((gone.status_code, gone.error.is_none()), (127, true));
    }
}
