//! PAX extended header records: `"<length> <key>=<value>\n"`, where the
//! length counts the whole record.
//!
//! `LIBARCHIVE.xattr.*` is left alone: its writer always puts the same
//! attribute under `SCHILY.xattr.*` too.

use std::collections::BTreeMap;

use super::Timestamp;
use super::field::decimal;
use super::sparse::Segment;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// To whom the records apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The next member.
    Local,
    /// Every later member; what can only describe one member (its name, link,
    /// size or sparse map) is ignored there, so that it cannot move the reader
    /// out of step.
    Global,
}

/// What the records replace in a member's header.
#[derive(Debug, Clone, Default)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) user: Option<Vec<u8>>,
    pub(super) group: Option<Vec<u8>>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: Sparse,
}

/// The `GNU.sparse.*` records.
#[derive(Debug, Clone, Default)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// `GNU.sparse.size` (0.x) or `GNU.sparse.realsize` (1.0).
    pub(super) real_size: Option<u64>,
    /// The map of 0.0 (repeated records) or 0.1 (one record).
    pub(super) map: Option<Vec<Segment>>,
    /// An offset of 0.0 still waiting for its length.
    pending_offset: Option<u64>,
}

impl Overrides {
    /// Applies the records in order, later ones over earlier ones. A record
    /// with an empty value takes an override back. The error is the problem.
    pub(super) fn apply(&mut self, mut records: &[u8], scope: Scope) -> Result<(), &'static str> {
        while !records.is_empty() {
            let (key, value, rest) = split_record(records)?;
            records = rest;
            self.set(key, value, scope)?;
        }
        if self.sparse.pending_offset.is_some() {
            return Err("a sparse offset has no length");
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], scope: Scope) -> Result<(), &'static str> {
        match (key, scope) {
            (b"uid", _) => self.uid = integer(value, "uid is not a number")?,
            (b"gid", _) => self.gid = integer(value, "gid is not a number")?,
            (b"uname", _) => self.user = text(value, "the user name contains NUL")?,
            (b"gname", _) => self.group = text(value, "the group name contains NUL")?,
            (b"mtime", _) => {
                self.mtime = match value {
                    b"" => None,
                    _ => Some(timestamp(value).ok_or("mtime is not a time")?),
                };
            }
            (b"path", Scope::Local) => self.path = text(value, "the path contains NUL")?,
            (b"linkpath", Scope::Local) => self.link = text(value, "the link contains NUL")?,
            (b"size", Scope::Local) => {
                self.size = integer(value, "size is not a number")?;
                if self
                    .size
                    .is_some_and(|size| size > i64::MAX.cast_unsigned())
                {
                    return Err("size is too large");
                }
            }
            (key, _) if key.starts_with(XATTR) => {
                let name = &key[XATTR.len()..];
                if name.is_empty() {
                    return Err("an extended attribute has no name");
                }
                self.xattrs.insert(name.to_vec(), value.to_vec());
            }
            (key, Scope::Local) => {
                if let Some(field) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(field, value)?;
                }
            }
            (_, Scope::Global) => {}
        }
        Ok(())
    }
}

impl Sparse {
    fn set(&mut self, field: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const BAD: &str = "a sparse record is not a number";
        match field {
            b"major" => self.major = integer(value, BAD)?,
            b"minor" => self.minor = integer(value, BAD)?,
            b"name" => self.name = text(value, "the path contains NUL")?,
            b"size" | b"realsize" => self.real_size = integer(value, BAD)?,
            // Only announces how many pairs follow; an empty map has none.
            b"numblocks" => self.map = Some(Vec::new()),
            b"offset" => {
                let offset = decimal(value).ok_or(BAD)?;
                if self.pending_offset.replace(offset).is_some() {
                    return Err("a sparse offset has no length");
                }
            }
            b"numbytes" => {
                let length = decimal(value).ok_or(BAD)?;
                let offset = self
                    .pending_offset
                    .take()
                    .ok_or("a sparse length has no offset")?;
                self.map
                    .get_or_insert_default()
                    .push(Segment { offset, length });
            }
            b"map" => self.map = Some(map(value)?),
            _ => {}
        }
        Ok(())
    }
}

/// The map of sparse 0.1: `offset,length,offset,length`.
fn map(value: &[u8]) -> Result<Vec<Segment>, &'static str> {
    const BAD: &str = "the sparse map is not a list of pairs";
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let mut numbers = value.split(|byte| *byte == b',');
    let mut segments = Vec::new();
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or(BAD)?;
        segments.push(Segment {
            offset: decimal(offset).ok_or(BAD)?,
            length: decimal(length).ok_or(BAD)?,
        });
    }
    Ok(segments)
}

/// Key, value and what follows the record.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Takes the first record off.
fn split_record(records: &[u8]) -> Result<Split<'_>, &'static str> {
    // The longest length a record can need has 20 digits.
    let window = &records[..records.len().min(21)];
    let space = memchr::memchr(b' ', window).ok_or("a record has no length")?;
    let length = decimal(&records[..space])
        .and_then(|length| usize::try_from(length).ok())
        .ok_or("a record's length is not a number")?;
    if length > records.len() || length < space + 2 {
        return Err("a record's length is wrong");
    }
    let (record, rest) = records.split_at(length);
    let body = record[space + 1..]
        .strip_suffix(b"\n")
        .ok_or("a record's length is wrong")?;
    let equals = memchr::memchr(b'=', body).ok_or("a record has no value")?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err("a record's key is invalid");
    }
    Ok((key, value, rest))
}

