//! Compressed streams: telling the format by its first bytes and decompressing
//! it, with a bound on what a stream may make the decompressor allocate.
//!
//! How much a stream may expand to is the consumer's to limit; it sees every
//! byte that comes out.

mod blocks;
pub mod gzip;
pub mod zstd;

use std::fmt;
use std::io::{self, BufRead, Cursor, Read};

/// Most memory an xz stream may ask for: `xz -9` needs 65 MiB.
const XZ_MEMORY_BYTES: u64 = 128 << 20;
/// Largest zstd window, as a power of two: 128 MiB, what `zstd` itself allows
/// without `--long`.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Bytes that [`detect`] looks at.
const MAGIC_BYTES: usize = 10;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Not at all, or by nothing known here.
    None,
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz, not the older `.lzma`.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// The format of a stream that starts with these bytes; ten are enough.
#[must_use]
pub fn detect(start: &[u8]) -> Format {
    // An empty bzip2 file has the end mark in place of the first block's.
    const BZIP2_BLOCK: &[u8] = b"\x31\x41\x59\x26\x53\x59";
    const BZIP2_END: &[u8] = b"\x17\x72\x45\x38\x50\x90";
    match start {
        [0x1f, 0x8b, 0x08, ..] => Format::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        // The second is a frame to be skipped, which may come first.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        // "BZh9" alone could also be the name of an archive's first member.
        [b'B', b'Z', b'h', b'1'..=b'9', mark @ ..]
            if mark.starts_with(BZIP2_BLOCK) || mark.starts_with(BZIP2_END) =>
        {
            Format::Bzip2
        }
        _ => Format::None,
    }
}

/// Looks at the start of `stream` and decompresses it, all members or frames of
/// it, to its end.
///
/// Reading fails with `InvalidData` or `UnexpectedEof` when the stream is
/// damaged or cut, and when it wants more memory than allowed (128 MiB for xz
/// and for a zstd window).
pub fn decompress(
    mut stream: Box<dyn BufRead + Send>,
) -> io::Result<(Format, Box<dyn Read + Send>)> {
    let mut start = Vec::with_capacity(MAGIC_BYTES);
    stream
        .by_ref()
        .take(MAGIC_BYTES as u64)
        .read_to_end(&mut start)?;
    let format = detect(&start);
    let stream = Cursor::new(start).chain(stream);
    let reader: Box<dyn Read + Send> = match format {
        Format::None => Box::new(stream),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
        Format::Xz => {
            let decoder = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY_BYTES,
                liblzma::stream::CONCATENATED,
            )
            .map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(stream, decoder))
        }
        Format::Zstd => {
            let mut decoder = ::zstd::stream::read::Decoder::with_buffer(stream)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok((format, reader))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn through(program: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let spawned = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            eprintln!("skipped: no {program} on this machine");
            return None;
        };
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        assert!(output.status.success());
        Some(output.stdout)
    }

    fn expand(bytes: &[u8]) -> io::Result<(Format, Vec<u8>)> {
        let (format, mut reader) = decompress(Box::new(Cursor::new(bytes.to_vec())))?;
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok((format, out))
    }

    fn text() -> Vec<u8> {
        (0..200_000u32)
            .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
            .collect()
    }

    const PROGRAMS: [(&str, Format); 4] = [
        ("gzip", Format::Gzip),
        ("bzip2", Format::Bzip2),
        ("xz", Format::Xz),
        ("zstd", Format::Zstd),
    ];

    #[test]
    fn every_format_is_told_and_decompressed_also_in_several_members() {
        for (program, format) in PROGRAMS {
            let Some(packed) = through(program, &["-c"], &text()) else {
                continue;
            };
            assert_eq!(expand(&packed).unwrap(), (format, text()), "{program}");
            let twice = [packed.clone(), packed].concat();
            let out = expand(&twice).unwrap().1;
            assert!(out == [text(), text()].concat(), "{program} twice");
        }
    }

    #[test]
    fn empty_content_survives_every_format() {
        for (program, format) in PROGRAMS {
            let Some(packed) = through(program, &["-c"], b"") else {
                continue;
            };
            assert_eq!(expand(&packed).unwrap(), (format, Vec::new()), "{program}");
        }
    }

    #[test]
    fn a_cut_or_damaged_stream_is_an_error() {
        for (program, _) in PROGRAMS {
            let Some(packed) = through(program, &["-c"], &text()) else {
                continue;
            };
            for cut in [12, packed.len() / 2, packed.len() - 1] {
                assert!(expand(&packed[..cut]).is_err(), "{program} cut at {cut}");
            }
            let mut damaged = packed.clone();
            let middle = damaged.len() / 2;
            for byte in &mut damaged[middle..middle + 64] {
                *byte ^= 0x55;
            }
            assert!(expand(&damaged).is_err(), "{program} damaged");
        }
    }

    #[test]
    fn zstd_frames_to_be_skipped_are_skipped() {
        let Some(packed) = through("zstd", &["-c"], b"content") else {
            return;
        };
        let skippable = b"\x53\x2a\x4d\x18\x03\0\0\0xyz";
        let stream = [&skippable[..], &packed, &skippable[..]].concat();
        assert_eq!(
            expand(&stream).unwrap(),
            (Format::Zstd, b"content".to_vec())
        );
    }

    #[test]
    fn windows_beyond_the_limit_are_refused() {
        // A zstd frame header that asks for a window of 2 GiB.
        let frame = b"\x28\xb5\x2f\xfd\x00\xa8\x01\0\0";
        assert!(expand(frame).is_err());
        // An xz dictionary of 512 MiB.
        let options = ["-c", "--lzma2=dict=512MiB"];
        if let Some(packed) = through("xz", &options, b"content") {
            assert!(expand(&packed).is_err());
        }
    }

    #[test]
    fn what_is_not_compressed_passes_unchanged_however_short() {
        for bytes in [
            &b""[..],
            b"B",
            b"BZh91name-of-a-file",
            b"\x1f\x8b",
            b"plain text",
        ] {
            assert_eq!(expand(bytes).unwrap(), (Format::None, bytes.to_vec()));
        }
    }
}
