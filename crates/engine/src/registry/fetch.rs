//! The layers of one pull, as the ingest asks for them: downloads that start together, and what is known of each.
//!
//! Each layer that is missing has a follower, which tells the client of it: of its download, and of its unpacking. It
//! is the same for a layer that another pull brings.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use conex_distribution::Repository;
use conex_spec::image::{Descriptor, ImageConfig};
use conex_store::records::blobs::BlobRecord;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::blob::{Blobs, Download, Unpacked};
use super::following::Following;
use super::progress::{self, Teller, state};
use super::push;
use crate::Error;
use crate::engine::Inner;
use crate::error::ErrorKind;
use crate::image::ingest::{Open, Progress};
use crate::time::now_ns;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The layers of one image, as the ingest asks for them.
pub(super) struct Fetch {
    pub(super) engine: Arc<Inner>,
    pub(super) repository: Arc<Repository>,
    pub(super) over: Arc<AtomicBool>,
    pub(super) under_way: Arc<Mutex<Vec<Arc<Download>>>>,
    pub(super) runtime: Handle,
    pub(super) permits: Arc<Semaphore>,
    pub(super) teller: Teller,
    pub(super) layers: Vec<Layer>,
    pub(super) started: AtomicBool,
    /// Followers need not wait any longer.
    pub(super) ended: watch::Sender<bool>,
}

pub(super) struct Layer {
    pub(super) blob: Descriptor,
    pub(super) state: Mutex<LayerState>,
}

#[derive(Default)]
pub(super) struct LayerState {
    /// It is here, or somebody else brings it.
    exists: bool,
    download: Option<Arc<Download>>,
    /// Tells how far it is.
    following: Option<JoinHandle<()>>,
    /// Whether "Pull complete" or "Already exists" was told.
    told: bool,
    /// Whether compressing it here gives the same blob.
    ours: bool,
    /// Its unpacking failed first.
    failed: bool,
}

/// Why an ingest failed, as far as the blobs know.
pub(super) struct Failure {
    pub(super) error: Error,
    /// A blob came that is not its digest's; it is gone, and may come right another time.
    pub(super) damaged: bool,
}

impl Layer {
    fn id(&self) -> &str {
        self.blob.digest.short()
    }

    fn state(&self) -> MutexGuard<'_, LayerState> {
        lock(&self.state)
    }
}

impl Fetch {
    /// What the client sees first: which layers are here and which will come.
    pub(super) async fn announce(&self, config: &ImageConfig) {
        for (layer, chain) in self.layers.iter().zip(config.rootfs.chain_ids()) {
            let here = self.engine.images.has_layer(&chain);
            layer.state().told = here;
            let status = match here {
                true => "Already exists",
                false => "Pulling fs layer",
            };
            self.teller.tell(state(layer.id(), status)).await;
        }
    }

    pub(super) fn opens(self: &Arc<Self>) -> Vec<Open> {
        let open = |index: usize| -> Open {
            let fetch = Arc::clone(self);
            Box::new(move || {
                let download = fetch.open(index)?;
                let over = Arc::clone(&fetch.over);
                Ok(Box::new(Following::new(Arc::clone(&download.shared), over)))
            })
        };
        (0..self.layers.len()).map(open).collect()
    }

    /// The first layer that is opened starts the downloads of all that are needed: by then the ingest has said
    /// which are not.
    fn open(self: &Arc<Self>, index: usize) -> io::Result<Arc<Download>> {
        if !self.started.swap(true, Ordering::Relaxed) {
            for other in 0..self.layers.len() {
                if !self.layers[other].state().exists {
                    self.start(other)?;
                }
            }
        }
        self.start(index)
    }

    fn start(self: &Arc<Self>, index: usize) -> io::Result<Arc<Download>> {
        let layer = &self.layers[index];
        let mut state = layer.state();
        if let Some(download) = &state.download {
            return Ok(Arc::clone(download));
        }
        let _runtime = self.runtime.enter();
        let blobs: &Blobs = &self.engine.remote.blobs;
        let permits = Arc::clone(&self.permits);
        let download = blobs.fetch(&self.repository, &layer.blob, permits)?;
        state.download = Some(Arc::clone(&download));
        drop(state);
        self.watch(index, &download);
        Ok(download)
    }

    fn watch(self: &Arc<Self>, index: usize, download: &Arc<Download>) {
        lock(&self.under_way).push(Arc::clone(download));
        if self.over.load(Ordering::Relaxed) {
            download.shared.wake();
        }
        let mut state = self.layers[index].state();
        if state.following.is_none() {
            state.following = Some(self.runtime.spawn(Arc::clone(self).follow(index)));
        }
    }