fn integer(value: &[u8], problem: &'static str) -> Result<Option<u64>, &'static str> {
    match value {
        b"" => Ok(None),
        _ => decimal(value).map(Some).ok_or(problem),
    }
}

fn text(value: &[u8], problem: &'static str) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err(problem);
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// `[-]seconds[.fraction]`, cut to nanoseconds.
fn timestamp(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match memchr::memchr(b'.', value) {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = (0..9).fold(0u32, |value, index| {
        value * 10
            + fraction
                .get(index)
                .map_or(0, |digit| u32::from(digit - b'0'))
    });
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp {
            seconds,
            nanoseconds,
        },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanoseconds,
        },
        (true, _) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// Appends one record.
pub(super) fn put_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Space, equals sign and newline, then as many digits as the total needs.
    let body = key.len() + value.len() + 3;
    let mut total = body + 1;
    while body + total.to_string().len() != total {
        total = body + total.to_string().len();
    }
    records.extend_from_slice(total.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Appends an extended attribute.
pub(super) fn put_xattr(records: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put_record(records, &[XATTR, name].concat(), value);
}

/// A time as a record's value.
pub(super) fn show_timestamp(time: Timestamp) -> String {
    if time.nanoseconds == 0 {
        return time.seconds.to_string();
    }
    let (sign, seconds, nanoseconds) = if time.seconds < 0 {
        (
            "-",
            (time.seconds + 1).unsigned_abs(),
            1_000_000_000 - time.nanoseconds,
        )
    } else {
        ("", time.seconds.unsigned_abs(), time.nanoseconds)
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(records: &[u8]) -> Result<Overrides, &'static str> {
        let mut overrides = Overrides::default();
        overrides.apply(records, Scope::Local)?;
        Ok(overrides)
    }

    #[test]
    fn a_record_counts_its_own_length_digits() {
        for value_length in [0, 1, 84, 85, 86, 87, 88, 980, 985, 990] {
            let mut records = Vec::new();
            put_record(&mut records, b"comment", &vec![b'x'; value_length]);
            let (key, value, rest) = split_record(&records).unwrap();
            assert_eq!((key, value.len()), (&b"comment"[..], value_length));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for records in [
            &b"9 path=a"[..],
            b"99999999999999999999999 path=a\n",
            b"-5 path=a\n",
            b"10 path=a\nx",
            b"4 =a\n",
            b"3 a\n",
            b"0 path=a\n",
            b"2 \n",
            b"path=a\n",
            b"11 path=a\0b\n",
            b"12 size=9a9\n\x01",
            b"12 size=-123\n",
        ] {
            assert!(parse(records).is_err(), "{:?}", records.escape_ascii());
        }
    }

    #[test]
    fn values_may_hold_newlines_and_equals_signs() {
        let mut records = Vec::new();
        put_xattr(&mut records, b"user.a", b"x=1\n\0y\n");
        let overrides = parse(&records).unwrap();
        assert_eq!(overrides.xattrs[&b"user.a"[..]], b"x=1\n\0y\n");
    }

    #[test]
    fn an_empty_value_takes_an_override_back_and_globals_cannot_set_sizes() {
        let mut overrides = Overrides::default();
        let mut global = Vec::new();
        put_record(&mut global, b"uid", b"7");
        put_record(&mut global, b"size", b"512");
        put_record(&mut global, b"path", b"everywhere");
        overrides.apply(&global, Scope::Global).unwrap();
        assert_eq!((overrides.uid, overrides.size), (Some(7), None));
        assert_eq!(overrides.path, None);
        overrides.apply(b"7 uid=\n", Scope::Local).unwrap();
        assert_eq!(overrides.uid, None);
    }

    #[test]
    fn times_keep_nanoseconds_on_both_sides_of_the_epoch() {
        for (text, seconds, nanoseconds, shown) in [
            ("1.5", 1, 500_000_000, "1.5"),
            ("-1.5", -2, 500_000_000, "-1.5"),
            ("-0.25", -1, 750_000_000, "-0.25"),
            ("0", 0, 0, "0"),
            (
                "1350244992.0239609899",
                1_350_244_992,
                23_960_989,
                "1350244992.023960989",
            ),
        ] {
            let time = timestamp(text.as_bytes()).unwrap();
            assert_eq!((time.seconds, time.nanoseconds), (seconds, nanoseconds));
            assert_eq!(show_timestamp(time), shown);
        }
        for bad in ["", "-", ".5", "1.x", "1e3", "99999999999999999999"] {
            assert_eq!(timestamp(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_sparse_records_of_both_old_versions_make_the_same_map() {
        let mut repeated = Vec::new();
        for (key, value) in [
            ("size", "9"),
            ("numblocks", "2"),
            ("offset", "0"),
            ("numbytes", "1"),
        ] {
            put_record(
                &mut repeated,
                format!("GNU.sparse.{key}").as_bytes(),
                value.as_bytes(),
            );
        }
        put_record(&mut repeated, b"GNU.sparse.offset", b"4");
        put_record(&mut repeated, b"GNU.sparse.numbytes", b"5");
        let mut listed = Vec::new();
        put_record(&mut listed, b"GNU.sparse.map", b"0,1,4,5");
        let map = parse(&repeated).unwrap().sparse.map.unwrap();
        assert_eq!(Some(map), parse(&listed).unwrap().sparse.map);
        let mut odd = Vec::new();
        put_record(&mut odd, b"GNU.sparse.map", b"0,1,4");
        assert!(parse(&odd).is_err());
    }
}
