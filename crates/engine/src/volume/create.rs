//! `volume create`, and the volumes a new container asks for.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use conex_api::volume::CreateRequest;
use conex_store::persist::{self, Durability};
use rustix::fs::{CWD, RenameFlags};

use super::{
    ANONYMOUS, DATA, DESCRIPTION, DRIVER, Description, NewVolume, Uses, Volume, Volumes, aside,
    check_driver, check_name, check_options, failed,
};
use crate::{Engine, Error, time};

impl Engine {
    /// Makes a volume; one that is there already is the answer, whatever else
    /// was asked for (Docker's rule).
    pub async fn volume_create(
        &self,
        asked: CreateRequest,
    ) -> Result<conex_api::volume::Volume, Error> {
        let engine = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            let CreateRequest {
                mut name,
                driver,
                driver_opts: options,
                mut labels,
            } = asked;
            let wrap = |name: &str, error: Error| {
                Error::new(error.kind(), format!("create {name}: {error}"))
            };
            if name.is_empty() {
                name = crate::id::generate();
                labels.insert(ANONYMOUS.into(), String::new());
            }
            check_driver(&driver).map_err(|error| wrap(&name, error))?;
            check_options(&options).map_err(|error| wrap(&name, error))?;
            let new = NewVolume {
                is_anonymous: false,
                labels,
                options,
            };
            let volume = engine.volumes.obtain(&name, &new, None)?;
            Ok(engine.volumes.describe(&volume))
        })
        .await
        .map_err(|error| Error::system("create volume", &error))?
    }
}

impl Volumes {
    /// Notes that a container has a volume, and makes it if it is missing.
    /// An anonymous one is the container's. Blocks.
    pub(crate) fn acquire(
        &self,
        container: &str,
        name: &str,
        new: &NewVolume,
    ) -> Result<(), Error> {
        loop {
            let volume = self.obtain(name, new, Some(container))?;
            let mut uses = volume.uses();
            // Otherwise it was removed between the two: once more.
            if !uses.is_gone {
                uses.containers.insert(container.to_owned());
                return Ok(());
            }
        }
    }

    /// The volume of a name, made if there is none. Blocks.
    fn obtain(
        &self,
        name: &str,
        new: &NewVolume,
        container: Option<&str>,
    ) -> Result<Arc<Volume>, Error> {
        if let Some(volume) = self.find(name) {
            return Ok(volume);
        }
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(volume) = self.find(name) {
            return Ok(volume);
        }
        check_name(name)?;
        let mut labels = new.labels.clone();
        if new.is_anonymous {
            labels.insert(ANONYMOUS.into(), String::new());
        }
        let now_ns = time::now_ns();
        let description = Description {
            driver: DRIVER.into(),
            created: time::rfc3339(now_ns - now_ns % 1_000_000_000),
            labels,
            options: new.options.clone(),
            anonymous: new.is_anonymous,
            container: container.filter(|_| new.is_anonymous).map(str::to_owned),
        };
        let dir = self.root.join(name);
        let draft = aside(&self.root, "new", name);
        let made = make(&draft, &description).and_then(|()| place(&draft, &dir, new.is_anonymous));
        if let Err(error) = made {
            // What is left of it is emptied at the next start.
            let _absent = fs::remove_dir_all(&draft).is_err();
            return Err(failed("create volume", name)(&error));
        }
        let volume = Arc::new(Volume {
            name: name.to_owned(),
            dir,
            description,
            uses: Mutex::new(Uses::default()),
            busy: Mutex::default(),
        });
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(name.to_owned(), Arc::clone(&volume));
        drop(table);
        self.publish(name, "create", &[]);
        Ok(volume)
    }
}

/// A whole volume under another name.
fn make(draft: &Path, description: &Description) -> io::Result<()> {
    make_dir(draft, 0o701)?;
    make_dir(&draft.join(DATA), 0o755)?;
    let json = serde_json::to_vec(description)?;
    // A named volume is the user's: it is there after a loss of power.
    let durability = match description.anonymous {
        false => Durability::Synced,
        true => Durability::Unsynced,
    };
    persist::write_atomic(&draft.join(DESCRIPTION), &json, durability).map_err(io::Error::other)
}

/// Gives it its name; whoever is there keeps it.
fn place(draft: &Path, dir: &Path, is_anonymous: bool) -> io::Result<()> {
    rustix::fs::renameat_with(CWD, draft, CWD, dir, RenameFlags::NOREPLACE)?;
    match dir.parent() {
        Some(root) if !is_anonymous => fs::File::open(root)?.sync_all(),
        _ => Ok(()),
    }
}

/// A directory of a mode, whatever the umask.
pub(super) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
