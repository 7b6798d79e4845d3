//! Storage drivers: how layers lie on disk and become a root file system.
//!
//! # Vocabulary
//! - **layer**: a directory of files under a [`LayerId`], with at most one
//!   *parent* below it. Read-only once filled.
//! - **container layer**: a layer that is written to through a mount of itself
//!   over its parents; nothing stands on it.
//! - **root file system**: a layer seen together with everything below it.
//!
//! # Stories
//! *Pull.* For each layer of the image, bottom first: [`Driver::create`] makes
//! it empty, [`crate::unpack::unpack_recording`] fills it, and
//! [`crate::implied::adopt`] mends what the archive left out. Filling the
//! layers of one image needs no order where [`Kind::fills_in_any_order`] says
//! so; only the last step looks below.
//!
//! *Save.* [`Driver::content`] and the layer's recipe give its archive again
//! ([`crate::recipe::Recipes::regenerate`]).
//!
//! A driver whose layers are whole trees starts a layer as a copy of its parent,
//! and removals in the archive remove from that copy; so its layers are filled
//! bottom first.
//!
//! *Run.* A layer on top of the image gets what [`crate::init::build`] puts
//! there, a container layer goes on top of that, and [`Driver::rootfs`] tells
//! how to mount it. [`Rootfs::mount`] does so.
//!
//! *Diff, commit, export.* [`Rootfs::difference`] puts a layer beside what is
//! below it, [`Rootfs::view`] shows both as one; neither disturbs a container
//! that runs on the layer.
//!
//! *Remove.* [`Driver::discard`] takes the name away at once, [`Discarded::delete`]
//! the files, whenever there is time; a crash between leaves something in
//! `tmp`, never half a layer.
//!
//! A driver keeps no state but the disk's and locks nothing: the caller never
//! has two operations on one layer at a time. Names come from the caller, and
//! so does the decision when a layer is no longer needed.

pub mod btrfs;
pub mod choose;
mod home;
pub mod overlay2;
#[cfg(test)]
mod suite;
mod usage;
pub mod vfs;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::io::Errno;

use crate::extract::Whiteouts;
pub use crate::rootfs::Rootfs;
pub use usage::Usage;

/// Most layers under a container layer: Docker's limit, known to its users as
/// 127 image layers (the last is the init layer).
pub const MAX_LOWERS: usize = 128;

/// What every storage driver does.
pub trait Driver: fmt::Debug + Send + Sync {
    /// Which driver this is.
    fn kind(&self) -> Kind;

    /// Makes an empty layer on top of `parent` and gives its directory, to be
    /// filled. The layer's root looks like its parent's.
    ///
    /// Errors: [`Error::Exists`], [`Error::NotFound`] for the parent,
    /// [`Error::TooDeep`].
    fn create(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<LayerRoot, Error>;

    /// Makes a container layer on top of `parent`, whose root looks like its
    /// parent's, and which holds `size_bytes` at most, shared content included.
    ///
    /// Errors as for [`Self::create`]; [`Error::NoQuota`] from a driver that
    /// cannot limit a size.
    fn create_container(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        size_bytes: Option<u64>,
    ) -> Result<(), Error>;

    /// How to get the layer with everything below it: read-only for a layer,
    /// writable for a container layer.
    fn rootfs(&self, id: &LayerId) -> Result<Rootfs, Error>;

    /// The directory of what the layer itself holds, for reading; a driver
    /// whose layers are copies gives the whole tree. Its archive is made again
    /// from there.
    fn content(&self, id: &LayerId) -> Result<OwnedFd, Error>;

    /// Takes a layer away that nothing stands on: its name is free at once,
    /// its files go with [`Discarded::delete`]. A missing one is `None`.
    fn discard(&self, id: &LayerId) -> Result<Option<Discarded>, Error>;

    /// What the layer alone holds.
    fn usage(&self, id: &LayerId) -> Result<Usage, Error>;

    /// All layers on disk, in no order.
    fn list(&self) -> Result<Vec<Listed>, Error>;

    /// The rows that `docker info` shows under "Storage Driver".
    fn status(&self) -> Vec<(String, String)>;
}

/// A layer on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub id: LayerId,
    /// Whether it is written to.
    pub is_container: bool,
}

/// The drivers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The kernel's overlay file system; the default.
    Overlay2,
    /// Subvolumes and snapshots.
    Btrfs,
    /// Whole copies.
    Vfs,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Overlay2, Self::Btrfs, Self::Vfs];

    /// Opens the driver under the engine's data root, making its directory
    /// where missing. Errors: [`Error::Unsupported`] with the reason.
    pub fn open(self, data_root: &Path) -> Result<Box<dyn Driver>, Error> {
        Ok(match self {
            Self::Overlay2 => Box::new(overlay2::Overlay2::open(data_root)?),
            Self::Btrfs => Box::new(btrfs::Btrfs::open(data_root)?),
            Self::Vfs => Box::new(vfs::Vfs::open(data_root)?),
        })
    }

    /// Whether a layer can be filled before the ones below it are; a driver
    /// whose layers begin as copies of their parents cannot.
    #[must_use]
    pub fn fills_in_any_order(self) -> bool {
        match self {
            Self::Overlay2 => true,
            Self::Btrfs | Self::Vfs => false,
        }
    }

    /// What removals look like in its layers.
    #[must_use]
    pub fn whiteouts(self) -> Whiteouts {
        match self {
            Self::Overlay2 => Whiteouts::Overlay,
            Self::Vfs | Self::Btrfs => Whiteouts::Apply,
        }
    }

    /// Its name in configuration and in `docker info`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay2 => "overlay2",
            Self::Btrfs => "btrfs",
            Self::Vfs => "vfs",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// A driver of that name does not exist.
