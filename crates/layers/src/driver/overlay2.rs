//! Layers as directories for the kernel's overlay file system.
//!
//! ```text
//! <data root>/overlay2/<id>/diff    what the layer holds
//!                          /lower   ids of the layers below, one a line, topmost first
//!                          /work    only for container layers: the kernel's scratch
//!                     .empty        a second lower for images of one layer
//! <data root>/tmp/<id>.<random>     on its way out
//! ```
//!
//! `diff` uses the kernel's own marks: a removed name is a character device
//! 0/0, a directory that hides its lower ones has `trusted.overlay.opaque`.
//! Each layer carries its whole chain, so that a mount reads one small file.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{Discarded, Driver, Error, Kind, LayerId, LayerRoot, MAX_LOWERS, Rootfs, Usage};
use crate::extract::Whiteouts;
use crate::overlay::{OverlayOptions, OverlayRecipe, Writable};
use crate::{metadata, tree};

const EMPTY: &str = ".empty";
/// How the name of a discarded layer begins; no layer's does.
const DISCARDED: &str = ".removed-";
/// More than 128 names of 128 bytes.
const LOWER_BYTES: usize = 32 * 1024;

/// The driver under one data root.
#[derive(Debug)]
pub struct Overlay2 {
    home: PathBuf,
    tmp: PathBuf,
    backing: &'static str,
}

