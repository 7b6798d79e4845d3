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
            let error = (!state.error.is_empty())
                .then(|| WaitExitError { message: state.error.clone() });
            Ok(WaitResponse { status_code: state.exit_code.into(), error })
        })
    }
}
