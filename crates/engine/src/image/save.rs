//! `save`: images as one archive that is a Docker archive and an OCI layout at
//! once, as Docker writes it since version 25.
//!
//! ```text
//!  blobs/sha256/<digest>   configs, manifests, layers (plain tar, so that a layer's name is its DiffID)
//!  index.json  oci-layout                the layout's entry
//!  manifest.json  repositories           the Docker archive's
//! ```
//!
//! The same images always give the same bytes: small files first, layers last,
//! all of the epoch. Layers are made again from their trees while they are
//! sent; each is checked against its DiffID at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use conex_api::image::SaveOptions;
use conex_archive::tar::{EntryKind, Header, Writer};
use conex_layers::recipe::Regenerated;
use conex_spec::digest::Digest;
use conex_spec::image::{Descriptor, Index, Manifest, media_type};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;
use conex_store::records::images as records;
use futures_util::stream::{BoxStream, StreamExt};
use indexmap::IndexMap;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::{Image, Images};
use crate::engine::Inner;
use crate::{Engine, Error};

/// Bytes sent at a time.
const PIECE_BYTES: usize = 256 * 1024;

impl Engine {
    /// The archive of these images. What can be known before the first byte is
    /// an error at once; what is found later, such as a damaged layer, cuts the
    /// stream, since an archive has no place to tell it.
    pub async fn image_save(
        &self,
        options: SaveOptions,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, Error> {
        let wanted: Vec<Platform> = options
            .platforms
            .iter()
            .map(|text| super::platform(text))
            .collect::<Result<_, _>>()?;
        let engine = Arc::clone(&self.inner);
        let (begun, ready) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let chosen = match engine.images.choose(&options.names, &wanted) {
                Ok(chosen) => chosen,
                Err(error) => return drop(begun.send(Err(error))),
            };
            let chains: Vec<Digest> = chosen
                .keys()
                .flat_map(|image| image.0.chains.clone())
                .collect();
            let _held = engine.hold(&chains);
            let plan = match Plan::make(&engine, chosen) {
                Ok(plan) => plan,
                Err(error) => return drop(begun.send(Err(error))),
            };
            if begun.send(Ok(())).is_err() {
                return;
            }
            let mut sink = Pieces {
                sender,
                piece: Vec::with_capacity(PIECE_BYTES),
            };
            let written = plan.write(&engine, &mut sink).and_then(|()| sink.flush());
            if let Err(error) = written {
                tracing::warn!(
                    error = crate::error::chain(&error),
                    "an image is not saved whole"
                );
                drop(sink.sender.blocking_send(Err(error)));
            }
        });
        ready
            .await
            .map_err(|e| Error::system("save images", &e))??;
        let next = |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async move {
            let piece = receiver.recv().await?;
            Some((piece, receiver))
        };
        Ok(futures_util::stream::unfold(receiver, next).boxed())
    }
}

/// An image by its id.
struct ById(Arc<Image>);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl std::hash::Hash for ById {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

type Chosen = IndexMap<ById, BTreeSet<Reference>>;

impl Images {
    /// The images that these words mean, with the names that go along: for a
    /// name its own tag, for a repository all its tags, for an id none.
    fn choose(&self, words: &[String], wanted: &[Platform]) -> Result<Chosen, Error> {
        let mut chosen = Chosen::new();
        for word in words {
            let mut names = Vec::new();
            if let Ok(reference) = Reference::parse(word) {
                names = match (reference.tag(), reference.digest()) {
                    (None, None) => self.tags_in(reference.name()),
                    (_, Some(_)) => Vec::new(),
                    (Some(_), None) => vec![reference],
                };
            }
            let mut found = Vec::new();
            for name in names {
                if let Ok(image) = self.find(&name.to_string()) {
                    found.push((image, Some(name)));
                }
            }
            if found.is_empty() {
                found.push((self.find(word)?, None));
            }
            for (image, name) in found {
                image.fits(word, wanted)?;
                chosen.entry(ById(image)).or_default().extend(name);
            }
        }
        Ok(chosen)
    }

    fn tags_in(&self, repository: &str) -> Vec<Reference> {
        let known = self.known();
        let names = known.references.keys();
        names
            .filter_map(|name| Reference::parse(name).ok())
            .filter(|name| name.name() == repository && name.digest().is_none())
            .collect()
    }
}

/// One entry of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<String, Descriptor>,
}

/// Everything that is written, in its order, the layers by where they are.
struct Plan {
    files: Vec<(String, Vec<u8>)>,
    layers: IndexMap<Digest, (Arc<Image>, usize)>,
}

