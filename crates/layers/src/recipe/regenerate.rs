//! Reading the archive that a recipe and its layer's tree make together.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use conex_spec::digest::{Digest, Sha256};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Error;
use super::format::{self, Content, Record, cut, damaged};

const BUFFER_BYTES: usize = 64 * 1024;

type Records = BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>;

/// An archive as a stream of its bytes; see [`super::Recipes::regenerate`].
pub struct Regenerated {
    records: Records,
    layer: OwnedFd,
    expected: Digest,
    hash: Option<Sha256>,
    length: u64,
    bytes: u64,
    /// Files met so far.
    files: u64,
    amendments: Amendments,
    now: Now,
}

/// What the next bytes come from.
enum Now {
    /// Whatever the next record is.
    Record,
    Raw {
        left: u64,
    },
    File(Source),
    Ended,
}

/// The stored content of one file.
struct Source {
    file: File,
    path: Vec<u8>,
    /// Offset and length of what is still to come.
    segments: std::vec::IntoIter<(u64, u64)>,
    offset: u64,
    left: u64,
    hash: flate2::Crc,
    crc: u32,
}

/// What later records say of earlier files.
#[derive(Default)]
struct Amendments {
    moved: HashMap<u64, Vec<u8>>,
    /// Where in `kept` the content of a file begins, and its length.
    places: HashMap<u64, (u64, u64)>,
    kept: Option<File>,
}

impl std::fmt::Debug for Regenerated {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Regenerated")
            .field("expected", &self.expected)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Regenerated {
    /// `scratch` is where content that the tree has no more is laid out, in a
    /// file without a name.
    pub(super) fn open(
        file: File,
        layer: OwnedFd,
        expected: &Digest,
        scratch: &Path,
    ) -> Result<Self, Error> {
        let mut head = [0; format::HEAD_BYTES];
        file.read_exact_at(&mut head, 0).map_err(cut)?;
        let (magic, rest) = head.split_at(format::MAGIC.len());
        let [version, state, length @ ..] = rest else {
            return Err(damaged("it does not begin like one"));
        };
        if magic != format::MAGIC {
            return Err(damaged("it does not begin like one"));
        }
        if *version != format::VERSION {
            return Err(damaged("it is of a version this program does not know"));
        }
        let length = length.try_into().expect("the head ends in eight bytes");
        let amendments = match *state {
            format::PLAIN => Amendments::default(),
            format::AMENDED => Amendments::read(records(&file)?, scratch)?,
            _ => return Err(damaged("it was never finished")),
        };
        Ok(Self {
            records: records(&file)?,
            layer,
            expected: expected.clone(),
            hash: Some(Sha256::new()),
            length: u64::from_le_bytes(length),
            bytes: 0,
            files: 0,
            amendments,
            now: Now::Record,
        })
    }

    /// Length of the whole archive, as it was unpacked.
    #[must_use]
    pub fn archive_bytes(&self) -> u64 {
        self.length
    }

    fn advance(&mut self) -> Result<(), Error> {
        self.now = match Record::decode(&mut self.records)? {
            Record::Raw { bytes } => Now::Raw { left: bytes },
            Record::File(content) => {
                let index = self.files;
                self.files += 1;
                Now::File(self.source(index, content)?)
            }
            Record::Kept { bytes, .. } => {
                skip(&mut self.records, bytes)?;
                Now::Record
            }
            Record::Moved { .. } => Now::Record,
            Record::End { bytes, digest } => {
                self.check(bytes, digest)?;
                Now::Ended
            }
        };
        Ok(())
    }

    fn source(&self, index: u64, content: Content) -> Result<Source, Error> {
        let Content {
            mut path,
            bytes,
            crc,
            segments,
        } = content;
        let mut base = 0;
        let file = match (
            &self.amendments.kept,
            self.amendments.places.get(&index),
            self.amendments.moved.get(&index),
        ) {
            (Some(kept), Some((offset, length)), _) => {
                base = *offset;
                let needed = segments
                    .last()
                    .map_or(bytes, |(offset, bytes)| offset + bytes);
                if needed > *length {
                    return Err(damaged("kept content is too short"));
                }
                kept.try_clone().map_err(Error::Read)?
            }
            (_, _, moved) => {
                if let Some(moved) = moved {
                    path.clone_from(moved);
                }
                open_in(self.layer.as_fd(), &path).map_err(|source| Error::File {
                    path: shown(&path),
                    source,
                })?
            }
        };
        let segments = match segments.is_empty() {
            true => vec![(0, bytes)],
            false => segments,
        };
        let segments: Vec<_> = segments
            .into_iter()
            .map(|(offset, length)| (base.saturating_add(offset), length))
            .collect();
        Ok(Source {
            file,
            path,
            segments: segments.into_iter(),
            offset: 0,
            left: 0,
            hash: flate2::Crc::new(),
            crc,
        })
    }

    fn check(&mut self, bytes: u64, digest: [u8; 32]) -> Result<(), Error> {
        let Some(hash) = self.hash.take() else {
            return Ok(());
        };
        let found = hash.finish();
        if Digest::from_sha256(digest) != self.expected {
            return Err(damaged("it is another layer's"));
        }
        if bytes != self.length {
            return Err(damaged("it contradicts itself"));
        }
        if bytes != self.bytes || found != self.expected {
            return Err(Error::Digest {
                found,
                expected: self.expected.clone(),
            });
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            let read = match &mut self.now {
                Now::Ended => return Ok(0),
                Now::Record | Now::Raw { left: 0 } => 0,
                Now::Raw { left } => {
                    let wanted = bounded(*left, buffer.len());
                    let read = retry(|| self.records.read(&mut buffer[..wanted])).map_err(cut)?;
                    if read == 0 {
                        return Err(damaged("it ends early"));
                    }
                    *left -= read as u64;
                    read
                }
                Now::File(source) => source.read(buffer)?,
            };
            if read > 0 {
                return Ok(read);
            }
            self.advance()?;
        }
    }
}

impl Read for Regenerated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = match self.fill(buffer) {
            Ok(read) => read,
            Err(error) => {
                self.now = Now::Ended;
                return Err(error.into());
            }
        };
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..read]);
        }
        self.bytes += read as u64;
        Ok(read)
    }
}

