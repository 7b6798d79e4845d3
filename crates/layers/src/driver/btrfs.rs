//! Layers as subvolumes of btrfs, each a snapshot of the one below.
//!
//! ```text
//! <data root>/btrfs/<id>/root        a subvolume: the layer with everything below it
//!                       /lower       ids of the layers below, one a line, topmost first
//!                       /container   an empty file, only of container layers
//! ```
//!
//! A snapshot copies nothing and is on the disk when it is made; what a layer
//! and its parent have in common is stored once.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use conex_sys::btrfs as kernel;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::home::{Home, file_system_at, io};
use super::vfs::{MARK, ROOT, mark, open_root, rootfs_of, usage_of};
use super::{Discarded, Driver, Error, Kind, LayerId, LayerRoot, Listed, Rootfs, Usage};
use crate::extract::Whiteouts;
use crate::tree;

/// The driver under one data root.
#[derive(Debug)]
pub struct Btrfs {
    home: Home,
}

impl Btrfs {
    /// Opens `<data root>/btrfs`, making it and `tmp` where missing.
    ///
    /// Errors: [`Error::Unsupported`] where the file system is another one.
    pub fn open(data_root: &Path) -> Result<Self, Error> {
        let home = Home::open(Kind::Btrfs, data_root, MARK, Some(ROOT))?;
        let backing = file_system_at(&home.path)?;
        if backing != "btrfs" {
            // Nothing of it shall be taken for a driver that was in use.
            rustix::fs::rmdir(&home.path).ok();
            return Err(Error::Unsupported {
                kind: Kind::Btrfs,
                path: home.path,
                reason: format!("subvolumes need btrfs, and this is {backing}"),
            });
        }
        home.finish_removals()?;
        Ok(Self { home })
    }

    fn make(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        size_bytes: Option<u64>,
        container: bool,
    ) -> Result<OwnedFd, Error> {
        self.home.make(id, parent, |directory| {
            let root = directory.join(ROOT);
            let within =
                tree::open_directory(rustix::fs::CWD, directory).map_err(io("open", directory))?;
            match parent {
                Some(parent) => {
                    let below = open_root(&self.home, parent)?;
                    kernel::create_snapshot(below.as_fd(), within.as_fd(), ROOT)
                        .map_err(io("make the snapshot", &root))?;
                }
                None => {
                    kernel::create_subvolume(within.as_fd(), ROOT)
                        .map_err(io("make the subvolume", &root))?;
                }
            }
            let opened = open_root(&self.home, id)?;
            if parent.is_none() {
                rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755))
                    .map_err(io("change the mode of", &root))?;
            }
            if let Some(bytes) = size_bytes {
                kernel::enable_quota(opened.as_fd()).map_err(io("turn quotas on for", &root))?;
                kernel::limit_subvolume(opened.as_fd(), bytes)
                    .map_err(io("limit the size of", &root))?;
            }
            if container {
                mark(directory)?;
            }
            Ok(opened)
        })
    }
}

impl Driver for Btrfs {
    fn kind(&self) -> Kind {
        Kind::Btrfs
    }

    fn create(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<LayerRoot, Error> {
        Ok(LayerRoot {
            directory: self.make(id, parent, None, false)?,
            whiteouts: Whiteouts::Apply,
        })
    }

    fn create_container(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        size_bytes: Option<u64>,
    ) -> Result<(), Error> {
        self.make(id, parent, size_bytes, true).map(drop)
    }

    fn content(&self, id: &LayerId) -> Result<OwnedFd, Error> {
        open_root(&self.home, id)
    }

    fn rootfs(&self, id: &LayerId) -> Result<Rootfs, Error> {
        rootfs_of(&self.home, id)
    }

    fn discard(&self, id: &LayerId) -> Result<Option<Discarded>, Error> {
        self.home.discard(id)
    }

    fn usage(&self, id: &LayerId) -> Result<Usage, Error> {
        usage_of(&self.home, id)
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.home.list()
    }

    fn status(&self) -> Vec<(String, String)> {
        vec![("Btrfs".to_owned(), String::new())]
    }
}

/// Takes the subvolume of a discarded layer away. `false`: it has to go file by
/// file, since a container made subvolumes of its own in it.
pub(super) fn destroy(directory: &Path, name: &str) -> Result<bool, Errno> {
    let parent = tree::open_directory(rustix::fs::CWD, directory)?;
    match kernel::destroy_subvolume(parent.as_fd(), name) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