#[derive(Debug, thiserror::Error)]
#[error("unknown storage driver {0:?}")]
pub struct UnknownKind(String);

/// The name of a layer's directory: 1 to 128 of `a-z`, `0-9` and `-`, not
/// starting with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(String);

impl LayerId {
    /// A name nobody has: 128 random bits in hexadecimal.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self(format!("{:032x}", u128::from_be_bytes(bytes))))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for LayerId {
    type Err = InvalidLayerId;

    fn from_str(name: &str) -> Result<Self, InvalidLayerId> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let valid =
            (1..=128).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(allowed);
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidLayerId(name.to_owned()))
        }
    }
}

/// Not a name for a layer.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a layer name")]
pub struct InvalidLayerId(String);

/// A new layer's directory.
#[derive(Debug)]
pub struct LayerRoot {
    /// The directory, opened for reading.
    pub directory: OwnedFd,
    /// What removals in an archive become here.
    pub whiteouts: Whiteouts,
}

impl LayerRoot {
    /// Makes everything written so far durable, with whatever else waits on
    /// the same file system.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.directory)?)
    }
}

/// The files of a layer that is no more.
#[derive(Debug)]
#[must_use = "the files stay until they are deleted"]
pub struct Discarded {
    parent: PathBuf,
    name: String,
    /// What in it is a subvolume.
    subvolume: Option<&'static str>,
}

impl Discarded {
    /// Deletes them, which can take seconds.
    pub fn delete(self) -> Result<(), Error> {
        let failed = |source| Error::Io {
            action: "remove",
            path: self.parent.join(&self.name),
            source,
        };
        if let Some(name) = self.subvolume {
            btrfs::destroy(&self.parent.join(&self.name), name).map_err(failed)?;
        }
        let parent = crate::tree::open_directory(rustix::fs::CWD, &self.parent).map_err(failed)?;
        crate::tree::remove(parent.as_fd(), self.name.as_bytes()).map_err(failed)
    }
}

/// A driver could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such layer.
    #[error("layer {id} does not exist")]
    NotFound {
        /// Which.
        id: LayerId,
    },
    /// There is one of that name.
    #[error("layer {id} exists already")]
    Exists {
        /// Which.
        id: LayerId,
    },
    /// A layer on top of a container layer.
    #[error("layer {id} is a container's and cannot have layers on top")]
    NotReadOnly {
        /// The parent asked for.
        id: LayerId,
    },
    /// Too many layers below.
    #[error("max depth exceeded: layer {id} would stand on more than {limit} layers")]
    TooDeep {
        /// The layer asked for.
        id: LayerId,
        /// The limit.
        limit: usize,
    },
    /// The driver cannot limit the size of a container.
    #[error("{}", no_quota(*.kind))]
    NoQuota {
        /// Which driver.
        kind: Kind,
    },
    /// A whole layer could not be copied.
    #[error("cannot copy layer {from} to layer {to}")]
    Copy {
        /// The parent.
        from: LayerId,
        /// The new layer.
        to: LayerId,
        /// What of it.
        source: crate::copy::Error,
    },
    /// A whole layer could not be compared with its parent.
    #[error("cannot compare layer {id} with the one below")]
    Compare {
        /// Which.
        id: LayerId,
        /// Where it failed.
        source: crate::difference::Error,
    },
    /// A file of the driver is not what the driver writes.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The driver does not work on this machine or file system.
    #[error("storage driver {kind} is not supported at {path}: {reason}")]
    Unsupported {
        /// Which driver.
        kind: Kind,
        /// Its directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file system failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: Errno,
    },
}

/// Docker's words.
fn no_quota(kind: Kind) -> &'static str {
    match kind {
        Kind::Overlay2 => {
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
        }
        Kind::Vfs | Kind::Btrfs => "Filesystem does not support, or has not enabled quotas",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn layer_names_cannot_leave_their_directory() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "A",
            "-a",
            "a.b",
            "a\0",
            &"a".repeat(129),
        ] {
            assert!(bad.parse::<LayerId>().is_err(), "{bad:?}");
        }
        for good in ["a", "0-init", &"f".repeat(64)] {
            assert_eq!(good.parse::<LayerId>().unwrap().as_str(), good);
        }
        let random = LayerId::random().unwrap();
        assert_eq!(random.as_str().parse::<LayerId>().unwrap(), random);
        assert_ne!(random, LayerId::random().unwrap());
    }

    #[test]
    fn kinds_are_known_by_name() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
        }
        let error = "overlay3".parse::<Kind>().unwrap_err();
        assert_eq!(error.to_string(), "unknown storage driver \"overlay3\"");
    }
}
