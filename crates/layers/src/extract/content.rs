//! A file's content on its way from the archive to the disk. Long runs of zeros
//! become holes: an archive writes the holes of a file out, and an image of a
//! container must not take the disk that the container did not take.
//!
//! The file reads the same, so its archive comes back byte for byte.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use conex_archive::tar::{Entry, Header, Segment};
use flate2::Crc;
use rustix::io::Errno;

use super::entry::io_error;
use super::{Error, Extractor};

/// Zeros are left out by pieces of this many bytes, at multiples of it: a
/// multiple of every file system's block, and large enough that a file does not
/// fall to pieces.
const HOLE: usize = 32 * 1024;

impl Extractor {
    pub(super) fn write_sparse<R: Read>(
        &mut self,
        file: &File,
        header: &Header,
        segments: &[Segment],
        entry: &mut Entry<'_, R>,
        crc: &mut Crc,
    ) -> Result<(), Error> {
        rustix::fs::ftruncate(file, header.size)
            .map_err(|source| io_error("write", &header.path, source))?;
        for segment in segments {
            self.write(file, header, segment.length, segment.offset, entry, crc)?;
        }
        Ok(())
    }

    /// Copies the next `length` stored bytes to `offset` of the file, which has
    /// nothing there yet and is at least as long afterwards.
    pub(super) fn write<R: Read>(
        &mut self,
        file: &File,
        header: &Header,
        length: u64,
        mut offset: u64,
        entry: &mut Entry<'_, R>,
        crc: &mut Crc,
    ) -> Result<(), Error> {
        let failed = |error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            io_error("write", &header.path, errno)
        };
        let end = offset + length;
        let mut ends_in_hole = false;
        while offset < end {
            let wanted = usize::try_from(end - offset)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let filled = self.fill(entry, wanted)?;
            if self.recorder.is_some() {
                crc.update(&self.buffer[..filled]);
            }
            ends_in_hole = write_data(file, &self.buffer[..filled], offset).map_err(failed)?;
            offset += filled as u64;
        }
        if ends_in_hole && header.sparse.is_none() {
            rustix::fs::ftruncate(file, end)
                .map_err(|source| io_error("write", &header.path, source))?;
        }
        Ok(())
    }

    /// Reads `wanted` stored bytes into the buffer: a hole is found in whole
    /// pieces only, and a pipe gives what it has.
    fn fill<R: Read>(&mut self, entry: &mut Entry<'_, R>, wanted: usize) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < wanted {
            match entry.stored().read(&mut self.buffer[filled..wanted]) {
                Ok(0) => {
                    debug_assert!(false, "the archive reader reports what is missing");
                    break;
                }
                Ok(read) => filled += read,
                Err(error) => return Err(self.content_failed(error)),
            }
        }
        Ok(filled)
    }
}

/// Writes what is no hole; says whether the end is one.
fn write_data(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<bool> {
    let mut written = 0;
    let mut start = first_boundary(offset);
    // Data before `start` and after `written` is still to be written.
    while start + HOLE <= bytes.len() {
        if is_zero(&bytes[start..start + HOLE]) {
            file.write_all_at(&bytes[written..start], offset + written as u64)?;
            written = start + HOLE;
        }
        start += HOLE;
    }
    file.write_all_at(&bytes[written..], offset + written as u64)?;
    Ok(written == bytes.len() && written > 0)
}

/// How far a piece that may become a hole is from `offset`.
fn first_boundary(offset: u64) -> usize {
    let over = usize::try_from(offset % HOLE as u64).unwrap_or(0);
    (HOLE - over) % HOLE
}

fn is_zero(piece: &[u8]) -> bool {
    // By pieces that the compiler can look at in one go; most data ends it at once.
    piece
        .chunks(64)
        .all(|few| few.iter().fold(0, |any, byte| any | byte) == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// The content is what was given, and so many pieces are holes.
    fn written(bytes: &[u8], offset: u64) -> (Vec<u8>, u64) {
        let file = tempfile::tempfile().unwrap();
        let at_hole = write_data(&file, bytes, offset).unwrap();
        let end = offset + bytes.len() as u64;
        assert_eq!(at_hole, file.metadata().unwrap().len() < end);
        file.set_len(end).unwrap();
        let mut read = vec![1; bytes.len()];
        file.read_exact_at(&mut read, offset).unwrap();
        (read, file.metadata().unwrap().blocks() * 512)
    }

    #[test]
    fn whole_pieces_of_zeros_become_holes() {
        let mut bytes = vec![0; 8 * HOLE + 100];
        bytes[2 * HOLE + 5] = 1;
        bytes[8 * HOLE + 99] = 1;
        for offset in [0, HOLE as u64, 17, HOLE as u64 - 1] {
            let (read, stored) = written(&bytes, offset);
            assert!(read == bytes, "at {offset}");
            assert!(stored <= 4 * HOLE as u64, "{stored} bytes at {offset}");
        }
        let (read, stored) = written(&bytes[..2 * HOLE], 0);
        assert!(read == bytes[..2 * HOLE] && stored == 0, "{stored}");
    }

    #[test]
    fn short_runs_of_zeros_stay_data() {
        let bytes = vec![0; HOLE - 1];
        let (read, stored) = written(&bytes, 0);
        assert!(read == bytes && stored >= bytes.len() as u64);
    }
}
