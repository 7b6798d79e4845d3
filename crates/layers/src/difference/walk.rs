//! The walk over a layer and what is below it, side by side.
//!
//! Like [`crate::tree`] it holds one descriptor a tree and goes up by `..`,
//! because a container can nest directories deeper than there are descriptors.
//! A directory is shown before its content; one that is itself unchanged only
//! when something in it is, which is known later: until then its looks are kept.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::{ChangeKind, Error, Holds, MountPoints};
use crate::attribute::{self, Attributes};
use crate::tree;

/// What a walk covers.
pub(crate) struct Scope<'a> {
    pub(crate) holds: Holds,
    pub(crate) mount_points: &'a MountPoints,
    /// Directories, by device and inode, whose content is left out.
    pub(crate) closed: &'a HashSet<(u64, u64)>,
    pub(crate) whole: Whole,
}

/// What the caller makes of the walk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    /// A list of what differs.
    Listed,
    /// A copy: directories come with their attributes, and a file with several
    /// names is shown under each of them, also where it did not change itself.
    Packed,
}

/// A directory's looks, kept until it is known whether they matter.
pub(crate) struct Directory {
    pub(crate) status: Stat,
    /// Empty in a [`Whole::Listed`] walk.
    pub(crate) attributes: Attributes,
}

/// What is at a path.
pub(crate) enum What<'a> {
    Directory(&'a Directory),
    Other {
        parent: BorrowedFd<'a>,
        name: &'a CStr,
        status: &'a Stat,
    },
    /// Only the layers below have it.
    Nothing,
}

pub(crate) type Show<'a, E> = dyn FnMut(&[u8], ChangeKind, What<'_>) -> Result<(), E> + 'a;

/// One directory on the way down.
struct Level {
    identity: (u64, u64),
    /// The directory below, where there is one.
    below: Option<(u64, u64)>,
    /// Its descriptor, while the walk is at a place that is not below.
    kept_below: Option<OwnedFd>,
    /// What is still to be visited, sorted backwards.
    left: Vec<Name>,
    path_bytes: usize,
    /// To be shown when something in it is.
    pending: Option<(ChangeKind, Directory)>,
    everything: bool,
}

/// A name of one of the two trees or of both.
struct Name {
    name: CString,
    in_layer: bool,
}

/// Shows everything that `layer` changes against `below`, the root first with
/// an empty path if its own looks differ.
pub(crate) fn walk<E: From<Error>>(
    layer: OwnedFd,
    below: Option<OwnedFd>,
    scope: &Scope<'_>,
    show: &mut Show<'_, E>,
) -> Result<(), E> {
    let mut walker = Walker {
        layer,
        below,
        scope,
        path: Vec::new(),
        stack: Vec::new(),
        show,
    };
    walker.root()?;
    while let Some(level) = walker.stack.last_mut() {
        match level.left.pop() {
            Some(name) => walker.visit(&name)?,
            None => walker.leave()?,
        }
    }
    Ok(())
}

struct Walker<'a, 'b, E> {
    layer: OwnedFd,
    below: Option<OwnedFd>,
    scope: &'a Scope<'a>,
    path: Vec<u8>,
    stack: Vec<Level>,
    show: &'a mut Show<'b, E>,
}

impl<E: From<Error>> Walker<'_, '_, E> {
    fn failed(&self, source: Errno) -> E {
        Error::io(&self.path, source).into()
    }

    fn root(&mut self) -> Result<(), E> {
        let status = rustix::fs::fstat(&self.layer).map_err(|e| self.failed(e))?;
        let directory = self.looks(status)?;
        let differs = match &self.below {
            None => false,
            Some(below) => {
                let other = rustix::fs::fstat(below).map_err(|e| self.failed(e))?;
                self.directory_differs(&directory.status, &other, self.layer.as_fd(), below.as_fd())
                    .map_err(|e| self.failed(e))?
            }
        };
        let everything = self.scope.holds == Holds::Everything;
        if differs {
            (self.show)(b"", ChangeKind::Modified, What::Directory(&directory))?;
        }
        let identity = (directory.status.st_dev, directory.status.st_ino);
        self.push(identity, None, everything)
    }

    /// Reads the directory the walk has just entered.
    fn push(
        &mut self,
        identity: (u64, u64),
        pending: Option<(ChangeKind, Directory)>,
        everything: bool,
    ) -> Result<(), E> {
        let below = match &self.below {
            None => None,
            Some(below) => {
                let status = rustix::fs::fstat(below).map_err(|e| self.failed(e))?;
                Some((status.st_dev, status.st_ino))
            }
        };
        let left = match self.scope.closed.contains(&identity) && !self.path.is_empty() {
            true => Vec::new(),
            false => self.names(everything).map_err(|e| self.failed(e))?,
        };
        self.stack.push(Level {
            identity,
            below,
            kept_below: None,
            left,
            path_bytes: self.path.len(),
            pending,
            everything,
        });
        Ok(())
    }

