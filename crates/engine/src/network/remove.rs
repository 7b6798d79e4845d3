//! `DELETE /networks/{id}`: bridge and rules first, the record last, so that a
//! removal that was cut short can be asked for again.

use std::sync::Arc;

use conex_network::bridge;

use super::{Networks, PREDEFINED, Record};
use crate::error::chain;
use crate::{Engine, Error, ErrorKind};

impl Engine {
    /// Removes a network. Errors: forbidden for one that every engine has and
    /// for one that somebody is on.
    pub async fn network_remove(&self, word: &str) -> Result<(), Error> {
        let engine = Arc::clone(&self.inner);
        let _alone = engine.networks.changing.lock().await;
        let record = engine.networks.find(word)?;
        self.remove_network(&record).await
    }

    /// The caller has [`Networks::changing`].
    pub(super) async fn remove_network(&self, record: &Arc<Record>) -> Result<(), Error> {
        if PREDEFINED.contains(&record.name.as_str()) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "{} is a pre-defined network and cannot be removed",
                    record.name
                ),
            ));
        }
        let engine = Arc::clone(&self.inner);
        let removed = Arc::clone(record);
        let names = |id: &str| self.inner.find(id).map(|c| c.name().as_ref().clone());
        self.inner.networks.close(record, &names)?;
        let result = tokio::task::spawn_blocking(move || {
            let networks = &engine.networks;
            let result = networks
                .dismantle(&removed)
                .and_then(|()| networks.delete(&removed.id));
            if result.is_err() {
                networks.reopen(&removed.id);
            }
            result
        })
        .await
        .map_err(|e| Error::system("remove network", &e))?;
        result?;
        let attributes = record.attributes();
        self.inner
            .events
            .publish("network", "destroy", &record.id, attributes);
        Ok(())
    }
}

impl Networks {
    /// From now on nobody joins a network, if nobody is on it.
    fn close(
        &self,
        record: &Record,
        name_of: &dyn Fn(&str) -> Result<String, Error>,
    ) -> Result<(), Error> {
        let mut known = self.known();
        let Some(entry) = known.networks.get_mut(&record.id) else {
            return Err(Error::not_found(format!(
                "network {} not found",
                record.name
            )));
        };
        let users: Vec<String> = entry
            .endpoints
            .iter()
            .map(|(id, place)| {
                let name = name_of(&place.container).unwrap_or_else(|_| place.container.clone());
                format!("name:{name:?} id:{:?}", crate::id::short(id))
            })
            .collect();
        if !users.is_empty() {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "error while removing network: network {} has active endpoints ({})",
                    record.name,
                    users.join(", ")
                ),
            ));
        }
        entry.removing = true;
        Ok(())
    }

    fn reopen(&self, id: &str) {
        if let Some(entry) = self.known().networks.get_mut(id) {
            entry.removing = false;
        }
    }

    /// Takes a network out of the kernel. Blocks.
    pub(super) fn dismantle(&self, record: &Record) -> Result<(), Error> {
        let Some(network) = &record.bridge else {
            return Ok(());
        };
        if let Err(error) = self.keeper().remove_network(&record.id) {
            tracing::warn!(
                network = record.name,
                error = chain(&error),
                "rules are left"
            );
        }
        if record.foreign {
            return Ok(());
        }
        bridge::remove(&network.bridge)
            .map_err(|e| Error::system("remove the network's bridge", &e))
    }
}
