//! Mounting a stack of directories with the kernel's overlay file system, as a
//! detached mount that no mount table shows.
//!
//! Options, and why:
//! - `index=off`: an index ties an upper directory to its lower ones by file
//!   handles, so that a data root that was copied or restored could not be
//!   mounted any more. Hard links that break on copy-up are the price, and
//!   the one Docker pays.
//! - `redirect_dir=nofollow`, `metacopy=off`: then an upper directory holds
//!   the whole difference to the lower ones and nothing in it points
//!   elsewhere, so that `diff` and `commit` can read it directly, and a layer
//!   cannot carry a redirect of its own making.
//!
//! Kernels before 6.7 know no `lowerdir+`, and through `fsconfig` a string ends
//! at 255 bytes there. For them the mount is made with mount(2) in a mount
//! namespace of a thread that lives for nothing else, and cloned out of it.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use rustix::thread::UnshareFlags;

use crate::difference::{Difference, Holds};

/// Longest string that `fsconfig` takes.
const STRING_BYTES: usize = 255;

/// A stack of directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayRecipe {
    /// The read-only layers, topmost first; at least one, or two without
    /// [`Self::writable`].
    pub lowers: Vec<PathBuf>,
    /// Where changes go; without it the mount is read-only.
    pub writable: Option<Writable>,
}

/// The two directories of an overlay's top, on one file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    /// Holds what differs from the lowers.
    pub upper: PathBuf,
    /// The kernel's own scratch directory.
    pub work: PathBuf,
}

/// What happens to written data when the mount ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Synced, with everything else on the file system of the upper directory.
    #[default]
    Synced,
    /// Not synced. The kernel refuses to mount these directories again, so
    /// this is for what is thrown away after its first use.
    Volatile,
}

/// Whether the mount can be written through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// If the recipe has a writable top.
    #[default]
    ReadWrite,
    /// In no case.
    ReadOnly,
}

/// How to mount an [`OverlayRecipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OverlayOptions {
    /// What happens to written data.
    pub durability: Durability,
    /// Whether it can be written through.
    pub access: Access,
}

/// An overlay could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of the directories cannot be opened.
    #[error("cannot open the layer directory {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// `ENOENT` when the layer is gone.
        source: Errno,
    },
    /// The kernel refused.
    #[error("cannot mount an overlay of {layers} layers: {step} failed{log}")]
    Mount {
        /// How many lower directories it has.
        layers: usize,
        /// The call or option that failed.
        step: String,
        /// What the kernel had to say, or nothing.
        log: String,
        /// `ENODEV` without overlay support, `EPERM` without privilege,
        /// `ESTALE` or `EINVAL` after a volatile use.
        source: Errno,
    },
}

impl OverlayRecipe {
    /// A detached mount of the stack, to be attached with `move_mount` or used
    /// as a directory descriptor; it ends when its last descriptor closes.
    pub fn mount(&self, options: OverlayOptions) -> Result<OwnedFd, Error> {
        match self.mount_by_options(options) {
            Err(
                error @ Error::Mount {
                    source: Errno::INVAL,
                    ..
                },
            ) => {
                // Maybe a kernel without "lowerdir+"; if not, what it said of
                // the first attempt is the better explanation.
                self.mount_by_namespace(options).map_err(|_| error)
            }
            result => result,
        }
    }

    /// Lets a stack be mounted again that was mounted [`Durability::Volatile`] before and whose
    /// mount has ended in order: the kernel would refuse it, for fear of a crash in between.
    ///
    /// Source: Documentation/filesystems/overlayfs.rst, "Volatile mount".
    pub fn forgive_volatile(&self) -> std::io::Result<()> {
        let Some(writable) = &self.writable else {
            return Ok(());
        };
        // A directory of the kernel's own, which nothing else is ever put into.
        let mark = writable.work.join("work/incompat/volatile");
        match std::fs::remove_dir_all(mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The whole stack read-only. What is the upper directory elsewhere is a
    /// lower one here, so that the kernel takes this mount for no second writer.
    pub(crate) fn view(&self) -> Result<OwnedFd, Error> {
        let upper = self.writable.iter().map(|writable| &writable.upper);
        let lowers: Vec<PathBuf> = upper.chain(&self.lowers).cloned().collect();
        Self::merged(&lowers)
    }

    /// The topmost directory beside those below it as one.
    pub(crate) fn difference(&self) -> Result<Difference, Error> {
        let (layer, below) = match &self.writable {
            Some(writable) => (&writable.upper, self.lowers.as_slice()),
            None => {
                let (layer, below) = self.lowers.split_first().expect("a stack has a layer");
                (layer, below)
            }
        };
        let opened = open_directory(layer)?;
        let below = match below {
            [] => None,
            below => Some(Self::merged(below)?),
        };
        Ok(Difference {
            layer: opened,
            below,
            holds: Holds::Changes,
        })
    }

    /// Directories read as one, topmost first; the kernel mounts no single one.
    fn merged(lowers: &[PathBuf]) -> Result<OwnedFd, Error> {
        if let [only] = lowers {
            return open_directory(only);
        }
        let recipe = Self {
            lowers: lowers.to_vec(),
            writable: None,
        };
        recipe.mount(OverlayOptions {
            access: Access::ReadOnly,
            ..OverlayOptions::default()
        })
    }

    fn mount_by_options(&self, options: OverlayOptions) -> Result<OwnedFd, Error> {
        let mut named = Named::default();
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|source| self.refused("fsopen", None, source))?;
        let set = |key: &str, value: &[u8]| {
            fsconfig_set_string(context.as_fd(), key, value)
                .map_err(|source| self.refused(key, Some(&context), source))
        };
        set("source", b"overlay")?;
        for lower in &self.lowers {
            set("lowerdir+", &named.name(lower)?)?;
        }
        if let Some(Writable { upper, work }) = &self.writable {
            set("upperdir", &named.name(upper)?)?;
            set("workdir", &named.name(work)?)?;
            if options.durability == Durability::Volatile {
                fsconfig_set_flag(context.as_fd(), "volatile")
                    .map_err(|source| self.refused("volatile", Some(&context), source))?;
            }
        }
        set("index", b"off")?;
        set("redirect_dir", b"nofollow")?;
        set("metacopy", b"off")?;
        fsconfig_create(context.as_fd())
            .map_err(|source| self.refused("creating it", Some(&context), source))?;
        let attributes = match options.access {
            Access::ReadWrite => MountAttrFlags::empty(),
            Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
        };
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|source| self.refused("fsmount", Some(&context), source))
    }

