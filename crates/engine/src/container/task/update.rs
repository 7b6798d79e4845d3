//! The owner's part in an update: nothing starts or ends in between.

use conex_api::container::HostConfig;

use super::Task;
use crate::Error;
use crate::container::state::Phase;
use crate::container::update;

impl Task {
    pub(super) async fn update(&mut self, wanted: HostConfig) -> Result<Vec<String>, Error> {
        if matches!(self.container.state().phase, Phase::Removing | Phase::Dead) {
            return Err(Error::conflict(
                "Container is marked for removal and cannot be \"update\".",
            ));
        }
        let (next, warnings) = update::apply(&self.engine, &self.container, wanted).await?;
        let mut state = (*self.container.state()).clone();
        state.host_config = Some(Box::new(next));
        self.store(state).await;
        self.container.publish(&self.engine.events, "update", &[]);
        Ok(warnings)
    }
}
