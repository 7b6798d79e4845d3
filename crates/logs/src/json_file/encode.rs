//! A message as one line of JSON, escaped exactly as Docker's writer escapes it.
//!
//! This file must not know about files. Source: moby `daemon/logger/jsonfilelog/jsonlog`.

use crate::{Stream, timestamp};
use std::collections::BTreeMap;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes looked at together when searching for one to escape; a loop of this length
/// without branches becomes vector instructions.
const LANES: usize = 32;

/// The member `,"attrs":{..}`, or nothing when there are none.
pub(super) fn attrs_member(attrs: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    if attrs.is_empty() {
        return out;
    }
    out.extend_from_slice(b",\"attrs\":{");
    for (index, (name, value)) in attrs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        for (text, end) in [(name, &b"\":"[..]), (value, b"\"")] {
            out.push(b'"');
            escape_into(&mut out, text.as_bytes());
            out.extend_from_slice(end);
        }
    }
    out.push(b'}');
    out
}

/// Writes into `out` what follows the text in every line of one stream at one time.
pub(super) fn line_end(out: &mut Vec<u8>, stream: Stream, attrs_member: &[u8], time_ns: i128) {
    out.clear();
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.push(b'"');
    out.extend_from_slice(attrs_member);
    out.extend_from_slice(b",\"time\":\"");
    timestamp::push_trimmed(out, time_ns);
    out.extend_from_slice(b"\"}\n");
}

/// Whether the message is the end of a line of the container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The text continues in the next message, or the container ended without a newline.
    Unfinished,
    /// A newline followed.
    Last,
}

/// Appends one line; `line_end` is what [`line_end`] wrote.
pub(super) fn push_line(out: &mut Vec<u8>, text: &[u8], part: Part, line_end: &[u8]) {
    out.extend_from_slice(b"{\"log\":\"");
    escape_into(out, text);
    if part == Part::Last {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(line_end);
}

/// Whether an ASCII byte cannot stand in a JSON string as Docker writes it.
#[inline]
fn is_escaped(byte: u8) -> bool {
    // `|` and not `||`: branches would keep this from becoming vector instructions.
    (byte < 0x20)
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'&')
}

/// Length of the part at the front without a byte to escape and without a non-ASCII one.
fn plain_len(text: &[u8]) -> usize {
    prefix_len(text, |byte| is_escaped(byte) | (byte >= 0x80))
}

/// Length of the front of `text` on whose bytes `stop` is false.
#[inline]
fn prefix_len(text: &[u8], stop: impl Fn(u8) -> bool) -> usize {
    let mut at = 0;
    for lanes in text.chunks_exact(LANES) {
        if lanes.iter().fold(false, |found, byte| found | stop(*byte)) {
            break;
        }
        at += LANES;
    }
    let rest = &text[at..];
    at + rest
        .iter()
        .position(|byte| stop(*byte))
        .unwrap_or(rest.len())
}

/// Appends `text` as the inside of a JSON string.
pub(super) fn escape_into(out: &mut Vec<u8>, text: &[u8]) {
    let plain = plain_len(text);
    out.extend_from_slice(&text[..plain]);
    if plain == text.len() {
        return;
    }
    for chunk in text[plain..].utf8_chunks() {
        escape_valid(out, chunk.valid().as_bytes());
        // Go counts every byte that is not part of a character as one error.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Appends valid UTF-8 as the inside of a JSON string.
fn escape_valid(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        // 0xe2 begins the two line separators that JavaScript cannot have in a string.
        let plain = prefix_len(text, |byte| is_escaped(byte) | (byte == 0xe2));
        out.extend_from_slice(&text[..plain]);
        let Some((&byte, rest)) = text[plain..].split_first() else {
            return;
        };
        text = rest;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0xe2 => match rest {
                [0x80, last @ (0xa8 | 0xa9), after @ ..] => {
                    out.extend_from_slice(b"\\u202");
                    out.push(HEX[usize::from(last & 0xf)]);
                    text = after;
                }
                _ => out.push(byte),
            },
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 0xf)]);
            }
        }
    }
}

