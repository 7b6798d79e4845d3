//! Finding where to begin in a file without reading all of it.
//!
//! Positions returned are starts of lines. This file must not know about rotation.

use super::chain::read_at;
use super::decode::{Batch, Decoder};
use memchr::{memchr, memrchr};
use std::fs::File;
use std::io;

/// Bytes looked at in one step.
const BLOCK_BYTES: u64 = 64 * 1024;

/// How far the clock of the machine may have been set back while the log was written
/// without lines being missed that a search by halves would skip: ten minutes.
const CLOCK_MARGIN_NS: i128 = 600 * 1_000_000_000;

/// Where the last `wanted` complete lines before `end` begin, and how many there are.
///
/// Reads backwards, so that the cost depends on `wanted` and not on the file.
pub(super) fn tail_position(file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut block = vec![0; block_len(end)];
    let mut newlines = 0;
    let mut block_end = end;
    while block_end > 0 {
        let block_start = block_end.saturating_sub(BLOCK_BYTES);
        let len = usize::try_from(block_end - block_start).expect("at most a block");
        let filled = read_at(file, &mut block[..len], block_start)?;
        let mut rest = &block[..filled];
        while let Some(at) = memrchr(b'\n', rest) {
            // The newline before the first wanted line is the one after the last unwanted.
            if newlines == wanted {
                return Ok((block_start + at as u64 + 1, wanted));
            }
            newlines += 1;
            rest = &rest[..at];
        }
        block_end = block_start;
    }
    Ok((0, newlines))
}

/// A position before every line of `file` up to `end` that is not older than `since_ns`.
///
/// Lines are in the order of time but for the clock being set back; what is before the
/// position can be skipped, what is after it must still be compared line by line.
pub(super) fn since_position(file: &File, end: u64, since_ns: i128) -> io::Result<u64> {
    let sure_ns = since_ns.saturating_sub(CLOCK_MARGIN_NS);
    let mut block = vec![0; block_len(end)];
    let (mut low, mut high) = (0, end);
    while high - low > 2 * BLOCK_BYTES {
        let middle = low + (high - low) / 2;
        let filled = read_at(file, &mut block, middle)?;
        match first_line(&block[..filled]) {
            Some((start, time_ns)) if time_ns < sure_ns => low = middle + start as u64,
            Some(_) => high = middle,
            // Not a log line: nothing to go by, so everything from here on is read.
            None => break,
        }
    }
    Ok(low)
}

fn block_len(end: u64) -> usize {
    usize::try_from(BLOCK_BYTES.min(end)).expect("at most 64 KiB")
}

/// The first complete log line in a block that begins anywhere: its start and its time.
fn first_line(block: &[u8]) -> Option<(usize, i128)> {
    let mut start = memchr(b'\n', block)? + 1;
    let (mut decoder, mut batch) = (Decoder::default(), Batch::new());
    while let Some(len) = memchr(b'\n', &block[start..]) {
        if decoder
            .decode(&block[start..start + len], &mut batch)
            .is_ok()
        {
            return batch.last().map(|(_, time_ns)| (start, time_ns));
        }
        start += len + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn file_with(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn the_tail_is_counted_in_complete_lines() {
        let file = file_with(b"a\nbb\nccc\ntorn");
        let end = 13;
        for (wanted, found) in [
            (0, (9, 0)),
            (1, (5, 1)),
            (2, (2, 2)),
            (3, (0, 3)),
            (4, (0, 3)),
            (u64::MAX, (0, 3)),
        ] {
            assert_eq!(
                tail_position(&file, end, wanted).unwrap(),
                found,
                "tail {wanted}"
            );
        }
        assert_eq!(tail_position(&file_with(b""), 0, 5).unwrap(), (0, 0));
        assert_eq!(tail_position(&file_with(b"torn"), 4, 5).unwrap(), (0, 0));
    }

    #[test]
    fn the_tail_is_found_across_blocks() {
        let line = [vec![b'x'; 99], vec![b'\n']].concat();
        let file = file_with(&line.repeat(5000));
        for wanted in [1, 654, 655, 656, 4999] {
            let position = 500_000 - wanted * 100;
            assert_eq!(
                tail_position(&file, 500_000, wanted).unwrap(),
                (position, wanted)
            );
        }
    }

    #[test]
    fn a_search_by_time_skips_only_what_is_surely_older() {
        let line = |second: i128| {
            let mut line = br#"{"log":"x\n","stream":"stdout","time":""#.to_vec();
            crate::timestamp::push_trimmed(&mut line, second * 1_000_000_000);
            line.extend(b"\"}\n");
            line
        };
        let bytes: Vec<u8> = (0..20_000).flat_map(line).collect();
        let file = file_with(&bytes);
        let end = bytes.len() as u64;
        for since in [0, 700, 10_000, 19_999, 50_000] {
            let position = since_position(&file, end, since * 1_000_000_000).unwrap();
            let skipped = memchr::memchr_iter(b'\n', &bytes[..position as usize]).count() as i128;
            assert!(
                skipped <= (since - 599).max(0),
                "{skipped} lines skipped for {since}"
            );
            let rest = end - position;
            let newer = (20_000 - (since - 600).clamp(0, 20_000)) as u64 * 66;
            assert!(
                rest <= newer + 3 * BLOCK_BYTES,
                "{rest} bytes left for {since}"
            );
        }
    }

    #[test]
    fn a_file_without_log_lines_is_read_from_the_start() {
        let file = file_with(&b"garbage\n".repeat(50_000));
        assert_eq!(since_position(&file, 400_000, i128::MAX).unwrap(), 0);
    }
}
