//! A line of JSON back into a message, and the batch that messages are handed out in.
//!
//! Lines of our own writer's shape are read by hand; everything else that is still a log
//! line of Docker's (other order, spaces, escapes, offsets) by a JSON parser. This file
//! must not know about files.

use crate::{Stream, timestamp};
use memchr::memchr2;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::ops::Range;

/// One message of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where the container wrote it.
    pub stream: Stream,
    /// When, in nanoseconds since 1970.
    pub time_ns: i128,
    /// The JSON object of its `attrs` member, as it stands in the file.
    pub attrs: Option<&'a [u8]>,
    /// What the container wrote, with the newline unless this is part of a longer line.
    pub text: &'a [u8],
}

/// Messages of one step of a [`super::Reader`]; reused from step to step.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Record>,
}

/// An entry whose texts are places in the batch's bytes.
#[derive(Debug, Clone)]
struct Record {
    stream: Stream,
    time_ns: i128,
    attrs: Option<Range<usize>>,
    text: Range<usize>,
}

impl Batch {
    /// A batch without messages.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no message; that alone does not mean the log has ended.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The messages in the order of the log.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.records.iter().map(|record| Entry {
            stream: record.stream,
            time_ns: record.time_ns,
            attrs: record.attrs.clone().map(|range| &self.bytes[range]),
            text: &self.bytes[record.text.clone()],
        })
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }

    /// Takes back the last message with its bytes, of which the text was added first.
    pub(super) fn pop(&mut self) {
        if let Some(record) = self.records.pop() {
            self.bytes.truncate(record.text.start);
        }
    }

    /// Stream and time of the last message.
    pub(super) fn last(&self) -> Option<(Stream, i128)> {
        self.records
            .last()
            .map(|record| (record.stream, record.time_ns))
    }
}

/// The line is not a log line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// Reads lines, remembering of the last one what the next is likely to repeat.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    time_text: Vec<u8>,
    time_ns: i128,
    attrs: Vec<u8>,
}

impl Decoder {
    /// Adds the message on `line` (without its newline) to `batch`.
    pub(super) fn decode(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Garbage> {
        let bytes_before = batch.bytes.len();
        let record = self.own_shape(line, batch).or_else(|| {
            batch.bytes.truncate(bytes_before);
            self.any_shape(line, batch)
        });
        match record {
            Some(record) => {
                batch.records.push(record);
                Ok(())
            }
            None => {
                batch.bytes.truncate(bytes_before);
                Err(Garbage)
            }
        }
    }

    fn own_shape(&mut self, line: &[u8], batch: &mut Batch) -> Option<Record> {
        let rest = line.strip_prefix(b"{\"log\":\"")?;
        let text_start = batch.bytes.len();
        let rest = unescape(rest, &mut batch.bytes)?;
        let text = text_start..batch.bytes.len();
        let rest = rest.strip_prefix(b",\"stream\":\"std")?;
        let (stream, rest) = match rest.split_at_checked(4)? {
            (b"out\"", rest) => (Stream::Stdout, rest),
            (b"err\"", rest) => (Stream::Stderr, rest),
            _ => return None,
        };
        let (attrs, rest) = match rest.strip_prefix(b",\"attrs\":") {
            // Where an object ends takes a JSON parser, unless it is the last line's.
            Some(rest) if !self.attrs.is_empty() => {
                (Some(&self.attrs), rest.strip_prefix(self.attrs.as_slice())?)
            }
            Some(_) => return None,
            None => (None, rest),
        };
        let time_text = rest.strip_prefix(b",\"time\":\"")?.strip_suffix(b"\"}")?;
        if time_text != self.time_text.as_slice() {
            let time_ns = timestamp::parse(time_text)?;
            self.time_text.clear();
            self.time_text.extend_from_slice(time_text);
            self.time_ns = time_ns;
        }
        let attrs = attrs.map(|attrs| place(batch, attrs));
        Some(Record {
            stream,
            time_ns: self.time_ns,
            attrs,
            text,
        })
    }

    fn any_shape(&mut self, line: &[u8], batch: &mut Batch) -> Option<Record> {
        // Go's parser, which Docker reads its logs with, replaces what is not UTF-8.
        let line = String::from_utf8_lossy(line);
        let line: Line = serde_json::from_str(&line).ok()?;
        let stream = match line.stream.as_str() {
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => return None,
        };
        let time_ns = timestamp::parse(line.time.as_bytes())?;
        let text_start = batch.bytes.len();
        batch.bytes.extend_from_slice(line.log.as_bytes());
        let text = text_start..batch.bytes.len();
        let attrs = line.attrs.filter(|attrs| attrs.get().starts_with('{'));
        if let Some(attrs) = &attrs {
            self.attrs.clear();
            self.attrs.extend_from_slice(attrs.get().as_bytes());
        }
        let attrs = attrs.map(|_| place(batch, &self.attrs));
        Some(Record {
            stream,
            time_ns,
            attrs,
            text,
        })
    }
}

/// Where `attrs` stands in the batch: with the last message if it has the same.
fn place(batch: &mut Batch, attrs: &[u8]) -> Range<usize> {
    if let Some(Record {
        attrs: Some(range), ..
    }) = batch.records.last()
        && &batch.bytes[range.clone()] == attrs
    {
        return range.clone();
    }
    let start = batch.bytes.len();
    batch.bytes.extend_from_slice(attrs);
    start..batch.bytes.len()
}

/// A log line as Docker's other versions and other writers may have it.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    log: String,
    stream: String,
    attrs: Option<Box<RawValue>>,
    time: String,
}

