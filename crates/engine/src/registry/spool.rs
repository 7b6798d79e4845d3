//! Where the bytes of an upload come from: a compressed file without a name, a blob fetched again, or memory.

use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use conex_distribution::BlobSource;
use conex_spec::digest::Sha256;
use futures_util::stream::{self, BoxStream, StreamExt};

use super::blob::Download;

/// Bytes read and sent at a time.
pub(super) const PIECE_BYTES: usize = 256 * 1024;

/// A file that is gone when it is closed.
pub(super) fn unnamed(directory: &Path) -> io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// A file that knows the digest of what is written to it.
pub(super) struct Counted<'a> {
    pub(super) file: &'a std::fs::File,
    pub(super) hash: Sha256,
    pub(super) bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the bytes of an upload are.
#[derive(Clone)]
pub(super) enum FileSource {
    Spool(Arc<std::fs::File>),
    Blob(Arc<Download>),
    Memory(Bytes),
}

impl FileSource {
    fn piece(&self, offset: u64) -> io::Result<Bytes> {
        let file = match self {
            Self::Spool(file) => file,
            Self::Blob(download) => &download.shared.file,
            Self::Memory(bytes) => {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                return Ok(bytes.slice(start..));
            }
        };
        let mut buffer = vec![0; PIECE_BYTES];
        let read = tokio::task::block_in_place(|| file.read_at(&mut buffer, offset))?;
        buffer.truncate(read);
        Ok(buffer.into())
    }
}

impl BlobSource for FileSource {
    fn read_from(&self, offset_bytes: u64) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        let pieces = stream::unfold(
            Some((self.clone(), offset_bytes)),
            async |at: Option<(FileSource, u64)>| {
                let (source, offset) = at?;
                match source.piece(offset) {
                    Ok(piece) if piece.is_empty() => None,
                    Ok(piece) => {
                        let next = offset + piece.len() as u64;
                        Some((Ok(piece), Some((source, next))))
                    }
                    Err(error) => Some((Err(error), None)),
                }
            },
        );
        Ok(pieces.boxed())
    }
}