impl Source {
    /// The next bytes; 0 at the end, when the checksum was right.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        while self.left == 0 {
            match self.segments.next() {
                Some((offset, length)) => (self.offset, self.left) = (offset, length),
                None if self.hash.sum() == self.crc => return Ok(0),
                None => return Err(self.damaged("its content has changed")),
            }
        }
        let wanted = bounded(self.left, buffer.len());
        let (file, offset) = (&self.file, self.offset);
        let read = retry(|| file.read_at(&mut buffer[..wanted], offset)).map_err(|source| {
            Error::File {
                path: shown(&self.path),
                source,
            }
        })?;
        if read == 0 {
            return Err(self.damaged("it has become shorter"));
        }
        self.hash.update(&buffer[..read]);
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }

    fn damaged(&self, problem: &'static str) -> Error {
        Error::Damaged {
            path: shown(&self.path),
            problem,
        }
    }
}

impl Amendments {
    fn read(mut records: Records, scratch: &Path) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut end = 0;
        loop {
            match Record::decode(&mut records)? {
                Record::Raw { bytes } => skip(&mut records, bytes)?,
                Record::File(_) => {}
                Record::Moved { index, path } => {
                    found.moved.insert(index, path);
                }
                Record::Kept { index, bytes } => {
                    let (_, length) = found.places.entry(index).or_insert((end, 0));
                    *length = length.saturating_add(bytes);
                    let place = &found.places[&index];
                    if place.0.saturating_add(place.1) != end.saturating_add(bytes) {
                        return Err(damaged("kept content is in pieces"));
                    }
                    end = end.saturating_add(bytes);
                    let kept = match &mut found.kept {
                        Some(kept) => kept,
                        none => none.insert(nameless(scratch).map_err(Error::Read)?),
                    };
                    let copied = io::copy(&mut records.by_ref().take(bytes), kept);
                    if copied.map_err(cut)? != bytes {
                        return Err(damaged("it ends early"));
                    }
                }
                Record::End { .. } => break,
            }
        }
        if let Some(kept) = &mut found.kept {
            kept.flush().map_err(Error::Read)?;
        }
        Ok(found)
    }
}

fn records(file: &File) -> Result<Records, Error> {
    // A description of its own, since two readers must not share a position.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    let open = || -> io::Result<Records> {
        let mut own = File::open(path)?;
        io::Seek::seek(&mut own, io::SeekFrom::Start(format::HEAD_BYTES as u64))?;
        let decoder =
            zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(BUFFER_BYTES, own))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, decoder))
    };
    open().map_err(Error::Read)
}

fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(
        directory,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?))
}

fn skip(records: &mut impl BufRead, bytes: u64) -> Result<(), Error> {
    let skipped = io::copy(&mut records.take(bytes), &mut io::sink()).map_err(cut)?;
    match skipped == bytes {
        true => Ok(()),
        false => Err(damaged("it ends early")),
    }
}

/// Opens a regular file of the layer for reading, without a trace in its
/// access time.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |flags| rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    let file = match open(flags | OFlags::NOATIME) {
        // Only an owner may ask for that.
        Err(Errno::PERM) => open(flags),
        result => result,
    }?;
    let status = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is no regular file",
        ));
    }
    Ok(File::from(file))
}

fn retry<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn bounded(left: u64, most: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(most)
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
