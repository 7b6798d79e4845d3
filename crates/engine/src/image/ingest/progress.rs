//! How far an ingest is, told while the streams of its layers are read. It must
//! not know what the bytes mean.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Is told how far each layer is, from several threads. Layers are counted
/// from the bottom.
pub(crate) trait Progress: Send + Sync {
    /// The layer is here already, or somebody else is bringing it.
    fn exists(&self, layer: usize);

    /// So many bytes of its stream, as it came, have been read in all.
    fn read(&self, layer: usize, bytes: u64);

    /// Its stream could not be unpacked, and before it no other's; told within the ingest.
    fn failed(&self, _layer: usize) {}

    /// It is complete.
    fn complete(&self, layer: usize);
}

/// A layer's stream on its way: counted, and cut when another layer has failed.
pub(super) struct Watched {
    pub(super) stream: Box<dyn BufRead + Send>,
    pub(super) index: usize,
    pub(super) bytes: u64,
    /// Bytes when the progress was last told.
    pub(super) told: u64,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) progress: Arc<dyn Progress>,
}

/// Progress is told after so many bytes.
const TOLD_BYTES: u64 = 512 * 1024;

impl Watched {
    fn check(&self) -> io::Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(io::Error::other("another layer of the image has failed")),
            false => Ok(()),
        }
    }

    fn passed(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes - self.told >= TOLD_BYTES {
            self.told = self.bytes;
            self.progress.read(self.index, self.bytes);
        }
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        let read = self.stream.read(buffer)?;
        self.passed(read);
        Ok(read)
    }
}

impl BufRead for Watched {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check()?;
        self.stream.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.stream.consume(bytes);
        self.passed(bytes);
    }
}
