//! The files of a log as one chain, found without a lock while the writer may rotate them.
//!
//! Files are opened from the newest to the oldest: one that is renamed or compressed
//! meanwhile is met again under a higher number and recognised, and none is passed over.
//! When the newest is no longer the newest at the end, everything is looked at once more.
//! This file must not know what a line is.

use super::rotate::{self, Origin};
use super::{Mark, watch};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// How often a chain is looked at again because the writer rotated meanwhile. A rotation
/// takes microseconds, so that more than a few tries mean that it was cut short by a kill.
const ATTEMPTS: u32 = 64;

/// Missing numbers in a row after which there are no more files; a rotation in progress
/// makes one.
const MAX_GAP: u32 = 2;

const GZIP_BUFFER_BYTES: usize = 64 * 1024;

/// One file of the chain, open and with a place to read on from.
#[derive(Debug)]
pub(super) struct Segment {
    inode: u64,
    pub(super) source: Source,
}

/// Where a segment's bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A file as it was written.
    Plain(Plain),
    /// A compressed copy.
    Gzip(Box<Gzip>),
}

/// A file read by position.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) file: File,
    /// Start of the first line not delivered yet.
    pub(super) position: u64,
    /// Where to stop, for a reader that does not follow.
    pub(super) end: u64,
}

/// A file read from its start only.
#[derive(Debug)]
pub(super) struct Gzip {
    decoder: MultiGzDecoder<BufReader<File>>,
    origin: Option<Origin>,
    /// Lines at the front that are not wanted.
    pub(super) skip_lines: u64,
}

impl Segment {
    fn open_plain(path: &Path) -> io::Result<Option<Segment>> {
        let Some(file) = absent_is_none(File::open(path))? else {
            return Ok(None);
        };
        let inode = file.metadata()?.ino();
        let plain = Plain {
            file,
            position: 0,
            end: u64::MAX,
        };
        Ok(Some(Segment {
            inode,
            source: Source::Plain(plain),
        }))
    }

    fn open_gzip(path: &Path) -> io::Result<Option<Segment>> {
        let Some(file) = absent_is_none(File::open(path))? else {
            return Ok(None);
        };
        let inode = file.metadata()?.ino();
        Ok(Some(Segment {
            inode,
            source: Source::Gzip(Box::new(Gzip::new(file))),
        }))
    }

    /// The part of a file before a mark.
    fn before(mark: Mark) -> io::Result<Segment> {
        let inode = mark.file.metadata()?.ino();
        let plain = Plain {
            file: mark.file,
            position: 0,
            end: mark.bytes,
        };
        Ok(Segment {
            inode,
            source: Source::Plain(plain),
        })
    }

    /// Opens the `number`th rotated file in whichever form it is there.
    fn open_rotated(path: &Path, number: u32) -> io::Result<Option<Segment>> {
        match Segment::open_plain(&rotate::rotated(path, number))? {
            None => Segment::open_gzip(&rotate::rotated_gz(path, number)),
            found => Ok(found),
        }
    }

    /// What identifies the plain file behind this segment.
    fn origin(&self) -> io::Result<Option<Origin>> {
        match &self.source {
            Source::Plain(plain) => Ok(Some(Origin::of(&plain.file.metadata()?, String::new()))),
            Source::Gzip(gzip) => Ok(gzip.origin.clone()),
        }
    }

    /// Whether both are the same file, or one is the other's compressed copy.
    fn is_same(&self, other: &Segment) -> io::Result<bool> {
        // Both are open, so neither inode number can have been given to a new file.
        if self.inode == other.inode {
            return Ok(true);
        }
        match (&self.source, &other.source) {
            (Source::Plain(_), Source::Plain(_)) => Ok(false),
            _ => Ok(match (self.origin()?, other.origin()?) {
                (Some(one), Some(two)) => one.is_same_file(&two),
                _ => false,
            }),
        }
    }

    /// Whether this was last written before `other` was.
    fn is_older_than(&self, other: &Segment) -> io::Result<bool> {
        Ok(match (self.origin()?, other.origin()?) {
            (Some(one), Some(two)) => one.mtime_ns < two.mtime_ns,
            // A copy of unknown age was not made by our writer while we looked.
            _ => true,
        })
    }

    /// Whether this is the file at `path`, or there is none, as between two steps of a rotation.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(watch::inode_at(path)?.is_none_or(|inode| inode == self.inode))
    }

    /// The time of the last line, where the file tells it without being read.
    pub(super) fn last_time_ns(&self) -> Option<i128> {
        match &self.source {
            Source::Plain(_) => None,
            Source::Gzip(gzip) => {
                crate::timestamp::parse(gzip.origin.as_ref()?.last_time.as_bytes())
            }
        }
    }
}

