//! `.wh.` names: what an archive says is gone. Source: OCI image spec,
//! "Changeset Format: Whiteouts".

use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::place::{self, is_below, join, set_opaque, split};
use super::{Error, Extractor, Whiteouts, shown};
use crate::tree;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// AUFS kept its own files under such names.
const AUFS: &[u8] = b".wh..wh.";

/// What a name means besides a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    File,
    /// The directory's lower content is gone.
    Opaque,
    /// The name beside it is gone.
    Removed(&'a [u8]),
    /// Bookkeeping of AUFS, to be ignored.
    Bookkeeping,
    /// Would remove the directory itself or its parent.
    Invalid,
}

pub(crate) fn meaning(path: &[u8]) -> Meaning<'_> {
    let (directory, name) = split(path);
    let aufs = |component: &[u8]| component.starts_with(AUFS);
    if directory.split(|byte| *byte == b'/').any(aufs) {
        return Meaning::Bookkeeping;
    }
    match name.strip_prefix(PREFIX) {
        None => Meaning::File,
        Some(_) if name == OPAQUE => Meaning::Opaque,
        Some(_) if aufs(name) => Meaning::Bookkeeping,
        Some(b"" | b"." | b"..") => Meaning::Invalid,
        Some(hidden) => Meaning::Removed(hidden),
    }
}

impl Extractor {
    /// Deals with the entry if it is a whiteout; `false` if it is a file.
    pub(super) fn whiteout(&mut self, path: &[u8]) -> Result<bool, Error> {
        if self.options.whiteouts == Whiteouts::AsIs {
            return Ok(false);
        }
        let (directory, _) = split(path);
        let applies = self.options.whiteouts == Whiteouts::Apply;
        let failed = |source| Error::Io {
            action: "apply",
            entry: shown(path),
            source,
        };
        match meaning(path) {
            Meaning::File => return Ok(false),
            Meaning::Bookkeeping => {}
            Meaning::Invalid => {
                return Err(Error::Whiteout { entry: shown(path) });
            }
            Meaning::Opaque if applies => self.remove_earlier(directory, false)?,
            Meaning::Opaque => self.hide_below(directory).map_err(failed)?,
            Meaning::Removed(name) if applies => {
                self.remove_earlier(&join(directory, name), true)?;
            }
            Meaning::Removed(name) => self.hide(directory, name).map_err(failed)?,
        }
        Ok(true)
    }

    fn hide_below(&mut self, directory: &[u8]) -> Result<(), Errno> {
        let opened = self.place.directory(directory)?;
        set_opaque(tree::open_directory(opened, c".")?.as_fd())
    }

    fn hide(&mut self, directory: &[u8], name: &[u8]) -> Result<(), Errno> {
        let parent = self.place.directory(directory)?;
        let device = FileType::CharacterDevice;
        match rustix::fs::mknodat(parent, name, device, Mode::empty(), 0) {
            // Whiteouts hide lower layers only: what this archive put there
            // stays, but a directory must not show what it replaced.
            Err(Errno::EXIST) if place::kind(parent, name)? == FileType::Directory => {
                set_opaque(tree::open_directory(parent, name)?.as_fd())
            }
            Err(Errno::EXIST) => Ok(()),
            result => result,
        }
    }

    /// Removes what was at `path` before this archive, or only what was in it.
    fn remove_earlier(&mut self, path: &[u8], itself: bool) -> Result<(), Error> {
        let failed = |source| Error::Io {
            action: "apply the removal of",
            entry: shown(path),
            source,
        };
        let mut waiting = Vec::new();
        if itself {
            waiting.push(path.to_vec());
        } else {
            waiting.extend(self.names_in(path).map_err(failed)?);
        }
        while let Some(path) = waiting.pop() {
            let (parent, name) = split(&path);
            let inside = self.unpacked.range(path.clone()..).next();
            let spared = inside.is_some_and(|made| *made == path || is_below(made, &path));
            if spared {
                waiting.extend(self.names_in(&path).map_err(failed)?);
                continue;
            }
            self.clear(parent, name)?;
        }
        Ok(())
    }

    /// Paths of what is in a directory; nothing if it is none.
    fn names_in(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let (parent, name) = split(path);
        let opened = self.place.existing(parent).and_then(|parent| {
            let name = if path.is_empty() { b"." } else { name };
            tree::open_directory(parent, name)
        });
        let directory = match opened {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        tree::for_each(directory.as_fd(), &mut |name, _| {
            names.push(join(path, name.to_bytes()));
            Ok(())
        })?;
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(meaning(b"a/b"), Meaning::File);
        assert_eq!(meaning(b"a/.whale"), Meaning::File);
        assert_eq!(meaning(b".wh.a/b"), Meaning::File);
        assert_eq!(meaning(b"a/.wh.b"), Meaning::Removed(b"b"));
        assert_eq!(meaning(b".wh..hidden"), Meaning::Removed(b".hidden"));
        assert_eq!(meaning(b"a/.wh..wh..opq"), Meaning::Opaque);
        assert_eq!(meaning(b".wh..wh.plnk"), Meaning::Bookkeeping);
        assert_eq!(meaning(b".wh..wh.plnk/12.34"), Meaning::Bookkeeping);
        for name in [&b"a/.wh."[..], b"a/.wh..", b".wh..."] {
            assert_eq!(meaning(name), Meaning::Invalid);
        }
    }
}
