//! `push`: layers to a registry, each in the cheapest way it can have them, and a manifest of what it has then.
//!
//! ```text
//! for each layer, until one of them works:
//!   1. the registry's repository has the blob          Layer already exists
//!   2. another of its repositories has it              Mounted from …
//!   3. the blob comes back byte for byte: compressed here, or fetched from where the image came from
//!   4. the layer's archive, compressed here            Pushed
//! manifest: the one the image came with if every blob is one of its own, else a new one
//! ```
//!
//! What a layer was sent as is remembered, so that a second push sends the same digests and no bytes. A compression
//! that was asked for leaves out every blob of another.

mod compression;
mod manifest;

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::sync::Arc;

use bytes::Bytes;
use conex_api::image::PushOptions;
use conex_api::progress::{Message, ProgressDetail};
use conex_archive::compression::gzip;
use conex_distribution::{Credentials, Repository, Started, Watch};
use conex_spec::digest::{Digest, Sha256};
use conex_spec::image::{Descriptor, media_type};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;
use conex_store::records::blobs::BlobRecord;
use futures_util::stream::BoxStream;

use self::compression::Compression;
use self::manifest::{Kept, kept, manifest};
use super::blob::Download;
use super::progress::{Teller, bar, state};
use super::refused;
use super::spool::{Counted, FileSource, PIECE_BYTES, unnamed};
use crate::engine::Inner;
use crate::error::{ErrorKind, chain};
use crate::image::Image;
use crate::time::now_ns;
use crate::{Engine, Error};

/// Bytes of a blob that tell who compressed it.
pub(super) const MARK_BYTES: usize = gzip::HEADER_BYTES;
/// Blobs of one layer that the registry is asked about.
const MAX_CANDIDATES: usize = 6;

/// Whether compressing the archive of a blob that starts so gives the same blob.
pub(super) fn is_ours(start: &[u8]) -> bool {
    start == gzip::HEADER
}

impl Engine {
    /// Sends an image, or without a tag all of its repository here.
    ///
    /// Errors: an invalid name, platform or compression, no such image, none of the platform; whatever the registry
    /// says is told in band.
    pub async fn image_push(
        &self,
        name: &str,
        options: PushOptions,
    ) -> Result<BoxStream<'static, Message>, Error> {
        let invalid = |e: &dyn std::error::Error| Error::invalid(e.to_string());
        let reference = Reference::parse(name).map_err(|e| invalid(&e))?;
        if reference.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        let reference = match options.tag.as_str() {
            "" => reference,
            tag => reference.with_tag(tag).map_err(|e| invalid(&e))?,
        };
        let platform = options.platform.as_deref().map(wanted_platform);
        let platform = platform.transpose()?;
        let compression = Compression::parse(&options.compression)?;
        let engine = Arc::clone(&self.inner);
        let names = match reference.tag() {
            Some(_) => vec![reference.clone()],
            None => engine.images.tags_of(&reference),
        };
        let missing = |name: &Reference| {
            Error::not_found(format!(
                "An image does not exist locally with the tag: {}",
                name.familiar_name()
            ))
        };
        let mut images = Vec::new();
        for name in names {
            let image = engine.images.find(&name.to_string());
            let image = image.map_err(|_| missing(&name))?;
            let of = image.config.platform();
            if let Some(wanted) = platform
                .as_ref()
                .filter(|wanted| wanted.rank(&of).is_none())
            {
                return Err(Error::not_found(format!(
                    "image with reference {} was found but its platform ({of}) does not match the \
                     specified platform ({wanted})",
                    name.familiar()
                )));
            }
            images.push((image, name));
        }
        if images.is_empty() {
            return Err(missing(&reference));
        }
        let credentials = Credentials::from_header(&options.auth).unwrap_or_default();
        let others = Credentials::by_registry(&options.other_auths).unwrap_or_default();
        let (gone, over) = tokio::sync::oneshot::channel::<()>();
        let (teller, messages) = Teller::new(gone);
        let push = Push {
            engine,
            domain: reference.domain().to_owned(),
            credentials,
            others,
            compression,
            teller,
        };
        tokio::spawn(async move {
            let work = async {
                let all = push.send_all(&reference.repository(), images).await;
                if let Err(error) = all {
                    push.teller.tell(Message::failure(error.to_string())).await;
                }
            };
            // The sender goes with the client's stream of messages.
            tokio::select! {
                () = work => {}
                _ = over => {}
            }
        });
        Ok(messages)
    }
}

/// `platform` of a push, with Docker's words for what is none.
fn wanted_platform(text: &str) -> Result<Platform, Error> {
    let platform: Platform = serde_json::from_str(text)
        .map_err(|e| Error::invalid(format!("failed to parse platform: {e}")))?;
    match platform.os.is_empty() || platform.architecture.is_empty() {
        true => Err(Error::invalid("both OS and Architecture must be provided")),
        false => Ok(platform),
    }
}

