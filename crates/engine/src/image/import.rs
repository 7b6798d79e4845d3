//! `import`: a tar of a root file system becomes an image of one layer.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use conex_api::image::ImportOptions;
use conex_api::progress::Message;
use conex_layers::driver::LayerId;
use conex_layers::extract::Limits;
use conex_layers::unpack;
use conex_spec::digest::chain_id;
use conex_spec::image::{ContainerConfig, History, ImageConfig, RootFs};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;
use conex_store::records::images::{
    self as records, ImageRecord, LayerRecord, LayerState, ReferenceRecord,
};
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::{Image, change};
use crate::engine::Inner;
use crate::error::chain;
use crate::time::{now_ns, rfc3339};
use crate::{Engine, Error};

impl Engine {
    /// Makes an image of a tar stream, plain or compressed.
    ///
    /// What is wrong with the request is an error at once; what is wrong with
    /// the stream is told in band, since the answer has begun by then
    /// (COMPAT D1.11). On any failure nothing is left.
    pub async fn image_import(
        &self,
        options: ImportOptions,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<BoxStream<'static, Message>, Error> {
        let name = parse_name(&options.repo, &options.tag)?;
        let mut config = ContainerConfig::default();
        for line in &options.changes {
            change::apply(&mut config, line)?;
        }
        let platform = match options.platform.as_deref().filter(|p| !p.is_empty()) {
            Some(text) => text.parse().map_err(|e| Error::invalid(format!("{e}")))?,
            None => Platform::host(),
        };
        let message = match options.message.as_str() {
            "" => "Imported from -".to_owned(),
            text => text.to_owned(),
        };
        let plan = Plan {
            name,
            config,
            platform,
            message,
        };
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(feed(body, sender));
        let engine = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || {
            let stream = BodyReader {
                receiver,
                current: Bytes::new(),
            };
            engine.import(Box::new(BufReader::with_capacity(1 << 18, stream)), plan)
        });
        Ok(futures_util::stream::once(async move {
            match done.await {
                Ok(Ok(image)) => Message::status(image.id.to_string()),
                Ok(Err(error)) => Message::failure(error.to_string()),
                Err(panicked) => Message::failure(panicked.to_string()),
            }
        })
        .boxed())
    }
}

/// A name to give, or none.
fn parse_name(repo: &str, tag: &str) -> Result<Option<Reference>, Error> {
    if repo.is_empty() {
        return Ok(None);
    }
    let invalid = |e: &dyn std::error::Error| Error::invalid(e.to_string());
    let name = Reference::parse(repo).map_err(|e| invalid(&e))?;
    if name.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    let name = match tag {
        "" => name.with_default_tag(),
        tag => name.with_tag(tag).map_err(|e| invalid(&e))?,
    };
    Ok(Some(name))
}

/// What an import makes besides the layer.
pub(super) struct Plan {
    pub(super) name: Option<Reference>,
    pub(super) config: ContainerConfig,
    pub(super) platform: Platform,
    pub(super) message: String,
}

impl Inner {
    /// Unpacks a stream into a new layer and names the image. Blocks.
    pub(super) fn import(
        &self,
        stream: Box<dyn io::BufRead + Send>,
        plan: Plan,
    ) -> Result<Arc<Image>, Error> {
        let id = LayerId::random().map_err(|e| Error::system("name a layer", &e))?;
        // Its chain is known only when all of it has been read.
        let provisional = format!("import:{id}");
        self.begin_layer(LayerRecord {
            chain_id: provisional.clone(),
            diff_id: String::new(),
            parent_chain: None,
            layer_dir: id.to_string(),
            size_bytes: 0,
            state: LayerState::Filling,
        })?;
        let made = self
            .fill(&id, stream)
            .and_then(|unpacked| self.name_import(&id, &provisional, &unpacked, plan));
        if made.is_err() {
            self.abandon_layer(&provisional);
        }
        // Buffers of the unpacking are not needed soon again.
        conex_sys::memory::trim();
        made
    }

