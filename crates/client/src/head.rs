//! The head of an HTTP/1.1 answer, parsed by hand for connections that stop being HTTP afterwards.

use std::str;

/// Longest answer head accepted, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 64 << 10;

/// Status and the few headers a hijacked connection cares about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
}

impl Head {
    /// Parses a head up to and including its empty line.
    ///
    /// `Ok(None)` means that more bytes are needed; otherwise the head and its length in bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, &'static str> {
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
            return if bytes.len() > MAX_HEAD_BYTES {
                Err("the head of the answer is too long")
            } else {
                Ok(None)
            };
        };
        let text =
            str::from_utf8(&bytes[..end]).map_err(|_| "the head of the answer is not text")?;
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let rest = status_line
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| status_line.strip_prefix("HTTP/1.0 "))
            .ok_or("the answer is not HTTP/1.1")?;
        let digits = rest.split(' ').next().unwrap_or_default();
        let mut head = Self {
            status: digits
                .parse()
                .ok()
                .filter(|s| (100..600).contains(s))
                .ok_or("the answer has no status")?,
            ..Self::default()
        };
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("a header line has no colon")?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-type") {
                head.content_type = value.to_ascii_lowercase();
            } else if name.eq_ignore_ascii_case("content-length") {
                head.content_length = Some(
                    value
                        .parse()
                        .map_err(|_| "the content length is no number")?,
                );
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = value.to_ascii_lowercase().ends_with("chunked");
            }
        }
        Ok(Some((head, end + 4)))
    }
}

/// Takes a chunked body apart; stops quietly where the bytes end or stop making sense.
///
/// Only for error answers, whose text is shown whatever is left of it.
pub(crate) fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = str::from_utf8(&bytes[..end])
            .ok()
            .and_then(|line| line.split(';').next())
            .and_then(|hex| usize::from_str_radix(hex.trim(), 16).ok());
        bytes = &bytes[end + 2..];
        let Some(size) = size.filter(|size| *size > 0) else {
            break;
        };
        let size = size.min(bytes.len());
        out.extend_from_slice(&bytes[..size]);
        bytes = bytes[size..].strip_prefix(b"\r\n").unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_head_is_found_and_measured() {
        let text =
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: Application/X\r\nUpgrade: tcp\r\n\r\nrest";
        let (head, len) = Head::parse(text).unwrap().unwrap();
        assert_eq!(head.status, 101);
        assert_eq!(head.content_type, "application/x");
        assert_eq!(&text[len..], b"rest");
    }

    #[test]
    fn an_unfinished_head_asks_for_more() {
        assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\nA: b\r\n"), Ok(None));
    }

    #[test]
    fn nonsense_is_refused_and_never_panics() {
        for text in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 99 x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nnocolon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"\xff\xfe\r\n\r\n",
        ] {
            assert!(Head::parse(text).is_err(), "{text:?}");
        }
        assert!(Head::parse(&vec![b'a'; MAX_HEAD_BYTES + 1]).is_err());
    }

    #[test]
    fn a_chunked_body_is_joined_even_when_cut() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(unchunk(b"ff\r\nabc"), b"abc");
        assert_eq!(unchunk(b"zz\r\nabc"), b"");
        assert_eq!(unchunk(b""), b"");
    }
}
