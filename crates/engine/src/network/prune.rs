//! `POST /networks/prune`: removes what no container asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use conex_api::filters::Filters;
use conex_api::network::PruneResponse;

use super::PREDEFINED;
use crate::{Engine, Error};

const FILTERS: [&str; 3] = ["label", "label!", "until"];

impl Engine {
    /// Removes the networks nobody uses, those made before `until` alone if it
    /// is given.
    pub async fn network_prune(&self, filters: &Filters) -> Result<PruneResponse, Error> {
        filters.validate(&FILTERS)?;
        let until = filters.get("until").next();
        let until = until.map(crate::image::until_ns).transpose()?;
        let engine = Arc::clone(&self.inner);
        let _alone = engine.networks.changing.lock().await;
        let used = self.used_networks();
        let mut removed = Vec::new();
        for record in engine.networks.records() {
            let spared = PREDEFINED.contains(&record.name.as_str())
                || used.contains(&record.id)
                || until.is_some_and(|until| record.created_ns >= until)
                || !filters.label("label", &record.labels)
                || (filters.contains("label!") && filters.label("label!", &record.labels));
            if spared {
                continue;
            }
            match self.remove_network(&record).await {
                Ok(()) => removed.push(record.name.clone()),
                // Somebody was faster.
                Err(error) => tracing::debug!(network = record.name, %error, "not pruned"),
            }
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]);
        engine.events.publish("network", "prune", "", attributes);
        Ok(PruneResponse {
            networks_deleted: Some(removed).filter(|names| !names.is_empty()),
        })
    }
}
