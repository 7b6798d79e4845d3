//! The writer: ustar headers, with PAX records in front where ustar is too
//! small. The same headers and data always give the same bytes.

use std::io::{self, Read, Write};
use std::ops::Range;

use super::field::{self, Block};
use super::{BLOCK_BYTES, EntryKind, Error, Header, Timestamp, pax, shown};

/// Writes an archive member by member.
///
/// A PAX extended header appears only for what ustar cannot hold: long or
/// non-ASCII names, large numbers, times before the epoch or with nanoseconds,
/// extended attributes. Sparse files are written in full, since readers of
/// layers need not know sparse maps.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// A writer of an archive that starts at the sink's position.
    pub fn new(sink: W) -> Self {
        Self {
            sink,
            buffer: Vec::new(),
        }
    }

    /// Writes a member without data: any kind but [`EntryKind::Regular`] and
    /// [`EntryKind::Other`], or one of those with size 0.
    pub fn append_empty(&mut self, header: &Header) -> Result<(), Error> {
        self.append(header, &mut io::empty())
    }

    /// Writes a member and exactly `header.size` bytes of `content`; more is
    /// left unread, less is [`Error::ShortContent`] and leaves a broken archive.
    pub fn append(&mut self, header: &Header, content: &mut dyn Read) -> Result<(), Error> {
        let mut blocks = Vec::with_capacity(4 * BLOCK_BYTES);
        encode(header, &mut blocks)?;
        let failed = |source| Error::Write {
            path: shown(&header.path),
            source,
        };
        self.sink.write_all(&blocks).map_err(failed)?;
        if !header.kind.has_data() {
            return Ok(());
        }
        let mut left = header.size;
        self.buffer.resize(128 * 1024, 0);
        while left > 0 {
            let wanted = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            match content.read(&mut self.buffer[..wanted]) {
                Ok(0) => {
                    return Err(Error::ShortContent {
                        path: shown(&header.path),
                        missing_bytes: left,
                    });
                }
                Ok(read) => {
                    self.sink.write_all(&self.buffer[..read]).map_err(failed)?;
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Content {
                        path: shown(&header.path),
                        source,
                    });
                }
            }
        }
        self.sink
            .write_all(&[0; BLOCK_BYTES][..padding(header.size)])
            .map_err(failed)
    }

    /// Writes the two closing zero blocks, flushes, and gives the sink back.
    pub fn finish(mut self) -> Result<W, Error> {
        let failed = |source| Error::Write {
            path: String::new(),
            source,
        };
        self.sink.write_all(&[0; 2 * BLOCK_BYTES]).map_err(failed)?;
        self.sink.flush().map_err(failed)?;
        Ok(self.sink)
    }
}

fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK_BYTES as u64) as usize
}

/// The header block, behind its PAX header if it needs one.
fn encode(header: &Header, out: &mut Vec<u8>) -> Result<(), Error> {
    let unstorable = |field| Error::Unstorable {
        path: shown(&header.path),
        field,
    };
    let flag = flag(header.kind).ok_or_else(|| unstorable("kind"))?;
    if header.path.is_empty() || header.path.contains(&0) {
        return Err(unstorable("path"));
    }
    if header.link.contains(&0) {
        return Err(unstorable("link"));
    }
    if header.mode > 0o7777 {
        return Err(unstorable("mode"));
    }
    let mut block = [0; BLOCK_BYTES];
    let mut records = Vec::new();
    block[field::TYPE] = flag;
    block[field::MAGIC_VERSION].copy_from_slice(b"ustar\x0000");

    match split_path(&header.path) {
        Some((prefix, name)) => {
            field::put_string(&mut block, field::NAME, name);
            field::put_string(&mut block, field::PREFIX, prefix);
        }
        None => {
            pax::put_record(&mut records, b"path", &header.path);
            field::put_string(&mut block, field::NAME, &ascii(&header.path));
        }
    }
    for (key, value, range, field) in [
        (&b"linkpath"[..], &header.link, field::LINK, "link"),
        (b"uname", &header.user, field::USER, "user name"),
        (b"gname", &header.group, field::GROUP, "group name"),
    ] {
        if value.contains(&0) {
            return Err(unstorable(field));
        }
        if value.len() > range.len() || !value.is_ascii() {
            pax::put_record(&mut records, key, value);
        }
        field::put_string(&mut block, range, &ascii(value));
    }
    field::put_octal(&mut block, field::MODE, u64::from(header.mode));
    let size = if header.kind.has_data() {
        header.size
    } else {
        0
    };
    if size > i64::MAX.cast_unsigned() {
        return Err(unstorable("size"));
    }
    put_number(&mut block, &mut records, field::UID, b"uid", header.uid);
    put_number(&mut block, &mut records, field::GID, b"gid", header.gid);
    put_number(&mut block, &mut records, field::SIZE, b"size", size);
    put_mtime(&mut block, &mut records, header.mtime);
    for (range, number) in [
        (field::MAJOR, header.device.major),
        (field::MINOR, header.device.minor),
    ] {
        if u64::from(number) > field::octal_max(&range) {
            return Err(unstorable("device number"));
        }
        field::put_octal(&mut block, range, u64::from(number));
    }
    for (name, value) in &header.xattrs {
        // The record's key ends at the first equals sign.
        if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'=')) {
            return Err(unstorable("extended attribute"));
        }
        pax::put_xattr(&mut records, name, value);
    }

    if !records.is_empty() {
        put_extension(&header.path, &records, out).ok_or_else(|| unstorable("extensions"))?;
    }
    field::seal(&mut block);
    out.extend_from_slice(&block);
    Ok(())
}

