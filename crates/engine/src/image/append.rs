//! An image with one new layer whose identity is known only when all of it has
//! been read: what `import` makes of an archive, and `commit` of a container.

use std::io::BufRead;
use std::sync::Arc;

use conex_layers::driver::LayerId;
use conex_layers::extract::Limits;
use conex_layers::unpack;
use conex_spec::digest::{Digest, chain_id};
use conex_spec::image::ImageConfig;
use conex_spec::reference::Reference;
use conex_store::records::images::{LayerRecord, LayerState};

use super::Image;
use super::ingest::check_depth;
use super::layer::Outcome;
use super::record::{Ingested, Record, Settled};
use crate::Error;
use crate::engine::Inner;
use crate::error::chain;

/// What a new layer becomes.
pub(super) struct Addition {
    /// The image it goes on top of.
    pub(super) below: Option<Arc<Image>>,
    /// The image of that which the new one is recorded as made from.
    pub(super) parent: Option<String>,
    /// Names to give.
    pub(super) names: Vec<Reference>,
    /// Makes the config, once the layer's DiffID is known.
    pub(super) config: Box<dyn FnOnce(&Digest) -> ImageConfig + Send>,
}

impl Inner {
    /// Unpacks an archive, in any compression, into a new layer and makes the
    /// image. Blocks; on an error nothing is left.
    pub(super) fn append(
        &self,
        stream: Box<dyn BufRead + Send>,
        addition: Addition,
    ) -> Result<Ingested, Error> {
        self.append_if(stream, addition, &|| Ok(()))
    }

    /// The same, if the source of the stream says, once all of it was read,
    /// that it was what it should be.
    pub(super) fn append_if(
        &self,
        stream: Box<dyn BufRead + Send>,
        addition: Addition,
        is_right: &dyn Fn() -> Result<(), Error>,
    ) -> Result<Ingested, Error> {
        let chains = addition.below.as_ref().map(|image| image.chains.as_slice());
        let chains = chains.unwrap_or_default();
        check_depth(chains.len() + 1)?;
        let _held = self.hold(chains);
        let ready = |chain: &Digest| self.images.known().is_ready(chain.as_str());
        if let Some(image) = &addition.below
            && !chains.iter().all(ready)
        {
            return Err(Error::no_image(image.id.as_str()));
        }
        let below = chains.last().map(|top| self.layer_of(top)).transpose()?;
        let id = LayerId::random().map_err(|e| Error::system("name a layer", &e))?;
        let provisional = format!("new:{id}");
        self.begin_layer(LayerRecord {
            chain_id: provisional.clone(),
            diff_id: String::new(),
            parent_chain: chains.last().map(ToString::to_string),
            layer_dir: id.to_string(),
            size_bytes: 0,
            state: LayerState::Filling,
        })?;
        let made = self
            .fill_appended(&id, below.as_ref(), stream)
            .and_then(|unpacked| is_right().map(|()| unpacked))
            .and_then(|unpacked| self.name_appended(&id, &provisional, &unpacked, addition));
        // On success the layer has its chain by now, unless it was here already.
        self.abandon_layer(&provisional);
        // Buffers of the unpacking are not needed soon again.
        conex_sys::memory::trim();
        made
    }

    fn fill_appended(
        &self,
        id: &LayerId,
        below: Option<&LayerId>,
        stream: Box<dyn BufRead + Send>,
    ) -> Result<unpack::Unpacked, Error> {
        let failed = |e: &dyn std::error::Error| Error::system("make a layer", e);
        let layer = self.driver.create(id, below).map_err(|e| failed(&e))?;
        let recipe = self.images.recipes.create(id).map_err(|e| failed(&e))?;
        let unpacked = unpack::unpack_recording(stream, &layer, Limits::default(), recipe)
            .map_err(|e| Error::invalid(format!("cannot import the archive: {}", chain(&e))))?;
        self.adopt(below, &layer, &unpacked.content)?;
        self.sync_layers(id)?;
        Ok(unpacked)
    }

    fn name_appended(
        &self,
        id: &LayerId,
        provisional: &str,
        unpacked: &unpack::Unpacked,
        addition: Addition,
    ) -> Result<Ingested, Error> {
        let diff = &unpacked.diff_id;
        let config = (addition.config)(diff);
        let config = serde_json::to_vec(&config).map_err(|e| Error::system("write config", &e))?;
        let below = addition
            .below
            .as_ref()
            .and_then(|image| image.chains.last());
        let chain_digest = chain_id(below, diff);
        let top = chain_digest.to_string();
        let layer = LayerRecord {
            chain_id: top.clone(),
            diff_id: diff.to_string(),
            parent_chain: below.map(ToString::to_string),
            layer_dir: id.to_string(),
            size_bytes: i64::try_from(unpacked.content.bytes).unwrap_or(i64::MAX),
            state: LayerState::Filling,
        };
        let _held = self.hold(std::slice::from_ref(&chain_digest));
        // Two of the same content end here one after the other.
        let (layering, have) = loop {
            let layering = self.images.layering();
            let known = self.images.known();
            let have = known.layers.get(&top).map(|layer| layer.state);
            let fill = known.fills.get(&top).cloned();
            drop(known);
            match (have, fill) {
                (None, None) => break (layering, false),
                (Some(LayerState::Ready), _) => break (layering, true),
                (_, Some(fill)) => {
                    drop(layering);
                    if fill.wait() == Outcome::Filled {
                        // Its filler has not committed, and may never.
                        self.sync_layers(&self.layer_of(&chain_digest)?)?;
                        break (self.images.layering(), true);
                    }
                }
                (Some(LayerState::Filling), None) => {
                    return Err(Error::conflict(
                        "the same layer was being brought here by others, who failed: try again",
                    ));
                }
            }
        };
        let settled = (!have).then(|| Settled {
            provisional: provisional.to_owned(),
            layer,
        });
        let made = self.record(Record {
            config,
            manifests: Vec::new(),
            names: addition.names,
            parent: addition.parent,
            settled,
        });
        drop(layering);
        made
    }
}
