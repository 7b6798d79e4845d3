//! What a layer changes against what is below it, at a cost in proportion to
//! the change.
//!
//! ```text
//! Holds::Changes     the layer's directory has only what differs, with overlay's marks:
//!                    character device 0/0 = removed, trusted.overlay.opaque = hides all below
//! Holds::Everything  the layer's directory is a whole tree; the two trees are compared
//! ```
//!
//! Inside an opaque directory of the first kind the layer holds everything, so
//! there the two trees are compared as in the second.
//!
//! What counts as changed is Docker's: mode, owner and device of anything, size
//! and modification time of what is no directory; and any extended attribute.
//! A directory is changed too when something in it is.
//! Source: moby `pkg/archive/changes.go`.
//!
//! It must not know containers: what an engine put into a layer for its own
//! ends (mount points) is told to it.

pub(crate) mod walk;

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::tree;
pub(crate) use walk::{Directory, What, Whole};

/// How a path came to be in the list of changes; the numbers are the API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is below too, and looked or was otherwise.
    Modified = 0,
    /// It is not below.
    Added = 1,
    /// It is only below.
    Deleted = 2,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// From the root, without a slash in front.
    pub path: Vec<u8>,
    /// How it differs.
    pub kind: ChangeKind,
}

/// What the directory of a layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Only what differs from below, with overlay's marks.
    Changes,
    /// The whole tree.
    Everything,
}

/// A layer beside what is below it. [`crate::driver::Rootfs::difference`]
/// gives one.
#[derive(Debug)]
pub struct Difference {
    /// The layer's directory, opened for reading.
    pub layer: OwnedFd,
    /// What is below as one directory, opened for reading or as a mount;
    /// `None` when there is nothing.
    pub below: Option<OwnedFd>,
    /// What `layer` holds.
    pub holds: Holds,
}

/// Places where something of the engine's own may lie, which is no change: an
/// empty file or directory there, with the directories that lead only to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountPoints(BTreeSet<Vec<u8>>);

impl MountPoints {
    /// Of these absolute paths, as the engine resolved them.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let clean = |path: &[u8]| {
            let parts = path.split(|byte| *byte == b'/');
            let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty()).collect();
            parts.join(&b'/')
        };
        Self(paths.into_iter().map(clean).collect())
    }

    /// Whether the path is one, or leads to one.
    fn lead_through(&self, path: &[u8]) -> bool {
        let inside = [path, b"/"].concat();
        let next = self.0.range(inside.clone()..).next();
        self.contains(path) || next.is_some_and(|point| point.starts_with(&inside))
    }

    fn contains(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }
}

/// Why the changes cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system failed.
    #[error("cannot read {path:?} of the layer")]
    Io {
        /// Where, from the layer's root.
        path: String,
        /// `ESTALE` when a directory was moved away under the walk.
        source: Errno,
    },
    /// Another engine mounted the layer with options that leave part of it below.
    #[error("{path:?} of the layer refers to another place below it")]
    Redirected {
        /// What refers.
        path: String,
    },
}

impl Error {
    pub(crate) fn io(path: &[u8], source: Errno) -> Self {
        Self::Io {
            path: String::from_utf8_lossy(path).into_owned(),
            source,
        }
    }
}

impl Difference {
    /// Every path that differs, sorted; the root itself is not among them.
    pub fn changes(&self, mount_points: &MountPoints) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        self.walk(mount_points, Whole::Listed, &mut |path, kind, _| {
            if !path.is_empty() {
                let path = path.to_vec();
                changes.push(Change { path, kind });
            }
            Ok::<(), Error>(())
        })?;
        changes.sort_unstable();
        Ok(changes)
    }

    /// Whether nothing differs, the looks of the root included. Ends at the
    /// first difference.
    pub fn is_empty(&self, mount_points: &MountPoints) -> Result<bool, Error> {
        enum End {
            Found,
            Failed(Error),
        }
        impl From<Error> for End {
            fn from(error: Error) -> Self {
                Self::Failed(error)
            }
        }
        let walked = self.walk(mount_points, Whole::Listed, &mut |_, _, _| Err(End::Found));
        match walked {
            Ok(()) => Ok(true),
            Err(End::Found) => Ok(false),
            Err(End::Failed(error)) => Err(error),
        }
    }

    pub(crate) fn walk<E: From<Error>>(
        &self,
        mount_points: &MountPoints,
        whole: Whole,
        show: &mut walk::Show<'_, E>,
    ) -> Result<(), E> {
        // Opened anew: a mount's descriptor cannot be read, and no two walks
        // may share a position.
        let open = |fd: &OwnedFd| tree::open_directory(fd, c".").map_err(|e| Error::io(b"", e));
        let layer = open(&self.layer)?;
        let below = self.below.as_ref().map(open).transpose()?;
        let scope = walk::Scope {
            holds: self.holds,
            mount_points,
            closed: &HashSet::new(),
            whole,
        };
        walk::walk(layer, below, &scope, show)
    }
}

#[cfg(test)]
mod tests;
