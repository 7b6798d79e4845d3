//! Volumes of the `local` driver: directories that outlive containers. It must
//! not know who mounts them.
//!
//! ```text
//! <data root>/volumes/<name>/volume.json   driver, time, labels, anonymous or not
//! <data root>/volumes/<name>/_data/        the content, 0755 root until an image says otherwise
//! ```

mod copy;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use conex_store::persist::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, time};
pub(super) use copy::copy_up;

/// What makes a volume that a mount asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct NewVolume {
    /// Whether it goes with its container.
    pub(super) is_anonymous: bool,
    /// Labels of the user, if it is not there yet.
    pub(super) labels: BTreeMap<String, String>,
}

/// `volume.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Description {
    driver: String,
    created: String,
    labels: BTreeMap<String, String>,
    anonymous: bool,
    /// The container an anonymous volume was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
}

const DESCRIPTION: &str = "volume.json";
const MAX_DESCRIPTION_BYTES: u64 = 1 << 20;

/// Label of volumes that `volume prune` takes without being asked twice.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// Checks `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
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

/// There is one driver.
pub(super) fn no_driver(name: &str) -> Error {
    Error::not_found(format!(
        "error looking up volume plugin {name}: plugin {name:?} not found"
    ))
}

/// Where the content of a volume is.
pub(super) fn data_dir(root: &Path, name: &str) -> PathBuf {
    root.join(name).join("_data")
}

/// Makes a volume unless it is there. With an owner it is anonymous. Blocks.
pub(super) fn create(
    root: &Path,
    name: &str,
    owner: Option<&str>,
    mut labels: BTreeMap<String, String>,
) -> Result<(), Error> {
    check_name(name)?;
    let failed = |error: io::Error| Error::system(&format!("create volume {name}"), &error);
    let dir = root.join(name);
    make_dir(root, 0o701).map_err(failed)?;
    make_dir(&dir, 0o701).map_err(failed)?;
    let file = dir.join(DESCRIPTION);
    if !file.try_exists().map_err(failed)? {
        if owner.is_some() {
            labels.insert(ANONYMOUS.into(), String::new());
        }
        let description = Description {
            driver: "local".into(),
            created: time::rfc3339(time::now_ns()),
            labels,
            anonymous: owner.is_some(),
            container: owner.map(str::to_owned),
        };
        let json = serde_json::to_vec(&description)
            .map_err(|error| Error::system(&format!("create volume {name}"), &error))?;
        // A named volume is the user's: it is there after a loss of power.
        let durability = match owner {
            None => Durability::Synced,
            Some(_) => Durability::Unsynced,
        };
        persist::write_atomic(&file, &json, durability)
            .map_err(|error| Error::system(&format!("create volume {name}"), &error))?;
    }
    make_dir(&dir.join("_data"), 0o755).map_err(failed)
}

/// A directory of a mode, whatever the umask; one that is there stays as it is.
fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes anonymous volumes with what is in them; a name that turns out to be
/// the user's own volume is left alone. Goes on after a failure and returns the
/// first. Blocks.
pub(super) fn remove_anonymous(root: &Path, names: &[String]) -> Result<(), Error> {
    let mut outcome = Ok(());
    for name in names {
        outcome = outcome.and(remove_one(root, name));
    }
    outcome
}

fn remove_one(root: &Path, name: &str) -> Result<(), Error> {
    check_name(name)?;
    let dir = root.join(name);
    let failed =
        |error: &dyn std::error::Error| Error::system(&format!("remove volume {name}"), error);
    let json = match persist::read_limited(&dir.join(DESCRIPTION), MAX_DESCRIPTION_BYTES) {
        // Already gone, or not a volume of ours.
        Err(error) if error.is_not_found() => return Ok(()),
        json => json.map_err(|error| failed(&error))?,
    };
    let description: Description = serde_json::from_slice(&json).map_err(|error| failed(&error))?;
    if !description.anonymous {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("remove volume {name}: it is not an anonymous volume"),
        ));
    }
    // The description goes last, so that a removal cut short is seen to be one.
    for path in [dir.join("_data"), dir] {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn volume_names_are_refused_in_dockers_words() {
        for good in ["ab", "A9", "a_b.c-d", &"a".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        assert_eq!(
            check_name("bad name!").unwrap_err().to_string(),
            "create bad name!: \"bad name!\" includes invalid characters for a local volume name, \
             only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host \
             directory, use absolute path"
        );
        assert_eq!(
            check_name("x").unwrap_err().to_string(),
            "create x: volume name is too short, names should be at least two alphanumeric \
             characters"
        );
        for bad in ["", "..", ".a", "a/b", "./a", "ä1", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_volume_is_made_once_and_keeps_its_content() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("volumes");
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        create(&root, "data", None, labels.clone()).unwrap();
        let dir = data_dir(&root, "data");
        assert_eq!(
            fs::metadata(&dir).unwrap().permissions().mode() & 0o7777,
            0o755
        );
        fs::write(dir.join("file"), "x").unwrap();
        create(&root, "data", None, BTreeMap::new()).unwrap();
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "x");
        let json = fs::read(root.join("data").join(DESCRIPTION)).unwrap();
        let description: Description = serde_json::from_slice(&json).unwrap();
        assert_eq!((description.labels, description.anonymous), (labels, false));
    }

    #[test]
    fn only_anonymous_volumes_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        create(root, "mine", None, BTreeMap::new()).unwrap();
        create(root, "anon1", Some("c1"), BTreeMap::new()).unwrap();
        create(root, "anon2", Some("c1"), BTreeMap::new()).unwrap();
        fs::write(data_dir(root, "anon1").join("file"), "x").unwrap();
        let names = ["anon1", "mine", "gone", "anon2"].map(str::to_owned);
        let error = remove_anonymous(root, &names).unwrap_err();
        assert_eq!(
            error.to_string(),
            "remove volume mine: it is not an anonymous volume"
        );
        assert!(!root.join("anon1").exists() && !root.join("anon2").exists());
        assert!(data_dir(root, "mine").exists());
    }
}
