//! Packing what lies on disk into an archive: the changes of a layer, or a
//! whole tree. The same tree always gives the same bytes.
//!
//! Order and content: directories before what is in them, names sorted by
//! bytes; a file with several names in full at its first one and as hard links
//! at the others; every extended attribute but those that [`crate::attribute`]
//! leaves out. Files are written in full, since the OCI image spec asks layers
//! not to rely on sparse maps, but holes are not read. Sockets are left out:
//! no archive has them.
//!
//! Names are strangers': nothing is followed, and a file is looked at before it
//! is opened for reading, because opening some devices does something.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use conex_archive::tar::{self, Device, EntryKind, Header, Timestamp};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::attribute::{self, Attributes};
use crate::difference::walk::{self, Scope};
use crate::difference::{self, ChangeKind, Difference, Directory, Holds, MountPoints, What, Whole};
use crate::tree;

/// Why an archive was not completed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The changes cannot be told.
    #[error(transparent)]
    Difference(#[from] difference::Error),
    /// The archive cannot be written, or a file not be read.
    #[error("cannot write the archive")]
    Archive(#[from] tar::Error),
}

impl Error {
    /// Whether whoever reads the archive went away.
    #[must_use]
    pub fn is_reader_gone(&self) -> bool {
        matches!(self, Self::Archive(tar::Error::Write { source, .. })
            if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What an archive of changes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed {
    /// Members written.
    pub members: u64,
}

impl Difference {
    /// Writes the changes as a layer's archive, removals as `.wh.` names.
    ///
    /// The layers below may be anything that shows what `below` shows.
    pub fn pack(&self, mount_points: &MountPoints, sink: impl Write) -> Result<Packed, Error> {
        let mut packer = Packer::new(sink);
        self.walk(mount_points, Whole::Packed, &mut |path, kind, what| {
            packer.member(path, kind, &what)
        })?;
        packer.finish()
    }
}

/// What of a tree goes into an archive, and under which name.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Put before every name with a slash between, unless it is empty.
    pub name: Vec<u8>,
    /// Whether the top directory itself is a member.
    pub with_top: bool,
    /// Directories, by device and inode, that are members without their content.
    pub closed: HashSet<(u64, u64)>,
    /// Whether times are cut to whole seconds, as Docker's `cp` has them: what
    /// is finer costs an extended header a file.
    pub whole_seconds: bool,
}

impl Tree {
    /// Writes everything below `top`, a directory. Other file systems mounted
    /// in it are entered.
    pub fn pack(&self, top: BorrowedFd<'_>, sink: impl Write) -> Result<Packed, Error> {
        let failed = |source| difference::Error::io(&self.name, source);
        let top = tree::open_directory(top, c".").map_err(failed)?;
        let mut packer = Packer::new(sink);
        packer.whole_seconds = self.whole_seconds;
        if self.with_top {
            let status = rustix::fs::fstat(&top).map_err(failed)?;
            let attributes = attribute::of_opened(top.as_fd()).map_err(failed)?;
            let directory = Directory { status, attributes };
            packer.directory(&self.name, &directory)?;
        }
        let scope = Scope {
            holds: Holds::Everything,
            mount_points: &MountPoints::default(),
            closed: &self.closed,
            whole: Whole::Packed,
        };
        walk::walk(top, None, &scope, &mut |path, kind, what| {
            let name = match self.name.as_slice() {
                b"" => path.to_vec(),
                // The root is `/`, what is in it `/etc`.
                b"/" => [b"/", path].concat(),
                top => [top, b"/", path].concat(),
            };
            packer.member(&name, kind, &what)
        })?;
        packer.finish()
    }

    /// Writes one thing that is no directory, as an archive of one member.
    pub fn pack_one(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        sink: impl Write,
    ) -> Result<Packed, Error> {
        let status = rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| difference::Error::io(&self.name, source))?;
        let mut packer = Packer::new(sink);
        packer.whole_seconds = self.whole_seconds;
        packer.other(&self.name, parent, name, &status)?;
        packer.finish()
    }
}

struct Packer<W> {
    writer: tar::Writer<W>,
    /// First names of files that have several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    packed: Packed,
    whole_seconds: bool,
}

impl<W: Write> Packer<W> {
    fn new(sink: W) -> Self {
        Self {
            writer: tar::Writer::new(sink),
            linked: HashMap::new(),
            packed: Packed::default(),
            whole_seconds: false,
        }
    }

    fn finish(self) -> Result<Packed, Error> {
        self.writer.finish()?;
        Ok(self.packed)
    }

    fn member(&mut self, path: &[u8], kind: ChangeKind, what: &What<'_>) -> Result<(), Error> {
        debug_assert_eq!(kind == ChangeKind::Deleted, matches!(what, What::Nothing));
        match what {
            What::Directory(directory) if path.is_empty() => self.directory(b".", directory),
            What::Directory(directory) => self.directory(path, directory),
            What::Other {
                parent,
                name,
                status,
            } => self.other(path, *parent, name, status),
            What::Nothing => self.whiteout(path),
        }
    }

    fn write(&mut self, header: &Header, content: &mut dyn Read) -> Result<(), Error> {
        self.packed.members += 1;
        Ok(self.writer.append(header, content)?)
    }

    fn header(&self, path: Vec<u8>, kind: EntryKind, status: &Stat) -> Header {
        Header {
            mode: status.st_mode & 0o7777,
            uid: status.st_uid.into(),
            gid: status.st_gid.into(),
            mtime: Timestamp {
                seconds: status.st_mtime,
                nanoseconds: match self.whole_seconds {
                    true => 0,
                    false => u32::try_from(status.st_mtime_nsec).unwrap_or(0),
                },
            },
            device: match kind {
                EntryKind::CharacterDevice | EntryKind::BlockDevice => Device {
                    major: rustix::fs::major(status.st_rdev),
                    minor: rustix::fs::minor(status.st_rdev),
                },
                _ => Device::default(),
            },
            ..Header::new(path, kind)
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        let at = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |at| at + 1);
        let (parent, name) = path.split_at(at);
        let mut header = Header::new([parent, b".wh.", name].concat(), EntryKind::Regular);
        header.mode = 0o600;
        self.write(&header, &mut io::empty())
    }

    fn directory(&mut self, path: &[u8], directory: &Directory) -> Result<(), Error> {
        let name = match path {
            b"/" => path.to_vec(),
            path => [path, b"/"].concat(),
        };
        let mut header = self.header(name, EntryKind::Directory, &directory.status);
        header.xattrs.clone_from(&directory.attributes);
        self.write(&header, &mut io::empty())
    }

    fn other(
        &mut self,
        path: &[u8],
        parent: BorrowedFd<'_>,
        name: &CStr,
        status: &Stat,
    ) -> Result<(), Error> {
        let kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => EntryKind::Regular,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharacterDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            _ => return Ok(()),
        };
        let failed = |source| difference::Error::io(path, source);
        let mut header = self.header(path.to_vec(), kind, status);
        if status.st_nlink > 1 {
            let inode = (status.st_dev, status.st_ino);
            if let Some(first) = self.linked.get(&inode) {
                header.kind = EntryKind::HardLink;
                header.link.clone_from(first);
                return self.write(&header, &mut io::empty());
            }
        }
        match kind {
            EntryKind::Regular => {
                let opened = match open_regular(parent, name) {
                    Ok(opened) => opened,
                    Err(Errno::NOENT) => return Ok(()),
                    Err(error) => return Err(failed(error).into()),
                };
                // Something else has taken the name meanwhile.
                let Some((file, status)) = opened else {
                    return Ok(());
                };
                header = self.header(path.to_vec(), kind, &status);
                header.size = u64::try_from(status.st_size).unwrap_or(0);
                header.xattrs = attribute::of_opened(file.as_fd()).map_err(failed)?;
                let mut content = Content::new(file, &status);
                self.write(&header, &mut content)?;
            }
            EntryKind::Symlink => {
                header.link = match rustix::fs::readlinkat(parent, name, Vec::new()) {
                    Ok(target) => target.into_bytes(),
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                    Err(error) => return Err(failed(error).into()),
                };
                header.xattrs = named(parent, name).map_err(failed)?;
                self.write(&header, &mut io::empty())?;
            }
            _ => {
                header.xattrs = named(parent, name).map_err(failed)?;
                self.write(&header, &mut io::empty())?;
            }
        }
        // Only now is it in the archive.
        if status.st_nlink > 1 {
            let inode = (status.st_dev, status.st_ino);
            self.linked.insert(inode, path.to_vec());
        }
        Ok(())
    }
}

fn named(parent: BorrowedFd<'_>, name: &CStr) -> Result<Attributes, Errno> {
    match attribute::of_named(parent, name) {
        Err(Errno::NOENT) => Ok(Attributes::new()),
        other => other,
    }
}

/// Opens a file for reading once it is known to be one; `None` if it is not.
fn open_regular(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<(File, Stat)>, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&place)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Some((File::from(file), status)))
}