    fn fill(
        &self,
        id: &LayerId,
        stream: Box<dyn io::BufRead + Send>,
    ) -> Result<unpack::Unpacked, Error> {
        let failed = |e: &dyn std::error::Error| Error::system("make a layer", e);
        let layer = self.driver.create(id, None).map_err(|e| failed(&e))?;
        let unpacked = unpack::unpack(stream, &layer, Limits::default())
            .map_err(|e| Error::invalid(format!("cannot import the archive: {}", chain(&e))))?;
        layer
            .sync()
            .map_err(|e| Error::system("sync the layer", &e))?;
        Ok(unpacked)
    }

    fn name_import(
        &self,
        id: &LayerId,
        provisional: &str,
        unpacked: &unpack::Unpacked,
        plan: Plan,
    ) -> Result<Arc<Image>, Error> {
        let now = now_ns();
        let diff = unpacked.diff_id.clone();
        let size = unpacked.content.bytes as i64;
        let config = ImageConfig {
            created: Some(rfc3339(now)),
            architecture: plan.platform.architecture.clone(),
            variant: plan.platform.variant.clone(),
            os: plan.platform.os.clone(),
            comment: Some(plan.message.clone()),
            config: Some(plan.config),
            rootfs: RootFs {
                kind: RootFs::LAYERS.into(),
                diff_ids: vec![diff.clone()],
            },
            history: vec![History {
                created: Some(rfc3339(now)),
                comment: Some(plan.message),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let json = serde_json::to_vec(&config).map_err(|e| Error::system("write config", &e))?;
        let image = Image::load(&json, size, None).map_err(Error::invalid)?;
        let top = chain_id(None, &diff).to_string();
        let layer = LayerRecord {
            chain_id: top.clone(),
            diff_id: diff.to_string(),
            parent_chain: None,
            layer_dir: id.to_string(),
            size_bytes: size,
            state: LayerState::Ready,
        };
        // Two imports of the same content end here one after the other.
        let naming = self
            .images
            .naming
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let have = self.images.known().layers.contains_key(&top);
        let row = ImageRecord {
            id: image.id.to_string(),
            config: json,
            created_ns: now,
            size_bytes: size,
            parent: None,
        };
        let (new, old, name) = (layer.clone(), provisional.to_owned(), plan.name.clone());
        self.images
            .db
            .run(move |db| {
                if !have {
                    records::delete_layer(db, &old)?;
                    records::put_layer_filling(
                        db,
                        &new.chain_id,
                        &new.diff_id,
                        None,
                        &new.layer_dir,
                    )?;
                    records::mark_layer_ready(db, &new.chain_id, new.size_bytes)?;
                }
                records::put_image(db, &row)?;
                if let Some(name) = name {
                    let reference = name.to_string();
                    let image_id = row.id.clone();
                    records::set_reference(
                        db,
                        &ReferenceRecord {
                            reference,
                            image_id,
                            updated_ns: now,
                        },
                    )?;
                }
                Ok(())
            })
            .map_err(|e| Error::system("record the image", &e))?;
        let image = Arc::new(image);
        {
            let mut known = self.images.known_mut();
            if !have {
                known.layers.remove(provisional);
                known.layers.insert(top, layer);
            }
            known
                .images
                .insert(image.id.to_string(), Arc::clone(&image));
            if let Some(name) = &plan.name {
                known
                    .references
                    .insert(name.to_string(), (image.id.to_string(), now));
            }
        }
        drop(naming);
        if have {
            // The same content was here already; this copy goes.
            self.abandon_layer(provisional);
        }
        let id = image.id.to_string();
        if let Some(name) = plan.name {
            self.image_event("tag", &id, &name.familiar());
        }
        self.image_event("import", &id, &id);
        Ok(image)
    }

    pub(super) fn image_event(&self, action: &str, id: &str, name: &str) {
        let attributes = [("name".to_owned(), name.to_owned())].into();
        self.events.publish("image", action, id, attributes);
    }
}

/// Passes a request's body on to the thread that unpacks it.
async fn feed(
    mut body: BoxStream<'static, io::Result<Bytes>>,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    while let Some(chunk) = body.next().await {
        let failed = chunk.is_err();
        if sender.send(chunk).await.is_err() || failed {
            return;
        }
    }
}

/// The body as a blocking reader.
struct BodyReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