/// Appends the text of a JSON string up to its closing quote and returns what follows it.
///
/// `None` for what is not a string or has an escape that needs a JSON parser (surrogates).
fn unescape<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = memchr2(b'"', b'\\', rest)?;
        out.extend_from_slice(&rest[..at]);
        if rest[at] == b'"' {
            return Some(&rest[at + 1..]);
        }
        let escape = *rest.get(at + 1)?;
        rest = &rest[at + 2..];
        out.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'"' | b'\\' | b'/' => escape,
            b'u' => {
                let (digits, after) = rest.split_at_checked(4)?;
                let code = digits.iter().try_fold(0, |code, digit| {
                    char::from(*digit)
                        .to_digit(16)
                        .map(|value| code * 16 + value)
                })?;
                let character = char::from_u32(code)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
                continue;
            }
            _ => return None,
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json_file::encode::{self, Part};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn decode(lines: &[&str]) -> (Batch, usize) {
        let (mut decoder, mut batch, mut garbage) = (Decoder::default(), Batch::new(), 0);
        for line in lines {
            garbage += usize::from(decoder.decode(line.as_bytes(), &mut batch).is_err());
        }
        (batch, garbage)
    }

    fn only(line: &str) -> (Stream, i128, Option<String>, String) {
        let (batch, garbage) = decode(&[line]);
        assert_eq!((batch.len(), garbage), (1, 0), "{line}");
        let entry = batch.iter().next().unwrap();
        let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            entry.stream,
            entry.time_ns,
            entry.attrs.map(owned),
            owned(entry.text),
        )
    }

    #[test]
    fn our_own_lines_and_foreign_ones_mean_the_same() {
        let want = (Stream::Stderr, 1_500_000_000, None, "a\"<\n".to_owned());
        for line in [
            r#"{"log":"a\"\u003c\n","stream":"stderr","time":"1970-01-01T00:00:01.5Z"}"#,
            r#"{ "time": "1970-01-01T02:00:01.50+02:00", "stream":"stderr", "log":"a\"<\n" }"#,
            r#"{"log":"a\"<\u000a","stream":"stderr","time":"1970-01-01T00:00:01.500Z","x":1}"#,
        ] {
            assert_eq!(only(line), want);
        }
        let (.., text) =
            only(r#"{"log":"\ud83d\ude00\n","stream":"stdout","time":"1970-01-01T00:00:00Z"}"#);
        assert_eq!(text, "😀\n");
        let (.., text) = only(r#"{"stream":"stdout","time":"1970-01-01T00:00:00Z"}"#);
        assert_eq!(text, "");
    }

    #[test]
    fn attrs_are_handed_on_as_they_stand() {
        let line = |attrs: &str| {
            format!(r#"{{"log":"x\n","stream":"stdout",{attrs}"time":"1970-01-01T00:00:00Z"}}"#)
        };
        let lines = [
            line(r#""attrs":{"a":"1"},"#),
            line(r#""attrs":{"a":"1"},"#),
            line(""),
            line(r#""attrs":{"a":"12}"},"#),
            line(r#""attrs":null,"#),
        ];
        let (batch, garbage) = decode(&lines.each_ref().map(String::as_str));
        assert_eq!(garbage, 0);
        let attrs: Vec<_> = batch.iter().map(|entry| entry.attrs).collect();
        let first = Some(&br#"{"a":"1"}"#[..]);
        assert_eq!(
            attrs,
            [first, first, None, Some(&br#"{"a":"12}"}"#[..]), None]
        );
    }

    #[test]
    fn what_is_not_a_log_line_is_garbage_and_leaves_nothing_behind() {
        let lines = [
            "",
            "garbage",
            "{}",
            r#"{"log":"abc"#,
            r#"{"log":"x","stream":"stdin","time":"1970-01-01T00:00:00Z"}"#,
            r#"{"log":"x","stream":"stdout","time":"yesterday"}"#,
            r#"{"log":"x","stream":"stdout"}"#,
            r#"{"log":"\x","stream":"stdout","time":"1970-01-01T00:00:00Z"}"#,
            r#"{"log":"\u12","stream":"stdout","time":"1970-01-01T00:00:00Z"}"#,
        ];
        let (batch, garbage) = decode(&lines);
        assert_eq!(
            (batch.len(), garbage, batch.bytes.len()),
            (0, lines.len(), 0)
        );
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            text in proptest::collection::vec(any::<u8>(), 0..300),
            time_ns in 0..4_000_000_000_000_000_000_i128,
            tagged in any::<bool>(),
        ) {
            let attrs = if tagged { BTreeMap::from([("tag".to_owned(), "t\"".to_owned())]) } else { BTreeMap::new() };
            let (mut end, mut line) = (Vec::new(), Vec::new());
            encode::line_end(&mut end, Stream::Stdout, &encode::attrs_member(&attrs), time_ns);
            encode::push_line(&mut line, &text, Part::Last, &end);
            line.pop();
            let (mut decoder, mut batch) = (Decoder::default(), Batch::new());
            // Twice: the second time with everything remembered.
            decoder.decode(&line, &mut batch).unwrap();
            decoder.decode(&line, &mut batch).unwrap();
            let mut want: Vec<u8> = Vec::new();
            for chunk in text.utf8_chunks() {
                want.extend(chunk.valid().as_bytes());
                want.extend(chunk.invalid().iter().flat_map(|_| "\u{fffd}".as_bytes()));
            }
            want.push(b'\n');
            for entry in batch.iter() {
                prop_assert_eq!(entry.text, &want[..]);
                prop_assert_eq!(entry.time_ns, time_ns);
                prop_assert_eq!(entry.attrs.is_some(), tagged);
            }
        }

        #[test]
        fn no_line_makes_the_decoder_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut batch = Batch::new();
            let result = Decoder::default().decode(&line, &mut batch);
            prop_assert_eq!(result.is_ok(), batch.len() == 1);
        }
    }
}
