//! What the drivers of directories have in common: one directory for each
//! layer, with the chain below it in a small file. It must not know what a
//! driver keeps in such a directory besides.
//!
//! ```text
//! <data root>/<driver>/<id>/lower         ids of the layers below, one a line, topmost first
//! <data root>/<driver>/.removed-<id>.<r>  on its way out, where tmp is another file system
//! <data root>/tmp/.removed-<id>.<r>       on its way out
//! ```
//!
//! Each layer carries its whole chain, so that nothing has to be followed.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, IFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Discarded, Error, Kind, LayerId, Listed, MAX_LOWERS};
use crate::tree;

/// How the name of a discarded layer begins; no layer's does.
const DISCARDED: &str = ".removed-";
/// More than 128 names of 128 bytes.
const LOWER_BYTES: usize = 32 * 1024;

/// Of ext2, ext3 and ext4: `linux/magic.h`.
const EXT4_SUPER_MAGIC: u64 = 0xef53;

/// The directory of one driver.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) path: PathBuf,
    pub(super) tmp: PathBuf,
    /// What a layer's directory has if it is a container's.
    mark: &'static str,
    /// What of a layer's directory is a subvolume, to be deleted as one.
    subvolume: Option<&'static str>,
}

/// Has ext4 put each layer into a block group of its own choice, as it does with the directories of a root, instead of
/// all of them beside their parent: layers that are filled at once do not look for free inodes in the same places, nor
/// among those of layers just removed, which ext4 without a journal passes over one by one for minutes.
///
/// It is advice: other file systems have nothing like it, and a directory without it works.
fn spread(layers: &Path) {
    let advise = || {
        let directory = tree::open_directory(rustix::fs::CWD, layers)?;
        if rustix::fs::fstatfs(&directory)?.f_type as u64 != EXT4_SUPER_MAGIC {
            return Ok(());
        }
        let flags = rustix::fs::ioctl_getflags(&directory)?;
        if flags.contains(IFlags::TOPDIR) {
            return Ok(());
        }
        rustix::fs::ioctl_setflags(&directory, flags | IFlags::TOPDIR)
    };
    let _without: Result<(), Errno> = advise();
}

impl Home {
    /// Opens `<data root>/<driver>`, making it and `tmp` where missing.
    pub(super) fn open(
        kind: Kind,
        data_root: &Path,
        mark: &'static str,
        subvolume: Option<&'static str>,
    ) -> Result<Self, Error> {
        let path = data_root.join(kind.name());
        let tmp = data_root.join("tmp");
        make_directory(data_root, 0o710)?;
        make_directory(&path, 0o710)?;
        make_directory(&tmp, 0o700)?;
        spread(&path);
        Ok(Self {
            path,
            tmp,
            mark,
            subvolume,
        })
    }

    /// Deletes what an earlier process had discarded within the driver's own
    /// directory.
    pub(super) fn finish_removals(&self) -> Result<(), Error> {
        let failed = || io("read", &self.path);
        let home = tree::open_directory(rustix::fs::CWD, &self.path).map_err(failed())?;
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
                parent: self.path.clone(),
                name,
                subvolume: self.subvolume,
            }
            .delete()?;
        }
        Ok(())
    }

    pub(super) fn directory(&self, id: &LayerId) -> PathBuf {
        self.path.join(id.as_str())
    }

    pub(super) fn is_container(&self, id: &LayerId) -> Result<bool, Error> {
        let mark = self.directory(id).join(self.mark);
        match rustix::fs::lstat(&mark) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(source) => Err(io("examine", mark)(source)),
        }
    }

    /// The layers below one, topmost first.
    pub(super) fn chain(&self, id: &LayerId) -> Result<Vec<LayerId>, Error> {
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

    /// Makes the layer's directory with its chain, and has `fill` make the
    /// rest. When that fails nothing is left.
    pub(super) fn make<T>(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        fill: impl FnOnce(&Path) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let chain = self.chain_above(id, parent)?;
        let directory = self.directory(id);
        match rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o710)) {
            Err(Errno::EXIST) => return Err(Error::Exists { id: id.clone() }),
            result => result.map_err(io("create", &directory))?,
        }
        let made = write_chain(&directory, &chain).and_then(|()| fill(&directory));
        if made.is_err() {
            // The first failure is the one to tell.
            // What cannot be taken back now is unfinished, and goes at the next start.
            if let Ok(Some(files)) = self.discard(id) {
                drop(files.delete());
            }
        }
        made
    }

    pub(super) fn discard(&self, id: &LayerId) -> Result<Option<Discarded>, Error> {
        let directory = self.directory(id);
        let suffix = LayerId::random().map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            io("name a place for", &directory)(errno)
        })?;
        let name = format!("{DISCARDED}{id}.{suffix}");
        let into = |parent: &Path| Discarded {
            parent: parent.to_owned(),
            name: name.clone(),
            subvolume: self.subvolume,
        };
        match rustix::fs::rename(&directory, self.tmp.join(&name)) {
            Ok(()) => return Ok(Some(into(&self.tmp))),
            Err(Errno::NOENT) => return Ok(None),
            // The driver's directory is a mount of its own: aside within it.
            Err(Errno::XDEV) => {}
            Err(source) => return Err(io("remove", directory)(source)),
        }
        rustix::fs::rename(&directory, self.path.join(&name)).map_err(io("remove", directory))?;
        Ok(Some(into(&self.path)))
    }

    pub(super) fn list(&self) -> Result<Vec<Listed>, Error> {
        names(&self.path)?
            .into_iter()
            .map(|id| {
                Ok(Listed {
                    is_container: self.is_container(&id)?,
                    id,
                })
            })
            .collect()
    }
}

