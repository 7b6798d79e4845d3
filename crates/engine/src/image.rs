//! Images of this engine: in memory what `image/image.db` holds.
//!
//! An image is the exact bytes of its config and a chain of layers. Its id is
//! the digest of those bytes. Names point to images; an image without a name
//! is dangling. Layers are shared and counted by who stands on them.

mod append;
mod change;
mod check;
mod commit;
mod hello;
mod history;
mod import;
pub(crate) mod ingest;
mod layer;
mod list;
mod load;
mod origin;
mod prune;
mod record;
mod remove;
mod save;
mod usage;
mod verify;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use conex_layers::driver::{Discarded, LayerId};
use conex_layers::overlay::{Access, OverlayOptions};
use conex_layers::recipe::Recipes;
use conex_spec::digest::Digest;
use conex_spec::image::ImageConfig;
use conex_spec::platform::Platform;
use conex_spec::reference::{self, Reference};
use conex_store::db::{Database, Durability};
use conex_store::records::images::{self as records, Everything, LayerRecord, LayerState};

pub(crate) use change::apply as apply_change;
pub(crate) use commit::Commit;
pub(crate) use import::parse_name;
pub(crate) use list::until_ns;

use crate::Error;
use crate::disk::Root;
use crate::engine::{Inner, OpenError};

/// One image.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) id: Digest,
    pub(crate) config: ImageConfig,
    /// Digests of the layer chains, bottom first.
    pub(crate) chains: Vec<Digest>,
    pub(crate) size_bytes: i64,
    pub(crate) parent: Option<String>,
}

/// Every image, name and layer.
#[derive(Debug)]
pub(crate) struct Images {
    db: Database,
    known: RwLock<Known>,
    /// One init layer is built at a time; a second builder finds it done.
    init: std::sync::Mutex<()>,
    /// See [`layer`].
    layering: std::sync::Mutex<()>,
    /// A commit and what it changes in memory are one step for other commits.
    /// Taken last.
    committing: std::sync::Mutex<()>,
    /// How the layers' archives come back.
    recipes: Recipes,
}

#[derive(Debug, Default)]
struct Known {
    images: HashMap<String, Arc<Image>>,
    /// Full name with tag or digest → image id, and when it was set.
    references: BTreeMap<String, (String, i64)>,
    /// Chain id → layer; init layers under `init:<chain>`.
    layers: HashMap<String, LayerRecord>,
    /// Chains whose layer somebody in this process is filling or has filled,
    /// until it is ready.
    fills: HashMap<String, Arc<layer::Fill>>,
    /// How many need a chain's layer beside the images.
    holds: HashMap<String, usize>,
    /// Images whose record cannot be read, which nobody sees: until they are
    /// put here again, or `system check --repair` forgets them.
    damaged: BTreeMap<String, Damaged>,
}

#[derive(Debug)]
struct Damaged {
    problem: String,
    /// What named it, as in [`Known`].
    references: BTreeMap<String, (String, i64)>,
}

impl Known {
    fn damaged(&mut self, id: String, problem: String) {
        tracing::error!(image = id, "{problem}; see conex system check");
        let references = BTreeMap::new();
        let damaged = Damaged {
            problem,
            references,
        };
        self.damaged.insert(id, damaged);
    }
}

impl Images {
    /// Reads all there is. Layers that were being filled when the engine ended
    /// stay recorded until [`Images::drop_unfinished`].
    pub(crate) fn open(root: &Root) -> Result<Images, OpenError> {
        let db = Database::open(
            &root.image_database(),
            Durability::Full,
            records::MIGRATIONS,
        )?;
        let Everything {
            images,
            layers,
            references,
        } = db.run(records::load_all)?;
        let mut known = Known::default();
        for row in images {
            let image = match Image::load(&row.config, row.size_bytes, row.parent) {
                Ok(image) if image.id.as_str() == row.id => image,
                Ok(_) => {
                    known.damaged(row.id, "its configuration is not the one of its id".into());
                    continue;
                }
                Err(problem) => {
                    known.damaged(row.id, format!("its configuration is damaged: {problem}"));
                    continue;
                }
            };
            known.images.insert(row.id, Arc::new(image));
        }
        for row in references {
            let names = match known.damaged.get_mut(&row.image_id) {
                Some(damaged) => &mut damaged.references,
                None => &mut known.references,
            };
            names.insert(row.reference, (row.image_id, row.updated_ns));
        }
        for layer in layers {
            known.layers.insert(layer.chain_id.clone(), layer);
        }
        Ok(Images {
            db,
            known: RwLock::new(known),
            init: std::sync::Mutex::default(),
            layering: std::sync::Mutex::default(),
            committing: std::sync::Mutex::default(),
            recipes: Recipes::open(&root.recipes()).map_err(std::io::Error::other)?,
        })
    }

