//! Layers of images: which there are, who needs them, and who is making one.
//!
//! ```text
//!   (none) ──claim──► Filling ──content, recipe──► filled ──sync, commit──► Ready
//!      ▲                 │ failed: the next that needs it makes it anew       │
//!      └──── nobody holds it ◄───────────────────────────────── no image has it
//! ```
//!
//! `Filling` and `Ready` are on the disk; that a filling layer is *filled* only
//! its [`Fill`] knows, and after a crash it is dropped all the same. A **hold**
//! keeps a chain's layers while an image on them is being made. What decides
//! that a layer is needed no more and what decides that one is there already
//! exclude each other by [`Images::layering`].

use std::collections::{BTreeSet, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use conex_layers::driver::{Driver, LayerId};
use conex_layers::recipe::Regenerated;
use conex_spec::digest::Digest;
use conex_store::records::images::{self as records, LayerRecord, LayerState};

use super::{Image, Images, Known, Leftover, delete_behind};
use crate::Error;
use crate::engine::Inner;
use crate::error::ErrorKind;

/// A layer that somebody is filling; others wait for it.
#[derive(Debug, Default)]
pub(super) struct Fill {
    outcome: Mutex<Option<Outcome>>,
    changed: Condvar,
}

/// How the filling of a layer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its content is complete, though not yet durable.
    Filled,
    /// It has none.
    Failed,
}

impl Fill {
    pub(super) fn end(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.changed.notify_all();
    }