    /// Tells of one layer until it is complete or the pull has ended.
    async fn follow(self: Arc<Self>, index: usize) {
        let layer = &self.layers[index];
        let following = async {
            let known = layer.state().download.clone();
            let download = match known {
                Some(download) => download,
                None => self.engine.remote.blobs.begun(&layer.blob.digest).await,
            };
            // Somebody else's download keeps going if they leave and we stay.
            layer
                .state()
                .download
                .get_or_insert_with(|| Arc::clone(&download));
            if progress::follow(&self.teller, layer.id(), &download).await {
                layer.state().told = true;
            }
        };
        let mut ended = self.ended.subscribe();
        tokio::select! {
            () = following => {}
            _ = ended.wait_for(|ended| *ended) => {}
            () = self.teller.gone() => {}
        }
    }

    /// The blobs' own words for a failure go before those of the unpacking that missed their bytes. Blocks: what
    /// cannot be unpacked is damaged or not once all of it is here.
    pub(super) fn explain(&self, error: Error) -> Failure {
        let mut failure = Failure {
            error,
            damaged: false,
        };
        for layer in &self.layers {
            let Some(download) = layer.state().download.clone() else {
                continue;
            };
            if layer.state().failed {
                self.runtime.block_on(async {
                    tokio::select! {
                        _ = download.ended() => {}
                        () = self.teller.gone() => {}
                    }
                });
            }
            if let Some(text) = download.failure() {
                failure.error = Error::new(ErrorKind::System, text);
                return failure;
            }
            if download.is_damaged() {
                let text = Following::mismatch(&layer.blob.digest);
                download.condemn(&text);
                failure.error = Error::new(ErrorKind::System, text);
                failure.damaged = true;
            }
        }
        failure
    }

    /// Forgets the downloads, for another try.
    pub(super) fn reset(&self) {
        self.started.store(false, Ordering::Relaxed);
        lock(&self.under_way).clear();
        for layer in &self.layers {
            let mut state = layer.state();
            if let Some(following) = state.following.take() {
                following.abort();
            }
            let told = state.told;
            *state = LayerState {
                told,
                ..LayerState::default()
            };
        }
    }

    /// The ingest has ended. If that was well, what others brought is complete too.
    pub(super) async fn end(&self, is_complete: bool) {
        lock(&self.under_way).clear();
        self.ended.send_replace(true);
        for layer in &self.layers {
            let following = layer.state().following.take();
            if let Some(following) = following {
                let _cancelled = following.await.is_err();
            }
            let told = std::mem::replace(&mut layer.state().told, true);
            if is_complete && !told {
                self.teller.tell(state(layer.id(), "Pull complete")).await;
            }
        }
    }

    /// What is now known of the layers' blobs.
    pub(super) fn blobs(&self, config: &ImageConfig, repository: &str) -> Vec<BlobRecord> {
        let now = now_ns();
        self.layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .map(|(layer, diff_id)| BlobRecord {
                diff_id: diff_id.to_string(),
                digest: layer.blob.digest.to_string(),
                repository: repository.to_owned(),
                media_type: layer.blob.media_type.clone(),
                size_bytes: i64::try_from(layer.blob.size_bytes).unwrap_or(i64::MAX),
                ours: layer.state().ours,
                seen_ns: now,
            })
            .collect()
    }
}

impl Progress for Arc<Fetch> {
    fn exists(&self, layer: usize) {
        let mut state = self.layers[layer].state();
        state.exists = true;
        if !state.told && state.following.is_none() {
            state.following = Some(self.runtime.spawn(Arc::clone(self).follow(layer)));
        }
    }

    fn read(&self, layer: usize, bytes: u64) {
        if let Some(download) = &self.layers[layer].state().download {
            download.unpacked(Unpacked::Bytes(bytes));
        }
    }

    fn failed(&self, layer: usize) {
        self.layers[layer].state().failed = true;
    }

    fn complete(&self, layer: usize) {
        let layer = &self.layers[layer];
        let (download, following) = {
            let mut state = layer.state();
            (state.download.clone(), state.following.take())
        };
        if let Some(download) = download {
            let ours = push::is_ours(&download.start(push::MARK_BYTES));
            layer.state().ours = ours;
            // Before everything unpacked is flushed to the disk: these bytes need not be.
            download.remove();
            download.unpacked(Unpacked::Complete);
        }
        // What is told of this layer goes before what is told of the next.
        if let Some(following) = following {
            let _cancelled = self.runtime.block_on(following).is_err();
        }
    }
}
