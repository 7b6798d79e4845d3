//! Records of a recipe as bytes, both ways. The drawing is in the module above.

use std::io::{self, BufRead, Read};

use super::Error;

pub(super) const MAGIC: &[u8; 8] = b"conexrcp";
pub(super) const VERSION: u8 = 1;
/// Magic, version, state and length.
pub(super) const HEAD_BYTES: usize = MAGIC.len() + 2 + 8;
pub(super) const STATE_AT: u64 = 9;
pub(super) const PLAIN: u8 = 0;
pub(super) const AMENDED: u8 = 1;
pub(super) const UNFINISHED: u8 = 255;

const RAW: u8 = 1;
const FILE: u8 = 2;
const KEPT: u8 = 3;
const MOVED: u8 = 4;
const END: u8 = 5;

/// No path the kernel takes is longer.
const MAX_PATH_BYTES: u64 = 4096;
/// What the archive reader allows at most.
const MAX_SEGMENTS: u64 = 1 << 20;

/// Stored content of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// Cleaned, relative to the layer's root.
    pub(super) path: Vec<u8>,
    /// Bytes the archive stores of it.
    pub(super) bytes: u64,
    /// Of those bytes.
    pub(super) crc: u32,
    /// Offset and length of what is stored; empty for all of it.
    pub(super) segments: Vec<(u64, u64)>,
}

/// One record; the bytes of `Raw` and `Kept` follow in the stream and are the
/// reader's to take before the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Raw { bytes: u64 },
    File(Content),
    Kept { index: u64, bytes: u64 },
    Moved { index: u64, path: Vec<u8> },
    End { bytes: u64, digest: [u8; 32] },
}

impl Record {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw { bytes } => {
                out.push(RAW);
                put(out, *bytes);
            }
            Self::File(content) => {
                out.push(FILE);
                put_path(out, &content.path);
                put(out, content.bytes);
                out.extend_from_slice(&content.crc.to_le_bytes());
                put(out, content.segments.len() as u64);
                for (offset, length) in &content.segments {
                    put(out, *offset);
                    put(out, *length);
                }
            }
            Self::Kept { index, bytes } => {
                out.push(KEPT);
                put(out, *index);
                put(out, *bytes);
            }
            Self::Moved { index, path } => {
                out.push(MOVED);
                put(out, *index);
                put_path(out, path);
            }
            Self::End { bytes, digest } => {
                out.push(END);
                put(out, *bytes);
                out.extend_from_slice(digest);
            }
        }
    }

    pub(super) fn decode(stream: &mut impl BufRead) -> Result<Self, Error> {
        Ok(match byte(stream)? {
            RAW => Self::Raw {
                bytes: number(stream)?,
            },
            FILE => Self::File(content(stream)?),
            KEPT => Self::Kept {
                index: number(stream)?,
                bytes: number(stream)?,
            },
            MOVED => Self::Moved {
                index: number(stream)?,
                path: path(stream)?,
            },
            END => {
                let bytes = number(stream)?;
                let mut digest = [0; 32];
                stream.read_exact(&mut digest).map_err(cut)?;
                Self::End { bytes, digest }
            }
            _ => return Err(damaged("it has an unknown record")),
        })
    }
}

fn content(stream: &mut impl BufRead) -> Result<Content, Error> {
    let path = path(stream)?;
    let bytes = number(stream)?;
    let mut crc = [0; 4];
    stream.read_exact(&mut crc).map_err(cut)?;
    let count = number(stream)?;
    if count > MAX_SEGMENTS {
        return Err(damaged("a file has too many segments"));
    }
    let mut segments = Vec::new();
    let mut stored = 0u64;
    for _ in 0..count {
        let (offset, length) = (number(stream)?, number(stream)?);
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > i64::MAX.cast_unsigned()) {
            return Err(damaged("a segment is too large"));
        }
        stored = stored.saturating_add(length);
        segments.push((offset, length));
    }
    if count > 0 && stored != bytes {
        return Err(damaged("the segments of a file are not its length"));
    }
    Ok(Content {
        path,
        bytes,
        crc: u32::from_le_bytes(crc),
        segments,
    })
}

fn path(stream: &mut impl BufRead) -> Result<Vec<u8>, Error> {
    let length = number(stream)?;
    if length == 0 || length > MAX_PATH_BYTES {
        return Err(damaged("a path has an impossible length"));
    }
    let mut path = Vec::new();
    stream.take(length).read_to_end(&mut path).map_err(cut)?;
    if path.len() as u64 != length {
        return Err(damaged("it ends early"));
    }
    Ok(path)
}

fn put_path(out: &mut Vec<u8>, path: &[u8]) {
    put(out, path.len() as u64);
    out.extend_from_slice(path);
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(stream: &mut impl BufRead) -> Result<u64, Error> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = byte(stream)?;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            break;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged("a number is too large"))
}

fn byte(stream: &mut impl BufRead) -> Result<u8, Error> {
    let mut byte = [0];
    stream.read_exact(&mut byte).map_err(cut)?;
    Ok(byte[0])
}

pub(super) fn damaged(problem: &'static str) -> Error {
    Error::Recipe { problem }
}

/// A recipe that ends early or does not decompress, or a disk that fails.
pub(super) fn cut(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it ends early"),
        _ => Error::Read(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_record_comes_back_as_it_was() {
        let records = [
            Record::Raw { bytes: 0 },
            Record::Raw { bytes: u64::MAX },
            Record::File(Content {
                path: b"a/\xff".to_vec(),
                bytes: 300,
                crc: 0xdead_beef,
                segments: vec![(0, 100), (1 << 40, 200)],
            }),
            Record::Kept {
                index: 127,
                bytes: 128,
            },
            Record::Moved {
                index: 1 << 35,
                path: b"b".to_vec(),
            },
            Record::End {
                bytes: 1,
                digest: [7; 32],
            },
        ];
        let mut out = Vec::new();
        for record in &records {
            record.encode(&mut out);
        }
        let mut stream = &out[..];
        for record in records {
            assert_eq!(Record::decode(&mut stream).unwrap(), record);
        }
        assert!(stream.is_empty());
    }

    #[test]
    fn impossible_records_are_refused_without_allocating_for_them() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let overflow = [0xff; 11];
        for bytes in [
            &[][..],
            &[9],
            &[RAW],
            &[RAW, 0x80],
            &[&[RAW][..], &overflow].concat(),
            &[&[FILE][..], &huge].concat(),
            &[FILE, 0],
            &[FILE, 5, b'a'],
            &[&[FILE, 1, b'a', 4, 0, 0, 0, 0][..], &huge].concat(),
            &[FILE, 1, b'a', 4, 0, 0, 0, 0, 1, 0, 3],
            &[END, 0, 1, 2, 3],
        ] {
            assert!(Record::decode(&mut &*bytes).is_err(), "{bytes:?}");
        }
    }
}