impl Overlay2 {
    /// Opens `<data root>/overlay2`, making it and `tmp` where missing, and
    /// proves that the kernel mounts overlays of what lies there.
    pub fn open(data_root: &Path) -> Result<Self, Error> {
        let home = data_root.join("overlay2");
        let tmp = data_root.join("tmp");
        for (path, mode) in [
            (data_root.to_owned(), 0o710),
            (home.clone(), 0o710),
            (tmp.clone(), 0o700),
            (home.join(EMPTY), 0o755),
        ] {
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(source) => return Err(io("create", path)(source)),
            }
        }
        let file_system = rustix::fs::statfs(&home).map_err(io("examine", &home))?;
        // Lossless: the field is wider on some platforms, the numbers are not.
        let backing = file_system_name(file_system.f_type as u64 & 0xffff_ffff);
        let driver = Self { home, tmp, backing };
        driver.probe()?;
        driver.finish_removals()?;
        Ok(driver)
    }

    /// Deletes what an earlier process had discarded within the driver's own
    /// directory.
    fn finish_removals(&self) -> Result<(), Error> {
        let failed = || io("read", &self.home);
        let home = tree::open_directory(rustix::fs::CWD, &self.home).map_err(failed())?;
        let mut left = Vec::new();
        tree::for_each(home.as_fd(), &mut |name, _| {
            left.extend(
                name.to_str()
                    .ok()
                    .filter(|n| n.starts_with(DISCARDED))
                    .map(str::to_owned),
            );
            Ok(())
        })
        .map_err(failed())?;
        for name in left {
            Discarded {
                parent: self.home.clone(),
                name,
            }
            .delete()?;
        }
        Ok(())
    }

    /// Refuses what would fail at the first container.
    fn probe(&self) -> Result<(), Error> {
        let unsupported = |reason: String| Error::Unsupported {
            kind: Kind::Overlay2,
            path: self.home.clone(),
            reason,
        };
        if matches!(self.backing, "overlayfs" | "ecryptfs" | "nfs" | "aufs") {
            let reason = format!("overlay layers cannot lie on {}", self.backing);
            return Err(unsupported(reason));
        }
        let home =
            tree::open_directory(rustix::fs::CWD, &self.home).map_err(io("open", &self.home))?;
        if !tells_kinds(home.as_fd()).map_err(io("read", &self.home))? {
            let reason = "its file system does not tell the kinds of directory entries (d_type); \
                          on xfs it has to be made with ftype=1";
            return Err(unsupported(reason.to_owned()));
        }
        // Without an upper directory, so that unmounting has nothing to sync.
        let recipe = OverlayRecipe {
            lowers: vec![self.home.join(EMPTY), self.tmp.clone()],
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

    fn directory(&self, id: &LayerId) -> PathBuf {
        self.home.join(id.as_str())
    }

    fn diff(&self, id: &LayerId) -> PathBuf {
        self.directory(id).join("diff")
    }

    fn open_diff(&self, id: &LayerId) -> Result<OwnedFd, Error> {
        let path = self.diff(id);
        match tree::open_directory(rustix::fs::CWD, &path) {
            Err(Errno::NOENT) => Err(Error::NotFound { id: id.clone() }),
            result => result.map_err(io("open", path)),
        }
    }

    fn is_container(&self, id: &LayerId) -> Result<bool, Error> {
        let work = self.directory(id).join("work");
        match rustix::fs::lstat(&work) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(source) => Err(io("examine", work)(source)),
        }
    }

    /// The layers below one, topmost first.
    fn chain(&self, id: &LayerId) -> Result<Vec<LayerId>, Error> {
        let path = self.directory(id).join("lower");
        let text = match read_small(&path) {
            Err(Errno::NOENT) => return Err(Error::NotFound { id: id.clone() }),
            result => result.map_err(io("read", &path))?,
        };
        parse_chain(&text).map_err(|problem| Error::Damaged { path, problem })
    }

    /// What a layer on top of `parent` has below it.
    fn chain_above(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<Vec<LayerId>, Error> {
        let Some(parent) = parent else {
            return Ok(Vec::new());
        };
        let mut chain = vec![parent.clone()];
        chain.extend(self.chain(parent)?);
        if self.is_container(parent)? {
            return Err(Error::NotReadOnly { id: parent.clone() });
        }
        if chain.len() > MAX_LOWERS {
            return Err(Error::TooDeep {
                id: id.clone(),
                limit: MAX_LOWERS,
            });
        }
        Ok(chain)
    }

    /// Makes the layer's directories; a container's also has `work`.
    fn make(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        container: bool,
    ) -> Result<OwnedFd, Error> {
        let chain = self.chain_above(id, parent)?;
        let directory = self.directory(id);
        match rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o710)) {
            Err(Errno::EXIST) => return Err(Error::Exists { id: id.clone() }),
            result => result.map_err(io("create", &directory))?,
        }
        let made = self.fill(id, parent, &chain, container);
        if made.is_err() {
            // The first failure is the one to tell.
            // What cannot be taken back now is unfinished, and goes at the next start.
            if let Ok(Some(files)) = self.discard(id) {
                drop(files.delete());
            }
        }
        made
    }

    fn fill(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        chain: &[LayerId],
        container: bool,
    ) -> Result<OwnedFd, Error> {
        let directory = self.directory(id);
        let lower = directory.join("lower");
        let text: String = chain.iter().map(|id| format!("{id}\n")).collect();
        std::fs::write(&lower, text).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            io("write", lower)(errno)
        })?;
        if container {
            let work = directory.join("work");
            rustix::fs::mkdir(&work, Mode::RWXU).map_err(io("create", work))?;
        }
        let diff = self.diff(id);
        rustix::fs::mkdir(&diff, Mode::from_raw_mode(0o755)).map_err(io("create", &diff))?;
        let opened = self.open_diff(id)?;
        // The mode of a directory made is subject to the umask.
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755))
            .map_err(io("change the mode of", &diff))?;
        if let Some(parent) = parent {
            // A merged root looks like its topmost layer's.
            metadata::copy(self.open_diff(parent)?.as_fd(), opened.as_fd())
                .map_err(io("copy metadata to", &diff))?;
        }
        Ok(opened)
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

    fn create_container(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<(), Error> {
        self.make(id, parent, true).map(drop)
    }

    fn rootfs(&self, id: &LayerId) -> Result<Rootfs, Error> {
        let chain = self.chain(id)?;
        let mut lowers: Vec<PathBuf> = chain.iter().map(|id| self.diff(id)).collect();
        let container = self.is_container(id)?;
        if !container {
            lowers.insert(0, self.diff(id));
        }
        // The kernel wants two lowers without an upper, and one below it.
        if lowers.is_empty() || (lowers.len() == 1 && !container) {
            lowers.push(self.home.join(EMPTY));
        }
        let writable = container.then(|| Writable {
            upper: self.diff(id),
            work: self.directory(id).join("work"),
        });
        Ok(Rootfs::Overlay(OverlayRecipe { lowers, writable }))
    }

    fn content(&self, id: &LayerId) -> Result<OwnedFd, Error> {
        self.open_diff(id)
    }

    fn discard(&self, id: &LayerId) -> Result<Option<Discarded>, Error> {
        let directory = self.directory(id);
        let suffix = LayerId::random().map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            io("name a place for", &directory)(errno)
        })?;
        let away = format!("{DISCARDED}{id}.{suffix}");
        match rustix::fs::rename(&directory, self.tmp.join(&away)) {
            Ok(()) => {
                return Ok(Some(Discarded {
                    parent: self.tmp.clone(),
                    name: away,
                }));
            }
            Err(Errno::NOENT) => return Ok(None),
            // The driver's directory is a mount of its own: aside within it.
            Err(Errno::XDEV) => {}
            Err(source) => return Err(io("remove", directory)(source)),
        }
        rustix::fs::rename(&directory, self.home.join(&away)).map_err(io("remove", directory))?;
        Ok(Some(Discarded {
            parent: self.home.clone(),
            name: away,
        }))
    }

    fn usage(&self, id: &LayerId) -> Result<Usage, Error> {
        let mut usage = Usage::default();
        let mut linked = HashSet::new();
        let mut count = |status: &Stat| {
            let directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
            if !directory && status.st_nlink > 1 && !linked.insert((status.st_dev, status.st_ino)) {
                return;
            }
            usage.inodes += 1;
            if !directory {
                usage.bytes += u64::try_from(status.st_size).unwrap_or(0);
            }
        };
        tree::walk(self.open_diff(id)?, &mut count).map_err(io("read", self.diff(id)))?;
        Ok(usage)
    }

    fn list(&self) -> Result<Vec<LayerId>, Error> {
        let failed = || io("read", &self.home);
        let home = tree::open_directory(rustix::fs::CWD, &self.home).map_err(failed())?;
        let mut layers = Vec::new();
        tree::for_each(home.as_fd(), &mut |name, kind| {
            let id = name.to_str().ok().and_then(|name| name.parse().ok());
            if kind == FileType::Directory {
                layers.extend(id);
            }
            Ok(())
        })
        .map_err(failed())?;
        Ok(layers)
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

fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(Errno) -> Error {
    let path = path.as_ref().to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

fn read_small(path: &Path) -> Result<Vec<u8>, Errno> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = vec![0; LOWER_BYTES + 1];
    let mut length = 0;
    while length < text.len() {
        match rustix::io::read(&file, &mut text[length..])? {
            0 => break,
            read => length += read,
        }
    }
    text.truncate(length);
    Ok(text)
}

fn parse_chain(text: &[u8]) -> Result<Vec<LayerId>, &'static str> {
    if text.len() > LOWER_BYTES {
        return Err("it is too long");
    }
    let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("its last line is cut");
    }
    let chain: Vec<LayerId> = text
        .lines()
        .map(|line| line.parse().map_err(|_| "a line is not a layer name"))
        .collect::<Result<_, _>>()?;
    if chain.len() > MAX_LOWERS {
        return Err("it has too many layers");
    }
    Ok(chain)
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

/// The names `docker info` has for file systems. Source: linux/magic.h.
fn file_system_name(magic: u64) -> &'static str {
    match magic {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0x0102_1994 => "tmpfs",
        0xf2f5_2010 => "f2fs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x8584_58f6 => "ramfs",
        0xf15f => "ecryptfs",
        0x6173_6675 => "aufs",
        0xca45_1a4e => "bcachefs",
        0x2011_bab0 => "exfat",
        0x3153_464a => "jfs",
        0x5265_4973 => "reiserfs",
        _ => "<unknown>",
    }
}

#[cfg(test)]
mod tests;