    fn mount_by_namespace(&self, options: OverlayOptions) -> Result<OwnedFd, Error> {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("overlay-mount".to_owned())
                .spawn_scoped(scope, || self.mount_in_own_namespace(options))
                .map_err(|_| self.refused("starting a thread", None, Errno::AGAIN))?
                .join()
                .expect("mounting does not panic")
        })
    }

    /// For a thread of its own, whose mount namespace ends with it.
    fn mount_in_own_namespace(&self, options: OverlayOptions) -> Result<OwnedFd, Error> {
        let failed = |step: &'static str| move |source| self.refused(step, None, source);
        let kinds = UnshareFlags::NEWNS.bits().cast_signed();
        conex_sys::process::unshare(kinds).map_err(failed("unshare"))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).map_err(failed("making mounts private"))?;
        // Only now: the kernel refuses layers from another mount namespace.
        let (data, _held) = self.page(options)?;
        rustix::process::chdir("/proc/self/fd").map_err(failed("chdir"))?;
        let flags = match options.access {
            Access::ReadWrite => MountFlags::empty(),
            Access::ReadOnly => MountFlags::RDONLY,
        };
        // Any directory can carry it for the moment; /proc is known to be there.
        rustix::mount::mount("overlay", "/proc", "overlay", flags, &*data)
            .map_err(failed("mount"))?;
        conex_sys::mount::clone_tree(CWD, c"/proc", false).map_err(failed("open_tree"))
    }

    /// The options for mount(2), with the descriptors they name. The names are
    /// relative to /proc/self/fd: short enough for 128 layers in the one page
    /// that is read, and nothing in them needs escaping.
    fn page(&self, options: OverlayOptions) -> Result<(CString, Vec<OwnedFd>), Error> {
        let mut held = Vec::new();
        let mut text = String::from("lowerdir=");
        for (index, lower) in self.lowers.iter().enumerate() {
            let directory = open_path(lower)?;
            let colon = if index == 0 { "" } else { ":" };
            write!(text, "{colon}{}", directory.as_raw_fd()).expect("a string takes all text");
            held.push(directory);
        }
        if let Some(Writable { upper, work }) = &self.writable {
            for (key, path) in [("upperdir", upper), ("workdir", work)] {
                let directory = open_path(path)?;
                write!(text, ",{key}={}", directory.as_raw_fd()).expect("a string takes all text");
                held.push(directory);
            }
            if options.durability == Durability::Volatile {
                text.push_str(",volatile");
            }
        }
        text.push_str(",index=off,redirect_dir=nofollow,metacopy=off");
        let text = CString::new(text).expect("numbers and option names hold no NUL");
        Ok((text, held))
    }

    fn refused(&self, step: &str, context: Option<&OwnedFd>, source: Errno) -> Error {
        Error::Mount {
            layers: self.lowers.len(),
            step: step.to_owned(),
            log: context.map(kernel_log).unwrap_or_default(),
            source,
        }
    }
}

/// Names of directories as `fsconfig` takes them, with the descriptors that
/// some of the names stand for.
#[derive(Default)]
struct Named {
    held: Vec<OwnedFd>,
}

impl Named {
    /// The path itself, unless it is too long or has a character that some
    /// kernel takes for a separator or an escape.
    fn name(&mut self, path: &Path) -> Result<Vec<u8>, Error> {
        let bytes = path.as_os_str().as_bytes();
        let special = |byte: &u8| matches!(byte, b':' | b',' | b'\\');
        if bytes.len() <= STRING_BYTES && !bytes.iter().any(special) {
            return Ok(bytes.to_vec());
        }
        let directory = open_path(path)?;
        let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
        self.held.push(directory);
        Ok(name.into_bytes())
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    crate::tree::open_directory(CWD, path).map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })
}

fn open_path(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })
}

/// The messages waiting in a mount context, each as "; text".
fn kernel_log(context: &OwnedFd) -> String {
    let mut log = String::new();
    let mut buffer = [0; 1024];
    // The kernel keeps at most eight.
    for _ in 0..8 {
        let Ok(length) = rustix::io::read(context, &mut buffer) else {
            break;
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        let text = text.trim_end();
        // Each starts with its level: "e overlay: ...".
        log.push_str("; ");
        log.push_str(text.strip_prefix("e ").unwrap_or(text));
    }
    log
}

#[cfg(test)]
mod tests;
