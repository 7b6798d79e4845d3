//! The part of `system check` that concerns images: records, directories and
//! recipes of layers have to agree.

use std::collections::{BTreeSet, HashSet};

use conex_layers::driver::{Error as DriverError, LayerId};
use conex_store::records::images::{self as records, LayerRecord, LayerState};

use super::delete_behind;
use crate::check::{Checkup, Repair};
use crate::engine::Inner;

impl Inner {
    /// Compares what is recorded of images with what is on the disk. Blocks.
    pub(crate) fn check_images(&self, checkup: &mut Checkup) {
        // Nobody makes or drops layers meanwhile.
        let _layering = self.images.layering();
        let (layers, missing, busy): (Vec<LayerRecord>, Vec<(String, String)>, BTreeSet<String>) = {
            let known = self.images.known();
            checkup.report.images = known.images.len() as u64;
            checkup.report.layers = known.layers.len() as u64;
            let missing = known.images.iter().flat_map(|(id, image)| {
                let gone = image.chains.iter().filter(|c| !known.is_ready(c.as_str()));
                gone.map(|chain| (id.clone(), chain.to_string()))
            });
            (
                known.layers.values().cloned().collect(),
                missing.collect(),
                known
                    .fills
                    .keys()
                    .chain(known.holds.keys())
                    .cloned()
                    .collect(),
            )
        };
        for (image, chain) in missing {
            checkup.found(
                "image-without-layer",
                &image,
                "",
                format!("its layer {chain} is not here: remove the image and get it again"),
            );
        }
        self.check_damaged(checkup);
        for layer in self.layers_without_image() {
            let sentence = "no image has it: a removal was cut short".to_owned();
            let finding = checkup.found("layer-without-image", &layer.chain_id, "", sentence);
            if let Repair::Wanted = finding {
                checkup.repaired(self.images.drop_layer(self.driver.as_ref(), &layer).is_ok());
            }
        }
        for layer in &layers {
            if !busy.contains(&layer.chain_id) {
                self.check_layer(checkup, layer);
            }
        }
        let directories: BTreeSet<&str> = layers.iter().map(|l| l.layer_dir.as_str()).collect();
        for id in self.images.recipes.list().unwrap_or_default() {
            if directories.contains(id.as_str()) {
                continue;
            }
            let path = self.root.recipes().join(id.as_str());
            let sentence = "a recipe of no layer".to_owned();
            let finding = checkup.found("recipe-without-layer", id.as_str(), &path, sentence);
            if let Repair::Wanted = finding {
                checkup.repaired(self.images.recipes.remove(&id).is_ok());
            }
        }
    }

    /// Images whose record cannot be read. A repair forgets them, so that their
    /// layers can go; what they are called can be pulled or loaded again.
    fn check_damaged(&self, checkup: &mut Checkup) {
        let damaged: Vec<(String, String, Vec<String>)> = {
            let known = self.images.known();
            let damaged = known.damaged.iter().map(|(id, it)| {
                let names = it.references.keys().cloned().collect();
                (id.clone(), it.problem.clone(), names)
            });
            damaged.collect()
        };
        for (id, problem, names) in damaged {
            let sentence = match names.is_empty() {
                true => problem,
                false => format!("{problem}; it was {}", names.join(", ")),
            };
            if checkup.found("image-damaged", &id, "", sentence) == Repair::Not {
                continue;
            }
            let row = id.clone();
            let _committing = self.images.committing();
            let forgotten = self.images.db.run(move |db| {
                for name in &names {
                    // Unless it has been given to another image since.
                    records::delete_reference_to(db, name, &row)?;
                }
                records::delete_image(db, &row)
            });
            if forgotten.is_ok() {
                self.images.known_mut().damaged.remove(&id);
            }
            checkup.repaired(forgotten.is_ok());
        }
    }

