//! `load`: images of an archive that `save`, skopeo, podman or a builder wrote.
//!
//! ```text
//!  body ► decompress ► tar ► members: small ones in memory, others spooled to
//!                            files without a name on the data root's disk
//!       ► manifest.json (Docker archive), else index.json (OCI layout)
//!       ► one ingest per image
//! ```
//!
//! A layer can be used only when the config that names its DiffID is known, and
//! that mostly comes last, so what comes before has to wait somewhere. A
//! spooled file is gone with its last reader, also when the engine is killed,
//! and before anything is synced.

mod docker;
mod member;
mod oci;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use conex_api::image::LoadOptions;
use conex_api::progress::{Message, ProgressDetail};
use conex_spec::digest::Digest;
use conex_spec::image::ImageConfig;
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;
use conex_store::records::images::ManifestRecord;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::ingest::{Incoming, Progress};
use crate::engine::Inner;
use crate::pipe::{self, PipeReader};
use crate::{Engine, Error};
use member::{Blob, Members};

/// An image of an archive.
struct Found {
    /// The config, byte for byte.
    config: Vec<u8>,
    layers: Vec<Blob>,
    names: Vec<Reference>,
    manifests: Vec<ManifestRecord>,
}

impl Engine {
    /// Takes in the images of an archive, plain or compressed, in Docker's form
    /// or as an OCI layout.
    ///
    /// Everything, failures too, is told in band, since the answer has begun
    /// when the archive is read (COMPAT D1.11). An image is there as a whole or
    /// not at all; those before a bad one stay.
    pub async fn image_load(
        &self,
        options: LoadOptions,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<BoxStream<'static, Message>, Error> {
        let wanted: Vec<Platform> = options
            .platforms
            .iter()
            .map(|text| super::platform(text))
            .collect::<Result<_, _>>()?;
        let stream = pipe::reader(body);
        let engine = Arc::clone(&self.inner);
        let (sender, receiver) = mpsc::channel(64);
        tokio::task::spawn_blocking(move || {
            let load = Load {
                engine: &engine,
                wanted,
                quiet: options.quiet,
                sender,
            };
            if let Err(error) = load.run(stream) {
                load.say(Message::failure(error.to_string()));
            }
        });
        let next = |mut receiver: mpsc::Receiver<Message>| async move {
            let message = receiver.recv().await?;
            Some((message, receiver))
        };
        Ok(futures_util::stream::unfold(receiver, next).boxed())
    }
}

struct Load<'a> {
    engine: &'a Inner,
    /// Platforms asked for; none is any.
    wanted: Vec<Platform>,
    quiet: bool,
    sender: mpsc::Sender<Message>,
}

impl Load<'_> {
    /// Tells the client, who may be gone: the load goes on all the same.
    fn say(&self, message: Message) {
        drop(self.sender.blocking_send(message));
    }

    fn print(&self, line: String) {
        self.say(Message {
            stream: line,
            ..Message::default()
        });
    }

    fn run(&self, stream: PipeReader) -> Result<(), Error> {
        let members = Members::read(stream, &self.engine.root.tmp())?;
        let found = if members.has(docker::MANIFEST) {
            docker::images(&members)?
        } else if members.has(oci::INDEX) {
            oci::images(&members, &self.wanted)?
        } else {
            return Err(Error::invalid(format!(
                "invalid archive: does not contain a {} or an {}",
                docker::MANIFEST,
                oci::INDEX
            )));
        };
        drop(members);
        let mut loaded = 0;
        for image in found {
            loaded += usize::from(self.take_in(image)?);
        }
        match (loaded, self.wanted.as_slice()) {
            (0, [_, ..]) => {
                let wanted: Vec<String> = self.wanted.iter().map(ToString::to_string).collect();
                Err(Error::not_found(format!(
                    "the archive contains no image for the platform {}",
                    wanted.join(", ")
                )))
            }
            _ => Ok(()),
        }
    }

    /// Whether the image is for a platform that is wanted.
    fn take_in(&self, image: Found) -> Result<bool, Error> {
        let Found {
            config,
            layers,
            names,
            manifests,
        } = image;
        let parsed =
            ImageConfig::load(&config).map_err(|e| Error::invalid(crate::error::chain(&e)))?;
        if !matches!(parsed.os.as_str(), "" | "linux") {
            return Err(Error::invalid(format!(
                "cannot load {} image on linux",
                parsed.os
            )));
        }
        let platform = parsed.platform();
        let fits = |wanted: &Platform| wanted.rank(&platform).is_some();
        if !self.wanted.is_empty() && !self.wanted.iter().any(fits) {
            return Ok(false);
        }
        let progress: Arc<dyn Progress> = match self.quiet {
            true => Arc::new(Silent),
            false => Arc::new(Told {
                sender: self.sender.clone(),
                layers: parsed
                    .rootfs
                    .diff_ids
                    .iter()
                    .zip(&layers)
                    .map(|(diff_id, blob)| (diff_id.clone(), blob.bytes()))
                    .collect(),
            }),
        };
        let incoming = Incoming {
            config,
            layers: layers.into_iter().map(Blob::into_open).collect(),
            manifests,
            names: names.clone(),
            parent: None,
        };
        let ingested = self.engine.ingest(incoming, progress)?;
        let id = ingested.image.id.to_string();
        for name in &names {
            let before = ingested.renamed.iter().find(|(renamed, _)| renamed == name);
            let name = name.familiar();
            if let Some((_, before)) = before {
                self.print(format!(
                    "The image {name} already exists, renaming the old one with ID {before} to \
                     empty string\n"
                ));
            }
            self.print(format!("Loaded image: {name}\n"));
        }
        if names.is_empty() {
            self.print(format!("Loaded image ID: {id}\n"));
        }
        self.engine.image_event("load", &id, &id);
        Ok(true)
    }
}

/// For clients that want no bars.
struct Silent;

impl Progress for Silent {
    fn exists(&self, _: usize) {}
    fn read(&self, _: usize, _: u64) {}
    fn complete(&self, _: usize) {}
}

/// Tells each layer's progress in Docker's words.
struct Told {
    sender: mpsc::Sender<Message>,
    /// DiffID and length as it came.
    layers: Vec<(Digest, u64)>,
}

impl Told {
    fn message(&self, layer: usize, current: u64) -> Option<Message> {
        let (diff_id, total) = self.layers.get(layer)?;
        let count = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        Some(Message {
            id: diff_id.short().to_owned(),
            progress_detail: Some(ProgressDetail {
                current: count(current),
                total: count(*total),
                ..ProgressDetail::default()
            }),
            ..Message::status("Loading layer")
        })
    }
}

impl Progress for Told {
    fn exists(&self, _: usize) {}

    fn read(&self, layer: usize, bytes: u64) {
        // A client that is slow, or gone, misses steps of a bar.
        if let Some(message) = self.message(layer, bytes) {
            drop(self.sender.try_send(message));
        }
    }

    fn complete(&self, layer: usize) {
        let total = self.layers.get(layer).map_or(0, |(_, total)| *total);
        if let Some(message) = self.message(layer, total) {
            drop(self.sender.blocking_send(message));
        }
    }
}
