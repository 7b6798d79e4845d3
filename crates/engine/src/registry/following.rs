//! Reading a blob while it is fetched, and checking that it is the one its digest names.

use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conex_spec::digest::Hasher;

use super::blob::Shared;

const BUFFER_BYTES: usize = 256 * 1024;

/// A blob from its first byte on; waits for those that are not here yet.
///
/// Its end is an error if the bytes are not those of the digest, so that nobody takes them for the blob.
pub(super) struct Following {
    shared: Arc<Shared>,
    /// The pull is given up.
    over: Arc<AtomicBool>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the blob before `end`.
    position: u64,
    hasher: Option<Hasher>,
}

impl Following {
    pub(super) fn new(shared: Arc<Shared>, over: Arc<AtomicBool>) -> Self {
        let hasher = Hasher::new(shared.blob.digest.algorithm());
        Self {
            shared,
            over,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            position: 0,
            hasher: Some(hasher),
        }
    }

    /// The text of content that is not its digest's.
    pub(super) fn mismatch(digest: &conex_spec::digest::Digest) -> String {
        format!("filesystem layer verification failed for digest {digest}")
    }

    fn check(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let digest = &self.shared.blob.digest;
        if hasher.finish() == *digest {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            Self::mismatch(digest),
        ))
    }
}

impl Read for Following {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Following {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            let over = &self.over;
            let known = self
                .shared
                .wait_beyond(self.position, || over.load(Ordering::Relaxed))?;
            if known == self.position {
                self.check()?;
                return Ok(&[]);
            }
            let wanted = usize::try_from(known - self.position)
                .unwrap_or(usize::MAX)
                .min(BUFFER_BYTES);
            let read = self
                .shared
                .file
                .read_at(&mut self.buffer[..wanted], self.position)?;
            if read == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{} was cut", self.shared.path.display()),
                ));
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.buffer[..read]);
            }
            (self.start, self.end) = (0, read);
            self.position += read as u64;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
    }
}
