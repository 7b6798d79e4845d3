//! Writing gzip on all processors, with the same bytes whatever their number.
//!
//! ```text
//! header (18 bytes, with our mark)
//! block 0: deflate of 512 KiB, ended on a byte ┐ each compressed alone, in any order,
//! block 1: …                                   ┘ and written in this one
//! 03 00 (the end), CRC-32, length
//! ```
//!
//! One member, so that readers that know only one read it all. The bytes are a function of the content, the level and
//! [`VERSION`]: whoever has unpacked such a stream can make it again. Source: RFC 1951, RFC 1952.

use std::io::{self, Read, Write};

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::blocks;

/// Grows when the same content gives other bytes: another block size, level or deflate.
pub const VERSION: u8 = 1;
/// Length of [`HEADER`].
pub const HEADER_BYTES: usize = 18;
/// gzip, deflate, an extra field, no time, no system; the field `CX` is ours and holds the version and the level.
pub const HEADER: [u8; HEADER_BYTES] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, b'C', b'X', 2, 0, VERSION, LEVEL,
];
const LEVEL: u8 = 6;
const BLOCK_BYTES: usize = 512 * 1024;
/// An empty last block, in fixed codes.
const END: [u8; 2] = [3, 0];

/// Compresses all of `source` into `sink`, on as many threads as there are processors.
///
/// Errors are those of the source and the sink; what was written by then is of no use.
pub fn compress(source: &mut dyn Read, sink: &mut dyn Write) -> io::Result<()> {
    compress_on(blocks::workers(), source, sink)
}

fn compress_on(workers: usize, source: &mut dyn Read, sink: &mut dyn Write) -> io::Result<()> {
    let mut total = Crc::new();
    sink.write_all(&HEADER)?;
    let compressor = || {
        let mut deflate = Compress::new(Compression::new(u32::from(LEVEL)), false);
        move |content: &[u8]| {
            let mut crc = Crc::new();
            crc.update(content);
            Ok((deflate_block(&mut deflate, content)?, crc))
        }
    };
    let mut take = |(deflated, crc): (Vec<u8>, Crc)| {
        total.combine(&crc);
        sink.write_all(&deflated)
    };
    blocks::compress(workers, BLOCK_BYTES, source, compressor, &mut take)?;
    sink.write_all(&END)?;
    sink.write_all(&total.sum().to_le_bytes())?;
    sink.write_all(&total.amount().to_le_bytes())?;
    sink.flush()
}

fn deflate_block(deflate: &mut Compress, content: &[u8]) -> io::Result<Vec<u8>> {
    deflate.reset();
    let mut out = Vec::with_capacity(content.len() / 2 + 1024);
    loop {
        let read = deflate.total_in() as usize;
        deflate
            .compress_vec(&content[read..], &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        // There was room left: everything is in, and the flush is complete.
        if deflate.total_in() as usize == content.len() && out.len() < out.capacity() {
            return Ok(out);
        }
        out.reserve(out.capacity().max(64 * 1024));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Cursor;

    fn content(length: usize) -> Vec<u8> {
        (0..length as u64)
            .map(|n| (n.wrapping_mul(n) >> (n % 13)) as u8)
            .collect()
    }

    fn compressed(workers: usize, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress_on(workers, &mut Cursor::new(content), &mut out).unwrap();
        out
    }

    #[test]
    fn what_is_compressed_comes_back_in_one_member() {
        for length in [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 77] {
            let content = content(length);
            let out = compressed(3, &content);
            let mut back = Vec::new();
            let mut one = flate2::read::GzDecoder::new(&*out);
            one.read_to_end(&mut back).unwrap();
            assert!(back == content, "{length}");
        }
    }

    #[test]
    fn the_number_of_processors_changes_no_byte() {
        let content = content(9 * BLOCK_BYTES + 5);
        let one = compressed(1, &content);
        assert!(one == compressed(2, &content) && one == compressed(7, &content));
        assert!(one.starts_with(&HEADER));
    }

    #[test]
    fn gzip_itself_reads_it() {
        let content = content(3 * BLOCK_BYTES);
        let file = tempfile_with(&compressed(2, &content));
        let run = std::process::Command::new("gzip")
            .arg("-dc")
            .stdin(std::fs::File::open(&file).unwrap())
            .output();
        std::fs::remove_file(&file).unwrap();
        match run {
            Ok(output) => assert!(output.status.success() && output.stdout == content),
            Err(error) => eprintln!("skipped: no gzip on this machine: {error}"),
        }
    }

    fn tempfile_with(bytes: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("conex-gzip-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn an_error_of_the_source_ends_it() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("corrupt"))
            }
        }
        let error = compress(&mut Failing, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "corrupt");
    }
}