/// Where to cut a text that fills the longest message: not inside a character.
pub(super) fn cut_at_character(text: &[u8]) -> usize {
    let len = text.len();
    // A character that has begun but not ended within the text starts in the last three bytes.
    for back in 1..=len.min(3) {
        let byte = text[len - back];
        let character_len = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return len,
        };
        return if character_len > back && len > back {
            len - back
        } else {
            len
        };
    }
    len
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape_into(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bytes_are_escaped_as_dockers_writer_escapes_them() {
        for (text, want) in [
            (&b"plain"[..], "plain"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (
                b"\n\r\t\x08\x0c\x00\x1b",
                r"\n\r\u0009\u0008\u000c\u0000\u001b",
            ),
            (b"\x7f/'", "\x7f/'"),
            (b"<a href=\"x\">&", r#"\u003ca href=\"x\"\u003e\u0026"#),
            ("é€😀\u{fffd}".as_bytes(), "é€😀\u{fffd}"),
            (
                "\u{2028}\u{2029}\u{2027}\u{202a}…".as_bytes(),
                "\\u2028\\u2029\u{2027}\u{202a}…",
            ),
            (b"\xff", r"\ufffd"),
            (b"a\xc3", r"a\ufffd"),
            (b"\xe2\x82", r"\ufffd\ufffd"),
            (b"\xe2\x80(", r"\ufffd\ufffd("),
            (b"\xed\xa0\x80", r"\ufffd\ufffd\ufffd"),
            (b"\xf0\x9f\x98<", r"\ufffd\ufffd\ufffd\u003c"),
            (b"\xc0\xaf", r"\ufffd\ufffd"),
            (b"\xf5\x80\x80\x80", r"\ufffd\ufffd\ufffd\ufffd"),
        ] {
            assert_eq!(escaped(text), want, "{text:x?}");
        }
    }

    #[test]
    fn every_place_in_a_long_text_is_looked_at() {
        for at in 0..100 {
            let mut text = [b'x'; 100];
            text[at] = b'<';
            let want = format!("{}\\u003c{}", "x".repeat(at), "x".repeat(99 - at));
            assert_eq!(escaped(&text), want);
        }
    }

    #[test]
    fn attrs_are_sorted_and_left_out_when_there_are_none() {
        assert_eq!(attrs_member(&BTreeMap::new()), b"");
        let attrs = BTreeMap::from([
            ("tag".to_owned(), "x<y".to_owned()),
            ("A".to_owned(), "\"".to_owned()),
        ]);
        assert_eq!(
            String::from_utf8(attrs_member(&attrs)).unwrap(),
            r#","attrs":{"A":"\"","tag":"x\u003cy"}"#
        );
    }

    #[test]
    fn a_line_is_what_docker_would_have_written() {
        let (mut end, mut out) = (Vec::new(), Vec::new());
        line_end(&mut end, Stream::Stderr, b"", 1_500_000_000);
        push_line(&mut out, b"oops", Part::Last, &end);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"log\":\"oops\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:01.5Z\"}\n"
        );
    }

    #[test]
    fn a_cut_never_falls_inside_a_character() {
        for (text, cut) in [
            (&b"abc"[..], 3),
            ("abé".as_bytes(), 4),
            (&"abé".as_bytes()[..3], 2),
            (&"a€".as_bytes()[..3], 1),
            (&"a😀".as_bytes()[..4], 1),
            ("a😀".as_bytes(), 5),
            (b"\x80\x80\x80\x80", 4),
            (b"a\xff", 2),
        ] {
            assert_eq!(cut_at_character(text), cut, "{text:x?}");
        }
    }

    proptest! {
        #[test]
        fn a_json_parser_reads_the_same_text_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text: String = serde_json::from_str(&format!("\"{}\"", escaped(&bytes))).unwrap();
            // One mark per wrong byte is Go's way; Rust's lossy conversion makes one per sequence.
            let mut want = String::new();
            for chunk in bytes.utf8_chunks() {
                want.push_str(chunk.valid());
                want.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
            }
            prop_assert_eq!(text, want);
        }
    }
}
