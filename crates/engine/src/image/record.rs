//! The one commit at the end of everything that makes an image: a pull, a load,
//! an import, a commit. What it records is on the disk by then.

use std::sync::Arc;

use conex_spec::reference::Reference;
use conex_store::records::Found;
use conex_store::records::images::{
    self as records, ImageRecord, LayerRecord, LayerState, ManifestRecord, ReferenceRecord,
};

use super::Image;
use crate::Error;
use crate::engine::Inner;
use crate::time::now_ns;

/// What became of a [`Record`].
#[derive(Debug)]
pub(crate) struct Ingested {
    /// The image.
    pub(crate) image: Arc<Image>,
    /// Names that were another image's until now, with that image's id.
    pub(crate) renamed: Vec<(Reference, String)>,
}

/// What the last commit writes; the layers are on the disk.
pub(super) struct Record {
    pub(super) config: Vec<u8>,
    pub(super) manifests: Vec<ManifestRecord>,
    pub(super) names: Vec<Reference>,
    pub(super) parent: Option<String>,
    /// The top layer, if its chain was not known until now.
    pub(super) settled: Option<Settled>,
}

/// A layer that gets its chain in the commit.
#[derive(Clone)]
pub(super) struct Settled {
    /// What it is recorded under until then.
    pub(super) provisional: String,
    /// What it is from then on, still `Filling`.
    pub(super) layer: LayerRecord,
}

impl Inner {
    /// The one commit that makes layers, image and names real.
    pub(super) fn record(&self, record: Record) -> Result<Ingested, Error> {
        let Record {
            config,
            manifests,
            names,
            parent,
            settled,
        } = record;
        let now = now_ns();
        let mut image = Image::load(&config, 0, parent.clone()).map_err(Error::invalid)?;
        let fresh = self.measure(&mut image, settled.as_ref());
        let id = image.id.to_string();
        let row = ImageRecord {
            id: id.clone(),
            config,
            created_ns: now,
            size_bytes: image.size_bytes,
            parent,
        };
        let full: Vec<String> = names.iter().map(ToString::to_string).collect();
        let references: Vec<ReferenceRecord> = full
            .iter()
            .map(|reference| ReferenceRecord {
                reference: reference.clone(),
                image_id: id.clone(),
                updated_ns: now,
            })
            .collect();
        let (ready, moved) = (fresh.clone(), settled.clone());
        let _committing = self.images.committing();
        let before = self
            .images
            .db
            .run(move |db| {
                if let Some(Settled { provisional, layer }) = moved {
                    records::delete_layer(db, &provisional)?;
                    let parent = layer.parent_chain.as_deref();
                    let (chain, dir) = (&layer.chain_id, &layer.layer_dir);
                    records::put_layer_filling(db, chain, &layer.diff_id, parent, dir)?;
                }
                for (chain, size) in &ready {
                    if records::mark_layer_ready(db, chain, *size)? == Found::No {
                        return Err(rusqlite::Error::QueryReturnedNoRows);
                    }
                }
                records::put_image(db, &row)?;
                for manifest in &manifests {
                    records::put_manifest(db, &row.id, manifest)?;
                }
                let set = |reference| records::set_reference(db, reference);
                references.iter().map(set).collect::<Result<Vec<_>, _>>()
            })
            .map_err(|e| Error::system("record the image", &e))?;
        let mut known = self.images.known_mut();
        if let Some(Settled { provisional, layer }) = settled {
            known.layers.remove(&provisional);
            known.layers.insert(layer.chain_id.clone(), layer);
        }
        for (chain, _) in &fresh {
            known.fills.remove(chain);
            if let Some(layer) = known.layers.get_mut(chain) {
                layer.state = LayerState::Ready;
            }
        }
        // One whose record was damaged has it again, and with it its names.
        if let Some(healed) = known.damaged.remove(&id) {
            for (name, at) in healed.references {
                known.references.entry(name).or_insert(at);
            }
        }
        // An image put twice keeps its first record, and with it its parent.
        let image = Arc::new(image);
        let image = Arc::clone(known.images.entry(id.clone()).or_insert(image));
        for name in full {
            known.references.insert(name, (id.clone(), now));
        }
        drop(known);
        let renamed = names.into_iter().zip(before);
        let renamed = renamed.filter_map(|(name, before)| Some((name, before?)));
        Ok(Ingested {
            image,
            renamed: renamed.filter(|(_, before)| *before != id).collect(),
        })
    }

    /// Gives the image its size, and those of its layers that are not ready
    /// with theirs.
    fn measure(&self, image: &mut Image, settled: Option<&Settled>) -> Vec<(String, i64)> {
        let known = self.images.known();
        let mut fresh = Vec::new();
        for chain in &image.chains {
            let own = settled.map(|it| &it.layer);
            let own = own.filter(|layer| layer.chain_id == chain.as_str());
            let Some(layer) = own.or_else(|| known.layers.get(chain.as_str())) else {
                continue;
            };
            image.size_bytes = image.size_bytes.saturating_add(layer.size_bytes);
            if layer.state != LayerState::Ready {
                fresh.push((layer.chain_id.clone(), layer.size_bytes));
            }
        }
        fresh
    }
}