/// One client's wish.
struct Push {
    engine: Arc<Inner>,
    /// The registry that is pushed to, and who the client is there.
    domain: String,
    credentials: Credentials,
    /// Who it is elsewhere, by registry.
    others: HashMap<String, Credentials>,
    /// What every layer is to be sent as, if the client said so.
    compression: Option<Compression>,
    teller: Teller,
}

/// A layer to be sent, once for each archive however often the image has it.
struct Layer {
    index: usize,
    diff_id: Digest,
    /// The blob of the manifest the image came with.
    wanted: Option<Descriptor>,
    known: Vec<BlobRecord>,
    /// Blobs in another form are of no use.
    compression: Option<Compression>,
}

/// What the registry has of a layer in the end.
struct Sent {
    diff_id: Digest,
    blob: Descriptor,
    ours: bool,
}

impl Push {
    async fn send_all(
        &self,
        repository: &Reference,
        images: Vec<(Arc<Image>, Reference)>,
    ) -> Result<(), Error> {
        let name = repository.familiar_name();
        let first = format!("The push refers to repository [{name}]");
        self.teller.tell(Message::status(first)).await;
        for (image, name) in images {
            self.send(&image, &name).await?;
        }
        Ok(())
    }

    async fn send(&self, image: &Image, name: &Reference) -> Result<(), Error> {
        let (config, documents) = self.engine.images.documents_of(&image.id).await?;
        let kept = kept(image, documents, self.compression);
        let layers = self.layers(image, kept.as_ref()).await?;
        for layer in &layers {
            self.teller
                .tell(state(layer.diff_id.short(), "Preparing"))
                .await;
        }
        let registries = &self.engine.remote.registries;
        let repository = registries.push(name, &self.credentials).await;
        let repository = repository.map_err(|e| refused(&e))?;
        let sent = self.send_layers(image, name, &repository, layers).await?;
        let blobs: HashMap<&Digest, &Sent> = sent.iter().map(|s| (&s.diff_id, s)).collect();
        let descriptors: Vec<Descriptor> = image
            .config
            .rootfs
            .diff_ids
            .iter()
            .filter_map(|diff_id| Some(blobs.get(diff_id)?.blob.clone()))
            .collect();
        let manifest = manifest(image, &config, kept, descriptors)?;
        self.send_config(&repository, &config, image).await?;
        let tag = name.tag().unwrap_or_default();
        let bytes = Bytes::from(manifest.content.clone());
        let digest = repository
            .put_manifest(tag, &manifest.media_type, &bytes)
            .await
            .map_err(|e| denied(&e))?;
        self.remember(&sent, name).await?;
        let exact = name.clone().without_tag().with_digest(digest.clone());
        let images = &self.engine.images;
        images.name_by_digest(&image.id, &exact, manifest).await?;
        self.finish(name, tag, &digest, bytes.len()).await;
        Ok(())
    }

    async fn finish(&self, name: &Reference, tag: &str, digest: &Digest, size: usize) {
        let text = format!("{tag}: digest: {digest} size: {size}");
        self.teller.tell(Message::status(text)).await;
        let aux = serde_json::json!({"Tag": tag, "Digest": digest.as_str(), "Size": size});
        self.teller
            .tell(Message {
                progress_detail: Some(ProgressDetail::default()),
                aux: Some(aux),
                ..Message::default()
            })
            .await;
        let attributes = [("name".to_owned(), name.familiar_name().to_owned())].into();
        self.engine
            .events
            .publish("image", "push", &name.familiar(), attributes);
    }

    async fn layers(&self, image: &Image, kept: Option<&Kept>) -> Result<Vec<Layer>, Error> {
        let mut layers: Vec<Layer> = Vec::new();
        for (index, diff_id) in image.config.rootfs.diff_ids.iter().enumerate() {
            if layers.iter().any(|layer| layer.diff_id == *diff_id) {
                continue;
            }
            layers.push(Layer {
                index,
                diff_id: diff_id.clone(),
                wanted: kept.map(|kept| kept.manifest.layers[index].clone()),
                known: self.engine.images.blobs_of(diff_id).await?,
                compression: self.compression,
            });
        }
        Ok(layers)
    }

    async fn send_layers(
        &self,
        image: &Image,
        name: &Reference,
        repository: &Repository,
        layers: Vec<Layer>,
    ) -> Result<Vec<Sent>, Error> {
        let uploads = self.engine.remote.limits().uploads;
        let sending = layers.into_iter().map(|layer| {
            let uploads = Arc::clone(&uploads);
            async move {
                let _permit = uploads.acquire_owned().await;
                self.send_layer(image, name, repository, &layer).await
            }
        });
        futures_util::future::try_join_all(sending).await
    }

