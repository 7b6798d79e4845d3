//! The streaming reader.

use std::io::{self, BufReader, Read};

use super::field::{self, Block};
use super::member::{device_number, kind, plain_header, unsigned};
use super::pax::{Overrides, Scope};
use super::sparse::{self, Segment, TextMap};
use super::{BLOCK_BYTES, Device, EntryKind, Error, Header, Limits, shown};

/// Bytes read ahead from the stream below.
const BUFFER_BYTES: usize = 128 * 1024;

/// Reads the members of an archive in order, without seeking.
///
/// Two zero blocks, a lone one (as GNU tar has it), or the end of the stream at
/// a member's boundary end the archive; so an empty stream is an empty archive.
/// After an error the position is undefined and no more members are returned.
#[derive(Debug)]
pub struct Reader<R> {
    source: Source<R>,
    limits: Limits,
    globals: Overrides,
    data: Data,
    ended: bool,
}

/// The stream below and how far it was read.
#[derive(Debug)]
struct Source<R> {
    inner: BufReader<R>,
    offset: u64,
    /// What was read besides the members' stored content, for a reader that
    /// was asked to keep it.
    raw: Option<Vec<u8>>,
}

/// What is left of the current member in the stream.
#[derive(Debug, Default)]
struct Data {
    path: Vec<u8>,
    stored_bytes: u64,
    padding_bytes: u64,
    /// Whether it is a member's content, and not the archive's bookkeeping.
    content: bool,
}

impl Data {
    fn new(path: &[u8], stored_bytes: u64) -> Self {
        Self {
            path: path.to_vec(),
            stored_bytes,
            padding_bytes: stored_bytes.wrapping_neg() % BLOCK_BYTES as u64,
            content: false,
        }
    }
}

/// A member: its header, and by `Read` its content with holes as zeros.
#[derive(Debug)]
pub struct Entry<'a, R> {
    /// What the archive says of it.
    pub header: Header,
    reader: &'a mut Reader<R>,
    position: u64,
    segment: usize,
}

/// The stored bytes of a member: for a sparse file its segments back to back,
/// otherwise the content.
#[derive(Debug)]
pub struct Stored<'a, R> {
    reader: &'a mut Reader<R>,
}

/// The extensions collected in front of a member.
#[derive(Debug)]
struct Pending {
    pax: Overrides,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// Where the last extension started, if there was one.
    at: Option<u64>,
}

impl<R: Read> Reader<R> {
    /// A reader with the default [`Limits`].
    pub fn new(stream: R) -> Self {
        Self::with_limits(stream, Limits::default())
    }

    /// A reader with these limits.
    pub fn with_limits(stream: R, limits: Limits) -> Self {
        Self {
            source: Source {
                inner: BufReader::with_capacity(BUFFER_BYTES, stream),
                offset: 0,
                raw: None,
            },
            limits,
            globals: Overrides::default(),
            data: Data::default(),
            ended: false,
        }
    }

    /// Lets the reader keep every byte that is not a member's stored content,
    /// for [`Self::take_raw`]: headers, extensions, sparse maps, padding, and
    /// what the caller left unread of a member.
    #[must_use]
    pub fn keeping_raw(mut self) -> Self {
        self.source.raw = Some(Vec::new());
        self
    }

    /// Puts what was kept since the last call into `raw`, whose content goes
    /// and whose memory is used again.
    pub fn take_raw(&mut self, raw: &mut Vec<u8>) {
        raw.clear();
        if let Some(kept) = &mut self.source.raw {
            std::mem::swap(kept, raw);
        }
    }

