//! `volume rm`, and what goes with a container.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use conex_layers::tree;

use super::{Volume, Volumes, aside, failed, in_use};
use crate::{Engine, Error, ErrorKind};

impl Engine {
    /// Removes a volume with its content. Errors: not found unless forced,
    /// conflict when a container has it.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<(), Error> {
        let engine = Arc::clone(&self.inner);
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || {
            let volume = match engine.volumes.get(&name) {
                // Forced, one that is not there is as good as removed.
                Err(error) if force && error.kind() == ErrorKind::NotFound => return Ok(()),
                found => found?,
            };
            let gone = engine.volumes.take_out(&volume, None)?;
            tree::remove_path(&gone).map_err(|error| failed("remove", &name)(&error))
        })
        .await
        .map_err(|error| Error::system("remove volume", &error))?
    }
}

impl Volumes {
    /// Moves a volume that nobody has out of the way, and returns what is to be
    /// deleted. One that is anybody's but `but`'s is in use. Blocks for a rename.
    pub(super) fn take_out(&self, volume: &Volume, but: Option<&str>) -> Result<PathBuf, Error> {
        let name = volume.name.as_str();
        let _busy = volume.busy();
        {
            let mut uses = volume.uses();
            if uses.is_gone {
                return Err(Error::not_found(format!("get {name}: no such volume")));
            }
            if uses.containers.iter().any(|id| Some(id.as_str()) != but) {
                return Err(in_use(name, &uses.containers));
            }
            uses.is_gone = true;
        }
        if volume.uses().is_mounted {
            volume.unmount_idle();
        }
        let gone = aside(&self.root, "removed", name);
        let moved = match volume.uses().is_mounted {
            // Better kept than emptied through the mount.
            true => Err(io::ErrorKind::ResourceBusy.into()),
            false => match fs::rename(&volume.dir, &gone) {
                // Somebody took it away by hand.
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&gone),
                moved => moved,
            },
        };
        if let Err(error) = moved {
            volume.uses().is_gone = false;
            return Err(failed("remove", name)(&error));
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.remove(name);
        drop(table);
        self.publish(name, "destroy", &[]);
        Ok(gone)
    }

    /// Moves the anonymous volumes of a container out of the way that no other
    /// one has, and returns what is to be deleted. A name that is the user's
    /// own volume is left alone. Goes on after a failure, which is logged.
    pub(crate) fn take_out_anonymous(&self, container: &str, names: &[String]) -> Vec<PathBuf> {
        let mut gone = Vec::new();
        for volume in names.iter().filter_map(|name| self.find(name)) {
            if !volume.description.anonymous {
                continue;
            }
            match self.take_out(&volume, Some(container)) {
                Ok(path) => gone.push(path),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => tracing::warn!(container, %error, "a volume is left"),
            }
        }
        gone
    }

    /// Notes that a container no longer has these volumes.
    pub(crate) fn release<'a>(&self, container: &str, names: impl Iterator<Item = &'a str>) {
        for volume in names.filter_map(|name| self.find(name)) {
            let mut uses = volume.uses();
            uses.containers.remove(container);
            uses.running.remove(container);
        }
    }
}

/// Deletes what [`Volumes::take_out_anonymous`] returned. Blocks.
pub(crate) fn delete(gone: &[PathBuf]) {
    for path in gone {
        if let Err(error) = tree::remove_path(path) {
            tracing::warn!(path = %path.display(), %error, "left for the next start");
        }
    }
}
