//! Which driver an engine opens: the one its data root was used with, else the
//! one asked for, else the first that works here. As dockerd chooses, and more
//! careful in one point: a driver asked for does not hide what another one
//! holds (`docs/compat.md`).

use std::path::{Path, PathBuf};

use super::{Driver, Error, Kind, UnknownKind, home};

/// In the order in which they are tried.
const PRIORITY: [Kind; 3] = [Kind::Overlay2, Kind::Btrfs, Kind::Vfs];

/// No driver was opened.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// There is no such driver.
    #[error(transparent)]
    Unknown(#[from] UnknownKind),
    /// Images and containers of another driver would disappear from sight.
    #[error(
        "storage driver {wanted} was asked for, but the images and containers in {data_root} are \
         of {prior}: start with {prior}, or with another data root"
    )]
    Switched {
        /// The driver asked for.
        wanted: Kind,
        /// The one whose layers are there.
        prior: Kind,
        /// The data root.
        data_root: PathBuf,
    },
    /// Nobody said which of several to use.
    #[error(
        "{data_root} contains several valid graphdrivers: {found}; cleanup or explicitly choose \
         storage driver (-s <DRIVER>)"
    )]
    Several {
        /// The data root.
        data_root: PathBuf,
        /// Their names.
        found: String,
    },
    /// The one there is does not work.
    #[error(transparent)]
    Driver(#[from] Error),
}

/// Opens the driver of a data root; `wanted` is a name from the configuration.
pub fn choose(data_root: &Path, wanted: Option<&str>) -> Result<Box<dyn Driver>, ChooseError> {
    let mut prior = Vec::new();
    for kind in PRIORITY {
        if !home::names(&data_root.join(kind.name()))?.is_empty() {
            prior.push(kind);
        }
    }
    if let Some(name) = wanted {
        let wanted: Kind = name.parse()?;
        if let Some(prior) = prior.first().filter(|_| !prior.contains(&wanted)) {
            return Err(ChooseError::Switched {
                wanted,
                prior: *prior,
                data_root: data_root.to_owned(),
            });
        }
        return Ok(wanted.open(data_root)?);
    }
    match prior[..] {
        [] => first_that_works(data_root),
        [only] => Ok(only.open(data_root)?),
        _ => {
            let names: Vec<&str> = prior.iter().map(|kind| kind.name()).collect();
            Err(ChooseError::Several {
                data_root: data_root.to_owned(),
                found: names.join(", "),
            })
        }
    }
}

fn first_that_works(data_root: &Path) -> Result<Box<dyn Driver>, ChooseError> {
    let mut first = None;
    for kind in PRIORITY {
        match kind.open(data_root) {
            Ok(driver) => return Ok(driver),
            Err(error @ Error::Unsupported { .. }) => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(first.expect("a driver was tried").into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::driver::LayerId;
    use crate::fixture::privileged;

    fn layer() -> LayerId {
        "base".parse().unwrap()
    }

    #[test]
    fn a_fresh_data_root_gets_overlay2_and_a_used_one_what_it_had() {
        if !privileged() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let kind = |wanted| choose(root.path(), wanted).map(|driver| driver.kind());
        assert_eq!(kind(None).unwrap(), Kind::Overlay2);
        // Nothing is in it yet, so another one may be asked for.
        assert_eq!(kind(Some("vfs")).unwrap(), Kind::Vfs);
        let vfs = Kind::Vfs.open(root.path()).unwrap();
        vfs.create(&layer(), None).unwrap();
        assert_eq!(kind(None).unwrap(), Kind::Vfs, "the prior one");
        let error = kind(Some("overlay2")).unwrap_err().to_string();
        assert!(
            error.starts_with("storage driver overlay2 was asked for, but the images")
                && error.contains("are of vfs"),
            "{error}"
        );
        assert_eq!(
            kind(Some("devicemapper")).unwrap_err().to_string(),
            "unknown storage driver \"devicemapper\""
        );
    }

    #[test]
    fn of_several_drivers_in_use_one_has_to_be_named() {
        if !privileged() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        for kind in [Kind::Vfs, Kind::Overlay2] {
            let driver = kind.open(root.path()).unwrap();
            driver.create(&layer(), None).unwrap();
        }
        let error = choose(root.path(), None).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "contains several valid graphdrivers: overlay2, vfs; cleanup or explicitly choose \
                 storage driver (-s <DRIVER>)"
            ),
            "{error}"
        );
        let named = choose(root.path(), Some("vfs")).unwrap();
        assert_eq!(named.kind(), Kind::Vfs);
    }

    #[test]
    fn btrfs_on_another_file_system_is_refused_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let Err(error) = choose(root.path(), Some("btrfs")) else {
            eprintln!("skipped: temporary files are on btrfs");
            return;
        };
        let text = error.to_string();
        assert!(
            text.starts_with("storage driver btrfs is not supported at")
                && text.contains("subvolumes need btrfs, and this is "),
            "{text}"
        );
        assert!(!root.path().join("btrfs").exists());
    }
}