    /// The next member; `None` at the end. Skips what was not read of the
    /// previous one.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_, R>>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.ended = true;
        let header = self.advance()?;
        self.ended = header.is_none();
        Ok(header.map(|header| Entry {
            header,
            reader: self,
            position: 0,
            segment: 0,
        }))
    }

    /// Reads the stream below to its end, past whatever follows the archive,
    /// and returns the archive's total length in bytes.
    pub fn finish(self) -> Result<u64, Error> {
        self.finish_into(&mut io::sink())
    }

    /// The same, with what follows the archive written to `trailer`, whose
    /// errors are told as the stream's.
    pub fn finish_into(mut self, trailer: &mut dyn io::Write) -> Result<u64, Error> {
        let rest = io::copy(&mut self.source.inner, trailer)
            .map_err(|source| self.source.failed(source))?;
        Ok(self.source.offset + rest)
    }

    fn advance(&mut self) -> Result<Option<Header>, Error> {
        self.skip_data()?;
        let mut pending = Pending {
            pax: self.globals.clone(),
            long_path: None,
            long_link: None,
            at: None,
        };
        loop {
            let offset = self.source.offset;
            let Some(block) = self.read_header_block()? else {
                return match pending.at {
                    Some(offset) => Err(Error::DanglingExtension { offset }),
                    None => Ok(None),
                };
            };
            match block[field::TYPE] {
                b'x' | b'X' => {
                    let records = self.read_extension(&block, offset)?;
                    apply(&mut pending.pax, &records, Scope::Local, offset)?;
                }
                b'g' => {
                    let records = self.read_extension(&block, offset)?;
                    apply(&mut self.globals, &records, Scope::Global, offset)?;
                    apply(&mut pending.pax, &records, Scope::Global, offset)?;
                }
                b'L' => pending.long_path = Some(self.read_long_name(&block, offset)?),
                b'K' => pending.long_link = Some(self.read_long_name(&block, offset)?),
                // The label of a GNU volume is no member.
                b'V' => {
                    self.read_extension(&block, offset)?;
                    continue;
                }
                _ => return self.member(&block, offset, pending).map(Some),
            }
            pending.at = Some(offset);
        }
    }

    /// The next block that is a header; `None` at the end of the archive.
    fn read_header_block(&mut self) -> Result<Option<Block>, Error> {
        let offset = self.source.offset;
        let mut block = [0; BLOCK_BYTES];
        match self.source.read_full(&mut block)? {
            0 => return Ok(None),
            BLOCK_BYTES => {}
            _ => return Err(Error::TruncatedHeader { offset }),
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !field::checksum_matches(&block) {
            return Err(Error::Checksum { offset });
        }
        Ok(Some(block))
    }

    /// The data of an extension header. Its length is always its own size
    /// field's: a PAX `size` seen before describes the member to come.
    fn read_extension(&mut self, block: &Block, offset: u64) -> Result<Vec<u8>, Error> {
        let size_bytes = unsigned(block, field::SIZE, offset, "size")?;
        let limit_bytes = self.limits.extension_bytes;
        if size_bytes > limit_bytes {
            return Err(Error::ExtensionTooLarge {
                offset,
                size_bytes,
                limit_bytes,
            });
        }
        self.data = Data::new(field::string(&block[field::NAME]), size_bytes);
        let mut bytes = Vec::new();
        Stored { reader: self }
            .read_to_end(&mut bytes)
            .map_err(|error| self.unwrap_error(error))?;
        self.skip_data()?;
        Ok(bytes)
    }

    fn read_long_name(&mut self, block: &Block, offset: u64) -> Result<Vec<u8>, Error> {
        let mut name = self.read_extension(block, offset)?;
        name.truncate(field::string(&name).len());
        Ok(name)
    }

    /// Puts a member together and positions the reader at its data.
    fn member(&mut self, block: &Block, offset: u64, pending: Pending) -> Result<Header, Error> {
        let mut pax = pending.pax;
        let mut header = plain_header(block, offset, &mut pax)?;
        let gnu_name = pax.sparse.name.take();
        if let Some(path) = pending.long_path.or(gnu_name).or(pax.path.take()) {
            header.path = path;
        }
        if let Some(link) = pending.long_link.or(pax.link.take()) {
            header.link = link;
        }
        let flag = block[field::TYPE];
        header.kind = kind(flag, &header.path);
        if flag == b'M' {
            return Err(Error::MultiVolume {
                path: shown(&header.path),
            });
        }
        if matches!(
            header.kind,
            EntryKind::CharacterDevice | EntryKind::BlockDevice
        ) {
            header.device = Device {
                major: device_number(block, field::MAJOR, offset)?,
                minor: device_number(block, field::MINOR, offset)?,
            };
        }
        header.xattrs = std::mem::take(&mut pax.xattrs).into_iter().collect();
        let stored_bytes = match pax.size {
            _ if !header.kind.has_data() => 0,
            Some(size) => size,
            None => unsigned(block, field::SIZE, offset, "size")?,
        };
        header.size = stored_bytes;
        self.data = Data::new(&header.path, stored_bytes);
        if header.kind == EntryKind::Regular {
            self.read_sparse_map(block, &pax, &mut header)?;
        }
        self.data.content = true;
        Ok(header)
    }

    fn read_sparse_map(
        &mut self,
        block: &Block,
        pax: &Overrides,
        header: &mut Header,
    ) -> Result<(), Error> {
        let old_gnu = block[field::TYPE] == b'S';
        let version = (pax.sparse.major, pax.sparse.minor);
        let invalid = |problem| Error::Sparse {
            path: shown(&header.path),
            problem,
        };
        let (segments, real_size) = if old_gnu {
            let size = field::unsigned(&block[field::GNU_REAL_SIZE])
                .ok_or_else(|| invalid("its size is not a number"))?;
            (
                self.old_gnu_map(block).map_err(|it| it.named(&invalid))?,
                size,
            )
        } else if version == (Some(1), Some(0)) {
            let size = pax
                .sparse
                .real_size
                .ok_or_else(|| invalid("it does not tell the file's size"))?;
            (self.text_map().map_err(|it| it.named(&invalid))?, size)
        } else if let Some(map) = &pax.sparse.map {
            let size = pax.sparse.real_size.unwrap_or(header.size);
            (map.clone(), size)
        } else if matches!(version, (None | Some(0), None | Some(0 | 1))) {
            return Ok(());
        } else {
            return Err(invalid("its version is not known"));
        };
        if real_size > i64::MAX.cast_unsigned() {
            return Err(invalid("its size is too large"));
        }
        sparse::check(&segments, real_size, self.data.stored_bytes).map_err(invalid)?;
        header.size = real_size;
        header.sparse = Some(segments);
        Ok(())
    }

    /// The extension blocks lie between header and data, outside its size.
    fn old_gnu_map(&mut self, block: &Block) -> Result<Vec<Segment>, MapError> {
        let (mut segments, mut more) = sparse::old_gnu_header(block)?;
        while more {
            let mut extension = [0; BLOCK_BYTES];
            let offset = self.source.offset;
            if self.source.read_full(&mut extension)? != BLOCK_BYTES {
                return Err(Error::TruncatedHeader { offset }.into());
            }
            let before = segments.len();
            more = sparse::old_gnu_extension(&extension, &mut segments)?;
            if segments.len() > self.limits.sparse_segments {
                return Err(MapError::Problem("it has too many segments"));
            }
            if more && segments.len() == before {
                return Err(MapError::Problem("it goes on without segments"));
            }
        }
        Ok(segments)
    }

    fn text_map(&mut self) -> Result<Vec<Segment>, MapError> {
        let mut map = TextMap::new(self.limits.sparse_segments);
        loop {
            let mut block = [0; BLOCK_BYTES];
            Stored { reader: self }
                .read_exact(&mut block)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof if self.data.stored_bytes == 0 => {
                        MapError::Problem("it is longer than the stored data")
                    }
                    _ => MapError::Archive(self.unwrap_error(error)),
                })?;
            if map.feed(&block)? {
                return Ok(map.into_segments());
            }
        }
    }

    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.data.stored_bytes)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(self.truncated().into());
        }
        self.data.stored_bytes -= read as u64;
        if !self.data.content {
            self.source.keep(&buffer[..read]);
        }
        Ok(read)
    }

    /// Passes over the unread data and its padding. Missing padding at the
    /// very end of the stream is forgiven, as every tar does.
    fn skip_data(&mut self) -> Result<(), Error> {
        let stored = std::mem::take(&mut self.data.stored_bytes);
        let skipped = self.source.skip(stored)?;
        self.data.stored_bytes = stored - skipped;
        if skipped < stored {
            return Err(self.truncated());
        }
        let padding = std::mem::take(&mut self.data.padding_bytes);
        self.source.skip(padding)?;
        Ok(())
    }

    fn truncated(&self) -> Error {
        Error::Truncated {
            path: shown(&self.data.path),
            missing_bytes: self.data.stored_bytes,
        }
    }

    /// Our own error back out of `io::Error`, where `Read` had to put it.
    fn unwrap_error(&self, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => self.source.failed(error),
        }
    }
}

