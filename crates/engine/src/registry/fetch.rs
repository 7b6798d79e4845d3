//! The layers of one pull, as the ingest asks for them: downloads that start together, and what is known of each.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use conex_distribution::Repository;
use conex_spec::image::{Descriptor, ImageConfig};
use conex_store::records::blobs::BlobRecord;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::blob::{Blobs, Download};
use super::following::Following;
use super::progress::{self, Teller, bar, state};
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
    /// Whether the bar of the download has come to its end.
    downloaded: bool,
    /// Whether "Pull complete" or "Already exists" was told.
    told: bool,
    /// Whether compressing it here gives the same blob.
    ours: bool,
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
        let (fetch, download) = (Arc::clone(self), Arc::downgrade(download));
        let following = self.runtime.spawn(async move {
            let Some(download) = download.upgrade() else {
                return;
            };
            let layer = &fetch.layers[index];
            if progress::follow(&fetch.teller, layer.id(), &download).await {
                layer.state().downloaded = true;
            }
        });
        self.layers[index].state().following = Some(following);
    }

    /// The blobs' own words for a failure go before those of the unpacking that missed their bytes.
    pub(super) fn explain(&self, error: Error) -> Failure {
        let mut failure = Failure {
            error,
            damaged: false,
        };
        for layer in &self.layers {
            let Some(download) = layer.state().download.clone() else {
                continue;
            };
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
            let told = state.told;
            *state = LayerState {
                told,
                ..LayerState::default()
            };
        }
    }

    /// What others brought is complete too.
    pub(super) async fn finish(&self) {
        lock(&self.under_way).clear();
        for layer in &self.layers {
            let told = std::mem::replace(&mut layer.state().told, true);
            if !told {
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

impl Progress for Fetch {
    fn exists(&self, layer: usize) {
        let layer = &self.layers[layer];
        let mut state = layer.state();
        state.exists = true;
        if !state.told {
            // Somebody else's download keeps going if they leave and we stay.
            state.download = self.engine.remote.blobs.under_way(&layer.blob.digest);
        }
    }

    fn read(&self, layer: usize, bytes: u64) {
        let layer = &self.layers[layer];
        if layer.state().downloaded {
            let total = layer.blob.size_bytes;
            self.teller
                .hint(bar(layer.id(), "Extracting", bytes, total));
        }
    }

    fn complete(&self, layer: usize) {
        let layer = &self.layers[layer];
        // What was told of the download goes before what is told of the layer.
        let following = layer.state().following.take();
        if let Some(following) = following {
            let _cancelled = self.runtime.block_on(following).is_err();
        }
        let mut state_now = layer.state();
        state_now.told = true;
        if let Some(download) = state_now.download.clone() {
            state_now.ours = push::is_ours(&download.start(push::MARK_BYTES));
            // Before everything unpacked is flushed to the disk: these bytes need not be.
            download.remove();
        }
        drop(state_now);
        let total = layer.blob.size_bytes;
        self.teller
            .tell_blocking(bar(layer.id(), "Extracting", total, total));
        self.teller
            .tell_blocking(state(layer.id(), "Pull complete"));
    }
}