impl Plan {
    fn make(engine: &Inner, chosen: Chosen) -> Result<Self, Error> {
        let mut blobs: IndexMap<Digest, Vec<u8>> = IndexMap::new();
        let mut layers = IndexMap::new();
        let mut items = Vec::new();
        let mut descriptors = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (ById(image), names) in chosen {
            let config = engine.config_of(&image)?;
            let manifest = engine.plain_manifest(&image, config.len() as u64)?;
            for (index, layer) in manifest.layers.iter().enumerate() {
                let place = || (Arc::clone(&image), index);
                layers.entry(layer.digest.clone()).or_insert_with(place);
            }
            let json = to_json(&manifest)?;
            let descriptor = Descriptor {
                platform: Some(image.config.platform()),
                ..Descriptor::new(
                    media_type::OCI_MANIFEST,
                    Digest::of(&json),
                    json.len() as u64,
                )
            };
            for name in &names {
                let mut named = descriptor.clone();
                let tag = name.tag().unwrap_or_default().to_owned();
                named.annotations = [
                    ("io.containerd.image.name".to_owned(), name.to_string()),
                    ("org.opencontainers.image.ref.name".to_owned(), tag.clone()),
                ]
                .into();
                descriptors.push(named);
                let top = manifest.layers.last();
                let top = top.map_or("", |layer| layer.digest.hex()).to_owned();
                let repository = name.familiar_name().to_owned();
                repositories.entry(repository).or_default().insert(tag, top);
            }
            if names.is_empty() {
                descriptors.push(descriptor.clone());
            }
            let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
            let sources = manifest.layers.iter();
            items.push(Item {
                config: path(&image.id),
                repo_tags: (!tags.is_empty()).then_some(tags),
                layers: manifest.layers.iter().map(|it| path(&it.digest)).collect(),
                layer_sources: sources
                    .map(|it| (it.digest.to_string(), it.clone()))
                    .collect(),
            });
            blobs.insert(image.id.clone(), config);
            blobs.insert(descriptor.digest, json);
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: descriptors,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let mut files = vec![
            (
                "oci-layout".to_owned(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            ("index.json".to_owned(), to_json(&index)?),
            ("manifest.json".to_owned(), to_json(&items)?),
        ];
        if !repositories.is_empty() {
            files.push(("repositories".to_owned(), to_json(&repositories)?));
        }
        let blobs = blobs
            .into_iter()
            .map(|(digest, bytes)| (path(&digest), bytes));
        files.extend(blobs);
        Ok(Self { files, layers })
    }

    fn write(&self, engine: &Inner, sink: &mut Pieces) -> io::Result<()> {
        let mut archive = Writer::new(sink);
        let mut folders = ["blobs/", "blobs/sha256/"].into_iter();
        for (name, bytes) in &self.files {
            if name.starts_with("blobs/") {
                for folder in folders.by_ref() {
                    archive.append_empty(&Header::new(folder, EntryKind::Directory))?;
                }
            }
            let mut header = Header::new(name.as_str(), EntryKind::Regular);
            header.size = bytes.len() as u64;
            archive.append(&header, &mut &bytes[..])?;
        }
        for (digest, (image, index)) in &self.layers {
            let mut layer = engine
                .layer_archive(image, *index)
                .map_err(io::Error::other)?;
            let mut header = Header::new(path(digest), EntryKind::Regular);
            header.size = layer.archive_bytes();
            archive.append(&header, &mut layer)?;
            check_end(&mut layer)?;
        }
        archive.finish()?;
        Ok(())
    }
}

/// The digest is compared when the end is read, which the writer, who knows
/// the length, does not do.
fn check_end(layer: &mut Regenerated) -> io::Result<()> {
    match io::Read::read(layer, &mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("a layer's archive is longer than it was")),
    }
}

impl Inner {
    fn config_of(&self, image: &Image) -> Result<Vec<u8>, Error> {
        let id = image.id.to_string();
        let row = id.clone();
        let config = self.images.db.run(move |db| records::config_of(db, &row));
        let config = config.map_err(|e| Error::system("read the image's config", &e))?;
        config.ok_or_else(|| Error::no_image(&id))
    }

    /// The manifest of an image whose layers are plain archives.
    fn plain_manifest(&self, image: &Image, config_bytes: u64) -> Result<Manifest, Error> {
        let layers = image.config.rootfs.diff_ids.iter().enumerate();
        let layers = layers.map(|(index, diff_id)| {
            let bytes = self.layer_archive(image, index)?.archive_bytes();
            Ok(Descriptor::new(
                media_type::OCI_LAYER,
                diff_id.clone(),
                bytes,
            ))
        });
        Ok(Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::new(media_type::OCI_CONFIG, image.id.clone(), config_bytes),
            layers: layers.collect::<Result<_, Error>>()?,
            subject: None,
            annotations: BTreeMap::new(),
        })
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::system("describe the images", &e))
}

/// Sends what is written on in pieces.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES - self.piece.len();
        let taken = room.min(bytes.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.sender
            .blocking_send(Ok(piece.into()))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone"))
    }
}
