//! Making one entry of each kind.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use conex_archive::tar::{self, Entry, EntryKind, Header, Timestamp};
use flate2::Crc;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::copying::Owner;
use super::place::{clean, is_below, kind, make_directory, split};
use super::{Error, Extractor, LinkBelow, Whiteouts, archive_failed, shown};
use crate::{metadata, tree};

impl Extractor {
    pub(super) fn unpack<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), Error> {
        let Some(path) = clean(&entry.header.path) else {
            return Err(Error::Outside {
                entry: shown(&entry.header.path),
            });
        };
        let Some(path) = self.destination(path) else {
            return Ok(());
        };
        if !path.is_empty() && self.whiteout(&path)? {
            return Ok(());
        }
        let owner = self.owner(&entry.header)?;
        match entry.header.kind {
            EntryKind::Regular => self.file(&path, owner, entry)?,
            EntryKind::Directory => self.directory(&path, owner, &entry.header)?,
            EntryKind::HardLink => self.hard_link(&path, &entry.header)?,
            EntryKind::Symlink => self.symlink(&path, owner, &entry.header)?,
            EntryKind::CharacterDevice => {
                self.node(&path, owner, &entry.header, FileType::CharacterDevice)?;
            }
            EntryKind::BlockDevice => {
                self.node(&path, owner, &entry.header, FileType::BlockDevice)?;
            }
            EntryKind::Fifo => self.node(&path, owner, &entry.header, FileType::Fifo)?,
            EntryKind::Other(flag) => {
                return Err(Error::Kind {
                    entry: shown(&entry.header.path),
                    flag: char::from(flag),
                });
            }
        }
        if self.options.whiteouts == Whiteouts::Apply {
            self.unpacked.insert(path);
        }
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        path: &[u8],
        owner: Option<Owner>,
        entry: &mut Entry<'_, R>,
    ) -> Result<(), Error> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let placeholder = Header::new(Vec::new(), EntryKind::Regular);
        let header = std::mem::replace(&mut entry.header, placeholder);
        let mode = Mode::from_raw_mode(header.mode & 0o777);
        let file = self.replacing(path, "create", |parent, name| {
            rustix::fs::openat(parent, name, flags, mode)
        })?;
        let file = File::from(file);
        let failed = |action| move |source| io_error(action, path, source);
        let made = rustix::fs::fstat(&file).map_err(failed("examine"))?;
        let stored_bytes = entry.stored_left();
        let mut crc = Crc::new();
        match &header.sparse {
            Some(segments) => self.write_sparse(&file, &header, segments, entry, &mut crc)?,
            None => self.write(&file, &header, header.size, 0, entry, &mut crc)?,
        }
        self.record(path, made.st_ino, &header, stored_bytes, &crc)?;
        set_owner_and_mode(&file, path, owner, header.mode, &made)?;
        self.set_attributes(&header, path, |name, value| {
            rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())
        })?;
        rustix::fs::futimens(&file, &times(header.mtime)).map_err(failed("set the times of"))?;
        self.count(header.size);
        Ok(())
    }

    /// Notes where stored content went; of an empty file there is none.
    fn record(
        &mut self,
        path: &[u8],
        inode: u64,
        header: &Header,
        stored_bytes: u64,
        crc: &Crc,
    ) -> Result<(), Error> {
        let Some(recorder) = self.recorder.as_mut().filter(|_| stored_bytes > 0) else {
            return Ok(());
        };
        let segments = header.sparse.iter().flatten();
        let segments = segments.map(|it| (it.offset, it.length)).collect();
        recorder
            .file(path, inode, stored_bytes, crc.sum(), segments)
            .map_err(Error::Recipe)
    }

    /// Removes whatever is at that name; a recipe keeps what it needs of it.
    pub(super) fn clear(&mut self, parent: &[u8], name: &[u8]) -> Result<(), Error> {
        let failed = |source| io_error("replace", &super::place::join(parent, name), source);
        if let Some(recorder) = &mut self.recorder {
            match self.place.existing(parent) {
                Ok(directory) => recorder
                    .keep(directory.as_fd(), name)
                    .map_err(Error::Recipe)?,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
        match self.place.clear(parent, name) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Saturating: holes let a small archive claim any size.
    fn count(&mut self, bytes: u64) {
        self.extracted.bytes = self.extracted.bytes.saturating_add(bytes);
    }

    pub(super) fn content_failed(&self, error: io::Error) -> Error {
        let limit = self.options.limits.max_bytes;
        match error.downcast::<tar::Error>() {
            Ok(error) => archive_failed(error, limit),
            Err(source) => Error::Archive(tar::Error::Read { offset: 0, source }),
        }
    }

    fn directory(
        &mut self,
        path: &[u8],
        owner: Option<Owner>,
        header: &Header,
    ) -> Result<(), Error> {
        let overlay = self.options.whiteouts == Whiteouts::Overlay;
        if !path.is_empty() {
            let (parent, name) = self.parent_of(path)?;
            let failed = |action| move |source| io_error(action, path, source);
            let stays = match make_directory(parent, name, overlay) {
                Ok(()) => true,
                // Directories merge; anything else makes way.
                Err(Errno::EXIST) => {
                    kind(parent, name).map_err(failed("examine"))? == FileType::Directory
                }
                Err(source) => return Err(failed("create")(source)),
            };
            if !stays && self.keeps_kinds() {
                return Err(self.over(path, true));
            }
            if !stays {
                self.replacing(path, "create", |parent, name| {
                    make_directory(parent, name, overlay)
                })?;
            }
        }
        let failed = |action| move |source| io_error(action, path, source);
        let opened = if path.is_empty() {
            tree::open_directory(self.place.root(), c".")
        } else {
            let (parent, name) = self.parent_of(path)?;
            tree::open_directory(parent, name)
        }
        .map_err(failed("open"))?;
        let made = rustix::fs::fstat(&opened).map_err(failed("examine"))?;
        set_owner_and_mode(&opened, path, owner, header.mode, &made)?;
        if self.options.whiteouts == Whiteouts::Apply {
            // A directory merges with its lower one, its attributes do not.
            metadata::clear_attributes(opened.as_fd())
                .map_err(failed("clear the attributes of"))?;
        }
        self.set_attributes(header, path, |name, value| {
            rustix::fs::fsetxattr(&opened, name, value, XattrFlags::empty())
        })?;
        self.place.described(path);
        self.directories.insert(path.to_vec(), header.mtime);
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], header: &Header) -> Result<(), Error> {
        let target = clean(&header.link).ok_or_else(|| Error::LinkOutside {
            entry: shown(&header.path),
            target: shown(&header.link),
        })?;
        let target = self.destination(target).unwrap_or_default();
        let (target_parent, target_name) = split(&target);
        // The target is looked up first: replacing the link must not come
        // between, and a link to itself must not remove itself.
        let failed = |source| io_error("link", path, source);
        let found = self.place.existing(target_parent).and_then(|directory| {
            let status = rustix::fs::statat(&directory, target_name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok((directory, status))
        });
        let (directory, wanted) = match found {
            Err(Errno::NOENT | Errno::NOTDIR)
                if self.options.whiteouts == Whiteouts::Overlay
                    && !path.is_empty()
                    && !target.is_empty() =>
            {
                return self.link_below(path, target);
            }
            found => found.map_err(failed)?,
        };
        let (parent, name) = self.parent_of(path)?;
        if let Ok(status) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            && (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino)
        {
            return Ok(());
        }
        self.replacing(path, "link", |parent, name| {
            rustix::fs::linkat(&directory, target_name, parent, name, AtFlags::empty())
        })
    }

    /// Leaves a link for later whose target is not in this layer. What it
    /// replaces goes now, and its parents are made, as for any other entry.
    fn link_below(&mut self, path: &[u8], target: Vec<u8>) -> Result<(), Error> {
        let (parent, name) = self.parent_of(path)?;
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(source) => return Err(io_error("link", path, source)),
            Ok(_) => {
                let (parent_path, _) = split(path);
                self.clear(parent_path, name)?;
                self.directories
                    .retain(|directory, _| directory != path && !is_below(directory, path));
            }
        }
        let path = path.to_vec();
        self.extracted.links_below.push(LinkBelow { path, target });
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], owner: Option<Owner>, header: &Header) -> Result<(), Error> {
        self.replacing(path, "create", |parent, name| {
            rustix::fs::symlinkat(&*header.link, parent, name)
        })?;
        self.count(header.link.len() as u64);
        self.finish_by_name(path, owner, header)
    }

    fn node(
        &mut self,
        path: &[u8],
        owner: Option<Owner>,
        header: &Header,
        kind: FileType,
    ) -> Result<(), Error> {
        let device = rustix::fs::makedev(header.device.major, header.device.minor);
        self.replacing(path, "create", |parent, name| {
            rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
        })?;
        self.finish_by_name(path, owner, header)
    }

    /// Metadata of what must not be opened.
    fn finish_by_name(
        &mut self,
        path: &[u8],
        owner: Option<Owner>,
        header: &Header,
    ) -> Result<(), Error> {
        let (parent, name) = self.parent_of(path)?;
        let failed = |action| move |source| io_error(action, path, source);
        // Held, since somebody may put something else under its name at any
        // moment, a link that leads to the host included.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made =
            rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed("open"))?;
        if let Some(owner) = owner {
            let (uid, gid) = (Some(owner.uid), Some(owner.gid));
            rustix::fs::chownat(&made, "", uid, gid, AtFlags::EMPTY_PATH)
                .map_err(failed("change the owner of"))?;
        }
        let itself = format!("/proc/self/fd/{}", made.as_raw_fd());
        if header.kind != EntryKind::Symlink {
            let status = rustix::fs::fstat(&made).map_err(failed("examine"))?;
            if FileType::from_raw_mode(status.st_mode) == FileType::Symlink {
                return Err(failed("change the mode of")(Errno::LOOP));
            }
            let mode = Mode::from_raw_mode(header.mode);
            rustix::fs::chmodat(rustix::fs::CWD, &*itself, mode, AtFlags::empty())
                .map_err(failed("change the mode of"))?;
        }
        if !header.xattrs.is_empty() {
            let by_name = [
                format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(),
                name,
            ]
            .concat();
            self.set_attributes(header, path, |name, value| {
                rustix::fs::lsetxattr(&*by_name, name, value, XattrFlags::empty())
            })?;
        }
        rustix::fs::utimensat(&made, "", &times(header.mtime), AtFlags::EMPTY_PATH)
            .map_err(failed("set the times of"))
    }

    pub(super) fn finish_directories(&mut self) -> Result<(), Error> {
        for (path, mtime) in std::mem::take(&mut self.directories) {
            let (parent, name) = split(&path);
            let name = if path.is_empty() { b"." } else { name };
            let set = self.place.existing(parent).and_then(|parent| {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(parent, name, &times(mtime), flags)
            });
            match set {
                // Made and then removed, by the same archive.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(source) => return Err(io_error("set the times of", &path, source)),
            }
        }
        Ok(())
    }

    /// Sets extended attributes. Those that the file system has no place for, or
    /// that this kind of file cannot have, are left out, as Docker does; a copy
    /// also leaves out those that whoever unpacks may not set.
    fn set_attributes(
        &self,
        header: &Header,
        path: &[u8],
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), Error> {
        for (name, value) in &header.xattrs {
            if metadata::is_overlay_attribute(name) {
                continue;
            }
            match set(name, value) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(Errno::PERM) if name.starts_with(b"user.") || self.copying.is_some() => {}
                Err(source) => {
                    return Err(io_error("set an extended attribute of", path, source));
                }
            }
        }
        Ok(())
    }

    fn parent_of<'a>(&mut self, path: &'a [u8]) -> Result<(BorrowedFd<'_>, &'a [u8]), Error> {
        let (parent, name) = split(path);
        let opened = self
            .place
            .directory(parent)
            .map_err(|source| io_error("open the parent directory of", path, source))?;
        Ok((opened, name))
    }

    /// Makes something under a name of its own, removing what is there.
    fn replacing<T>(
        &mut self,
        path: &[u8],
        action: &'static str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        if path.is_empty() {
            return Err(io_error(action, b"/", Errno::ISDIR));
        }
        let (parent, name) = self.parent_of(path)?;
        let failed = |source| io_error(action, path, source);
        match make(parent, name) {
            Err(Errno::EXIST) => {}
            result => return result.map_err(failed),
        }
        let is_directory = kind(parent, name).map_err(failed)? == FileType::Directory;
        if is_directory && self.keeps_kinds() {
            return Err(self.over(path, false));
        }
        let (parent_path, _) = split(path);
        self.clear(parent_path, name)?;
        self.directories
            .retain(|directory, _| directory != path && !is_below(directory, path));
        let (parent, name) = self.parent_of(path)?;
        make(parent, name).map_err(failed)
    }
}

/// Gives a file or directory its owner and mode where it has not got them when
/// it was made: most belong to root and have a mode that no umask cuts.
fn set_owner_and_mode(
    file: impl AsFd,
    path: &[u8],
    owner: Option<Owner>,
    mode: u32,
    made: &Stat,
) -> Result<(), Error> {
    let failed = |action| move |source| io_error(action, path, source);
    let has =
        |owner: &Owner| (made.st_uid, made.st_gid) == (owner.uid.as_raw(), owner.gid.as_raw());
    let changed = owner.filter(|owner| !has(owner));
    if let Some(owner) = changed {
        rustix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))
            .map_err(failed("change the owner of"))?;
    }
    // Writing and a new owner clear the bits above the nine.
    let special = mode & 0o6000 != 0;
    if changed.is_some() || special || made.st_mode & 0o7777 != mode {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
            .map_err(failed("change the mode of"))?;
    }
    Ok(())
}

pub(super) fn io_error(action: &'static str, path: &[u8], source: Errno) -> Error {
    Error::Io {
        action,
        entry: shown(path),
        source,
    }
}

fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