    fn committing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.known().images.len()
    }

    pub(crate) fn size_of(&self, id: &str) -> i64 {
        self.known().images.get(id).map_or(0, |i| i.size_bytes)
    }

    /// The image a word means: an id, a name, or the start of one id only.
    ///
    /// Errors: not found with Docker's text (clients then pull), invalid
    /// parameter for a word that can be neither.
    pub(crate) fn find(&self, word: &str) -> Result<Arc<Image>, Error> {
        let known = self.known();
        if let Some(image) = known.images.get(word) {
            return Ok(Arc::clone(image));
        }
        let parsed = Reference::parse(word);
        if let Ok(name) = &parsed {
            let full = name.clone().with_default_tag().to_string();
            if let Some(image) = known
                .references
                .get(&full)
                .and_then(|(id, _)| known.images.get(id))
            {
                return Ok(Arc::clone(image));
            }
        }
        if let Some(prefix) = reference::image_id_prefix(word) {
            let prefix = prefix.to_owned();
            let mut found = known.images.iter().filter(|(id, _)| {
                id.strip_prefix("sha256:")
                    .is_some_and(|hex| hex.starts_with(&prefix))
            });
            match (found.next(), found.next()) {
                (Some((_, only)), None) => return Ok(Arc::clone(only)),
                (Some(_), Some(_)) => {
                    return Err(Error::invalid(format!(
                        "multiple IDs found with provided prefix: {word}"
                    )));
                }
                (None, _) => {}
            }
        }
        match parsed {
            Ok(name) => Err(Error::no_image(&name.with_default_tag().familiar())),
            Err(_) if reference::is_image_id(word) => Err(Error::no_image(word)),
            Err(error) => Err(Error::invalid(error.to_string())),
        }
    }

    /// The id of an image, if there is one of that word.
    pub(crate) fn id_of(&self, word: &str) -> Option<String> {
        self.find(word).ok().map(|image| image.id.to_string())
    }

    /// What `ps` shows as the image: the word it was created with, unless that
    /// word means another image by now.
    pub(crate) fn shown_name(&self, word: &str, id: &str) -> String {
        match self.id_of(word) {
            Some(now) if now == id => word.to_owned(),
            _ => id.to_owned(),
        }
    }

    /// Familiar names of an image, in order: with tags, and with digests.
    fn names_of(&self, id: &str) -> Names {
        let known = self.known();
        let names = known
            .references
            .iter()
            .filter(|(_, (image, _))| image == id);
        Names::of(names.map(|(name, _)| name.as_str()))
    }
}

/// What an image is called, as people see it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    /// `busybox:latest`.
    tags: Vec<String>,
    /// `busybox@sha256:…`, for images that came from a registry.
    digests: Vec<String>,
}

impl Names {
    fn of<'a>(full: impl Iterator<Item = &'a str>) -> Names {
        let (digests, tags) = full.map(familiar).partition(|name| name.contains('@'));
        Names { tags, digests }
    }
}

/// What is out of every record and still on the disk.
pub(crate) struct Leftover {
    /// Deleted first: once the files are gone nothing is left.
    recipe: Option<(Recipes, LayerId)>,
    files: Option<Discarded>,
}

impl From<Discarded> for Leftover {
    fn from(files: Discarded) -> Self {
        Self {
            recipe: None,
            files: Some(files),
        }
    }
}

impl Leftover {
    fn delete(self) -> Result<(), Box<dyn std::error::Error>> {
        if let Some((recipes, id)) = self.recipe {
            recipes.remove(&id)?;
        }
        if let Some(files) = self.files {
            files.delete()?;
        }
        Ok(())
    }
}

/// Deletes behind the caller's back, on as many threads as there are processors: a large layer takes seconds, a disk
/// that discards blocks takes milliseconds for the smallest file, and a start after a crash finishes it.
pub(crate) fn delete_behind(leftovers: impl IntoIterator<Item = impl Into<Leftover>>) {
    let leftovers: Vec<Leftover> = leftovers.into_iter().map(Into::into).collect();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(leftovers.len());
    let left = Arc::new(Mutex::new(leftovers.into_iter()));
    for _ in 0..threads {
        let left = Arc::clone(&left);
        let next = move || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let deleting = std::thread::Builder::new()
            .name("delete-layer".into())
            .spawn(move || {
                while let Some(leftover) = next() {
                    if let Err(error) = leftover.delete() {
                        let error = crate::error::chain(&*error);
                        tracing::warn!(error, "left for the next start");
                    }
                }
            });
        if let Err(error) = deleting {
            tracing::warn!(%error, "what was removed may be left for the next start");
        }
    }
}