impl<R> Source<R> {
    fn failed(&self, source: io::Error) -> Error {
        Error::Read {
            offset: self.offset,
            source,
        }
    }
}

impl<R: Read> Source<R> {
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(bytes);
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Ok(read) => {
                    self.offset += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error).into()),
            }
        }
    }

    /// Reads until the buffer is full or the stream ends.
    fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    self.offset += read as u64;
                    filled += read;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.keep(&buffer[..filled]);
        Ok(filled)
    }

    /// Reads and forgets up to `count` bytes; fewer only at the stream's end.
    fn skip(&mut self, count: u64) -> Result<u64, Error> {
        if count == 0 {
            return Ok(0);
        }
        let skipped = match &mut self.raw {
            Some(raw) => io::copy(&mut self.inner.by_ref().take(count), raw),
            None => io::copy(&mut self.inner.by_ref().take(count), &mut io::sink()),
        }
        .map_err(|error| self.failed(error))?;
        self.offset += skipped;
        Ok(skipped)
    }
}

/// A failure inside a sparse map, before it has the member's name.
enum MapError {
    Problem(&'static str),
    Archive(Error),
}

impl MapError {
    fn named(self, invalid: &dyn Fn(&'static str) -> Error) -> Error {
        match self {
            Self::Problem(problem) => invalid(problem),
            Self::Archive(error) => error,
        }
    }
}

impl From<&'static str> for MapError {
    fn from(problem: &'static str) -> Self {
        Self::Problem(problem)
    }
}

impl From<Error> for MapError {
    fn from(error: Error) -> Self {
        Self::Archive(error)
    }
}

impl<R: Read> Entry<'_, R> {
    /// [`Reader::take_raw`]: what stands in front of the stored content.
    pub fn take_raw(&mut self, raw: &mut Vec<u8>) {
        self.reader.take_raw(raw);
    }

