//! `volume prune`: what no container has.

use std::sync::{Arc, TryLockError};

use conex_api::filters::Filters;
use conex_api::volume::PruneReport;

use super::Volume;
use crate::{Engine, Error, ErrorKind};

/// The keys `POST /volumes/prune` accepts.
const FILTERS: [&str; 3] = ["all", "label", "label!"];

impl Engine {
    /// Removes volumes that no container has: anonymous ones, and the others
    /// only if the filter `all` says so. Errors: conflict while another prune
    /// is under way.
    pub async fn volume_prune(&self, filters: Filters) -> Result<PruneReport, Error> {
        filters.validate(&FILTERS)?;
        let all = filters.boolean("all")?.unwrap_or(false);
        let engine = Arc::clone(&self.inner);
        let pruning = move || {
            let volumes = &engine.volumes;
            let _only_one = match volumes.pruning.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::conflict("a prune operation is already running"));
                }
                locked => locked,
            };
            let mut report = PruneReport::default();
            let wanted = |volume: &Arc<Volume>| {
                let labels = &volume.description.labels;
                (all || volume.is_anonymous())
                    && filters.label("label", labels)
                    && !excluded(&filters, labels)
                    && volume.uses().containers.is_empty()
            };
            for volume in volumes.all().iter().filter(|volume| wanted(volume)) {
                let bytes = volume.bytes_on_disk().unwrap_or(0);
                match volumes.take_out(volume, None) {
                    Ok(gone) => match conex_layers::tree::remove_path(&gone) {
                        Ok(()) => report.space_reclaimed += bytes,
                        Err(error) => {
                            tracing::warn!(path = %gone.display(), %error, "left for the next start");
                        }
                    },
                    // A container took it meanwhile, or somebody else removed it.
                    Err(error) if error.kind() != ErrorKind::System => continue,
                    Err(error) => {
                        tracing::warn!(volume = volume.name, %error, "not pruned");
                        continue;
                    }
                }
                report.volumes_deleted.push(volume.name.clone());
            }
            let reclaimed = report.space_reclaimed.to_string();
            let attributes = [("reclaimed".to_owned(), reclaimed)].into();
            engine.events.publish("volume", "prune", "", attributes);
            Ok(report)
        };
        tokio::task::spawn_blocking(pruning)
            .await
            .map_err(|error| Error::system("prune volumes", &error))?
    }
}

/// Whether one of the labels that keep a volume is there.
fn excluded(filters: &Filters, labels: &std::collections::BTreeMap<String, String>) -> bool {
    let mut unwanted = filters.get("label!");
    unwanted.any(|label| match label.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
        None => labels.contains_key(label),
    })
}
