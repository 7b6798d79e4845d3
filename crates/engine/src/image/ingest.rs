//! Taking an image in: config, layers and names become one image, or nothing.
//!
//! ```text
//!  hold the chains ► claim what is missing ► fill, in parallel ► complete, bottom up
//!                      records "filling"      unpack, recipe,      implied directories,
//!                                             DiffID               or wait for another's
//!  ► one sync of the file system ► one commit: layers ready, image, manifests, names
//! ```
//!
//! Whoever wants the same chain at the same time joins: each layer has one that
//! fills it, the others wait, and one takes over if it fails. Waiting is only
//! ever for a lower layer, so nobody waits in a circle.
//!
//! Where bytes come from and which names they get is the caller's to know: a
//! pull, a load, an import and a commit all end here.

mod progress;

use std::io::{self, BufRead};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use conex_layers::driver::{LayerId, LayerRoot, MAX_LOWERS};
use conex_layers::extract::{Extracted, Limits};
use conex_layers::overlay::{Access, OverlayOptions};
use conex_layers::{below, implied, unpack};
use conex_spec::digest::Digest;
use conex_spec::image::ImageConfig;
use conex_spec::reference::Reference;
use conex_store::records::images::{LayerRecord, LayerState, ManifestRecord};

use super::layer::{Fill, Outcome};
use super::record::{Ingested, Record};
use crate::Error;
use crate::engine::Inner;
use crate::error::chain;
pub(crate) use progress::Progress;
use progress::Watched;

/// Most layers of an image: the init layer takes the last place.
pub(crate) const MAX_LAYERS: usize = MAX_LOWERS - 1;

/// Opens the stream of one layer's archive, in any compression. Called once at
/// most, on a thread that may block, and never for a layer that is here
/// already. What the stream should have been besides the DiffID (a blob's
/// digest or size) is the stream's to check: an error at its end counts.
pub(crate) type Open = Box<dyn FnOnce() -> io::Result<Box<dyn BufRead + Send>> + Send>;

/// An image to be taken in.
pub(crate) struct Incoming {
    /// The config, byte for byte.
    pub(crate) config: Vec<u8>,
    /// One for each DiffID of the config. Opened lowest first, as many at a
    /// time as there are processors.
    pub(crate) layers: Vec<Open>,
    /// Manifests and indexes it came with, to be kept as they are.
    pub(crate) manifests: Vec<ManifestRecord>,
    /// Names to give, each with a tag or a digest.
    pub(crate) names: Vec<Reference>,
    /// The image it was made from here.
    pub(crate) parent: Option<String>,
}

/// One layer on its way in.
struct Layer {
    chain: String,
    open: Mutex<Option<Open>>,
    work: Mutex<Work>,
}

/// Whose a layer is.
enum Work {
    /// It was here.
    Ready,
    /// Another's.
    Joined(Arc<Fill>),
    /// Ours, without content; the directory if the driver fills in any order.
    Claimed(Option<LayerRoot>),
    /// Ours, with content, and what it leaves to be done.
    Filled(LayerRoot, Box<Extracted>),
    /// Complete, or given up.
    Done,
}

/// An ingest under way.
struct Ingest<'a> {
    engine: &'a Inner,
    config: ImageConfig,
    chains: Vec<Digest>,
    layers: Vec<Layer>,
    progress: Arc<dyn Progress>,
    /// Somebody has failed: the others need not go on.
    stop: Arc<AtomicBool>,
}

impl Inner {
    /// Takes an image in. Blocks. On an error nothing of it is left that was
    /// not here before, nor is after the engine was killed.
    ///
    /// Errors: invalid parameter for content that is not what it should be,
    /// system for a host that fails.
    pub(crate) fn ingest(
        &self,
        incoming: Incoming,
        progress: Arc<dyn Progress>,
    ) -> Result<Ingested, Error> {
        let Incoming {
            config,
            layers,
            manifests,
            names,
            parent,
        } = incoming;
        let parsed = ImageConfig::load(&config).map_err(|e| Error::invalid(chain(&e)))?;
        check_depth(parsed.rootfs.diff_ids.len())?;
        if layers.len() != parsed.rootfs.diff_ids.len() {
            return Err(Error::invalid(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                parsed.rootfs.diff_ids.len(),
                layers.len()
            )));
        }
        let chains = parsed.rootfs.chain_ids();
        let _held = self.hold(&chains);
        let ingest = Ingest::begin(self, parsed, chains, layers, progress)?;
        ingest.fill()?;
        let unsynced = ingest.complete()?;
        if let Some(some) = unsynced {
            self.sync_layers(&some)?;
        }
        // Buffers of the unpacking are not needed soon again.
        conex_sys::memory::trim();
        self.record(Record {
            config,
            manifests,
            names,
            parent,
            settled: None,
        })
    }

    /// What a layer's archive took for granted of the layers `below`, which must
    /// be complete: directories it did not describe look as they do there, and
    /// links to files of theirs are made.
    pub(super) fn adopt(
        &self,
        below: Option<&LayerId>,
        root: &LayerRoot,
        content: &Extracted,
    ) -> Result<(), Error> {
        let failed = |e: &dyn std::error::Error| Error::system("complete a layer", e);
        let (implied, links) = (&content.implied_dirs, &content.links_below);
        let Some(below) = below else {
            return match links.first() {
                None => Ok(()),
                Some(link) => Err(Error::invalid(format!(
                    "cannot link {:?} to {:?}: there is no such file",
                    String::from_utf8_lossy(&link.path),
                    String::from_utf8_lossy(&link.target)
                ))),
            };
        };
        if implied.is_empty() && links.is_empty() {
            return Ok(());
        }
        let rootfs = self.driver.rootfs(below).map_err(|e| failed(&e))?;
        let options = OverlayOptions {
            access: Access::ReadOnly,
            ..OverlayOptions::default()
        };
        let view = rootfs.mount(options).map_err(|e| failed(&e))?;
        let (view, layer) = (view.as_fd(), root.directory.as_fd());
        below::link(view, layer, links).map_err(|e| Error::invalid(chain(&e)))?;
        implied::adopt(view, layer, implied).map_err(|e| failed(&e))
    }
}