/// A platform as clients send it: JSON, or `os[/arch[/variant]]`.
fn platform(text: &str) -> Result<Platform, Error> {
    let parsed = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|e| e.to_string()),
        false => text.parse::<Platform>().map_err(|e| e.to_string()),
    };
    parsed
        .map(Platform::normalized)
        .map_err(|e| Error::invalid(format!("invalid platform {text:?}: {e}")))
}

/// A full name as people see it.
fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |r| r.familiar())
}

impl Image {
    /// Refuses an image that is not for the platform a client asks for.
    fn check_platform(&self, word: &str, wanted: Option<&str>) -> Result<(), Error> {
        let wanted = wanted.filter(|text| !text.is_empty()).map(platform);
        self.fits(word, wanted.transpose()?.as_slice())
    }

    /// The same for one of several platforms, or any if there is none.
    fn fits(&self, word: &str, wanted: &[Platform]) -> Result<(), Error> {
        let own = self.config.platform();
        match wanted.first() {
            Some(first) if wanted.iter().all(|it| it.rank(&own).is_none()) => {
                Err(Error::not_found(format!(
                    "image with reference {word} was found but its platform ({own}) does not \
                     match the specified platform ({first})"
                )))
            }
            _ => Ok(()),
        }
    }

    fn load(config: &[u8], size_bytes: i64, parent: Option<String>) -> Result<Image, String> {
        let id = Digest::of(config);
        let config = ImageConfig::load(config).map_err(|e| e.to_string())?;
        let chains = config.rootfs.chain_ids();
        Ok(Image {
            id,
            config,
            chains,
            size_bytes,
            parent,
        })
    }
}

impl Inner {
    /// The image for a new container; the built-in one is made when it is
    /// asked for and no other has its name.
    pub(crate) async fn image_for_container(
        self: &Arc<Self>,
        word: &str,
        platform: Option<&str>,
    ) -> Result<Arc<Image>, Error> {
        let image = match self.images.find(word) {
            Err(error) if hello::is_meant(word) => {
                tracing::debug!(%error, "the built-in image is made");
                let engine = Arc::clone(self);
                tokio::task::spawn_blocking(move || hello::make(&engine))
                    .await
                    .map_err(|e| Error::system("make the built-in image", &e))??
            }
            found => found?,
        };
        image.check_platform(word, platform)?;
        Ok(image)
    }

    /// The layer between an image and its containers, with the files every
    /// container has. Built once per image. Blocks.
    pub(crate) fn init_layer(&self, image: &Image) -> Result<Option<LayerId>, Error> {
        let chain = image.chains.last();
        let key = format!("init:{}", chain.map_or("scratch", |c| c.hex()));
        let id: LayerId = match chain {
            Some(chain) => format!("{}-init", chain.hex()),
            None => "scratch-init".into(),
        }
        .parse()
        .expect("a digest's digits are a layer name");
        if self
            .images
            .known()
            .layers
            .get(&key)
            .is_some_and(|l| l.state == LayerState::Ready)
        {
            return Ok(Some(id));
        }
        let _builder = self
            .images
            .init
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self
            .images
            .known()
            .layers
            .get(&key)
            .is_some_and(|l| l.state == LayerState::Ready)
        {
            return Ok(Some(id));
        }
        let below = match chain {
            Some(chain) => Some(self.layer_of(chain)?),
            None => None,
        };
        let record = LayerRecord {
            chain_id: key.clone(),
            diff_id: "init".into(),
            parent_chain: chain.map(ToString::to_string),
            layer_dir: id.to_string(),
            size_bytes: 0,
            state: LayerState::Filling,
        };
        self.begin_layer(record)?;
        let built = self.build_init(&id, below.as_ref());
        match built.and_then(|()| self.finish_layer(&key, 0)) {
            Ok(()) => Ok(Some(id)),
            Err(error) => {
                self.abandon_layer(&key);
                Err(error)
            }
        }
    }

    fn build_init(&self, id: &LayerId, below: Option<&LayerId>) -> Result<(), Error> {
        use std::os::fd::AsFd;
        let failed = |e: &dyn std::error::Error| Error::system("build the init layer", e);
        let layer = self.driver.create(id, below).map_err(|e| failed(&e))?;
        match below {
            None => conex_layers::init::build(layer.directory.as_fd(), layer.directory.as_fd())
                .map_err(|e| failed(&e)),
            Some(below) => {
                let rootfs = self.driver.rootfs(below).map_err(|e| failed(&e))?;
                let options = OverlayOptions {
                    access: Access::ReadOnly,
                    ..OverlayOptions::default()
                };
                let view = rootfs.mount(options).map_err(|e| failed(&e))?;
                conex_layers::init::build(view.as_fd(), layer.directory.as_fd())
                    .map_err(|e| failed(&e))
            }
        }?;
        layer.sync().map_err(|e| failed(&e))
    }
}
