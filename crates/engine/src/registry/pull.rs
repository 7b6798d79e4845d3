//! `pull`: what a name means, and its layers fetched and unpacked at once.
//!
//! What can be found out before the first layer (the tag, the platform, who may) is an error of the request; what
//! goes wrong later is told in band (COMPAT D1.11). A client that goes away ends its pull; bytes that were fetched
//! stay for the next one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use conex_api::image::PullOptions;
use conex_api::progress::Message;
use conex_distribution::{Credentials, Fetched, Repository};
use conex_spec::digest::Digest;
use conex_spec::image::{Document, ImageConfig, Manifest, media_type};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;
use conex_store::records::images::ManifestRecord;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;

use super::blob::Download;
use super::fetch::{Failure, Fetch, Layer, lock};
use super::progress::Teller;
use super::refused;
use crate::engine::Inner;
use crate::error::chain;
use crate::image::ingest::{Incoming, Progress};
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

impl Pull {
    async fn open(&self, reference: &Reference) -> Result<Arc<Repository>, Error> {
        let registries = &self.engine.remote.registries;
        let opened = registries.pull(reference, &self.credentials).await;
        opened.map(Arc::new).map_err(|e| refused(&e))
    }

    /// Finds out what a name means; fetches manifests and config unless the image is here.
    async fn prepare(&self, reference: Reference) -> Result<Prepared, Error> {
        let repository = self.open(&reference).await?;
        let refused = |e| refused(&repository.pull_error(e));
        let resolved = repository.resolve().await.map_err(refused)?;
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
            None => repository.manifest(&digest).await.map_err(refused)?,
        };
        let content = self.choose(&repository, fetched).await?;
        let config = ImageConfig::load(&content.config).map_err(|e| Error::invalid(chain(&e)))?;
        if self.platform.is_none() && !matches!(config.os.as_str(), "linux" | "") {
            return Err(Error::invalid(format!(
                "image operating system {:?} cannot be used on this platform: operating system is \
                 not supported",
                config.os
            )));
        }
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
        let no_match = || {
            Error::not_found(format!(
                "no matching manifest for {platform} in the manifest list entries"
            ))
        };
        let mut documents = Vec::new();
        let mut fetched = top;
        let mut is_labelled = true;
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
                    let config = config.map_err(|e| refused(&e))?;
                    let fits = || {
                        let parsed = ImageConfig::load(&config).ok();
                        parsed.is_some_and(|parsed| platform.rank(&parsed.platform()).is_some())
                    };
                    if !is_labelled && !fits() {
                        return Err(no_match());
                    }
                    return Ok(Content {
                        config,
                        manifest,
                        documents,
                    });
                }
                Document::Index(index) => {
                    let found = index.choose(&platform);
                    is_labelled &= found.is_some();
                    let next = found.or_else(|| index.unlabelled()).cloned();
                    next.ok_or_else(no_match)?
                }
            };
            let next = repository.manifest(&next.digest).await;
            fetched = next.map_err(|e| refused(&repository.pull_error(e)))?;
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
            ended: tokio::sync::watch::Sender::new(false),
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
                let telling: Arc<dyn Progress> = Arc::new(Arc::clone(&progress));
                let ended = engine.ingest(incoming, telling);
                ended.map_err(|error| progress.explain(error))
            });
            let done = done.await.unwrap_or_else(|e| {
                Err(Failure {
                    error: Error::system("pull", &e),
                    damaged: false,
                })
            });
            match done {
                Ok(ingested) => break ingested,
                Err(Failure { damaged: true, .. }) if tries < TRIES => fetch.reset(),
                Err(failure) => {
                    fetch.end(false).await;
                    return Err(failure.error);
                }
            }
        };
        fetch.end(true).await;
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