/// A file's content of the size it had when it was opened: holes are not read,
/// and what is cut off meanwhile is zeros, as GNU tar writes it.
struct Content {
    file: File,
    position: u64,
    /// Where the current run of data ends; before it is known, the position.
    data_end: u64,
    /// Whether there are holes to look for.
    sparse: bool,
    end: u64,
}

impl Content {
    fn new(file: File, status: &Stat) -> Self {
        let end = u64::try_from(status.st_size).unwrap_or(0);
        let stored = u64::try_from(status.st_blocks).unwrap_or(0) * 512;
        let sparse = stored < end;
        Self {
            file,
            position: 0,
            data_end: if sparse { 0 } else { end },
            sparse,
            end,
        }
    }

    /// How many zeros are next, after finding out where data is.
    fn hole(&mut self) -> io::Result<u64> {
        if !self.sparse || self.position < self.data_end {
            return Ok(0);
        }
        let data = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(self.position)) {
            Ok(data) => data.min(self.end),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => self.end,
            Err(Errno::INVAL) => {
                self.sparse = false;
                self.data_end = self.end;
                self.file.seek(SeekFrom::Start(self.position))?;
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
        };
        if data > self.position {
            return Ok(data - self.position);
        }
        let hole = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(self.position))?;
        self.data_end = hole.min(self.end);
        self.file.seek(SeekFrom::Start(self.position))?;
        Ok(0)
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let hole = self.hole()?;
        let (run, is_hole) = match hole {
            0 => (self.data_end - self.position, false),
            hole => (hole, true),
        };
        let length = buffer.len().min(usize::try_from(run).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..length];
        let read = match is_hole {
            true => 0,
            false => self.file.read(buffer)?,
        };
        // A hole, or the file has become shorter.
        let filled = if read == 0 {
            buffer.fill(0);
            length
        } else {
            read
        };
        self.position += filled as u64;
        Ok(filled)
    }
}

#[cfg(test)]
mod tests;
