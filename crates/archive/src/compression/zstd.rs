//! Writing zstd on all processors, with the same bytes whatever their number.
//!
//! ```text
//! frame 0: 2 MiB of the content, its size and checksum ┐ each compressed alone, in any order,
//! frame 1: …                                           ┘ and written in this one
//! ```
//!
//! Frames one after the other are one stream to every reader. The bytes are a function of the content, the level and
//! the version of libzstd this is built with. Source: RFC 8878, section 3.

use std::io::{self, Read, Write};

use zstd::bulk::Compressor;

use super::blocks;

/// As `zstd` without a level.
const LEVEL: i32 = 3;
const FRAME_BYTES: usize = 2 << 20;

/// Compresses all of `source` into `sink`, on as many threads as there are processors.
///
/// Errors are those of the source and the sink; what was written by then is of no use.
pub fn compress(source: &mut dyn Read, sink: &mut dyn Write) -> io::Result<()> {
    compress_on(blocks::workers(), source, sink)
}

fn compress_on(workers: usize, source: &mut dyn Read, sink: &mut dyn Write) -> io::Result<()> {
    let frame = || {
        let mut compressor = new_compressor();
        move |content: &[u8]| match &mut compressor {
            Ok(compressor) => compressor.compress(content),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    };
    let mut any = false;
    let mut take = |frame: Vec<u8>| {
        any = true;
        sink.write_all(&frame)
    };
    blocks::compress(workers, FRAME_BYTES, source, frame, &mut take)?;
    if !any {
        // Nothing at all is no zstd stream: an empty frame is.
        sink.write_all(&new_compressor()?.compress(b"")?)?;
    }
    sink.flush()
}

fn new_compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.include_contentsize(true)?;
    Ok(compressor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Cursor;

    fn compressed(workers: usize, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress_on(workers, &mut Cursor::new(content), &mut out).unwrap();
        out
    }

    #[test]
    fn what_is_compressed_comes_back_and_the_number_of_processors_changes_no_byte() {
        for length in [0, 1, FRAME_BYTES, 2 * FRAME_BYTES + 77] {
            let content: Vec<u8> = (0..length as u64)
                .map(|n| (n.wrapping_mul(n) >> (n % 13)) as u8)
                .collect();
            let out = compressed(1, &content);
            assert!(out == compressed(3, &content), "{length}");
            assert_eq!(super::super::detect(&out), super::super::Format::Zstd);
            assert!(
                zstd::decode_all(&*out).unwrap() == content,
                "{length} bytes"
            );
        }
    }
}