    async fn send_layer(
        &self,
        image: &Image,
        name: &Reference,
        repository: &Repository,
        layer: &Layer,
    ) -> Result<Sent, Error> {
        let id = layer.diff_id.short();
        let sent = |blob: Descriptor, ours| Sent {
            diff_id: layer.diff_id.clone(),
            blob,
            ours,
        };
        let candidates = layer.candidates();
        for (blob, ours) in &candidates {
            if repository
                .has_blob(&blob.digest)
                .await
                .map_err(|e| denied(&e))?
            {
                self.teller.tell(state(id, "Layer already exists")).await;
                return Ok(sent(blob.clone(), *ours));
            }
        }
        for (blob, ours) in &candidates {
            let Some(from) = layer.sibling(name, &blob.digest) else {
                continue;
            };
            let asked = repository
                .start_upload(Some(&blob.digest), Some(&from))
                .await;
            match asked.map_err(|e| denied(&e))? {
                Started::Exists => {
                    self.teller.tell(state(id, "Layer already exists")).await;
                    return Ok(sent(blob.clone(), *ours));
                }
                Started::Mounted => {
                    let text = format!("Mounted from {from}");
                    self.teller.tell(state(id, text)).await;
                    return Ok(sent(blob.clone(), *ours));
                }
                Started::Upload(_) => {}
            }
        }
        let ours = |digest: &Digest| {
            candidates
                .iter()
                .any(|(b, ours)| *ours && b.digest == *digest)
        };
        if let Some(wanted) = layer.wanted.as_ref().filter(|wanted| !ours(&wanted.digest))
            && let Some(download) = self.fetch_again(layer, wanted).await
        {
            let source = FileSource::Blob(Arc::clone(&download));
            self.upload(repository, id, wanted, source).await?;
            return Ok(sent(wanted.clone(), false));
        }
        let (file, blob) = self.compress(image, layer).await?;
        // A manifest's own name for the same blob stays.
        let same = candidates.iter().find(|(b, _)| b.digest == blob.digest);
        let blob = same.map_or(blob, |(b, _)| b.clone());
        self.upload(repository, id, &blob, FileSource::Spool(Arc::new(file)))
            .await?;
        Ok(sent(blob, true))
    }

    async fn upload(
        &self,
        repository: &Repository,
        id: &str,
        blob: &Descriptor,
        source: FileSource,
    ) -> Result<(), Error> {
        let started = repository.start_upload(Some(&blob.digest), None).await;
        let status = match started.map_err(|e| denied(&e))? {
            Started::Exists | Started::Mounted => "Layer already exists",
            Started::Upload(upload) => {
                let told = Told {
                    teller: &self.teller,
                    id,
                    total: blob.size_bytes,
                };
                let uploaded = repository.upload(blob, &source, upload, &told).await;
                uploaded.map_err(|e| denied(&e))?;
                "Pushed"
            }
        };
        self.teller.tell(state(id, status)).await;
        Ok(())
    }

    /// The manifest's own blob, from where it was last seen.
    async fn fetch_again(&self, layer: &Layer, wanted: &Descriptor) -> Option<Arc<Download>> {
        let places = layer
            .known
            .iter()
            .filter(|known| known.digest == wanted.digest.as_str() && !known.repository.is_empty());
        for place in places.take(MAX_CANDIDATES) {
            let reference = Reference::parse(&place.repository).ok()?;
            let nobody = Credentials::default();
            let credentials = match reference.domain() == self.domain {
                true => &self.credentials,
                false => self.others.get(reference.domain()).unwrap_or(&nobody),
            };
            let registries = &self.engine.remote.registries;
            let opened = registries.pull(&reference, credentials).await;
            let Ok(repository) = opened.map(Arc::new) else {
                continue;
            };
            let permits = self.engine.remote.limits().downloads;
            let fetched = self.engine.remote.blobs.fetch(&repository, wanted, permits);
            let Ok(download) = fetched else { continue };
            let ended = download.ended().await;
            let checking = Arc::clone(&download);
            let damaged = tokio::task::spawn_blocking(move || checking.is_damaged());
            if ended.is_ok() && damaged.await.is_ok_and(|damaged| !damaged) {
                // Open as long as it is needed, and nobody else's.
                download.remove();
                return Some(download);
            }
        }
        tracing::debug!(digest = %wanted.digest, "the image's own blob cannot be had again");
        None
    }

