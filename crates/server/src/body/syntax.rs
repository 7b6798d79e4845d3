//! What is wrong with a text that is no JSON, in the words of Go's `encoding/json`, which clients match.
//! Reads only; values are not made here.

use std::fmt;

/// What is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no value at all.
    Nothing,
    /// The text ends within the value.
    Unfinished,
    /// A byte that cannot stand where it stands.
    Character {
        /// The byte.
        byte: u8,
        /// Where it stands.
        place: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("got EOF while reading request body"),
            Self::Unfinished => f.write_str("unexpected EOF"),
            Self::Character { byte, place } => {
                write!(f, "invalid character {} {place}", Quoted(*byte))
            }
        }
    }
}

impl std::error::Error for Fault {}

/// A byte as Go quotes it.
struct Quoted(u8);

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b'\'' => f.write_str(r"'\''"),
            b'"' => f.write_str(r#"'"'"#),
            b'\\' => f.write_str(r"'\\'"),
            b'\n' => f.write_str(r"'\n'"),
            b'\r' => f.write_str(r"'\r'"),
            b'\t' => f.write_str(r"'\t'"),
            byte @ (0..0x20 | 0x7f) => write!(f, r"'\x{byte:02x}'"),
            byte @ 0x80..0xa0 => write!(f, r"'\u{byte:04x}'"),
            byte => write!(f, "'{}'", char::from(byte)),
        }
    }
}

/// What may come next.
#[derive(Clone, Copy)]
enum Next {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
}

/// Checks the first JSON value of a text.
pub(crate) fn check(text: &[u8]) -> Result<(), Fault> {
    let mut reader = Reader { rest: text };
    let mut open = Vec::new();
    let mut next = Next::Value;
    loop {
        let Some(byte) = reader.next_visible() else {
            return Err(if open.is_empty() {
                Fault::Nothing
            } else {
                Fault::Unfinished
            });
        };
        next = match (next, byte) {
            (Next::ValueOrEnd, b']') | (Next::KeyOrEnd, b'}') => {
                open.pop();
                Next::CommaOrEnd
            }
            (Next::Value | Next::ValueOrEnd, b'{') => {
                open.push(b'}');
                Next::KeyOrEnd
            }
            (Next::Value | Next::ValueOrEnd, b'[') => {
                open.push(b']');
                Next::ValueOrEnd
            }
            (Next::Value | Next::ValueOrEnd, byte) => {
                reader.scalar(byte)?;
                Next::CommaOrEnd
            }
            (Next::KeyOrEnd | Next::Key, b'"') => {
                reader.string()?;
                Next::Colon
            }
            (Next::KeyOrEnd | Next::Key, byte) => {
                return refuse(byte, "looking for beginning of object key string");
            }
            (Next::Colon, b':') => Next::Value,
            (Next::Colon, byte) => return refuse(byte, "after object key"),
            (Next::CommaOrEnd, byte) => match (open.last(), byte) {
                (Some(b'}'), b',') => Next::Key,
                (Some(_), b',') => Next::Value,
                (Some(&end), byte) if byte == end => {
                    open.pop();
                    Next::CommaOrEnd
                }
                (Some(b'}'), byte) => return refuse(byte, "after object key:value pair"),
                (_, byte) => return refuse(byte, "after array element"),
            },
        };
        if open.is_empty() && matches!(next, Next::CommaOrEnd) {
            return Ok(());
        }
    }
}

fn refuse<T>(byte: u8, place: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Character {
        byte,
        place: place.into(),
    })
}

/// A text, read byte by byte.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn next_visible(&mut self) -> Option<u8> {
        loop {
            match self.next()? {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                byte => return Some(byte),
            }
        }
    }

    /// Passes over digits; `place` is where a missing first one is missed.
    fn digits(&mut self, place: &str) -> Result<(), Fault> {
        match self.next() {
            Some(b'0'..=b'9') => {}
            Some(byte) => return refuse(byte, place),
            None => return Err(Fault::Unfinished),
        }
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
        Ok(())
    }

    fn scalar(&mut self, first: u8) -> Result<(), Fault> {
        match first {
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' => match self.next() {
                Some(digit @ b'0'..=b'9') => self.number(digit),
                Some(byte) => refuse(byte, "in numeric literal"),
                None => Err(Fault::Unfinished),
            },
            digit @ b'0'..=b'9' => self.number(digit),
            byte => refuse(byte, "looking for beginning of value"),
        }
    }

    fn number(&mut self, first: u8) -> Result<(), Fault> {
        if first != b'0' {
            while let [b'0'..=b'9', rest @ ..] = self.rest {
                self.rest = rest;
            }
        }
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.digits("after decimal point in numeric literal")?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            if let [b'+' | b'-', rest @ ..] = self.rest {
                self.rest = rest;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Result<(), Fault> {
        for expected in word.bytes().skip(1) {
            match self.next() {
                Some(byte) if byte == expected => {}
                Some(byte) => {
                    let expected = char::from(expected);
                    return refuse(byte, format!("in literal {word} (expecting '{expected}')"));
                }
                None => return Err(Fault::Unfinished),
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        loop {
            match self.next().ok_or(Fault::Unfinished)? {
                b'"' => return Ok(()),
                b'\\' => match self.next().ok_or(Fault::Unfinished)? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let byte = self.next().ok_or(Fault::Unfinished)?;
                            if !byte.is_ascii_hexdigit() {
                                return refuse(byte, r"in \u hexadecimal character escape");
                            }
                        }
                    }
                    byte => return refuse(byte, "in string escape code"),
                },
                byte @ 0..0x20 => return refuse(byte, "in string literal"),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn good_json_has_no_fault() {
        for text in [
            "{}",
            "[]",
            "null",
            "true ",
            "-0.5e+3",
            "10",
            r#" {"a":[1,"\u00e9\n",{}],"b":false}"#,
            "[[],[1]] x",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn faults_are_told_in_gos_words() {
        for (text, fault) in [
            (
                "{bad json",
                "invalid character 'b' looking for beginning of object key string",
            ),
            (
                "{'a':1}",
                r"invalid character '\'' looking for beginning of object key string",
            ),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (
                r#"{"a":1 "b"}"#,
                r#"invalid character '"' after object key:value pair"#,
            ),
            (
                r#"{"a":1,}"#,
                "invalid character '}' looking for beginning of object key string",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "[1,]",
                "invalid character ']' looking for beginning of value",
            ),
            (
                "hello",
                "invalid character 'h' looking for beginning of value",
            ),
            (
                "tru3",
                "invalid character '3' in literal true (expecting 'e')",
            ),
            ("-x", "invalid character 'x' in numeric literal"),
            (
                "[1.]",
                "invalid character ']' after decimal point in numeric literal",
            ),
            (
                "[1e]",
                "invalid character ']' in exponent of numeric literal",
            ),
            ("\"a\nb\"", r"invalid character '\n' in string literal"),
            (r#""\q""#, "invalid character 'q' in string escape code"),
            (
                r#""\u00g0""#,
                r"invalid character 'g' in \u hexadecimal character escape",
            ),
            ("[01]", "invalid character '1' after array element"),
            ("{\"a\":", "unexpected EOF"),
            ("[\"a", "unexpected EOF"),
            ("  \n", "got EOF while reading request body"),
        ] {
            assert_eq!(
                check(text.as_bytes()).map_err(|fault| fault.to_string()),
                Err(fault.to_owned()),
                "{text}"
            );
        }
    }
}
