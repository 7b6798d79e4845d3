//! `wait`: how a container ended, or will end.

use std::future::Future;

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
        let seen = states.borrow().exits;
        let id = container.id().to_owned();
        // The owner holds the sending side: a removed container ends the wait.
        drop(container);
        Ok(async move {
            let done = |state: &State| match condition {
                WaitCondition::NotRunning => {
                    !state.is_running() && state.status() != "restarting" || state.removed
                }
                WaitCondition::NextExit => state.exits > seen || state.removed,
                WaitCondition::Removed => state.removed,
            };
            let state = match states.wait_for(|state| done(state)).await {
                Ok(state) => (**state).clone(),
                Err(_) => return Err(Error::no_container(&id)),
            };
            Ok(response(&state))
        })
    }
}

/// A removed container has no error any more: whoever started it heard of it
/// there, and `run --rm` would tell it twice.
fn response(state: &State) -> WaitResponse {
    let error = (!state.removed && !state.error.is_empty())
        .then(|| WaitExitError { message: state.error.clone() });
    WaitResponse { status_code: state.exit_code.into(), error }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failed_start_is_told_until_the_container_is_removed() {
        let failed =
            State { exit_code: 127, error: "not found".into(), ..State::default() };
        let told = response(&failed);
        assert_eq!((told.status_code, told.error.unwrap().message.as_str()), (127, "not found"));
        let gone = response(&State { removed: true, ..failed });
        assert_eq!((gone.status_code, gone.error.is_none()), (127, true));
    }
}