    /// The layer's archive, compressed into a file without a name.
    async fn compress(
        &self,
        image: &Image,
        layer: &Layer,
    ) -> Result<(std::fs::File, Descriptor), Error> {
        let compression = layer.form();
        let engine = Arc::clone(&self.engine);
        let mut archive = engine.layer_archive(image, layer.index)?;
        let compressing = tokio::task::spawn_blocking(move || {
            let file = unnamed(&engine.root.tmp())?;
            let mut sink = Counted {
                file: &file,
                hash: Sha256::new(),
                bytes: 0,
            };
            let mut archive = BufReader::with_capacity(PIECE_BYTES, &mut archive);
            let mut buffered = io::BufWriter::with_capacity(PIECE_BYTES, &mut sink);
            compression.compress(&mut archive, &mut buffered)?;
            drop(buffered);
            let (digest, bytes) = (sink.hash.finish(), sink.bytes);
            conex_sys::memory::trim();
            Ok::<_, io::Error>((
                file,
                Descriptor::new(compression.media_type(), digest, bytes),
            ))
        });
        compressing
            .await
            .map_err(|e| Error::system("compress the layer", &e))?
            .map_err(|e| Error::system("compress the layer", &e))
    }

    async fn send_config(
        &self,
        repository: &Repository,
        config: &[u8],
        image: &Image,
    ) -> Result<(), Error> {
        let started = repository.start_upload(Some(&image.id), None).await;
        if let Started::Upload(upload) = started.map_err(|e| denied(&e))? {
            let blob = Descriptor::new(
                media_type::DOCKER_CONFIG,
                image.id.clone(),
                config.len() as u64,
            );
            let source = FileSource::Memory(Bytes::copy_from_slice(config));
            let uploaded = repository.upload(&blob, &source, upload, &()).await;
            uploaded.map_err(|e| denied(&e))?;
        }
        Ok(())
    }

    async fn remember(&self, sent: &[Sent], name: &Reference) -> Result<(), Error> {
        let now = now_ns();
        let row = |sent: &Sent| BlobRecord {
            diff_id: sent.diff_id.to_string(),
            digest: sent.blob.digest.to_string(),
            repository: name.name().to_owned(),
            media_type: sent.blob.media_type.clone(),
            size_bytes: i64::try_from(sent.blob.size_bytes).unwrap_or(i64::MAX),
            ours: sent.ours,
            seen_ns: now,
        };
        let rows = sent.iter().map(row).collect();
        self.engine.images.remember_blobs(rows).await
    }
}

impl Layer {
    /// What it is compressed with if that is done here: as asked, or as the manifest's own blob was here before.
    fn form(&self) -> Compression {
        let before = self.candidates().into_iter().find(|(_, ours)| *ours);
        let before = before.and_then(|(blob, _)| Compression::of(&blob.media_type));
        self.compression.or(before).unwrap_or(Compression::Gzip)
    }

    /// Blobs the registry may have, the manifest's own alone if there is one; and whether they are ours.
    fn candidates(&self) -> Vec<(Descriptor, bool)> {
        let mut found: Vec<(Descriptor, bool)> = Vec::new();
        let ours = |digest: &str| self.known.iter().any(|k| k.ours && k.digest == digest);
        if let Some(wanted) = &self.wanted {
            return vec![(wanted.clone(), ours(wanted.digest.as_str()))];
        }
        for known in &self.known {
            let (Ok(digest), Ok(size)) = (known.digest.parse(), u64::try_from(known.size_bytes))
            else {
                continue;
            };
            // Registries must not be given what they may not pass on; such a layer is sent as an ordinary one.
            let foreign = media_type::is_foreign_layer(&known.media_type);
            let asked = self.compression;
            if asked.is_some_and(|asked| !asked.is_that_of(&known.media_type)) {
                continue;
            }
            let blob = Descriptor::new(&known.media_type, digest, size);
            if !foreign && !found.iter().any(|(b, _)| b.digest == blob.digest) {
                found.push((blob, ours(&known.digest)));
            }
        }
        found.truncate(MAX_CANDIDATES);
        found
    }

    /// Another repository of the registry that has a blob.
    fn sibling(&self, name: &Reference, digest: &Digest) -> Option<String> {
        self.known
            .iter()
            .filter(|known| known.digest == digest.as_str())
            .filter_map(|known| Reference::parse(&known.repository).ok())
            .find(|other| other.domain() == name.domain() && other.path() != name.path())
            .map(|other| other.path().to_owned())
    }
}

/// What a registry says to a push.
fn denied(error: &conex_distribution::Error) -> Error {
    Error::new(ErrorKind::System, chain(error))
}

/// Moves one layer's bar.
struct Told<'a> {
    teller: &'a Teller,
    id: &'a str,
    total: u64,
}

impl Watch for Told<'_> {
    fn progress(&self, current_bytes: u64) {
        self.teller
            .hint(bar(self.id, "Pushing", current_bytes, self.total));
    }

    fn retrying(&self, seconds: u64) {
        let s = if seconds == 1 { "" } else { "s" };
        let text = format!("Retrying in {seconds} second{s}");
        self.teller.hint(state(self.id, text));
    }
}
