//! `image prune`: what nobody needs goes (COMPAT D7.18).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, TryLockError};

use conex_api::filters::Filters;
use conex_api::image::{DeleteItem, PruneReport};

use super::Image;
use super::list::{created_ns, labels_of, until_ns};
use crate::engine::Inner;
use crate::{Engine, Error};

/// The keys `POST /images/prune` accepts.
const FILTERS: [&str; 4] = ["dangling", "label", "label!", "until"];

/// One at a time: two would tell of the same bytes.
static PRUNING: Mutex<()> = Mutex::new(());

impl Engine {
    /// Removes images no container has: those without a name, and all others
    /// too with `dangling=false`. Errors: conflict while another prune is under
    /// way.
    pub async fn image_prune(&self, filters: Filters) -> Result<PruneReport, Error> {
        filters.validate(&FILTERS)?;
        let dangling_only = filters.boolean("dangling")?.unwrap_or(true);
        let until = filters.get("until").next().map(until_ns).transpose()?;
        let engine = Arc::clone(&self.inner);
        let pruning = move || engine.prune_images(&filters, dangling_only, until);
        tokio::task::spawn_blocking(pruning)
            .await
            .map_err(|e| Error::system("prune images", &e))?
    }
}

impl Inner {
    fn prune_images(
        &self,
        filters: &Filters,
        dangling_only: bool,
        until: Option<i64>,
    ) -> Result<PruneReport, Error> {
        let _only_one = match PRUNING.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::conflict("a prune operation is already running"));
            }
            locked => locked,
        };
        let sizes: HashMap<String, i64> = {
            let known = self.images.known();
            let sizes = known.layers.iter().map(|(c, l)| (c.clone(), l.size_bytes));
            sizes.collect()
        };
        let deleted = self.take_away(&self.prunable(filters, dangling_only, until), true)?;
        let layer = |item: &DeleteItem| sizes.get(&item.deleted).copied().unwrap_or(0);
        let reclaimed: i64 = deleted.iter().map(layer).sum();
        let attributes = [("reclaimed".to_owned(), reclaimed.to_string())].into();
        self.events.publish("image", "prune", "", attributes);
        Ok(PruneReport {
            images_deleted: Some(deleted).filter(|items| !items.is_empty()),
            space_reclaimed: reclaimed.unsigned_abs(),
        })
    }

    /// Images that may go.
    fn prunable(
        &self,
        filters: &Filters,
        dangling_only: bool,
        until: Option<i64>,
    ) -> Vec<Arc<Image>> {
        let used: BTreeSet<String> = {
            let table = self.table();
            table.iter().map(|c| c.record.image_id.clone()).collect()
        };
        let known = self.images.known();
        let parents: BTreeSet<&str> = known
            .images
            .values()
            .filter_map(|i| i.parent.as_deref())
            .collect();
        let mut names: HashMap<&str, Vec<&str>> = HashMap::new();
        for (name, (id, _)) in &known.references {
            names.entry(id).or_default().push(name);
        }
        let mut found = Vec::new();
        for (id, image) in &known.images {
            let names = names.get(id.as_str()).map_or(&[][..], Vec::as_slice);
            let labels = labels_of(image);
            // A name by digest alone keeps no image.
            let is_dangling = names.iter().all(|name| name.contains('@'));
            let is_intermediate = names.is_empty() && parents.contains(id.as_str());
            let stays = used.contains(id)
                || is_intermediate
                || (dangling_only && !is_dangling)
                || until.is_some_and(|t| created_ns(image) > t)
                || !filters.label("label", &labels)
                || filters
                    .get("label!")
                    .any(|label| match label.split_once('=') {
                        Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
                        None => labels.contains_key(label),
                    });
            if !stays {
                found.push(Arc::clone(image));
            }
        }
        found.sort_by(|one, other| one.id.cmp(&other.id));
        found
    }
}