impl Plain {
    /// Fills `block` from the position on; less than a full block means the end for now.
    pub(super) fn fill(&self, block: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = block.len().min(left);
        read_at(&self.file, &mut block[..wanted], self.position)
    }

    /// Starts over if somebody truncated the file; `true` if so.
    pub(super) fn start_over_if_truncated(&mut self) -> io::Result<bool> {
        let truncated = self.file.metadata()?.len() < self.position;
        if truncated {
            self.position = 0;
        }
        Ok(truncated)
    }
}

/// Reads until `block` is full or the file ends.
pub(super) fn read_at(file: &File, block: &mut [u8], position: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < block.len() {
        match file.read_at(&mut block[done..], position + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

impl Gzip {
    fn new(file: File) -> Gzip {
        let decoder = MultiGzDecoder::new(BufReader::with_capacity(GZIP_BUFFER_BYTES, file));
        let extra = decoder.header().and_then(|header| header.extra());
        let origin = extra.and_then(|extra| serde_json::from_slice(extra).ok());
        Gzip {
            decoder,
            origin,
            skip_lines: 0,
        }
    }

    /// Fills `block` from `carried` on and returns the filled length.
    ///
    /// A damaged file ends where the damage begins.
    pub(super) fn fill(&mut self, block: &mut [u8], carried: usize) -> io::Result<usize> {
        let mut done = carried;
        while done < block.len() {
            match self.decoder.read(&mut block[done..]) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::UnexpectedEof => break,
                    _ => return Err(error),
                },
            }
        }
        Ok(done)
    }

    /// Counts the lines by reading everything, then starts over.
    pub(super) fn count_lines(&mut self) -> io::Result<u64> {
        let mut block = vec![0; GZIP_BUFFER_BYTES];
        let mut lines = 0;
        loop {
            let filled = self.fill(&mut block, 0)?;
            lines += memchr::memchr_iter(b'\n', &block[..filled]).count() as u64;
            if filled < block.len() {
                break;
            }
        }
        let mut file = self.decoder.get_ref().get_ref().try_clone()?;
        file.rewind()?;
        *self = Gzip::new(file);
        Ok(lines)
    }
}

fn absent_is_none(file: io::Result<File>) -> io::Result<Option<File>> {
    match file {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the files of the log at `path` that are newer than `known`, the newest first.
///
/// Nothing where the writer is between two steps of a rotation and `known` was given: the
/// next event brings the rest. All of them are open at once.
pub(super) fn collect(path: &Path, known: Option<&Segment>) -> io::Result<Vec<Segment>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut found = Vec::new();
        let current = Segment::open_plain(path)?;
        let inode = current.as_ref().map(|segment| segment.inode);
        if let Some(current) = current {
            if let Some(known) = known
                && current.is_same(known)?
            {
                return Ok(found);
            }
            found.push(current);
        } else if known.is_some() {
            return Ok(found);
        }
        collect_rotated(path, known, &mut found)?;
        let settled = watch::inode_at(path)? == inode && (inode.is_some() || found.is_empty());
        if settled || attempt == ATTEMPTS {
            return Ok(found);
        }
        std::thread::yield_now();
    }
}

/// Opens the files of the log at `path` up to a mark, the newest first: the marked one and those before it.
pub(super) fn collect_before(path: &Path, mark: Mark) -> io::Result<Vec<Segment>> {
    let marked = Segment::before(mark)?;
    let mut older = Vec::new();
    let mut past = false;
    for segment in collect(path, None)? {
        if !past && segment.is_same(&marked)? {
            past = true;
        } else if past || segment.is_older_than(&marked)? {
            // The marked file may be gone: then what was written before it is older.
            past = true;
            older.push(segment);
        }
    }
    older.insert(0, marked);
    Ok(older)
}

fn collect_rotated(
    path: &Path,
    known: Option<&Segment>,
    found: &mut Vec<Segment>,
) -> io::Result<()> {
    let (mut number, mut gap) = (0, 0);
    while gap < MAX_GAP {
        number += 1;
        let Some(segment) = Segment::open_rotated(path, number)? else {
            gap += 1;
            continue;
        };
        gap = 0;
        if let Some(known) = known {
            if segment.is_same(known)? {
                return Ok(());
            }
            if segment.is_older_than(known)? {
                continue;
            }
        }
        let mut met_before = false;
        for other in found.iter() {
            met_before |= segment.is_same(other)?;
        }
        if !met_before {
            found.push(segment);
        }
    }
    Ok(())
}
