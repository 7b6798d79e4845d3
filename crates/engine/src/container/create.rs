//! `create`: from a request to a record on disk and a layer to write to.

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
        let CreateRequest { mut config, mut host_config, networking_config } = body;
        if config.image.is_empty() {
            return Err(Error::invalid("no image was specified"));
        }
        let image = engine.image_for_container(&config.image, platform.as_deref()).await?;
        merge::merge(&mut config, image.config.config.as_ref())?;
        let warnings = validate::normalise(&engine.config, &mut config, &mut host_config, &id)?;
        let (path, args) = merge::command(&config)?;
        let wanted = name.as_deref().map(name::check).transpose()?.unwrap_or_default();

        let reserved = Reserved::take(&engine, wanted.to_owned(), &id)?;
        let donors = {
            let engine = Arc::clone(&engine);
            move |word: &str| engine.find(word).map(|c| c.record.mounts.clone())
        };
        let log_path = (host_config.log_config.driver == "json-file")
            .then(|| engine.root.container(&id).join(format!("{id}-json.log")));
        let worker = Arc::clone(&engine);
        let new_name = reserved.name.clone();
        let (record, json) = tokio::task::spawn_blocking(move || {
            let resolved =
                mount::resolve(&worker.root.volumes(), &id, &config, &host_config, &donors)?;
            let record = Record {
                name: new_name,
                created_ns: now_ns(),
                image_id: image.id.to_string(),
                path,
                args,
                config,
                host_config,
                networking: networking_config,
                mounts: resolved.mounts,
                anonymous_volumes: resolved.anonymous_volumes,
                driver: worker.driver.kind().name().into(),
                log_path,
                id,
            };
            worker.lay_out(&record, &image)
        })
        .await
        .map_err(|e| Error::system("create container", &e))??;

        let row = ContainerRecord {
            id: record.id.clone(),
            name: reserved.name.clone(),
            created_ns: record.created_ns,
            config: json,
            state: serde_json::to_string(&State::default())
                .map_err(|e| Error::system("save state", &e))?,
        };
        let saved = engine
            .on_state_db("save the container", move |db| containers::insert(db, &row))
            .await;
        if let Err(error) = saved {
            engine.take_back(&record);
            return Err(error);
        }
        let id = record.id.clone();
        let container = task::spawn(&engine, record, reserved.name.clone(), State::default(), None);
        engine.table_mut().insert(Arc::clone(&container));
        reserved.keep();
        container.publish(&engine.events, "create", &[]);
        Ok(CreateResponse { id, warnings })
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
        let reserved = |name| Ok(Reserved { engine: Arc::clone(engine), name, kept: false });
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

impl Inner {
    /// Makes the container's directory and its layer. Blocks. Takes everything
    /// back on failure.
    fn lay_out(
        &self,
        record: &Record,
        image: &crate::image::Image,
    ) -> Result<(Record, String), Error> {
        let json = serde_json::to_string(record).map_err(|e| Error::system("save config", &e))?;
        let dir = self.root.container(&record.id);
        let made = || -> Result<(), Error> {
            std::fs::create_dir(&dir).map_err(|e| Error::system("make the container's directory", &e))?;
            persist::write_atomic(&dir.join("config.json"), json.as_bytes(), Durability::Unsynced)
                .map_err(|e| Error::system("save config", &e))?;
            let below = self.init_layer(image)?;
            self.driver
                .create_container(&Inner::layer_id(&record.id), below.as_ref())
                .map_err(|e| Error::system("make the container's layer", &e))?;
            self.fill_volumes(record)
        };
        match made() {
            Ok(()) => Ok((record.clone(), json)),
            Err(error) => {
                self.take_back(record);
                Err(error)
            }
        }
    }

    /// Undoes [`Inner::lay_out`].
    fn take_back(&self, record: &Record) {
        let dir = self.root.container(&record.id);
        for undone in [
            std::fs::remove_dir_all(&dir).map_err(|e| e.to_string()),
            self.driver
                .discard(&Inner::layer_id(&record.id))
                .map(crate::image::delete_behind)
                .map_err(|e| e.to_string()),
            super::volume::remove_anonymous(&self.root.volumes(), &record.anonymous_volumes)
                .map_err(|e| e.to_string()),
        ] {
            if let Err(error) = undone {
                tracing::debug!(container = record.id, error, "nothing to take back");
            }
        }
    }

    /// Copies what the image holds at the volumes' places into volumes that
    /// are empty (COMPAT D8.3). Mounts the root only when there is such a
    /// volume.
    fn fill_volumes(&self, record: &Record) -> Result<(), Error> {
        let empty: Vec<_> = record
            .mounts
            .iter()
            .filter(|m| m.kind == "volume" && !m.mode.split(',').any(|word| word == "nocopy"))
            .filter(|m| std::fs::read_dir(&m.source).is_ok_and(|mut d| d.next().is_none()))
            .collect();
        if empty.is_empty() {
            return Ok(());
        }
        let root = self.mount_root(record, conex_layers::overlay::Access::ReadOnly)?;
        for volume in empty {
            super::volume::copy_up(
                std::os::fd::AsFd::as_fd(&root),
                std::path::Path::new(&volume.destination),
                std::path::Path::new(&volume.source),
            )?;
        }
        Ok(())
    }
}