/// The layer directories in a driver's directory; none where it is missing.
pub(super) fn names(home: &Path) -> Result<Vec<LayerId>, Error> {
    let directory = match tree::open_directory(rustix::fs::CWD, home) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        result => result.map_err(io("open", home))?,
    };
    let mut layers = Vec::new();
    tree::for_each(directory.as_fd(), &mut |name, kind| {
        let id = name.to_str().ok().and_then(|name| name.parse().ok());
        if kind == FileType::Directory {
            layers.extend(id);
        }
        Ok(())
    })
    .map_err(io("read", home))?;
    Ok(layers)
}

/// Makes a directory unless it is there.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(source) => Err(io("create", path)(source)),
    }
}

/// The name of the file system at a path, as `docker info` has it.
pub(super) fn file_system_at(path: &Path) -> Result<&'static str, Error> {
    let status = rustix::fs::statfs(path).map_err(io("examine", path))?;
    // Lossless: the field is wider on some platforms, the numbers are not.
    Ok(file_system_name(status.f_type as u64 & 0xffff_ffff))
}

pub(super) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(Errno) -> Error {
    let path = path.as_ref().to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

fn write_chain(directory: &Path, chain: &[LayerId]) -> Result<(), Error> {
    let lower = directory.join("lower");
    let text: String = chain.iter().map(|id| format!("{id}\n")).collect();
    std::fs::write(&lower, text).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        io("write", lower)(errno)
    })
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn damaged_chains_are_told_from_missing_layers() {
        for (text, problem) in [
            (&b"abc"[..], "its last line is cut"),
            (b"../x\n", "a line is not a layer name"),
            (b"a\n\nb\n", "a line is not a layer name"),
            (b"\xff\n", "it is not text"),
        ] {
            assert_eq!(parse_chain(text).unwrap_err(), problem);
        }
        let many = "a\n".repeat(MAX_LOWERS + 1);
        assert_eq!(
            parse_chain(many.as_bytes()).unwrap_err(),
            "it has too many layers"
        );
        assert!(parse_chain(&vec![b'a'; LOWER_BYTES + 1]).is_err());
        assert_eq!(parse_chain(b"").unwrap(), []);
        let longest = format!("{}\n", "a".repeat(128)).repeat(MAX_LOWERS);
        assert_eq!(parse_chain(longest.as_bytes()).unwrap().len(), MAX_LOWERS);
    }

    #[test]
    fn ext4_is_told_to_spread_the_layers() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::open(Kind::Vfs, root.path(), "container", None).unwrap();
        let opened = tree::open_directory(rustix::fs::CWD, &home.path).unwrap();
        if rustix::fs::fstatfs(&opened).unwrap().f_type as u64 != EXT4_SUPER_MAGIC {
            eprintln!("skipped: the temporary directory is not on ext4");
            return;
        }
        let flags = rustix::fs::ioctl_getflags(&opened).unwrap();
        assert!(flags.contains(IFlags::TOPDIR), "{flags:?}");
    }
}
