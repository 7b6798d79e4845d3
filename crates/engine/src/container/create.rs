//! `create`: from a request to a record on disk and a layer to write to.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use conex_api::container::{CreateRequest, CreateResponse};
use conex_store::persist::{self, Durability};
use conex_store::records::containers::{self, ContainerRecord};

use super::state::State;
use super::{Record, merge, mount, task, validate};
use crate::engine::Inner;
use crate::time::now_ns;
use crate::{Engine, Error, name};

impl Engine {
    /// Creates a container.
    ///
    /// Errors: not found for the image (clients then pull it), conflict for the
    /// name, invalid parameter with Docker's words for the rest. On any error
    /// nothing is left.
    pub async fn container_create(
        &self,
        name: Option<String>,
        platform: Option<String>,
        body: CreateRequest,
    ) -> Result<CreateResponse, Error> {
        let engine = Arc::clone(&self.inner);
        let name = name.filter(|n| !n.is_empty());
        let id = crate::id::generate();
        let CreateRequest {
            mut config,
            mut host_config,
            networking_config,
        } = body;
        if config.image.is_empty() {
            return Err(Error::invalid("no image was specified"));
        }
        let image = engine
            .image_for_container(&config.image, platform.as_deref())
            .await?;
        let _held = Held::take(&engine, &id, &image, &config.image)?;
        merge::merge(&mut config, image.config.config.as_ref())?;
        let warnings = validate::normalise(&engine.config, &mut config, &mut host_config, &id)?;
        let networking_config =
            engine.normalise_networks(&mut config, &mut host_config, networking_config)?;
        let (path, args) = merge::command(&config)?;
        let wanted = name
            .as_deref()
            .map(name::check)
            .transpose()?
            .unwrap_or_default();

        let reserved = Reserved::take(&engine, wanted.to_owned(), &id)?;
        let donors = {
            let engine = Arc::clone(&engine);
            move |word: &str| {
                let donor = engine.find(word)?;
                Ok((donor.record.mounts.clone(), donor.record.subpaths.clone()))
            }
        };
        let log_path = (host_config.log_config.driver == "json-file")
            .then(|| engine.root.container(&id).join(format!("{id}-json.log")));
        let worker = Arc::clone(&engine);
        let new_name = reserved.name.clone();
        let record = tokio::task::spawn_blocking(move || {
            let planned = mount::plan(&worker.volumes, &config, &host_config, &donors)?;
            let record = Record {
                name: new_name,
                created_ns: now_ns(),
                image_id: image.id.to_string(),
                path,
                args,
                config,
                host_config,
                networking: networking_config,
                mounts: planned.mounts,
                subpaths: planned.subpaths,
                anonymous_volumes: planned.anonymous_volumes,
                driver: worker.driver.kind().name().into(),
                log_path,
                id,
            };
            let json = worker.insert(&record)?;
            match worker.lay_out(&record, &json, &planned.new_volumes, &image) {
                Ok(()) => Ok(record),
                Err(error) => {
                    worker.take_back(&record);
                    Err(error)
                }
            }
        })
        .await
        .map_err(|e| Error::system("create container", &e))??;
        let id = record.id.clone();
        let container = task::spawn(
            &engine,
            record,
            reserved.name.clone(),
            State::default(),
            None,
        );
        engine.table_mut().insert(Arc::clone(&container));
        reserved.keep();
        container.publish(&engine.events, "create", &[]);
        Ok(CreateResponse { id, warnings })
    }
}

/// An image that is not removed while a container of it is being made.
struct Held {
    engine: Arc<Inner>,
    id: String,
}

