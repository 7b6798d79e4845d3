//! How a layer and what is below it become one directory, and mounting it. It
//! must not know which driver made it so.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use crate::difference::{Difference, Holds};
use crate::overlay::{self, Access, OverlayOptions, OverlayRecipe};
use crate::tree;

/// `MOUNT_ATTR_RDONLY` of linux/mount.h.
const READ_ONLY: u64 = 1;

/// What a driver has to give. A block device (`Mount`) and a process that
/// serves a file system (`Served`) follow with the drivers that need them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rootfs {
    /// A stack for the kernel's overlay file system.
    Overlay(OverlayRecipe),
    /// A directory with everything in it.
    Dir(Directory),
}

/// A directory that is a root file system as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where.
    pub path: PathBuf,
    /// The same of the layer below, if there is one.
    pub below: Option<PathBuf>,
    /// Whether it may be written to.
    pub writable: bool,
}

/// A root file system could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As an overlay.
    #[error(transparent)]
    Overlay(#[from] overlay::Error),
    /// As a directory.
    #[error("cannot open the layer directory {path}")]
    Dir {
        /// Which.
        path: PathBuf,
        /// `ENOENT` when the layer is gone, `EPERM` without privilege.
        source: Errno,
    },
}

impl Rootfs {
    /// A detached mount of it, which ends with its last descriptor and passes
    /// nothing on to other mounts. [`overlay::Durability`] concerns overlays
    /// alone: the end of any other mount syncs nothing.
    pub fn mount(&self, options: OverlayOptions) -> Result<OwnedFd, Error> {
        match self {
            Self::Overlay(recipe) => Ok(recipe.mount(options)?),
            Self::Dir(directory) => directory.mount(options.access),
        }
    }

    /// All of it, to be read only. Unlike [`Self::mount`] it does not take hold
    /// of a container layer, which may be mounted elsewhere and be written to
    /// meanwhile, and its end syncs nothing.
    pub fn view(&self) -> Result<OwnedFd, Error> {
        match self {
            Self::Overlay(recipe) => Ok(recipe.view()?),
            Self::Dir(directory) => directory.mount(Access::ReadOnly),
        }
    }

    /// The layer beside what is below it, for `diff`, `commit` and `save`.
    pub fn difference(&self) -> Result<Difference, Error> {
        match self {
            Self::Overlay(recipe) => Ok(recipe.difference()?),
            Self::Dir(directory) => Ok(Difference {
                layer: open(&directory.path)?,
                below: directory.below.as_deref().map(open).transpose()?,
                holds: Holds::Everything,
            }),
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    tree::open_directory(CWD, path).map_err(|source| Error::Dir {
        path: path.to_owned(),
        source,
    })
}

impl Directory {
    fn mount(&self, access: Access) -> Result<OwnedFd, Error> {
        self.clone_mount(access).map_err(|source| Error::Dir {
            path: self.path.clone(),
            source,
        })
    }

    fn clone_mount(&self, access: Access) -> Result<OwnedFd, Errno> {
        let path = CString::new(self.path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
        let mount = conex_sys::mount::clone_tree(CWD, &path, false)?;
        let attributes = match access {
            Access::ReadWrite if self.writable => 0,
            Access::ReadWrite | Access::ReadOnly => READ_ONLY,
        };
        // The copy of a shared mount is its peer, unlike an overlay.
        let private = u64::from(MountPropagationFlags::PRIVATE.bits());
        conex_sys::mount::set_attributes(mount.as_fd(), attributes, 0, private, false)?;
        Ok(mount)
    }
}