    pub(super) fn wait(&self) -> Outcome {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *outcome {
                Some(outcome) => return outcome,
                None => {
                    outcome = self
                        .changed
                        .wait(outcome)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Keeps the layers of a chain; what nobody holds and no image has goes with
/// the last hold.
#[derive(Debug)]
pub(super) struct Held<'a> {
    engine: &'a Inner,
    chains: Vec<String>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _layering = self.engine.images.layering();
        let mut free = Vec::new();
        {
            let mut known = self.engine.images.known_mut();
            // A layer's holders hold what is below it too: top first.
            for chain in self.chains.iter().rev() {
                let Some(count) = known.holds.get_mut(chain) else {
                    continue;
                };
                *count -= 1;
                if *count > 0 {
                    continue;
                }
                known.holds.remove(chain);
                known.fills.remove(chain);
                let layer = known.layers.get(chain);
                free.extend(layer.filter(|l| l.state == LayerState::Filling).cloned());
            }
        }
        for layer in free {
            self.engine
                .images
                .drop_or_warn(self.engine.driver.as_ref(), &layer);
        }
    }
}

impl Images {
    /// Excludes decisions about which layers there are.
    pub(super) fn layering(&self) -> MutexGuard<'_, ()> {
        self.layering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what an earlier engine began and did not finish. Blocks.
    pub(crate) fn drop_unfinished(&self, driver: &dyn Driver) {
        let mut unfinished: HashMap<String, LayerRecord> = {
            let known = self.known();
            let filling = |l: &&LayerRecord| l.state == LayerState::Filling;
            let filling = known.layers.values().filter(filling);
            filling.map(|l| (l.chain_id.clone(), l.clone())).collect()
        };
        // A record stays as long as another stands on it.
        while !unfinished.is_empty() {
            let parents: BTreeSet<String> = unfinished
                .values()
                .filter_map(|l| l.parent_chain.clone())
                .collect();
            let before = unfinished.len();
            unfinished.retain(|chain, layer| {
                let top = !parents.contains(chain);
                if top {
                    self.drop_or_warn(driver, layer);
                }
                !top
            });
            if unfinished.len() == before {
                break;
            }
        }
        self.drop_stray_recipes();
    }

    fn drop_stray_recipes(&self) {
        let layers = self.layer_directories();
        let recipes = self.recipes.list().unwrap_or_else(|error| {
            tracing::warn!(
                error = crate::error::chain(&error),
                "recipes are not looked through"
            );
            Vec::new()
        });
        for id in recipes {
            if !layers.contains(id.as_str())
                && let Err(error) = self.recipes.remove(&id)
            {
                tracing::warn!(error = crate::error::chain(&error), "a recipe is left");
            }
        }
    }

    /// Removes one layer. Blocks.
    pub(super) fn drop_layer(&self, driver: &dyn Driver, layer: &LayerRecord) -> Result<(), Error> {
        self.drop_layers(driver, std::slice::from_ref(layer))
    }

    /// Removes layers, each before the one it stands on. Files first: a record
    /// without its directory is finished by the next start. Those before one
    /// that cannot be removed are gone. Blocks.
    pub(super) fn drop_layers(
        &self,
        driver: &dyn Driver,
        layers: &[LayerRecord],
    ) -> Result<(), Error> {
        let mut aside = Vec::new();
        let mut chains = Vec::new();
        let mut failed = None;
        for layer in layers {
            if let Ok(id) = layer.layer_dir.parse::<LayerId>() {
                match driver.discard(&id) {
                    Ok(files) => aside.push(Leftover {
                        recipe: Some((self.recipes.clone(), id)),
                        files,
                    }),
                    Err(error) => {
                        failed = Some(Error::system("remove a layer", &error));
                        break;
                    }
                }
            }
            chains.push(layer.chain_id.clone());
        }
        let rows = chains.clone();
        let committed = match rows.is_empty() {
            true => Ok(()),
            false => self.db.run(move |db| {
                let delete = |chain: &String| records::delete_layer(db, chain).map(drop);
                rows.iter().try_for_each(delete)
            }),
        };
        delete_behind(aside);
        committed.map_err(|e| Error::system("remove a layer's record", &e))?;
        let mut known = self.known_mut();
        for chain in &chains {
            known.layers.remove(chain);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Directory and recipe; the record stays, and with it the name: whoever
    /// comes next may use it at once.
    pub(super) fn drop_files(&self, driver: &dyn Driver, layer: &LayerRecord) -> Result<(), Error> {
        let Ok(id) = layer.layer_dir.parse::<LayerId>() else {
            return Ok(());
        };
        let failed = |e: &dyn std::error::Error| Error::system("remove a layer", e);
        delete_behind(driver.discard(&id).map_err(|e| failed(&e))?);
        self.recipes.remove(&id).map_err(|e| failed(&e))
    }

    fn drop_or_warn(&self, driver: &dyn Driver, layer: &LayerRecord) {
        if let Err(error) = self.drop_layer(driver, layer) {
            tracing::warn!(layer = layer.layer_dir, %error, "an unfinished layer is left");
        }
    }

    /// Names of all layer directories that have a record.
    pub(crate) fn layer_directories(&self) -> BTreeSet<String> {
        let known = self.known();
        known.layers.values().map(|l| l.layer_dir.clone()).collect()
    }
}

impl Known {
    pub(super) fn is_ready(&self, chain: &str) -> bool {
        let layer = self.layers.get(chain);
        layer.is_some_and(|l| l.state == LayerState::Ready)
    }

    /// How many images have each chain.
    pub(super) fn users_of_chains(&self) -> HashMap<String, usize> {
        let mut users = HashMap::new();
        for chain in self.images.values().flat_map(|image| &image.chains) {
            *users.entry(chain.to_string()).or_default() += 1;
        }
        users
    }
}

impl Inner {
    /// Keeps the layers of these chains from going.
    pub(super) fn hold(&self, chains: &[Digest]) -> Held<'_> {
        let chains: Vec<String> = chains.iter().map(ToString::to_string).collect();
        let mut known = self.images.known_mut();
        for chain in &chains {
            *known.holds.entry(chain.clone()).or_default() += 1;
        }
        drop(known);
        Held {
            engine: self,
            chains,
        }
    }

    /// The driver's name of a chain's top layer.
    pub(crate) fn layer_of(&self, chain: &Digest) -> Result<LayerId, Error> {
        let known = self.images.known();
        let layer = known.layers.get(chain.as_str());
        let name = layer
            .map(|l| l.layer_dir.as_str())
            .ok_or_else(|| Error::new(ErrorKind::System, format!("layer {chain} has no record")))?;
        name.parse()
            .map_err(|e| Error::system("read a layer's record", &e))
    }

    /// The exact archive of one layer of an image, counted from the bottom, as
    /// a stream whose digest is checked while it is read. Blocks.
    pub(crate) fn layer_archive(&self, image: &Image, index: usize) -> Result<Regenerated, Error> {
        let failed = |e: &dyn std::error::Error| Error::system("read a layer", e);
        let id = self.layer_of(&image.chains[index])?;
        let directory = self.driver.content(&id).map_err(|e| failed(&e))?;
        let diff_id = &image.config.rootfs.diff_ids[index];
        self.images
            .recipes
            .regenerate(&id, directory, diff_id)
            .map_err(|e| failed(&e))
    }

    /// Records a layer before its directory exists.
    pub(super) fn begin_layer(&self, layer: LayerRecord) -> Result<(), Error> {
        self.begin_layers(vec![layer])
    }

    /// The same for several, the lower ones first, in one commit.
    pub(super) fn begin_layers(&self, layers: Vec<LayerRecord>) -> Result<(), Error> {
        let rows = layers.clone();
        self.images
            .db
            .run(move |db| {
                rows.iter().try_for_each(|row| {
                    let parent = row.parent_chain.as_deref();
                    let (chain, dir) = (&row.chain_id, &row.layer_dir);
                    records::put_layer_filling(db, chain, &row.diff_id, parent, dir)
                })
            })
            .map_err(|e| Error::system("record a layer", &e))?;
        let mut known = self.images.known_mut();
        for layer in layers {
            known.layers.insert(layer.chain_id.clone(), layer);
        }
        Ok(())
    }

    /// Its content is complete and on the disk.
    pub(super) fn finish_layer(&self, chain: &str, size_bytes: i64) -> Result<(), Error> {
        let key = chain.to_owned();
        self.images
            .db
            .run(move |db| records::mark_layer_ready(db, &key, size_bytes))
            .map_err(|e| Error::system("record a layer", &e))?;
        if let Some(layer) = self.images.known_mut().layers.get_mut(chain) {
            layer.state = LayerState::Ready;
            layer.size_bytes = size_bytes;
        }
        Ok(())
    }

    /// Forgets a layer that did not become one.
    pub(super) fn abandon_layer(&self, chain: &str) {
        let layer = self.images.known().layers.get(chain).cloned();
        if let Some(layer) = layer {
            self.images.drop_or_warn(self.driver.as_ref(), &layer);
        }
    }

    /// Makes everything unpacked so far durable, with one flush for all layers.
    pub(super) fn sync_layers(&self, some: &LayerId) -> Result<(), Error> {
        let failed = |e: &dyn std::error::Error| Error::system("sync the layers", e);
        let layer = self.driver.content(some).map_err(|e| failed(&e))?;
        rustix::fs::syncfs(&layer).map_err(|e| failed(&e))?;
        // The driver's directory can be a file system of its own.
        let device = |fd: &std::os::fd::OwnedFd| rustix::fs::fstat(fd).map(|status| status.st_dev);
        let recipes = std::fs::File::open(self.root.recipes()).map_err(|e| failed(&e))?;
        if device(&layer).ok() != device(&recipes.into()).ok() {
            self.images.recipes.sync().map_err(|e| failed(&e))?;
        }
        Ok(())
    }
}

/// What `Held` and its owner share is in memory alone; nothing to test without
/// an engine but the waiting.
#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn whoever_waits_for_a_layer_learns_how_it_ended() {
        for outcome in [Outcome::Filled, Outcome::Failed] {
            let fill = Arc::new(Fill::default());
            let waiting = Arc::clone(&fill);
            let waiter = std::thread::spawn(move || waiting.wait());
            fill.end(outcome);
            assert_eq!(waiter.join().ok(), Some(outcome));
            assert_eq!(fill.wait(), outcome);
        }
    }
}
