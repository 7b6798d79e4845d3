//! The fixed-width fields of a 512-byte header block.
//!
//! ```text
//!   0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12
//! 148 checksum 8 | 156 type 1 | 157 link 100 | 257 magic 6 | 263 version 2
//! 265 user 32 | 297 group 32 | 329 major 8 | 337 minor 8 | 345 prefix 155
//! star: prefix 131, 476 atime 12, 488 ctime 12, 508 "tar\0"
//! GNU:  345 atime 12, 357 ctime 12, 386 sparse 4*24, 482 more 1, 483 real size 12
//! ```

use std::ops::Range;

use super::BLOCK_BYTES;

pub(super) type Block = [u8; BLOCK_BYTES];

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC_VERSION: Range<usize> = 257..265;
pub(super) const USER: Range<usize> = 265..297;
pub(super) const GROUP: Range<usize> = 297..329;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;
pub(super) const STAR_PREFIX: Range<usize> = 345..476;
pub(super) const STAR_TRAILER: Range<usize> = 508..512;
pub(super) const GNU_ATIME: Range<usize> = 345..357;
pub(super) const GNU_CTIME: Range<usize> = 357..369;
pub(super) const GNU_SPARSE: Range<usize> = 386..482;
pub(super) const GNU_SPARSE_MORE: usize = 482;
pub(super) const GNU_REAL_SIZE: Range<usize> = 483..495;

/// Which of the formats a header block follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

pub(super) fn dialect(block: &Block) -> Dialect {
    match &block[MAGIC_VERSION] {
        b"ustar  \0" => Dialect::Gnu,
        magic if magic.starts_with(b"ustar\0") => {
            if &block[STAR_TRAILER] == b"tar\0" {
                Dialect::Star
            } else {
                Dialect::Ustar
            }
        }
        _ => Dialect::V7,
    }
}

/// The bytes up to the first NUL.
pub(super) fn string(field: &[u8]) -> &[u8] {
    match memchr::memchr(0, field) {
        Some(end) => &field[..end],
        None => field,
    }
}

/// An octal or base-256 number; an empty field is 0. `None` when it is neither
/// or does not fit.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

/// A [`number`] that must not be negative.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    number(field).and_then(|value| u64::try_from(value).ok())
}

fn octal(field: &[u8]) -> Option<i64> {
    let padding = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !padding(byte)) else {
        return Some(0);
    };
    let digits = string(&field[start..]).trim_ascii_end();
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

/// Big-endian two's complement whose top bit only marks the encoding.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let flip = if negative { 0xff } else { 0 };
    let mut value: u64 = 0;
    for (index, byte) in field.iter().enumerate() {
        let mut byte = byte ^ flip;
        if index == 0 {
            byte &= 0x7f;
        }
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let magnitude = i64::try_from(value).ok()?;
    Some(if negative { !magnitude } else { magnitude })
}

/// Whether the checksum is right: the sum of all bytes with the field itself
/// as spaces; some old writers summed them as signed.
pub(super) fn checksum_matches(block: &Block) -> bool {
    let Some(stored) = number(&block[CHECKSUM]) else {
        return false;
    };
    let (unsigned, signed) = sums(block);
    stored == unsigned || stored == signed
}

fn sums(block: &Block) -> (i64, i64) {
    let mut unsigned = 0;
    let mut signed = 0;
    for (index, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&index) {
            b' '
        } else {
            *byte
        };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    (unsigned, signed)
}

/// Writes the checksum of a finished block: six digits, NUL, space.
pub(super) fn seal(block: &mut Block) {
    let (sum, _) = sums(block);
    let text = format!("{sum:06o}\0 ");
    block[CHECKSUM].copy_from_slice(text.as_bytes());
}

/// Largest number that `field` holds in octal with its closing NUL.
pub(super) fn octal_max(field: &Range<usize>) -> u64 {
    (1 << (3 * (field.len() - 1))) - 1
}

/// Writes `value` in octal, zero padded, closed by NUL; it must fit.
pub(super) fn put_octal(block: &mut Block, field: Range<usize>, value: u64) {
    debug_assert!(value <= octal_max(&field));
    let width = field.len() - 1;
    let text = format!("{value:0width$o}\0");
    block[field].copy_from_slice(text.as_bytes());
}

/// Writes as much of `text` as fits.
pub(super) fn put_string(block: &mut Block, field: Range<usize>, text: &[u8]) {
    let length = text.len().min(field.len());
    block[field.start..field.start + length].copy_from_slice(&text[..length]);
}

/// A non-empty run of decimal digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for digit in text {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn octal_fields_allow_the_paddings_writers_use() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"        "), Some(0));
        assert_eq!(number(b"77777777"), Some(0o77777777));
        assert_eq!(number(b"644\0junk"), Some(0o644));
    }

    #[test]
    fn malformed_octal_is_refused() {
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-000644\0"), None);
        assert_eq!(number(b"6 4    \0"), None);
        assert_eq!(number(b"0x00644\0"), None);
    }

    #[test]
    fn base_256_reads_both_signs_and_refuses_what_overflows() {
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(
            number(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
            Some(i64::MAX)
        );
        assert_eq!(
            number(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"),
            None,
            "one past the largest"
        );
        assert_eq!(
            number(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            None
        );
        assert_eq!(unsigned(&[0xff; 12]), None);
    }

    #[test]
    fn both_checksum_conventions_are_accepted() {
        let mut block = [0u8; BLOCK_BYTES];
        block[0] = 0xe9;
        let (unsigned, signed) = sums(&block);
        assert_ne!(unsigned, signed);
        for sum in [unsigned, signed] {
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert!(checksum_matches(&block));
        }
        block[1] = 1;
        assert!(!checksum_matches(&block));
    }

    #[test]
    fn decimal_takes_digits_only() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"18446744073709551616"), None);
        assert_eq!(decimal(b"+1"), None);
        assert_eq!(decimal(b""), None);
    }
}
