//! `import`: a tar of a root file system becomes an image of one layer.

use std::io::{self, BufReader};
use std::sync::Arc;

use bytes::Bytes;
use conex_api::image::ImportOptions;
use conex_api::progress::Message;
use conex_spec::digest::Digest;
use conex_spec::image::{ContainerConfig, History, ImageConfig, RootFs};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;
use futures_util::stream::{BoxStream, StreamExt};

use super::append::Addition;
use super::{Image, change};
use crate::engine::Inner;
use crate::error::chain;
use crate::pipe;
use crate::time::{now_ns, rfc3339};
use crate::{Engine, Error};

impl Engine {
    /// Makes an image of a tar stream, plain or compressed: the body, or what
    /// a URL gives.
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
            "" => format!("Imported from {}", options.source),
            text => text.to_owned(),
        };
        let plan = Plan {
            name,
            config,
            platform,
            message,
        };
        let mut said = Vec::new();
        let body = match options.source.as_str() {
            "-" => body,
            url => {
                said.push(Message::status(format!("Downloading from {url}")));
                self.fetched(url).await?
            }
        };
        let stream = pipe::reader(body);
        let engine = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || {
            engine.import(Box::new(BufReader::with_capacity(1 << 18, stream)), plan)
        });
        let said = futures_util::stream::iter(said);
        Ok(said
            .chain(futures_util::stream::once(async move {
                match done.await {
                    Ok(Ok(image)) => Message::status(image.id.to_string()),
                    Ok(Err(error)) => Message::failure(error.to_string()),
                    Err(panicked) => Message::failure(panicked.to_string()),
                }
            }))
            .boxed())
    }

    async fn fetched(&self, url: &str) -> Result<pipe::ByteStream, Error> {
        let opened = self.inner.remote.registries.file(url).await;
        let file = opened.map_err(|e| Error::invalid(chain(&e)))?;
        let pieces = futures_util::stream::try_unfold(file, |mut file| async move {
            let piece = file.chunk().await.map_err(io::Error::other)?;
            Ok(piece.map(|piece| (piece, file)))
        });
        Ok(pieces.boxed())
    }
}

/// A name to give, or none.
pub(crate) fn parse_name(repo: &str, tag: &str) -> Result<Option<Reference>, Error> {
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
        let Plan {
            name,
            config,
            platform,
            message,
        } = plan;
        let addition = Addition {
            below: None,
            parent: None,
            names: name.iter().cloned().collect(),
            config: Box::new(move |diff_id| image_config(config, platform, message, diff_id)),
        };
        let image = self.append(stream, addition)?.image;
        let id = image.id.to_string();
        if let Some(name) = name {
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

fn image_config(
    config: ContainerConfig,
    platform: Platform,
    message: String,
    diff_id: &Digest,
) -> ImageConfig {
    let created = rfc3339(now_ns());
    ImageConfig {
        created: Some(created.clone()),
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        comment: Some(message.clone()),
        config: Some(config),
        rootfs: RootFs {
            kind: RootFs::LAYERS.into(),
            diff_ids: vec![diff_id.clone()],
        },
        history: vec![History {
            created: Some(created),
            comment: Some(message),
            ..History::default()
        }],
        ..ImageConfig::default()
    }
}