    /// Complete layers that no image has and nobody holds, upper ones first.
    /// None while some container's image is not recorded, or some image's record
    /// is damaged: it may stand on them.
    fn layers_without_image(&self) -> Vec<LayerRecord> {
        let of_containers: BTreeSet<String> = {
            let table = self.table();
            table.iter().map(|c| c.record.image_id.clone()).collect()
        };
        let known = self.images.known();
        let mut of_containers = of_containers.iter();
        if !known.damaged.is_empty() || of_containers.any(|id| !known.images.contains_key(id)) {
            return Vec::new();
        }
        let chains = known.images.values().flat_map(|image| &image.chains);
        let used: HashSet<&str> = chains.map(|chain| chain.as_str()).collect();
        let is_used = |layer: &LayerRecord| {
            let init = layer.chain_id.starts_with("init:");
            match (init, &layer.parent_chain) {
                // The one of images without layers, which is everybody's.
                (true, None) => true,
                (true, Some(chain)) => used.contains(chain.as_str()),
                (false, _) => used.contains(layer.chain_id.as_str()),
            }
        };
        let is_free = |layer: &&LayerRecord| {
            let chain = &layer.chain_id;
            layer.state == LayerState::Ready
                && !known.fills.contains_key(chain)
                && !known.holds.contains_key(chain)
                && !is_used(layer)
        };
        let mut free: Vec<LayerRecord> = known.layers.values().filter(is_free).cloned().collect();
        let depth = |layer: &LayerRecord| {
            let mut depth = 0;
            let mut parent = layer.parent_chain.as_ref();
            while let Some(below) = parent.and_then(|chain| known.layers.get(chain)) {
                depth += 1;
                parent = below.parent_chain.as_ref();
            }
            depth
        };
        free.sort_by_key(|layer| std::cmp::Reverse(depth(layer)));
        free
    }

    /// Finishes removals that were cut short between an image's record and its
    /// layers'. For a start, when containers are known. Blocks.
    pub(crate) fn drop_layers_without_image(&self) {
        let _layering = self.images.layering();
        for layer in self.layers_without_image() {
            if let Err(error) = self.images.drop_layer(self.driver.as_ref(), &layer) {
                tracing::warn!(layer = layer.layer_dir, %error, "a layer of no image is left");
            }
        }
    }

    fn check_layer(&self, checkup: &mut Checkup, layer: &LayerRecord) {
        let Ok(id) = layer.layer_dir.parse::<LayerId>() else {
            let sentence = "its record names no directory".to_owned();
            checkup.found("layer-record-damaged", &layer.chain_id, "", sentence);
            return;
        };
        let path = self
            .root
            .data()
            .join(self.driver.kind().name())
            .join(id.as_str());
        let is_init = layer.chain_id.starts_with("init:");
        if layer.state == LayerState::Filling {
            if is_init {
                // One is built under another lock than this.
                return;
            }
            let sentence = "it was begun and never completed".to_owned();
            let finding = checkup.found("layer-unfinished", &layer.chain_id, &path, sentence);
            if let Repair::Wanted = finding {
                checkup.repaired(self.images.drop_layer(self.driver.as_ref(), layer).is_ok());
            }
            return;
        }
        match self.driver.content(&id) {
            Ok(_) => {}
            Err(DriverError::NotFound { .. }) => {
                let sentence = "its directory is gone".to_owned();
                let finding =
                    checkup.found("layer-without-directory", &layer.chain_id, &path, sentence);
                // An init layer is made again by the next container.
                if is_init && matches!(finding, Repair::Wanted) {
                    checkup.repaired(self.images.drop_layer(self.driver.as_ref(), layer).is_ok());
                }
                return;
            }
            Err(error) => {
                let sentence = crate::error::chain(&error);
                checkup.found("layer-unreadable", &layer.chain_id, &path, sentence);
                return;
            }
        }
        if !is_init && !self.root.recipes().join(id.as_str()).exists() {
            let sentence =
                "its recipe is gone: its archive cannot be made again for save and push".to_owned();
            checkup.found("layer-without-recipe", &layer.chain_id, &path, sentence);
        }
    }

    /// Takes away a layer directory that nobody knows.
    pub(crate) fn drop_strange_layer(&self, id: &LayerId) -> bool {
        let discarded = self.driver.discard(id);
        let is_gone = discarded.is_ok();
        delete_behind(discarded.ok().flatten());
        is_gone
    }
}
