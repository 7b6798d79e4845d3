//! What a client asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    FORMAT_ERROR, HEADER, INTERNET, MAX_LABEL, MAX_NAME, MIN_DATAGRAM, NOT_IMPLEMENTED, OPT, word,
};

/// Records of a query that are looked at, in search of its options.
const MAX_RECORDS: u32 = 16;

/// Why a message is not answered as a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is an answer, or too short to have an id: whoever sent it gets
    /// nothing.
    Silently,
    /// It gets this response code.
    With(u8),
}

/// A query with one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// The name in lower case without its last dot, if it is one a container
    /// can have: labels without dots, of printable ASCII.
    pub(crate) name: Option<String>,
    /// Kind of the records asked for.
    pub(crate) kind: u16,
    /// Their class.
    pub(crate) class: u16,
    /// Where the question ends in the message.
    pub(super) end: usize,
    /// The datagram the client takes, if it speaks EDNS.
    pub(super) room: Option<u16>,
}

impl Query {
    /// Reads a query.
    pub(crate) fn parse(message: &[u8]) -> Result<Query, Refused> {
        let flags = word(message, 2).ok_or(Refused::Silently)?;
        if flags & 0x8000 != 0 || message.len() < HEADER {
            return Err(Refused::Silently);
        }
        if flags & 0x7800 != 0 {
            return Err(Refused::With(NOT_IMPLEMENTED));
        }
        Query::parse_body(message).ok_or(Refused::With(FORMAT_ERROR))
    }

    fn parse_body(message: &[u8]) -> Option<Query> {
        let count = |at| word(message, at).map(u32::from);
        if count(4)? != 1 {
            return None;
        }
        let (name, at) = read_name(message)?;
        let (kind, class) = (word(message, at)?, word(message, at + 2)?);
        let end = at + 4;
        let records = count(6)? + count(8)? + count(10)?;
        Some(Query {
            name,
            kind,
            class,
            end,
            room: options(message, end, records.min(MAX_RECORDS))?,
        })
    }

    /// Bytes of a datagram the client takes.
    pub(crate) fn datagram(&self) -> usize {
        self.room
            .map_or(MIN_DATAGRAM, |room| MIN_DATAGRAM.max(usize::from(room)))
    }

    /// Whether it is about the internet, as all but the curious ask.
    pub(crate) fn is_internet(&self) -> bool {
        self.class == INTERNET
    }

    /// The address a name of the reverse tree stands for.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let name = self.name.as_deref()?;
        if let Some(four) = name.strip_suffix(".in-addr.arpa") {
            let mut octets = [0; 4];
            let mut parts = four.split('.');
            for octet in octets.iter_mut().rev() {
                *octet = parts.next()?.parse().ok()?;
            }
            return parts
                .next()
                .is_none()
                .then(|| Ipv4Addr::from(octets).into());
        }
        let six = name.strip_suffix(".ip6.arpa")?;
        let mut value = 0_u128;
        let mut digits = 0;
        for part in six.split('.').rev() {
            let &[digit] = part.as_bytes() else {
                return None;
            };
            value = value << 4 | u128::from(char::from(digit).to_digit(16)?);
            digits += 1;
        }
        (digits == 32).then(|| Ipv6Addr::from(value).into())
    }
}

/// The name of the question, and where it ends. A pointer there leads nowhere.
fn read_name(message: &[u8]) -> Option<(Option<String>, usize)> {
    let mut text = String::new();
    let mut printable = true;
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        if length > MAX_LABEL {
            return None;
        }
        let label = message.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if at - HEADER > MAX_NAME {
            return None;
        }
        if length == 0 {
            return Some((printable.then_some(text), at));
        }
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            printable &= byte.is_ascii_graphic() && *byte != b'.';
            text.push(char::from(byte.to_ascii_lowercase()));
        }
    }
}

/// Passes over a name, which may end in a pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length if usize::from(length) > MAX_LABEL => return None,
            length => at += 1 + usize::from(length),
        }
    }
}

/// The datagram size of the options among the records, if there are any.
fn options(message: &[u8], mut at: usize, records: u32) -> Option<Option<u16>> {
    for _ in 0..records {
        at = skip_name(message, at)?;
        let kind = word(message, at)?;
        let class = word(message, at + 2)?;
        let length = word(message, at + 8)?;
        if kind == OPT {
            return Some(Some(class));
        }
        at += 10 + usize::from(length);
        if at > message.len() {
            return None;
        }
    }
    Some(None)
}
