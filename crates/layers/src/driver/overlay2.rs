//! Layers as directories for the kernel's overlay file system.
//!
//! ```text
//! <data root>/overlay2/<id>/diff    what the layer holds
//!                          /lower   ids of the layers below, one a line, topmost first
//!                          /work    only for container layers: the kernel's scratch
//!                     .empty        a second lower for images of one layer
//! ```
//!
//! `diff` uses the kernel's own marks: a removed name is a character device
//! 0/0, a directory that hides its lower ones has `trusted.overlay.opaque`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::home::{Home, file_system_at, io, make_directory};
use super::{Discarded, Driver, Error, Kind, LayerId, LayerRoot, Listed, Rootfs, Usage};
use crate::extract::Whiteouts;
use crate::overlay::{OverlayOptions, OverlayRecipe, Writable};
use crate::{metadata, tree};

const EMPTY: &str = ".empty";

/// The driver under one data root.
#[derive(Debug)]
pub struct Overlay2 {
    home: Home,
    backing: &'static str,
}

impl Overlay2 {
    /// Opens `<data root>/overlay2`, making it and `tmp` where missing, and
    /// proves that the kernel mounts overlays of what lies there.
    pub fn open(data_root: &Path) -> Result<Self, Error> {
        let home = Home::open(Kind::Overlay2, data_root, "work", None)?;
        make_directory(&home.path.join(EMPTY), 0o755)?;
        let backing = file_system_at(&home.path)?;
        let driver = Self { home, backing };
        driver.probe()?;
        driver.home.finish_removals()?;
        Ok(driver)
    }

    /// Refuses what would fail at the first container.
    fn probe(&self) -> Result<(), Error> {
        let unsupported = |reason: String| Error::Unsupported {
            kind: Kind::Overlay2,
            path: self.home.path.clone(),
            reason,
        };
        if matches!(self.backing, "overlayfs" | "ecryptfs" | "nfs" | "aufs") {
            let reason = format!("overlay layers cannot lie on {}", self.backing);
            return Err(unsupported(reason));
        }
        let home = tree::open_directory(rustix::fs::CWD, &self.home.path)
            .map_err(io("open", &self.home.path))?;
        if !tells_kinds(home.as_fd()).map_err(io("read", &self.home.path))? {
            let reason = "its file system does not tell the kinds of directory entries (d_type); \
                          on xfs it has to be made with ftype=1";
            return Err(unsupported(reason.to_owned()));
        }
        // Without an upper directory, so that unmounting has nothing to sync.
        let recipe = OverlayRecipe {
            lowers: vec![self.home.path.join(EMPTY), self.home.tmp.clone()],
            writable: None,
        };
        match recipe.mount(OverlayOptions::default()) {
            Ok(_) => Ok(()),
            Err(error) => {
                let cause = std::error::Error::source(&error)
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                Err(unsupported(format!("{error}{cause}")))
            }
        }
    }

    fn diff(&self, id: &LayerId) -> PathBuf {
        self.home.directory(id).join("diff")
    }

    /// Makes the layer's directories; a container's also has `work`.
    fn make(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        container: bool,
    ) -> Result<OwnedFd, Error> {
        self.home.make(id, parent, |directory| {
            if container {
                let work = directory.join("work");
                rustix::fs::mkdir(&work, Mode::RWXU).map_err(io("create", work))?;
            }
            let diff = directory.join("diff");
            rustix::fs::mkdir(&diff, Mode::from_raw_mode(0o755)).map_err(io("create", &diff))?;
            let opened = self.content(id)?;
            // The mode of a directory made is subject to the umask.
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755))
                .map_err(io("change the mode of", &diff))?;
            if let Some(parent) = parent {
                // A merged root looks like its topmost layer's.
                metadata::copy(self.content(parent)?.as_fd(), opened.as_fd())
                    .map_err(io("copy metadata to", &diff))?;
            }
            Ok(opened)
        })
    }
}

impl Driver for Overlay2 {
    fn kind(&self) -> Kind {
        Kind::Overlay2
    }

    fn create(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<LayerRoot, Error> {
        Ok(LayerRoot {
            directory: self.make(id, parent, false)?,
            whiteouts: Whiteouts::Overlay,
        })
    }

    fn create_container(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        size_bytes: Option<u64>,
    ) -> Result<(), Error> {
        if size_bytes.is_some() {
            return Err(Error::NoQuota {
                kind: Kind::Overlay2,
            });
        }
        self.make(id, parent, true).map(drop)
    }

    fn content(&self, id: &LayerId) -> Result<OwnedFd, Error> {
        let path = self.diff(id);
        match tree::open_directory(rustix::fs::CWD, &path) {
            Err(Errno::NOENT) => Err(Error::NotFound { id: id.clone() }),
            result => result.map_err(io("open", path)),
        }
    }

    fn rootfs(&self, id: &LayerId) -> Result<Rootfs, Error> {
        let chain = self.home.chain(id)?;
        let mut lowers: Vec<PathBuf> = chain.iter().map(|id| self.diff(id)).collect();
        let container = self.home.is_container(id)?;
        if !container {
            lowers.insert(0, self.diff(id));
        }
        // The kernel wants two lowers without an upper, and one below it.
        if lowers.is_empty() || (lowers.len() == 1 && !container) {
            lowers.push(self.home.path.join(EMPTY));
        }
        let writable = container.then(|| Writable {
            upper: self.diff(id),
            work: self.home.directory(id).join("work"),
        });
        Ok(Rootfs::Overlay(OverlayRecipe { lowers, writable }))
    }

    fn discard(&self, id: &LayerId) -> Result<Option<Discarded>, Error> {
        self.home.discard(id)
    }

    fn usage(&self, id: &LayerId) -> Result<Usage, Error> {
        let mut counter = super::usage::Counter::default();
        tree::walk(self.content(id)?, &mut |status| counter.count(status))
            .map_err(io("read", self.diff(id)))?;
        Ok(counter.usage)
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.home.list()
    }

    fn status(&self) -> Vec<(String, String)> {
        [
            ("Backing Filesystem", self.backing),
            // Without it the driver does not open.
            ("Supports d_type", "true"),
            // The options every mount is made with.
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "false"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }
}

/// Whether reading a directory tells what its entries are; the driver's own
/// `.empty` is there to be asked about.
fn tells_kinds(home: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut buffer = vec![std::mem::MaybeUninit::uninit(); 4096];
    let mut entries = rustix::fs::RawDir::new(home, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(entry.file_type() != FileType::Unknown);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
