//! Volumes of the `local` driver: directories that outlive containers. It must
//! not know images, nor how a container mounts one.
//!
//! ```text
//! <data root>/volumes/<name>/volume.json   driver, options, time, labels, anonymous or not
//! <data root>/volumes/<name>/_data/        the content, 0755 root until an image says otherwise
//! <data root>/volumes/<name>/filling/      being copied from an image; worth nothing yet
//! <data root>/volumes/<name>/filled/       copied; on its way into _data
//! <data root>/volumes/.new-…  .removed-…   no volumes: emptied at the next start
//! ```
//!
//! A volume appears and goes by one rename of its directory, record included,
//! so that an engine killed in between leaves a whole volume or none.
//!
//! *Invariant*: a volume that a container has cannot be removed, whether that
//! container runs or not; who has it is known without looking at containers.

mod copy;
mod create;
mod fill;
mod list;
mod local;
mod prune;
mod remove;
mod restore;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::event::Events;
use crate::{Error, ErrorKind};

/// What makes a volume that a mount asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NewVolume {
    /// Whether it goes with its container.
    pub(crate) is_anonymous: bool,
    /// Labels of the user, if it is not there yet.
    pub(crate) labels: BTreeMap<String, String>,
    /// Options of the driver, if it is not there yet.
    pub(crate) options: BTreeMap<String, String>,
}

/// `volume.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Description {
    driver: String,
    created: String,
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
    anonymous: bool,
    /// The container an anonymous volume was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
}

const DRIVER: &str = "local";
const DESCRIPTION: &str = "volume.json";
const DATA: &str = "_data";
const MAX_DESCRIPTION_BYTES: u64 = 1 << 20;

/// Label of volumes that `volume prune` takes without being asked twice.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// All volumes of an engine.
#[derive(Debug)]
pub(crate) struct Volumes {
    root: PathBuf,
    events: Arc<Events>,
    table: RwLock<BTreeMap<String, Arc<Volume>>>,
    /// One is made at a time.
    making: Mutex<()>,
    /// One prune at a time.
    pruning: Mutex<()>,
}

/// One volume.
#[derive(Debug)]
pub(crate) struct Volume {
    name: String,
    dir: PathBuf,
    description: Description,
    uses: Mutex<Uses>,
    /// Held while it is filled, mounted or unmounted, which may take long.
    busy: Mutex<()>,
}

/// Who has a volume.
#[derive(Debug, Default)]
struct Uses {
    /// Ids of containers that have it, running or not.
    containers: BTreeSet<String>,
    /// Those of them for which it is mounted.
    running: BTreeSet<String>,
    /// Whether the options' file system is mounted over its directory.
    is_mounted: bool,
    is_gone: bool,
}

impl Volumes {
    /// A volume by its name.
    fn find(&self, name: &str) -> Option<Arc<Volume>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(name).cloned()
    }

    /// A volume by its name. Errors: not found, in Docker's words.
    fn get(&self, name: &str) -> Result<Arc<Volume>, Error> {
        self.find(name)
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    fn all(&self) -> Vec<Arc<Volume>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.values().cloned().collect()
    }

    /// Where the content of a volume of this name is.
    pub(crate) fn data_dir(&self, name: &str) -> PathBuf {
        self.root.join(name).join(DATA)
    }

    /// Tells that a container has it mounted.
    pub(crate) fn publish_mount(
        &self,
        name: &str,
        container: &str,
        point: &conex_api::container::MountPoint,
    ) {
        let extra = [
            ("container", container),
            ("destination", &point.destination),
            ("read/write", if point.rw { "true" } else { "false" }),
            ("propagation", &point.propagation),
        ];
        self.publish(name, "mount", &extra);
    }

    /// Tells that a container no longer has it mounted.
    pub(crate) fn publish_unmount(&self, name: &str, container: &str) {
        self.publish(name, "unmount", &[("container", container)]);
    }

    fn publish(&self, volume: &str, action: &str, extra: &[(&str, &str)]) {
        let mut attributes: BTreeMap<String, String> =
            BTreeMap::from([("driver".into(), DRIVER.into())]);
        attributes.extend(extra.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        self.events.publish("volume", action, volume, attributes);
    }
}

impl Volume {
    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, ()> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    fn is_anonymous(&self) -> bool {
        self.description.labels.contains_key(ANONYMOUS)
    }
}

/// Checks `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.len() == 1 {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric \
             characters"
        )));
    }
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use \
         absolute path"
    )))
}

/// Refuses every driver but the one there is.
pub(crate) fn check_driver(name: &str) -> Result<(), Error> {
    if matches!(name, "" | DRIVER) {
        return Ok(());
    }
    Err(Error::not_found(format!(
        "error looking up volume plugin {name}: plugin {name:?} not found"
    )))
}

pub(crate) use local::check_options;
pub(crate) use remove::delete;

fn failed(doing: &str, name: &str) -> impl Fn(&dyn std::error::Error) -> Error {
    let doing = format!("{doing} {name}");
    move |error| Error::system(&doing, error)
}

fn in_use(name: &str, containers: &BTreeSet<String>) -> Error {
    let ids: Vec<&str> = containers.iter().map(String::as_str).collect();
    Error::new(
        ErrorKind::Conflict,
        format!("remove {name}: volume is in use - [{}]", ids.join(", ")),
    )
}

/// A name for something beside the volumes that is none; no volume's name
/// begins with a dot.
fn aside(root: &Path, what: &str, name: &str) -> PathBuf {
    let unique = crate::id::generate();
    root.join(format!(".{what}-{name}-{}", &unique[..12]))
}

#[cfg(test)]
impl Volumes {
    /// The volumes of a directory, with nobody listening.
    pub(crate) fn of(root: &Path) -> Volumes {
        Volumes::open(root.to_owned(), Arc::new(Events::new())).expect("a directory can be read")
    }
}

#[cfg(test)]
mod tests;
