//! Layers as whole copies, for file systems that can do nothing better.
//!
//! ```text
//! <data root>/vfs/<id>/root        the layer with everything below it
//!                     /lower       ids of the layers below, one a line, topmost first
//!                     /container   an empty file, only of container layers
//! ```
//!
//! Where files can share blocks (xfs, btrfs, bcachefs), a copy costs its names
//! alone; elsewhere every layer costs as much as the whole root file system.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::home::{self, Home, io};
use super::{Discarded, Driver, Error, Kind, LayerId, LayerRoot, Listed, Rootfs, Usage};
use crate::difference::{self, ChangeKind, Difference, Holds, MountPoints, What, Whole};
use crate::extract::Whiteouts;
use crate::rootfs::Directory;
use crate::{copy, tree};

/// What a layer's directory has if it is a container's.
pub(super) const MARK: &str = "container";
/// Where its content is.
pub(super) const ROOT: &str = "root";

/// The driver under one data root.
#[derive(Debug)]
pub struct Vfs {
    home: Home,
}

impl Vfs {
    /// Opens `<data root>/vfs`, making it and `tmp` where missing. It works
    /// everywhere.
    pub fn open(data_root: &Path) -> Result<Self, Error> {
        let home = Home::open(Kind::Vfs, data_root, MARK, None)?;
        home.finish_removals()?;
        Ok(Self { home })
    }

    fn make(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        container: bool,
    ) -> Result<OwnedFd, Error> {
        self.home.make(id, parent, |directory| {
            let root = directory.join(ROOT);
            rustix::fs::mkdir(&root, Mode::from_raw_mode(0o755)).map_err(io("create", &root))?;
            let opened = self.content(id)?;
            // The mode of a directory made is subject to the umask.
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755))
                .map_err(io("change the mode of", &root))?;
            if let Some(parent) = parent {
                copy::tree(self.content(parent)?, self.content(id)?).map_err(|source| {
                    Error::Copy {
                        from: parent.clone(),
                        to: id.clone(),
                        source,
                    }
                })?;
            }
            if container {
                // What was copied must be there when the container is, and
                // nobody syncs it later.
                rustix::fs::syncfs(&opened).map_err(io("sync", &root))?;
                mark(directory)?;
            }
            Ok(opened)
        })
    }
}

/// Makes a layer a container's.
pub(super) fn mark(directory: &Path) -> Result<(), Error> {
    let path = directory.join(MARK);
    std::fs::write(&path, "").map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        io("write", path)(errno)
    })
}

/// Opens the root of a layer that is a whole tree.
pub(super) fn open_root(home: &Home, id: &LayerId) -> Result<OwnedFd, Error> {
    let path = home.directory(id).join(ROOT);
    match tree::open_directory(rustix::fs::CWD, &path) {
        Err(Errno::NOENT) => Err(Error::NotFound { id: id.clone() }),
        result => result.map_err(io("open", path)),
    }
}

/// The root file system of a layer that is a whole tree.
pub(super) fn rootfs_of(home: &Home, id: &LayerId) -> Result<Rootfs, Error> {
    let root = |id: &LayerId| home.directory(id).join(ROOT);
    Ok(Rootfs::Dir(Directory {
        path: root(id),
        below: home.chain(id)?.first().map(root),
        writable: home.is_container(id)?,
    }))
}

/// What a layer that is a whole tree has that its parent has not.
pub(super) fn usage_of(home: &Home, id: &LayerId) -> Result<Usage, Error> {
    let parent = match home.chain(id)?.first() {
        Some(parent) => Some(open_root(home, parent)?),
        None => None,
    };
    let difference = Difference {
        layer: open_root(home, id)?,
        below: parent,
        holds: Holds::Everything,
    };
    let mut counter = super::usage::Counter::default();
    difference
        .walk(
            &MountPoints::default(),
            Whole::Listed,
            &mut |path, kind, what| {
                match what {
                    What::Other { status, .. } => counter.count(status),
                    What::Directory(directory) if kind == ChangeKind::Added && !path.is_empty() => {
                        counter.count(&directory.status);
                    }
                    What::Directory(_) | What::Nothing => {}
                }
                Ok::<(), difference::Error>(())
            },
        )
        .map_err(|source| Error::Compare {
            id: id.clone(),
            source,
        })?;
    Ok(counter.usage)
}

impl Driver for Vfs {
    fn kind(&self) -> Kind {
        Kind::Vfs
    }

    fn create(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<LayerRoot, Error> {
        Ok(LayerRoot {
            directory: self.make(id, parent, false)?,
            whiteouts: Whiteouts::Apply,
        })
    }

    fn create_container(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        size_bytes: Option<u64>,
    ) -> Result<(), Error> {
        if size_bytes.is_some() {
            return Err(Error::NoQuota { kind: Kind::Vfs });
        }
        self.make(id, parent, true).map(drop)
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
        home::file_system_at(&self.home.path)
            .map(|name| ("Backing Filesystem".to_owned(), name.to_owned()))
            .into_iter()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::driver::suite;
    use crate::fixture::directory_of_its_own;

    suite::suite!(directory_of_its_own(), |root: &Path| Vfs::open(root)
        .unwrap());
}
