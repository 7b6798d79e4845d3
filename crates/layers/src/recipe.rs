//! Recipes: what it takes, beside an unpacked layer, to get its archive back
//! byte for byte.
//!
//! A layer lies on disk once, as a tree of files. Its identity is the digest of
//! a tar archive, and packing the tree again would give other bytes: headers
//! can be written in many ways. So unpacking keeps everything of the archive
//! but the content of its files, and [`Regenerated`] puts the two together.
//!
//! ```text
//! recipe   = "conexrcp" version:u8 state:u8 length:u64 zstd{ records }
//! state    = 0 plain | 1 amended: there are kept or moved records | 255 unfinished
//! length   = of the archive, little-endian
//! record   = 1 RAW    length  bytes                the archive's own bytes: headers, padding, …
//!          | 2 FILE   path  length  crc32  count { offset length }
//!                                                  here stands stored content of that file:
//!                                                  all of it, or these segments of a sparse one
//!          | 3 KEPT   index  length  bytes         content of the index-th FILE, which the
//!                                                  archive itself replaced later
//!          | 4 MOVED  index  path                  where the index-th FILE lies in the end
//!          | 5 END    length  sha256               of the whole archive; nothing follows
//! path     = length bytes, relative to the layer's root
//! numbers  = LEB128; crc32 = 4 bytes, little-endian
//! ```
//!
//! RAW and FILE stand in the archive's order. KEPT and MOVED may stand anywhere
//! behind their FILE, so a recipe in state 1 is read twice.
//!
//! It must not know images, nor which driver the layer's directory belongs to.

mod format;
mod record;
mod regenerate;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use conex_spec::digest::Digest;

use crate::driver::LayerId;
pub use record::Recorder;
pub use regenerate::Regenerated;

/// Why an archive does not come back, or a recipe cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layer has none.
    #[error("layer {id} has no recipe: its archive cannot be made again")]
    Missing {
        /// Which layer.
        id: LayerId,
    },
    /// The recipe's file failed.
    #[error("cannot {action} the recipe {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The recipe.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The recipe is not what is written here.
    #[error("the layer's recipe is damaged: {problem}")]
    Recipe {
        /// What is wrong.
        problem: &'static str,
    },
    /// The recipe cannot be read on.
    #[error("cannot read the layer's recipe")]
    Read(#[source] io::Error),
    /// A file of the layer is gone or cannot be read.
    #[error("the file {path:?} of the layer cannot be read")]
    File {
        /// Which.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A file of the layer is not what was unpacked.
    #[error("the file {path:?} of the layer is damaged: {problem}")]
    Damaged {
        /// Which.
        path: String,
        /// In what way.
        problem: &'static str,
    },
    /// Every file is as it was, and still the archive is another one.
    #[error("the layer's archive has digest {found} instead of {expected}")]
    Digest {
        /// What came out.
        found: Digest,
        /// What should have.
        expected: Digest,
    },
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// All recipes of an engine: a directory with one file per layer, which has
/// the layer's name.
#[derive(Debug, Clone)]
pub struct Recipes {
    directory: PathBuf,
}

impl Recipes {
    /// Opens the directory, making it where missing.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::Io {
                action: "make the directory of",
                path: directory.to_owned(),
                source: error,
            }),
            _ => Ok(Self {
                directory: directory.to_owned(),
            }),
        }
    }

    fn path(&self, id: &LayerId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    /// Begins the recipe of a layer, in the place of an older one.
    pub fn create(&self, id: &LayerId) -> Result<Recorder, Error> {
        let path = self.path(id);
        let failed = |source| Error::Io {
            action: "create",
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        Recorder::begin(file).map_err(failed)
    }

    /// The archive of a layer, from its recipe and its directory (opened for
    /// reading). Reading it fails with [`Error`] inside the `io::Error` when a
    /// file is not what it was, and at the end when the whole is not `diff_id`.
    pub fn regenerate(
        &self,
        id: &LayerId,
        layer: OwnedFd,
        diff_id: &Digest,
    ) -> Result<Regenerated, Error> {
        let path = self.path(id);
        let file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { id: id.clone() },
            _ => Error::Io {
                action: "open",
                path,
                source,
            },
        })?;
        Regenerated::open(file, layer, diff_id, &self.directory)
    }

    /// Removes the recipe of a layer; a missing one is fine.
    pub fn remove(&self, id: &LayerId) -> Result<(), Error> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io {
                action: "remove",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }

    /// The layers that have a recipe, in no order.
    pub fn list(&self) -> Result<Vec<LayerId>, Error> {
        let failed = |source| Error::Io {
            action: "list",
            path: self.directory.clone(),
            source,
        };
        let mut layers = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            layers.extend(name.to_str().and_then(|name| name.parse::<LayerId>().ok()));
        }
        Ok(layers)
    }

    /// Makes all recipes durable, with whatever else waits on their file system.
    pub fn sync(&self) -> Result<(), Error> {
        let failed = |source| Error::Io {
            action: "sync",
            path: self.directory.clone(),
            source,
        };
        let directory = File::open(&self.directory).map_err(failed)?;
        rustix::fs::syncfs(directory).map_err(|errno| failed(errno.into()))
    }
}

#[cfg(test)]
mod tests;