/// A member of type `x`. Its own name, owner and time are fixed, so that they
/// never make one archive differ from another.
fn put_extension(path: &[u8], records: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let size = records.len() as u64;
    if size > field::octal_max(&field::SIZE) {
        return None;
    }
    let mut block: Block = [0; BLOCK_BYTES];
    let base = path
        .rsplit(|byte| *byte == b'/')
        .find(|component| !component.is_empty())
        .unwrap_or(b"root");
    field::put_string(
        &mut block,
        field::NAME,
        &[b"PaxHeaders.0/", ascii(base).as_slice()].concat(),
    );
    for (range, value) in [
        (field::MODE, 0o644),
        (field::UID, 0),
        (field::GID, 0),
        (field::SIZE, size),
        (field::MTIME, 0),
        (field::MAJOR, 0),
        (field::MINOR, 0),
    ] {
        field::put_octal(&mut block, range, value);
    }
    block[field::TYPE] = b'x';
    block[field::MAGIC_VERSION].copy_from_slice(b"ustar\x0000");
    field::seal(&mut block);
    out.extend_from_slice(&block);
    out.extend_from_slice(records);
    out.resize(out.len() + padding(size), 0);
    Some(())
}

fn put_number(
    block: &mut Block,
    records: &mut Vec<u8>,
    range: Range<usize>,
    key: &[u8],
    value: u64,
) {
    if value <= field::octal_max(&range) {
        field::put_octal(block, range, value);
    } else {
        pax::put_record(records, key, value.to_string().as_bytes());
        field::put_octal(block, range, 0);
    }
}

fn put_mtime(block: &mut Block, records: &mut Vec<u8>, mtime: Timestamp) {
    let seconds = u64::try_from(mtime.seconds)
        .ok()
        .filter(|seconds| *seconds <= field::octal_max(&field::MTIME));
    if seconds.is_none() || mtime.nanoseconds != 0 {
        pax::put_record(records, b"mtime", pax::show_timestamp(mtime).as_bytes());
    }
    field::put_octal(block, field::MTIME, seconds.unwrap_or(0));
}

/// The path as ustar's prefix and name, if it fits.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= field::NAME.len() {
        return Some((b"", path));
    }
    // The latest slash that leaves a name and keeps the prefix short enough.
    let window = &path[..path.len().min(field::PREFIX.len() + 1)];
    let window = window
        .strip_suffix(b"/")
        .filter(|_| window.len() == path.len())
        .unwrap_or(window);
    let slash = memchr::memrchr(b'/', window)?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (slash > 0 && !name.is_empty() && name.len() <= field::NAME.len()).then_some((prefix, name))
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

fn flag(kind: EntryKind) -> Option<u8> {
    Some(match kind {
        EntryKind::Regular => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharacterDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
        EntryKind::Other(_) => return None,
    })
}

#[cfg(test)]
mod tests;
