//! Maps of sparse files: which parts of the file the archive stores.
//!
//! ```text
//! old GNU (type 'S')  4 pairs in the header, then blocks of 21 pairs while "more"
//! PAX 0.0 / 0.1       pairs in the PAX records
//! PAX 1.0             "count\n" and count * "offset\nlength\n" in front of the data,
//!                     padded to whole blocks, counted in the stored size
//! ```

use super::field::{self, Block, decimal};

/// A stored part of a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Segment {
    /// Where in the file it belongs, in bytes.
    pub offset: u64,
    /// Its length in bytes, possibly 0.
    pub length: u64,
}

/// Number of (offset, length) pairs in an old GNU extension block.
const PAIRS_PER_BLOCK: usize = 21;
const PAIR_BYTES: usize = 24;

/// Checks order and bounds; the stored bytes must be exactly `stored_bytes`.
pub(super) fn check(
    segments: &[Segment],
    real_size: u64,
    stored_bytes: u64,
) -> Result<(), &'static str> {
    let mut end = 0;
    let mut stored = 0u64;
    for segment in segments {
        if segment.offset < end {
            return Err("its segments overlap or are out of order");
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .filter(|end| *end <= real_size)
            .ok_or("a segment lies beyond the end of the file")?;
        // Cannot overflow: disjoint segments below `real_size`.
        stored += segment.length;
    }
    if stored != stored_bytes {
        return Err("it does not describe as many bytes as are stored");
    }
    Ok(())
}

/// The pairs of a header of type `S`, and whether extension blocks follow.
pub(super) fn old_gnu_header(block: &Block) -> Result<(Vec<Segment>, bool), &'static str> {
    let mut segments = Vec::new();
    old_gnu_pairs(&block[field::GNU_SPARSE], &mut segments)?;
    Ok((segments, block[field::GNU_SPARSE_MORE] != 0))
}

/// Adds the pairs of an extension block; says whether another follows.
pub(super) fn old_gnu_extension(
    block: &Block,
    segments: &mut Vec<Segment>,
) -> Result<bool, &'static str> {
    let pairs = PAIRS_PER_BLOCK * PAIR_BYTES;
    old_gnu_pairs(&block[..pairs], segments)?;
    Ok(block[pairs] != 0)
}

fn old_gnu_pairs(pairs: &[u8], segments: &mut Vec<Segment>) -> Result<(), &'static str> {
    for pair in pairs.chunks_exact(PAIR_BYTES) {
        let (offset, length) = pair.split_at(PAIR_BYTES / 2);
        // The first unused pair ends the list.
        if offset[0] == 0 || length[0] == 0 {
            break;
        }
        let number = |bytes| field::unsigned(bytes).ok_or("an offset or length is not a number");
        segments.push(Segment {
            offset: number(offset)?,
            length: number(length)?,
        });
    }
    Ok(())
}

/// Reads the text map of PAX 1.0, block by block.
#[derive(Debug)]
pub(super) struct TextMap {
    limit: usize,
    /// Numbers the map has, known after the first line.
    wanted: Option<usize>,
    numbers: Vec<u64>,
    /// Digits of a number cut by the end of a block.
    partial: Vec<u8>,
}

impl TextMap {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            wanted: None,
            numbers: Vec::new(),
            partial: Vec::new(),
        }
    }

    /// Takes the next block; `true` once the map is complete, and then the
    /// rest of the block is padding.
    pub(super) fn feed(&mut self, block: &Block) -> Result<bool, &'static str> {
        for byte in block {
            if *byte != b'\n' {
                if self.partial.len() == 20 {
                    return Err("an offset or length is not a number");
                }
                self.partial.push(*byte);
                continue;
            }
            let number = decimal(&self.partial).ok_or("an offset or length is not a number")?;
            self.partial.clear();
            if self.wanted.is_some() {
                self.numbers.push(number);
            } else {
                let count = usize::try_from(number)
                    .ok()
                    .filter(|count| *count <= self.limit)
                    .ok_or("it has too many segments")?;
                self.wanted = Some(count * 2);
            }
            if self.wanted == Some(self.numbers.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn into_segments(self) -> Vec<Segment> {
        self.numbers
            .chunks_exact(2)
            .map(|pair| Segment {
                offset: pair[0],
                length: pair[1],
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tar::BLOCK_BYTES;

    fn segments(pairs: &[(u64, u64)]) -> Vec<Segment> {
        pairs
            .iter()
            .map(|(offset, length)| Segment {
                offset: *offset,
                length: *length,
            })
            .collect()
    }

    #[test]
    fn maps_must_be_ordered_inside_the_file_and_complete() {
        assert!(check(&segments(&[(0, 2), (4, 2), (9, 0)]), 9, 4).is_ok());
        assert!(check(&segments(&[]), 9, 0).is_ok());
        assert!(check(&segments(&[(4, 2), (0, 2)]), 9, 4).is_err());
        assert!(check(&segments(&[(0, 3), (2, 2)]), 9, 5).is_err());
        assert!(check(&segments(&[(8, 2)]), 9, 2).is_err());
        assert!(check(&segments(&[(u64::MAX, 2)]), 9, 2).is_err());
        assert!(check(&segments(&[(0, 2)]), 9, 3).is_err());
    }

    #[test]
    fn a_text_map_may_break_anywhere_between_blocks() {
        let mut text = b"200\n".to_vec();
        for index in 0..200u64 {
            text.extend_from_slice(format!("{}\n1\n", index * 1_000_003).as_bytes());
        }
        let mut map = TextMap::new(200);
        let mut complete = false;
        for chunk in text.chunks(BLOCK_BYTES) {
            assert!(!complete);
            let mut block = [0; BLOCK_BYTES];
            block[..chunk.len()].copy_from_slice(chunk);
            complete = map.feed(&block).unwrap();
        }
        assert!(complete);
        let segments = map.into_segments();
        assert_eq!(segments.len(), 200);
        assert_eq!(segments[199].offset, 199 * 1_000_003);
    }

    #[test]
    fn a_text_map_is_limited_in_segments_and_digits() {
        let block = |text: &[u8]| {
            let mut block = [b'1'; BLOCK_BYTES];
            block[..text.len()].copy_from_slice(text);
            block
        };
        assert!(TextMap::new(9).feed(&block(b"10\n")).is_err());
        assert!(TextMap::new(9).feed(&block(b"")).is_err());
        assert!(TextMap::new(9).feed(&block(b"1\n-1\n")).is_err());
        assert!(TextMap::new(9).feed(&block(b"0\n")).unwrap());
    }
}
