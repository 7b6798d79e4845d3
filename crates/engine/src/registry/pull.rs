//! `pull`: what a name means, and its layers fetched and unpacked at once.
//!
//! What can be found out before the first layer (the tag, the platform, who may) is an error of the request; what
//! goes wrong later is told in band (COMPAT D1.11). A client that goes away ends its pull; bytes that were fetched
//! stay for the next one.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use conex_api::image::PullOptions;
use conex_api::progress::Message;
use conex_distribution::{Credentials, Fetched, Repository};
use conex_spec::digest::Digest;
use conex_spec::image::{Document, ImageConfig, Manifest, media_type};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;
use conex_store::records::blobs::BlobRecord;
use conex_store::records::images::ManifestRecord;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::blob::{Blobs, Download};
use super::following::Following;
use super::progress::{self, Teller, bar, state};
use super::{push, refused};
use crate::engine::Inner;
use crate::error::{ErrorKind, chain};
use crate::image::ingest::{Incoming, Open, Progress};
use crate::time::now_ns;
use crate::{Engine, Error};

/// Indexes within indexes are looked into so deep.
const MAX_NESTING: usize = 3;
/// A layer that arrives damaged is fetched once more.
const TRIES: usize = 2;

/// An image that is known but for its layers.
struct Prepared {
    reference: Reference,
    repository: Arc<Repository>,
    /// Of what the name stands for: an index, or the manifest.
    digest: Digest,
    content: Option<Content>,
}

/// What of it has been fetched; nothing if the image is here.
struct Content {
    manifest: Manifest,
    config: Bytes,
    documents: Vec<ManifestRecord>,
}

impl Engine {
    /// Pulls an image, or with neither tag nor digest all of a repository.
    ///
    /// Errors: an invalid name or platform; the registry cannot be reached, has no such image, or refuses.
    pub async fn image_pull(
        &self,
        options: PullOptions,
    ) -> Result<BoxStream<'static, Message>, Error> {
        let engine = Arc::clone(&self.inner);
        let reference = named(&options.image, &options.tag)?;
        // Old clients send what is no header; they mean nobody.
        let credentials = Credentials::from_header(&options.auth).unwrap_or_default();
        let platform = match options.platform.as_deref().filter(|p| !p.is_empty()) {
            Some(text) => Some(
                text.parse::<Platform>()
                    .map_err(|e| Error::invalid(e.to_string()))?,
            ),
            None => None,
        };
        let pull = Pull {
            engine,
            credentials,
            platform,
            over: Arc::default(),
            under_way: Arc::default(),
        };
        let (teller, messages) = Teller::new(Leaving {
            over: Arc::clone(&pull.over),
            under_way: Arc::clone(&pull.under_way),
        });
        if reference.tag().is_some() || reference.digest().is_some() {
            let prepared = pull.prepare(reference).await?;
            tokio::spawn(async move {
                if let Err(error) = pull.run(prepared, &teller).await {
                    teller.tell(Message::failure(error.to_string())).await;
                }
            });
            return Ok(messages);
        }
        let repository = pull.open(&reference).await?;
        let tags = repository.tags().await.map_err(|e| refused(&e))?;
        tokio::spawn(async move {
            for tag in tags {
                let one = async {
                    let reference = reference
                        .clone()
                        .with_tag(&tag)
                        .map_err(|e| Error::invalid(e.to_string()))?;
                    let prepared = pull.prepare(reference).await?;
                    pull.run(prepared, &teller).await
                };
                if let Err(error) = one.await {
                    teller.tell(Message::failure(error.to_string())).await;
                    return;
                }
            }
        });
        Ok(messages)
    }
}

/// The reference of `fromImage` and `tag`, which may be a digest.
fn named(image: &str, tag: &str) -> Result<Reference, Error> {
    let invalid = |e: &dyn std::error::Error| Error::invalid(e.to_string());
    let reference = Reference::parse(image).map_err(|e| invalid(&e))?;
    match tag {
        "" => Ok(reference),
        digest if digest.contains(':') => {
            let digest = digest
                .parse()
                .map_err(|e: conex_spec::digest::DigestError| invalid(&e))?;
            Ok(reference.without_tag().with_digest(digest))
        }
        tag => reference.with_tag(tag).map_err(|e| invalid(&e)),
    }
}

/// One client's wish.
struct Pull {
    engine: Arc<Inner>,
    credentials: Credentials,
    platform: Option<Platform>,
    over: Arc<AtomicBool>,
    under_way: Arc<Mutex<Vec<Arc<Download>>>>,
}

