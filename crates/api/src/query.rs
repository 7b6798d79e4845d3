//! Query strings and the values in them: Docker's booleans, Go's integers, points in time.
//! Knows no request in particular.

use thiserror::Error;

/// Parameters read from one query string at most; what follows is ignored.
const MAX_PARAMETERS: usize = 4096;

/// A query value that is not what the parameter takes; the texts are part of the API.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidValue {
    /// Not a decimal integer.
    #[error("strconv.{function}: parsing {value:?}: invalid syntax")]
    Syntax {
        /// The Go function whose error clients know.
        function: &'static str,
        /// The value as sent.
        value: String,
    },
    /// An integer beyond 64 bits.
    #[error("strconv.{function}: parsing {value:?}: value out of range")]
    Range {
        /// The Go function whose error clients know.
        function: &'static str,
        /// The value as sent.
        value: String,
    },
}

/// The parameters of a query string, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    /// Reads what follows the `?` of a request; parts that cannot be decoded are left out.
    pub fn parse(text: &str) -> Self {
        let parameters = text
            .split('&')
            .filter(|part| !part.is_empty())
            .take(MAX_PARAMETERS)
            .filter_map(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                Some((decode(name, Plus::Space)?, decode(value, Plus::Space)?))
            })
            .collect();
        Self { parameters }
    }

    /// The first value of a parameter, which may be empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value of a parameter, unless it is empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.parameters
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The parameter as a Docker boolean; false when it is missing.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(docker_bool)
    }

    /// The parameter as an integer; `None` when it is missing or empty.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, InvalidValue> {
        self.non_empty(name)
            .map(|value| go_integer("Atoi", value))
            .transpose()
    }

    /// The parameter as a point in time; `None` when it is missing or empty.
    pub fn unix_ns(&self, name: &str) -> Result<Option<i128>, InvalidValue> {
        self.non_empty(name).map(unix_ns).transpose()
    }
}

/// Docker's reading of a boolean: empty, `0`, `no`, `false`, `none` in any case are false, all else true.
pub fn docker_bool(value: &str) -> bool {
    let value = value.trim();
    !["", "0", "no", "false", "none"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

/// Nanoseconds since the epoch from `seconds[.fraction]`.
pub fn unix_ns(value: &str) -> Result<i128, InvalidValue> {
    let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
    let seconds = i128::from(go_integer("ParseInt", seconds)?) * 1_000_000_000;
    if fraction.is_empty() {
        return Ok(seconds);
    }
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidValue::Syntax {
            function: "ParseInt",
            value: fraction.to_owned(),
        });
    }
    let ns = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |ns, digit| ns * 10 + i128::from(digit - b'0'));
    Ok(seconds + ns)
}

/// An integer as Go's `strconv` reads it in base 10.
fn go_integer(function: &'static str, value: &str) -> Result<i64, InvalidValue> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    value.parse().map_err(|error: std::num::ParseIntError| {
        let value = value.to_owned();
        match error.kind() {
            PosOverflow | NegOverflow => InvalidValue::Range { function, value },
            _ => InvalidValue::Syntax { function, value },
        }
    })
}

/// What a `+` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Space,
    Itself,
}

/// Undoes the percent-encoding of a path segment; `None` if it is malformed or no UTF-8.
pub fn decode_segment(text: &str) -> Option<String> {
    decode(text, Plus::Itself)
}

fn decode(text: &str, plus: Plus) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte")
            }
            b'+' if plus == Plus::Space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes a value for a query string or a path segment.
pub fn encode(value: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    text
}

/// A query string from names and values, without the `?`.
pub fn build<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&encode(name));
        text.push('=');
        text.push_str(&encode(value));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn booleans_are_dockers() {
        for no in ["", "0", "no", "NO", "False", "none", " false "] {
            assert!(!docker_bool(no), "{no:?}");
        }
        for yes in ["1", "true", "True", "yes", "2", "nope"] {
            assert!(docker_bool(yes), "{yes:?}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_keep_their_order() {
        let query = Query::parse("names=a%2Fb&names=c+d&all&&x=%zz&y=%E2%82%AC&e=");
        assert_eq!(query.all("names").collect::<Vec<_>>(), ["a/b", "c d"]);
        assert_eq!(query.get("all"), Some(""));
        assert!(!query.flag("all") && !query.flag("missing"));
        assert_eq!(query.get("x"), None);
        assert_eq!(query.get("y"), Some("€"));
        assert_eq!((query.get("e"), query.non_empty("e")), (Some(""), None));
        assert_eq!(Query::parse("t=%e2%82").get("t"), None);
    }

    #[test]
    fn integers_fail_with_the_text_clients_know() {
        let query = Query::parse("a=12&b=x&c=-1&d=99999999999999999999&e=");
        assert_eq!(query.integer("a"), Ok(Some(12)));
        assert_eq!(query.integer("c"), Ok(Some(-1)));
        assert_eq!(query.integer("e"), Ok(None));
        assert_eq!(
            query.integer("b").unwrap_err().to_string(),
            r#"strconv.Atoi: parsing "x": invalid syntax"#
        );
        assert!(
            query
                .integer("d")
                .unwrap_err()
                .to_string()
                .ends_with("value out of range")
        );
    }

    #[test]
    fn times_have_nanoseconds() {
        assert_eq!(unix_ns("5"), Ok(5_000_000_000));
        assert_eq!(unix_ns("5.000000001"), Ok(5_000_000_001));
        assert_eq!(unix_ns("5.5"), Ok(5_500_000_000));
        assert_eq!(unix_ns("5.1234567899"), Ok(5_123_456_789));
        assert!(unix_ns("10m").is_err());
        assert!(unix_ns("5.x").is_err());
    }

    #[test]
    fn what_is_built_reads_back() {
        let text = build([("filters", r#"{"label":["a=b c"]}"#), ("name", "ü/+")]);
        let query = Query::parse(&text);
        assert_eq!(query.get("filters"), Some(r#"{"label":["a=b c"]}"#));
        assert_eq!(query.get("name"), Some("ü/+"));
        assert_eq!(decode_segment("a+b%20c").as_deref(), Some("a+b c"));
        assert_eq!(decode_segment("%"), None);
    }
}
