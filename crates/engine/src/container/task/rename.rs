//! The owner's part in renaming: the new name is reserved, saved, shown, and
//! only then is the old one free.

use std::sync::Arc;

use conex_store::records::containers;

use super::Task;
use crate::Error;
use crate::container::state::Phase;
use crate::network::settings;

impl Task {
    pub(super) async fn rename(&mut self, new_name: String) -> Result<(), Error> {
        let id = self.container.id().to_owned();
        let old = self.container.name();
        if *old == new_name {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        if self.container.state().phase == Phase::Removing {
            return Err(Error::conflict(format!("container {id} is being removed")));
        }
        let reserved = self.engine.table_mut().reserve(&new_name, &id);
        reserved.map_err(|owner| {
            Error::conflict(format!(
                "Error when allocating new name: Conflict. The container name \"/{new_name}\" is \
                 already in use by container \"{owner}\". You have to remove (or rename) that \
                 container to be able to reuse that name."
            ))
        })?;
        let (row_id, row_name) = (id.clone(), new_name.clone());
        let saved = self
            .engine
            .on_state_db("rename the container", move |db| {
                containers::rename(db, &row_id, &row_name)
            })
            .await;
        {
            let mut table = self.engine.table_mut();
            if let Err(error) = saved {
                table.release(&new_name);
                return Err(error);
            }
            self.container.name.store(Arc::new(new_name));
            table.release(&old);
        }
        self.tell_names().await;
        let extra = [("oldName", format!("/{old}"))];
        self.container
            .publish(&self.engine.events, "rename", &extra);
        Ok(())
    }

    /// Neighbours find it by its new name, and no more by the old one.
    async fn tell_names(&self) {
        let state = self.container.state();
        let Some(sandbox) = state.sandbox.clone().filter(|_| state.is_running()) else {
            return;
        };
        let (engine, container) = (Arc::clone(&self.engine), Arc::clone(&self.container));
        let told = tokio::task::spawn_blocking(move || {
            let record = &container.record;
            let asked: Vec<_> = settings::asked(record, &state).into_iter().collect();
            engine
                .networks
                .rename(&container.name(), record, &sandbox, &asked);
        });
        if let Err(error) = told.await {
            tracing::error!(%error, "its names were not told");
        }
    }
}