impl Held {
    fn take(
        engine: &Arc<Inner>,
        id: &str,
        image: &crate::image::Image,
        word: &str,
    ) -> Result<Held, Error> {
        let image_id = image.id.to_string();
        if !engine.table_mut().begin(id, &image_id) {
            return Err(Error::no_image(word));
        }
        let held = Held {
            engine: Arc::clone(engine),
            id: id.to_owned(),
        };
        // It may have gone just before.
        engine.images.find(&image_id).map(|_| held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.engine.table_mut().end(&self.id);
    }
}

/// A name that is given back unless its container comes to be.
struct Reserved {
    engine: Arc<Inner>,
    name: String,
    kept: bool,
}

impl Reserved {
    /// Takes the name asked for, or makes one up (COMPAT D3.4).
    fn take(engine: &Arc<Inner>, wanted: String, id: &str) -> Result<Reserved, Error> {
        let mut table = engine.table_mut();
        let reserved = |name| {
            Ok(Reserved {
                engine: Arc::clone(engine),
                name,
                kept: false,
            })
        };
        if !wanted.is_empty() {
            return match table.reserve(&wanted, id) {
                Ok(()) => reserved(wanted),
                Err(owner) => Err(Error::conflict(format!(
                    "Conflict. The container name \"/{wanted}\" is already in use by container \
                     \"{owner}\". You have to remove (or rename) that container to be able to \
                     reuse that name."
                ))),
            };
        }
        for attempt in 0..6 {
            let name = name::made_up(id, attempt);
            if table.reserve(&name, id).is_ok() {
                return reserved(name);
            }
        }
        let short = crate::id::short(id).to_owned();
        match table.reserve(&short, id) {
            Ok(()) => reserved(short),
            Err(_) => Err(Error::conflict("no free container name was found")),
        }
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.kept {
            self.engine.table_mut().release(&self.name);
        }
    }
}

fn remove_if_there(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Inner {
    /// Saves the record, before anything else of the container is made, and
    /// returns its JSON. Blocks.
    fn insert(&self, record: &Record) -> Result<String, Error> {
        let json = serde_json::to_string(record).map_err(|e| Error::system("save config", &e))?;
        let row = ContainerRecord {
            id: record.id.clone(),
            name: record.name.clone(),
            created_ns: record.created_ns,
            config: json.clone(),
            state: serde_json::to_string(&State::default())
                .map_err(|e| Error::system("save state", &e))?,
        };
        self.state_db
            .run(move |db| containers::insert(db, &row))
            .map_err(|e| Error::system("save the container", &e))?;
        Ok(json)
    }

    /// Makes the container's volumes, its layer and, at last and in one step,
    /// its directory: a record without one was cut short and the next engine
    /// takes it back. Blocks.
    fn lay_out(
        &self,
        record: &Record,
        json: &str,
        new_volumes: &[mount::Planned],
        image: &crate::image::Image,
    ) -> Result<(), Error> {
        let failed = |e: std::io::Error| Error::system("make the container's directory", &e);
        let draft = self.root.draft(&record.id);
        std::fs::DirBuilder::new()
            .mode(0o710)
            .create(&draft)
            .map_err(failed)?;
        persist::write_atomic(
            &draft.join("config.json"),
            json.as_bytes(),
            Durability::Unsynced,
        )
        .map_err(|e| Error::system("save config", &e))?;
        mount::acquire_volumes(&self.volumes, &record.id, &record.mounts, new_volumes)?;
        let below = self.init_layer(image)?;
        let size = super::storage::size_bytes(&record.host_config.storage_opt)?;
        self.driver
            .create_container(&Inner::layer_id(&record.id), below.as_ref(), size)
            .map_err(|e| match e {
                conex_layers::driver::Error::NoQuota { .. } => Error::invalid(e.to_string()),
                _ => Error::system("make the container's layer", &e),
            })?;
        self.fill_volumes(record)?;
        std::fs::rename(&draft, self.root.container(&record.id)).map_err(failed)
    }

    /// Undoes [`Inner::lay_out`] and [`Inner::insert`]; the record goes last.
    fn take_back(&self, record: &Record) {
        let id = record.id.clone();
        let failed = |e: &dyn std::error::Error| crate::error::chain(e);
        self.drop_volumes(record);
        for undone in [
            remove_if_there(&self.root.draft(&id)).map_err(|e| failed(&e)),
            remove_if_there(&self.root.container(&id)).map_err(|e| failed(&e)),
            self.driver
                .discard(&Inner::layer_id(&id))
                .map(crate::image::delete_behind)
                .map_err(|e| failed(&e)),
            self.state_db
                .run(move |db| containers::delete(db, &id))
                .map(drop)
                .map_err(|e| failed(&e)),
        ] {
            if let Err(error) = undone {
                tracing::warn!(container = record.id, error, "left for the next start");
            }
        }
    }
}