    /// How many stored bytes are still to be read.
    #[must_use]
    pub fn stored_left(&self) -> u64 {
        self.reader.data.stored_bytes
    }

    /// The stored bytes alone, for a consumer that makes the holes itself from
    /// `Header::sparse`. Not to be mixed with reading the entry.
    pub fn stored(&mut self) -> Stored<'_, R> {
        Stored {
            reader: self.reader,
        }
    }
}

impl<R: Read> Read for Stored<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read_stored(buffer)
    }
}

impl<R: Read> Read for Entry<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(segments) = &self.header.sparse else {
            return self.reader.read_stored(buffer);
        };
        let end = |segment: &Segment| segment.offset + segment.length;
        while segments
            .get(self.segment)
            .is_some_and(|segment| end(segment) <= self.position)
        {
            self.segment += 1;
        }
        let (stored, until) = match segments.get(self.segment) {
            Some(segment) if segment.offset <= self.position => (true, end(segment)),
            Some(segment) => (false, segment.offset),
            None => (false, self.header.size),
        };
        let wanted = usize::try_from(until - self.position)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = &mut buffer[..wanted];
        let read = if stored {
            self.reader.read_stored(buffer)?
        } else {
            buffer.fill(0);
            wanted
        };
        self.position += read as u64;
        Ok(read)
    }
}

fn apply(
    overrides: &mut Overrides,
    records: &[u8],
    scope: Scope,
    offset: u64,
) -> Result<(), Error> {
    overrides
        .apply(records, scope)
        .map_err(|problem| Error::Extension { offset, problem })
}

#[cfg(test)]
mod tests;