/// Ends a pull when its client goes.
struct Leaving {
    over: Arc<AtomicBool>,
    under_way: Arc<Mutex<Vec<Arc<Download>>>>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for download in std::mem::take(&mut *lock(&self.under_way)) {
            download.shared.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pull {
    async fn open(&self, reference: &Reference) -> Result<Arc<Repository>, Error> {
        let registries = &self.engine.remote.registries;
        let opened = registries.pull(reference, &self.credentials).await;
        opened.map(Arc::new).map_err(|e| refused(&e))
    }

    /// Finds out what a name means; fetches manifests and config unless the image is here.
    async fn prepare(&self, reference: Reference) -> Result<Prepared, Error> {
        let repository = self.open(&reference).await?;
        let resolved = repository.resolve().await.map_err(|e| refused(&e))?;
        let digest = resolved.digest.clone();
        let exact = reference.clone().without_tag().with_digest(digest.clone());
        let is_here = |name: &Reference| self.engine.images.find(&name.to_string()).ok();
        if let (Some(exact), Some(named)) = (is_here(&exact), is_here(&reference))
            && exact.id == named.id
            && self.suits(&exact.config)
        {
            return Ok(Prepared {
                reference,
                repository,
                digest,
                content: None,
            });
        }
        let fetched = match resolved.fetched {
            Some(fetched) => fetched,
            None => repository
                .manifest(&digest)
                .await
                .map_err(|e| refused(&e))?,
        };
        let content = self.choose(&repository, fetched).await?;
        let config = ImageConfig::load(&content.config).map_err(|e| Error::invalid(chain(&e)))?;
        if !self.suits(&config) {
            let wanted = self.platform.clone().unwrap_or_default();
            return Err(Error::not_found(format!(
                "image with reference {} was found but its platform ({}) does not match the \
                 specified platform ({wanted})",
                reference.familiar(),
                config.platform()
            )));
        }
        Ok(Prepared {
            reference,
            repository,
            digest,
            content: Some(content),
        })
    }

    /// Whether an image is for the platform that was asked for, if one was.
    fn suits(&self, config: &ImageConfig) -> bool {
        let wanted = self.platform.as_ref();
        wanted.is_none_or(|wanted| wanted.rank(&config.platform()).is_some())
    }

    /// From an index to the platform's manifest and its config.
    async fn choose(&self, repository: &Repository, top: Fetched) -> Result<Content, Error> {
        let platform = self.platform.clone().unwrap_or_else(Platform::host);
        let mut documents = Vec::new();
        let mut fetched = top;
        for _ in 0..MAX_NESTING {
            documents.push(ManifestRecord {
                digest: fetched.digest.to_string(),
                media_type: fetched.media_type,
                content: fetched.bytes,
            });
            let next = match fetched.document {
                Document::Manifest(manifest) => {
                    check(&manifest)?;
                    let config = repository.config(&manifest.config).await;
                    return Ok(Content {
                        config: config.map_err(|e| refused(&e))?,
                        manifest,
                        documents,
                    });
                }
                Document::Index(index) => index.choose(&platform).cloned().ok_or_else(|| {
                    Error::not_found(format!(
                        "no matching manifest for {platform} in the manifest list entries"
                    ))
                })?,
            };
            fetched = repository
                .manifest(&next.digest)
                .await
                .map_err(|e| refused(&e))?;
        }
        Err(Error::invalid(
            "the image's index leads to further indexes, and no image",
        ))
    }

    /// Fetches and unpacks what is missing, and names the image.
    async fn run(&self, prepared: Prepared, teller: &Teller) -> Result<(), Error> {
        let Prepared {
            reference,
            repository,
            digest,
            content,
        } = prepared;
        let word = match reference.digest() {
            Some(digest) => digest.to_string(),
            None => reference.tag().unwrap_or_default().to_owned(),
        };
        let from = format!("Pulling from {}", reference.path());
        teller
            .tell(Message {
                id: word,
                ..Message::status(from)
            })
            .await;
        let is_new = match content {
            None => false,
            Some(content) => {
                self.take_in(&reference, repository, &digest, content, teller)
                    .await?
            }
        };
        teller
            .tell(Message::status(format!("Digest: {digest}")))
            .await;
        let familiar = reference.familiar();
        let status = match is_new {
            true => format!("Status: Downloaded newer image for {familiar}"),
            false => format!("Status: Image is up to date for {familiar}"),
        };
        teller.tell(Message::status(status)).await;
        let attributes = [("name".to_owned(), reference.familiar_name().to_owned())].into();
        self.engine
            .events
            .publish("image", "pull", &familiar, attributes);
        Ok(())
    }

    /// Says whether the name means another image now than before.
    async fn take_in(
        &self,
        reference: &Reference,
        repository: Arc<Repository>,
        digest: &Digest,
        content: Content,
        teller: &Teller,
    ) -> Result<bool, Error> {
        let Content {
            manifest,
            config,
            documents,
        } = content;
        let parsed = ImageConfig::load(&config).map_err(|e| Error::invalid(chain(&e)))?;
        let before = self.engine.images.id_of(&reference.to_string());
        let exact = reference.clone().without_tag().with_digest(digest.clone());
        let mut names = vec![exact];
        if reference.digest().is_none() {
            names.push(reference.clone());
        }
        let fetch = Arc::new(Fetch {
            engine: Arc::clone(&self.engine),
            repository,
            over: Arc::clone(&self.over),
            under_way: Arc::clone(&self.under_way),
            runtime: Handle::current(),
            permits: self.engine.remote.limits().downloads,
            teller: teller.clone(),
            layers: manifest
                .layers
                .iter()
                .map(|blob| Layer {
                    blob: blob.clone(),
                    state: Mutex::default(),
                })
                .collect(),
            started: AtomicBool::new(false),
        });
        fetch.announce(&parsed).await;
        let mut tries = 0;
        let ingested = loop {
            tries += 1;
            let incoming = Incoming {
                config: config.to_vec(),
                layers: fetch.opens(),
                manifests: documents.clone(),
                names: names.clone(),
                parent: None,
            };
            let (engine, progress) = (Arc::clone(&self.engine), Arc::clone(&fetch));
            let done = tokio::task::spawn_blocking(move || {
                let ended = engine.ingest(incoming, Arc::clone(&progress) as Arc<dyn Progress>);
                ended.map_err(|error| progress.explain(error))
            });
            match done.await.map_err(|e| Error::system("pull", &e))? {
                Ok(ingested) => break ingested,
                Err(Failure { damaged: true, .. }) if tries < TRIES => fetch.reset(),
                Err(failure) => return Err(failure.error),
            }
        };
        fetch.finish().await;
        let rows = fetch.blobs(&parsed, reference.name());
        self.engine.images.remember_blobs(rows).await?;
        if let Some(tag) = names.get(1) {
            let id = ingested.image.id.to_string();
            if before.as_ref() != Some(&id) {
                tracing::debug!(name = %tag, id, "a name was given");
            }
        }
        Ok(before.as_deref() != Some(ingested.image.id.as_str()))
    }
}

/// Refuses what is no image: an artifact, or one of another kind of layers.
fn check(manifest: &Manifest) -> Result<(), Error> {
    let config = &manifest.config.media_type;
    if !media_type::is_config(config) && config != "application/octet-stream" {
        return Err(Error::invalid(format!(
            "unsupported media type {config}: the manifest is not that of an image"
        )));
    }
    match manifest
        .layers
        .iter()
        .find(|layer| !media_type::is_layer(&layer.media_type))
    {
        Some(layer) => Err(Error::invalid(format!(
            "unsupported layer media type {}",
            layer.media_type
        ))),
        None => Ok(()),
    }
}

/// The layers of one image, as the ingest asks for them.
struct Fetch {
    engine: Arc<Inner>,
    repository: Arc<Repository>,
    over: Arc<AtomicBool>,
    under_way: Arc<Mutex<Vec<Arc<Download>>>>,
    runtime: Handle,
    permits: Arc<Semaphore>,
    teller: Teller,
    layers: Vec<Layer>,
    started: AtomicBool,
}

struct Layer {
    blob: conex_spec::image::Descriptor,
    state: Mutex<LayerState>,
}

#[derive(Default)]
struct LayerState {
    /// It is here, or somebody else brings it.
    exists: bool,
    download: Option<Arc<Download>>,
    /// Whether the bar of the download has come to its end.
    downloaded: bool,
    /// Whether "Pull complete" or "Already exists" was told.
    told: bool,
    /// Whether compressing it here gives the same blob.
    ours: bool,
}

/// Why an ingest failed, as far as the blobs know.
struct Failure {
    error: Error,
    /// A blob came that is not its digest's; it is gone, and may come right another time.
    damaged: bool,
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
    async fn announce(&self, config: &ImageConfig) {
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

    fn opens(self: &Arc<Self>) -> Vec<Open> {
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
        self.runtime.spawn(async move {
            let Some(download) = download.upgrade() else {
                return;
            };
            let layer = &fetch.layers[index];
            if progress::follow(&fetch.teller, layer.id(), &download).await {
                layer.state().downloaded = true;
            }
        });
    }

    /// The blobs' own words for a failure go before those of the unpacking that missed their bytes.
    fn explain(&self, error: Error) -> Failure {
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
                download.remove();
                failure.error =
                    Error::new(ErrorKind::System, Following::mismatch(&layer.blob.digest));
                failure.damaged = true;
            }
        }
        failure
    }

    /// Forgets the downloads, for another try.
    fn reset(&self) {
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
    async fn finish(&self) {
        lock(&self.under_way).clear();
        for layer in &self.layers {
            let told = std::mem::replace(&mut layer.state().told, true);
            if !told {
                self.teller.tell(state(layer.id(), "Pull complete")).await;
            }
        }
    }

    /// What is now known of the layers' blobs.
    fn blobs(&self, config: &ImageConfig, repository: &str) -> Vec<BlobRecord> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tag_may_be_a_digest() {
        let digest = Digest::of(b"x");
        let by_digest = named("busybox", digest.as_str()).unwrap();
        assert_eq!(by_digest.digest(), Some(&digest));
        assert_eq!(named("busybox", "1").unwrap().familiar(), "busybox:1");
        assert_eq!(named("a/b:1", "2").unwrap().familiar(), "a/b:2");
        assert_eq!(
            named("BAD", "1").unwrap_err().to_string(),
            "invalid reference format: repository name (library/BAD) must be lowercase"
        );
    }
}
