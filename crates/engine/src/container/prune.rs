//! `container prune`: what does not run goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use conex_api::container::{PruneReport, RemoveOptions};
use conex_api::filters::Filters;

use super::Container;
use super::state::Phase;
use crate::image::until_ns;
use crate::{Engine, Error};

/// The keys `POST /containers/prune` accepts.
const FILTERS: [&str; 3] = ["label", "label!", "until"];

impl Engine {
    /// Removes containers that do not run. One that somebody starts or removes meanwhile is left
    /// alone. Errors: invalid parameter for filters that make no sense; conflict while another
    /// prune is under way.
    pub async fn container_prune(&self, filters: Filters) -> Result<PruneReport, Error> {
        filters.validate(&FILTERS)?;
        let mut until = filters.get("until").map(until_ns);
        let until_ns = until.next().transpose()?;
        let Ok(_only_one) = self.inner.pruning.try_lock() else {
            return Err(Error::conflict("a prune operation is already running"));
        };
        let all: Vec<Arc<Container>> = self.inner.table().iter().cloned().collect();
        let mut report = PruneReport::default();
        let mut deleted = Vec::new();
        for container in all {
            if !is_unwanted(&container, &filters, until_ns) {
                continue;
            }
            let engine = Arc::clone(&self.inner);
            let sized = Arc::clone(&container);
            let sizes = tokio::task::spawn_blocking(move || engine.sizes(&sized.record));
            let bytes = sizes
                .await
                .ok()
                .and_then(Result::ok)
                .map_or(0, |(own, _)| own);
            let id = container.id();
            match self.container_remove(id, RemoveOptions::default()).await {
                Ok(()) => {
                    deleted.push(id.to_owned());
                    report.space_reclaimed += u64::try_from(bytes).unwrap_or(0);
                }
                Err(error) => tracing::warn!(container = id, %error, "not pruned"),
            }
        }
        let reclaimed = report.space_reclaimed.to_string();
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed)]);
        self.inner
            .events
            .publish("container", "prune", "", attributes);
        report.containers_deleted = Some(deleted).filter(|deleted| !deleted.is_empty());
        Ok(report)
    }
}

fn is_unwanted(container: &Container, filters: &Filters, until_ns: Option<i64>) -> bool {
    let state = container.state();
    let labels = container.record.config.labels.clone().unwrap_or_default();
    let is_kept = filters
        .get("label!")
        .any(|label| match label.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(label),
        });
    matches!(state.phase, Phase::Created | Phase::Exited | Phase::Dead)
        && until_ns.is_none_or(|until| container.record.created_ns <= until)
        && filters.label("label", &labels)
        && !is_kept
}