    /// Names in reverse order: those of the layer, and where it holds
    /// everything also those that only the directory below has.
    fn names(&self, everything: bool) -> Result<Vec<Name>, Errno> {
        let mut names = Vec::new();
        tree::for_each(self.layer.as_fd(), &mut |name, _| {
            let name = name.to_owned();
            let in_layer = true;
            names.push(Name { name, in_layer });
            Ok(())
        })?;
        names.sort_unstable_by(|one, other| other.name.cmp(&one.name));
        let Some(below) = self.below.as_ref().filter(|_| everything) else {
            return Ok(names);
        };
        let count = names.len();
        tree::for_each(below.as_fd(), &mut |name, _| {
            let known = &names[..count];
            if known.binary_search_by(|n| name.cmp(&*n.name)).is_err() {
                let name = name.to_owned();
                let in_layer = false;
                names.push(Name { name, in_layer });
            }
            Ok(())
        })?;
        names.sort_unstable_by(|one, other| other.name.cmp(&one.name));
        Ok(names)
    }

    fn level(&self) -> &Level {
        self.stack.last().expect("the walk is inside a directory")
    }

    fn visit(&mut self, name: &Name) -> Result<(), E> {
        let length = self.level().path_bytes;
        self.path.truncate(length);
        if length > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.name.to_bytes());
        let other = self.status_below(&name.name).map_err(|e| self.failed(e))?;
        let status = match name.in_layer {
            true => status(self.layer.as_fd(), &name.name).map_err(|e| self.failed(e))?,
            false => None,
        };
        // What vanished meanwhile is left to the next one who asks.
        let Some(status) = status else {
            return match (name.in_layer, other) {
                (false, Some(_)) => self.deleted(),
                _ => Ok(()),
            };
        };
        if self.scope.holds == Holds::Changes && is_whiteout(&status) {
            return match other {
                Some(_) => self.deleted(),
                None => Ok(()),
            };
        }
        if is_directory(&status) {
            self.enter(&name.name, other)
        } else {
            self.other(&name.name, &status, other)
        }
    }

    fn deleted(&mut self) -> Result<(), E> {
        self.show_pending()?;
        (self.show)(&self.path, ChangeKind::Deleted, What::Nothing)
    }

    fn other(&mut self, name: &CStr, status: &Stat, other: Option<Stat>) -> Result<(), E> {
        self.refuse_metacopy(name, status)?;
        let kind = match other {
            None => {
                let is_point = status.st_size == 0 && self.scope.mount_points.contains(&self.path);
                if is_point && FileType::from_raw_mode(status.st_mode) == FileType::RegularFile {
                    return Ok(());
                }
                ChangeKind::Added
            }
            Some(other) => {
                let same = looks_same(status, &other)
                    && (status.st_size, mtime(status)) == (other.st_size, mtime(&other))
                    && self.same_attributes(name).map_err(|e| self.failed(e))?;
                // A file that got another name: overlay made a copy for that, and
                // in a whole tree it has more names than before.
                let is_linked = self.scope.whole == Whole::Packed
                    && status.st_nlink > 1
                    && (!self.level().everything || status.st_nlink != other.st_nlink);
                if same && !is_linked {
                    return Ok(());
                }
                ChangeKind::Modified
            }
        };
        self.show_pending()?;
        let parent = self.layer.as_fd();
        let what = What::Other {
            parent,
            name,
            status,
        };
        (self.show)(&self.path, kind, what)
    }

    fn enter(&mut self, name: &CStr, other: Option<Stat>) -> Result<(), E> {
        let opened = match tree::open_directory(&self.layer, name) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(self.failed(error)),
        };
        let status = rustix::fs::fstat(&opened).map_err(|e| self.failed(e))?;
        let mut everything = self.level().everything;
        if !everything {
            if has_mark(opened.as_fd(), c"trusted.overlay.redirect").map_err(|e| self.failed(e))? {
                let path = String::from_utf8_lossy(&self.path).into_owned();
                return Err(Error::Redirected { path }.into());
            }
            everything = is_opaque(opened.as_fd()).map_err(|e| self.failed(e))?;
        }
        let below = match (&self.below, &other) {
            (Some(below), Some(other)) if is_directory(other) => {
                Some(tree::open_directory(below, name).map_err(|e| self.failed(e))?)
            }
            _ => None,
        };
        let (kind, is_sure) = match (&other, &below) {
            (None, _) => {
                let leads = self.scope.mount_points.lead_through(&self.path);
                (ChangeKind::Added, !leads)
            }
            (Some(other), Some(below)) => {
                let differs = self
                    .directory_differs(&status, other, opened.as_fd(), below.as_fd())
                    .map_err(|e| self.failed(e))?;
                (ChangeKind::Modified, differs)
            }
            // A file was there.
            (Some(_), None) => (ChangeKind::Modified, true),
        };
        if is_sure {
            self.show_pending()?;
        }
        // Opened now, since the path to it may be another one later.
        let above = std::mem::replace(&mut self.layer, opened);
        let directory = self.looks(status)?;
        drop(above);
        let pending = match is_sure {
            true => {
                (self.show)(&self.path, kind, What::Directory(&directory))?;
                None
            }
            false => Some((kind, directory)),
        };
        let outer = match below {
            Some(below) => {
                self.below = Some(below);
                None
            }
            None => self.below.take(),
        };
        self.stack
            .last_mut()
            .expect("the walk is inside a directory")
            .kept_below = outer;
        self.push((status.st_dev, status.st_ino), pending, everything)
    }

    /// Goes up from a directory that has been read to its end.
    fn leave(&mut self) -> Result<(), E> {
        self.stack.pop();
        let Some(above) = self.stack.last_mut() else {
            return Ok(());
        };
        let kept = above.kept_below.take();
        let (identity, below) = (above.identity, above.below);
        self.path.truncate(above.path_bytes);
        self.layer = up(&self.layer, identity).map_err(|e| self.failed(e))?;
        self.below = match (kept, &self.below, below) {
            (Some(kept), _, _) => Some(kept),
            (None, Some(inner), Some(identity)) => {
                Some(up(inner, identity).map_err(|e| self.failed(e))?)
            }
            _ => None,
        };
        Ok(())
    }

    /// Shows the directories that lead to the current path and were held back.
    fn show_pending(&mut self) -> Result<(), E> {
        // Those that wait are the innermost ones: whoever is shown has shown
        // all that lead to it.
        let first = self.stack.iter().rposition(|level| level.pending.is_none());
        for level in &mut self.stack[first.map_or(0, |index| index + 1)..] {
            if let Some((kind, directory)) = level.pending.take() {
                let path = &self.path[..level.path_bytes];
                (self.show)(path, kind, What::Directory(&directory))?;
            }
        }
        Ok(())
    }

    /// The looks of the directory that `self.layer` is now.
    fn looks(&self, status: Stat) -> Result<Directory, E> {
        let attributes = match self.scope.whole {
            Whole::Listed => Attributes::new(),
            Whole::Packed => {
                attribute::of_opened(self.layer.as_fd()).map_err(|e| self.failed(e))?
            }
        };
        Ok(Directory { status, attributes })
    }

    fn directory_differs(
        &self,
        status: &Stat,
        other: &Stat,
        here: BorrowedFd<'_>,
        below: BorrowedFd<'_>,
    ) -> Result<bool, Errno> {
        Ok(!looks_same(status, other)
            || attribute::of_opened(here)? != attribute::of_opened(below)?)
    }

    fn same_attributes(&self, name: &CStr) -> Result<bool, Errno> {
        let Some(below) = &self.below else {
            return Ok(true);
        };
        let vanished = |result| match result {
            Err(Errno::NOENT) => Ok(Attributes::new()),
            other => other,
        };
        let here = vanished(attribute::of_named(self.layer.as_fd(), name))?;
        Ok(here == vanished(attribute::of_named(below.as_fd(), name))?)
    }

    fn status_below(&self, name: &CStr) -> Result<Option<Stat>, Errno> {
        let Some(below) = &self.below else {
            return Ok(None);
        };
        let found = status(below.as_fd(), name)?;
        // A mark in the lowest layer, which nothing hides when it is alone.
        Ok(found.filter(|status| self.scope.holds != Holds::Changes || !is_whiteout(status)))
    }

    /// A file of which only the looks were copied has its content below.
    fn refuse_metacopy(&self, name: &CStr, status: &Stat) -> Result<(), E> {
        let suspicious = self.scope.holds == Holds::Changes
            && status.st_blocks == 0
            && status.st_size > 0
            && FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
        let marked = suspicious
            && attribute::has_named(self.layer.as_fd(), name, c"trusted.overlay.metacopy")
                .map_err(|e| self.failed(e))?;
        if marked {
            let path = String::from_utf8_lossy(&self.path).into_owned();
            return Err(Error::Redirected { path }.into());
        }
        Ok(())
    }
}

fn status(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => Ok(Some(status)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory above, if it is still the one the walk came from.
fn up(inner: &OwnedFd, expected: (u64, u64)) -> Result<OwnedFd, Errno> {
    let above = tree::open_directory(inner, c"..")?;
    let status = rustix::fs::fstat(&above)?;
    if (status.st_dev, status.st_ino) == expected {
        Ok(above)
    } else {
        Err(Errno::STALE)
    }
}

fn is_directory(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::Directory
}

fn is_whiteout(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == 0
}

fn looks_same(one: &Stat, other: &Stat) -> bool {
    let looks = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_rdev);
    looks(one) == looks(other)
}

fn mtime(status: &Stat) -> (i64, u64) {
    (status.st_mtime, status.st_mtime_nsec)
}

fn is_opaque(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(directory, c"trusted.overlay.opaque", &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

fn has_mark(directory: BorrowedFd<'_>, mark: &CStr) -> Result<bool, Errno> {
    match rustix::fs::fgetxattr(directory, mark, &mut [0u8; 0]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error),
    }
}
