//! `rm`: the name is free when the caller hears of it, the files go after.
//!
//! Order, so that a crash at any point is finished by the next start: volumes
//! that go with it, then the container's directory moves into `tmp` (a record
//! without its directory finishes its removal), then its layer, then the record
//! goes, then `tmp` is emptied behind the answer.

use std::path::PathBuf;
use std::sync::Arc;

use conex_api::container::RemoveOptions;
use conex_layers::driver::Discarded;
use conex_store::records::containers;
use tokio::sync::oneshot;

use super::task::{Command, Monitored};
use super::{Container, Record};
use crate::engine::Inner;
use crate::{Engine, Error, volume};

impl Engine {
    /// Removes a container. Errors: conflict when it runs and `force` is not
    /// given.
    pub async fn container_remove(&self, name: &str, options: RemoveOptions) -> Result<(), Error> {
        let container = self.inner.find(name)?;
        if options.link {
            return Err(Error::not_implemented(
                "links between containers cannot be removed alone",
            ));
        }
        let (reply, answer) = oneshot::channel();
        container.command(Command::Remove { options, reply })?;
        match answer.await {
            Ok(result) => result,
            // It removed itself while the command waited.
            Err(_) => Ok(()),
        }
    }
}

/// Removes a container that does not run.
pub(super) async fn remove(
    engine: &Arc<Inner>,
    container: &Arc<Container>,
    volumes: bool,
    mut monitored: Option<Monitored>,
) -> Result<(), Error> {
    let worker = Arc::clone(engine);
    let removed = Arc::clone(container);
    let discarded = tokio::task::spawn_blocking(move || {
        removed.shared.release();
        let volumes = match volumes {
            true => worker
                .volumes
                .take_out_anonymous(removed.id(), &removed.record.anonymous_volumes),
            false => Vec::new(),
        };
        worker
            .discard(&removed.record)
            .map(|(layer, dir)| (layer, dir, volumes))
    })
    .await
    .map_err(|e| Error::system("remove container", &e))??;
    let discarded = match delete_record(engine, container.id()).await {
        Ok(()) => Some(discarded),
        Err(error) => {
            // A full disk: deleting the files may be what it takes.
            tracing::warn!(container = container.id(), %error, "its files go first");
            if let Some(monitored) = monitored.take() {
                // While the root is mounted, deleted files keep their blocks.
                monitored.released().await;
            }
            let deleting = tokio::task::spawn_blocking(move || delete(discarded));
            let _joined = deleting.await.is_err();
            delete_record(engine, container.id()).await?;
            None
        }
    };
    engine
        .volumes
        .release(container.id(), container.record.volume_names());
    let last = {
        let mut table = engine.table_mut();
        table.remove(container.id());
        table.iter().next().is_none()
    };
    let run_dir = container.run_dir.clone();
    tokio::spawn(async move {
        if let Some(monitored) = monitored {
            // Until then the container's root is still mounted.
            monitored.released().await;
        }
        let emptied = tokio::task::spawn_blocking(move || {
            let _never_started = std::fs::remove_dir_all(&run_dir).is_err();
            if let Some(discarded) = discarded {
                delete(discarded);
            }
            if last {
                // An engine that has nothing to do gives back what it needed.
                conex_sys::memory::trim();
            }
        });
        let _joined = emptied.await.is_err();
    });
    Ok(())
}

async fn delete_record(engine: &Inner, id: &str) -> Result<(), Error> {
    let id = id.to_owned();
    let doing = "remove the container's record";
    engine
        .on_state_db(doing, move |db| containers::delete(db, &id))
        .await
        .map(drop)
}

/// A container's layer, directory and volumes, out of the way.
type Aside = (Option<Discarded>, Option<PathBuf>, Vec<PathBuf>);

fn delete((layer, dir, volumes): Aside) {
    volume::delete(&volumes);
    if let Some(Err(error)) = layer.map(Discarded::delete) {
        tracing::warn!(%error, "a layer is left for the next start");
    }
    if let Some(Err(error)) = dir.map(std::fs::remove_dir_all) {
        tracing::warn!(%error, "a container directory is left for the next start");
    }
}

impl Inner {
    /// Moves a container's layer and directory out of the way; what is
    /// returned is to be deleted. Blocks for two renames.
    fn discard(&self, record: &Record) -> Result<(Option<Discarded>, Option<PathBuf>), Error> {
        let doing = "remove the container's files";
        let dir = self.root.discard(&self.root.container(&record.id));
        let dir = dir.map_err(|e| Error::system(doing, &e))?;
        let layer = self.driver.discard(&Inner::layer_id(&record.id));
        Ok((layer.map_err(|e| Error::system(doing, &e))?, dir))
    }
}