/// Refuses an image of so many layers that no container could stand on it.
pub(super) fn check_depth(layers: usize) -> Result<(), Error> {
    if layers <= MAX_LAYERS {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "max depth exceeded: the image has {layers} layers, and {MAX_LAYERS} is the most an \
         image can have"
    )))
}

impl<'a> Ingest<'a> {
    /// Claims every layer that is neither here nor claimed.
    fn begin(
        engine: &'a Inner,
        config: ImageConfig,
        chains: Vec<Digest>,
        opens: Vec<Open>,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, Error> {
        let layers = chains.iter().zip(opens).map(|(chain, open)| Layer {
            chain: chain.to_string(),
            open: Mutex::new(Some(open)),
            work: Mutex::new(Work::Done),
        });
        let ingest = Self {
            layers: layers.collect(),
            engine,
            config,
            chains,
            progress,
            stop: Arc::default(),
        };
        ingest.claim(0..ingest.layers.len())?;
        Ok(ingest)
    }

    /// Decides of each of these layers whose it is, and records what is ours.
    fn claim(&self, indexes: std::ops::Range<usize>) -> Result<(), Error> {
        let images = &self.engine.images;
        let _layering = images.layering();
        let mut rows = Vec::new();
        let mut ours = Vec::new();
        {
            let mut known = images.known_mut();
            for index in indexes {
                let layer = &self.layers[index];
                let work = match (known.fills.get(&layer.chain), known.is_ready(&layer.chain)) {
                    (_, true) => Work::Ready,
                    (Some(fill), _) => Work::Joined(Arc::clone(fill)),
                    (None, false) => {
                        known.fills.insert(layer.chain.clone(), Arc::default());
                        ours.push(index);
                        // Another's attempt may have left the record, with the directory's name.
                        if !known.layers.contains_key(&layer.chain) {
                            rows.push(self.record_of(index)?);
                        }
                        Work::Claimed(None)
                    }
                };
                if !matches!(work, Work::Claimed(_)) {
                    self.progress.exists(index);
                }
                layer.set(work);
            }
        }
        if !rows.is_empty() {
            self.engine.begin_layers(rows)?;
        }
        if self.engine.driver.kind().fills_in_any_order() {
            for index in ours {
                let made = self.make(index)?;
                self.layers[index].set(Work::Claimed(Some(made)));
            }
        }
        Ok(())
    }

    /// The directory's name is random, and not the chain's: file systems put a
    /// directory where the hash of its name says, and a layer that is removed and
    /// brought again had better not come to lie among the inodes it left
    /// (docs/decisions/0017-where-layers-lie-on-ext4.md).
    fn record_of(&self, index: usize) -> Result<LayerRecord, Error> {
        let id = LayerId::random().map_err(|e| Error::system("name a layer", &e))?;
        Ok(LayerRecord {
            chain_id: self.layers[index].chain.clone(),
            diff_id: self.config.rootfs.diff_ids[index].to_string(),
            parent_chain: index
                .checked_sub(1)
                .map(|below| self.layers[below].chain.clone()),
            layer_dir: id.to_string(),
            size_bytes: 0,
            state: LayerState::Filling,
        })
    }

    /// The directory of a layer that is recorded.
    fn id(&self, index: usize) -> Result<LayerId, Error> {
        self.engine.layer_of(&self.chains[index])
    }

    fn below(&self, index: usize) -> Result<Option<LayerId>, Error> {
        let below = index.checked_sub(1);
        below.map(|below| self.id(below)).transpose()
    }

    fn make(&self, index: usize) -> Result<LayerRoot, Error> {
        let below = self.below(index)?;
        self.engine
            .driver
            .create(&self.id(index)?, below.as_ref())
            .map_err(|e| Error::system("make a layer", &e))
    }

    /// Fills what is ours, several layers at a time.
    fn fill(&self) -> Result<(), Error> {
        let claimed = |index: &usize| self.layers[*index].is_made();
        let ours: Vec<usize> = (0..self.layers.len()).filter(claimed).collect();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while !self.stop.load(Ordering::Relaxed)
                && let Some(index) = ours.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if let Err(error) = self.fill_one(*index) {
                    if !self.stop.swap(true, Ordering::Relaxed) {
                        self.progress.failed(*index);
                    }
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..processors.min(ours.len()) {
                scope.spawn(work);
            }
            work();
        });
        let failure = failure.into_inner();
        match failure.unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Unpacks one claimed layer and checks its identity.
    fn fill_one(&self, index: usize) -> Result<(), Error> {
        let layer = &self.layers[index];
        let root = match layer.take() {
            Work::Claimed(Some(root)) => root,
            _ => self.make(index)?,
        };
        // A panic between leaves the claim to `Drop`.
        layer.set(Work::Claimed(None));
        let expected = &self.config.rootfs.diff_ids[index];
        let open = layer
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let open = open.ok_or_else(|| Error::invalid("a layer's stream was already used"))?;
        let failed = |e: &dyn std::error::Error| {
            Error::invalid(format!("cannot unpack layer {expected}: {}", chain(e)))
        };
        let stream = open().map_err(|e| failed(&e))?;
        let watched = Watched {
            stream,
            index,
            bytes: 0,
            told: 0,
            stop: Arc::clone(&self.stop),
            progress: Arc::clone(&self.progress),
        };
        let recipe = self.engine.images.recipes.create(&self.id(index)?);
        let recipe = recipe.map_err(|e| Error::system("make a layer", &e))?;
        let unpacked =
            unpack::unpack_recording(Box::new(watched), &root, Limits::default(), recipe)
                .map_err(|e| failed(&e))?;
        if unpacked.diff_id != *expected {
            return Err(Error::invalid(format!(
                "invalid diffID for layer {index}: expected \"{expected}\", got \"{}\"",
                unpacked.diff_id
            )));
        }
        let size = i64::try_from(unpacked.content.bytes).unwrap_or(i64::MAX);
        if let Some(record) = self.engine.images.known_mut().layers.get_mut(&layer.chain) {
            record.size_bytes = size;
        }
        layer.set(Work::Filled(root, Box::new(unpacked.content)));
        Ok(())
    }

    /// Goes up the chain until every layer is complete. Gives one of the layers
    /// if any of them may not be on the disk yet.
    fn complete(&self) -> Result<Option<LayerId>, Error> {
        let mut unsynced = None;
        for (index, layer) in self.layers.iter().enumerate() {
            loop {
                match layer.take() {
                    Work::Ready | Work::Done => break,
                    Work::Joined(fill) => {
                        if fill.wait() == Outcome::Filled {
                            if !self.engine.images.known().is_ready(&layer.chain) {
                                unsynced = Some(self.id(index)?);
                            }
                            break;
                        }
                        self.claim(index..index + 1)?;
                    }
                    claimed @ Work::Claimed(_) => {
                        layer.set(claimed);
                        self.fill_one(index)?;
                    }
                    Work::Filled(root, content) => {
                        // Put back, so that a failure gives it up.
                        layer.set(Work::Claimed(None));
                        self.engine
                            .adopt(self.below(index)?.as_ref(), &root, &content)?;
                        self.settle(index, Outcome::Filled);
                        unsynced = Some(self.id(index)?);
                        self.progress.complete(index);
                        break;
                    }
                }
            }
            // What its stream holds, such as a spooled file, is free before
            // the sync would write it out.
            layer
                .open
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
        Ok(unsynced)
    }

    /// Tells whoever waits for one of ours how it ended.
    fn settle(&self, index: usize, outcome: Outcome) {
        let layer = &self.layers[index];
        layer.set(Work::Done);
        let images = &self.engine.images;
        let mut known = images.known_mut();
        let fill = match outcome {
            Outcome::Filled => known.fills.get(&layer.chain).cloned(),
            Outcome::Failed => known.fills.remove(&layer.chain),
        };
        drop(known);
        if let Some(fill) = fill {
            fill.end(outcome);
        }
    }
}

/// What was claimed and not completed is free for others, its files gone.
impl Drop for Ingest<'_> {
    fn drop(&mut self) {
        for index in (0..self.layers.len()).rev() {
            let layer = &self.layers[index];
            if !matches!(layer.take(), Work::Claimed(_) | Work::Filled(..)) {
                continue;
            }
            let images = &self.engine.images;
            let layering = images.layering();
            let record = images.known().layers.get(&layer.chain).cloned();
            if let Some(record) = record
                && let Err(error) = images.drop_files(self.engine.driver.as_ref(), &record)
            {
                tracing::warn!(layer = record.layer_dir, %error, "an unfinished layer is left");
            }
            self.settle(index, Outcome::Failed);
            drop(layering);
        }
    }
}

impl Layer {
    fn set(&self, work: Work) {
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = work;
    }

    fn take(&self) -> Work {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut work, Work::Done)
    }

    /// Whether it is ours and has a directory to be filled.
    fn is_made(&self) -> bool {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*work, Work::Claimed(Some(_)))
    }
}
