//! Percent-encoding of what a caller puts into a path or a query string.

/// Joins pairs to `?k=v&k=v`, percent-encoded; the empty string without pairs.
#[must_use]
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        out.push(if out.is_empty() { '?' } else { '&' });
        encode(&mut out, key, is_unreserved);
        out.push('=');
        encode(&mut out, value, is_unreserved);
    }
    out
}

/// Encodes one name for use inside a path.
///
/// `/` and `:` stay, since image names contain them and the engine's routes expect them bare.
#[must_use]
pub fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    encode(&mut out, name, |b| {
        is_unreserved(b) || matches!(b, b'/' | b':' | b'@')
    });
    out
}

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~')
}

fn encode(out: &mut String, text: &str, stays: impl Fn(u8) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in text.bytes() {
        if stays(b) {
            out.push(b as char);
        } else {
            out.push('%');
            out.push(HEX[usize::from(b >> 4)] as char);
            out.push(HEX[usize::from(b & 15)] as char);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded_byte_by_byte() {
        assert_eq!(query(&[]), "");
        assert_eq!(
            query(&[("filters", r#"{"name":["a b"]}"#), ("all", "1")]),
            "?filters=%7B%22name%22%3A%5B%22a%20b%22%5D%7D&all=1"
        );
        assert_eq!(query(&[("k", "é&=+")]), "?k=%C3%A9%26%3D%2B");
    }

    #[test]
    fn a_path_keeps_what_image_names_need() {
        assert_eq!(
            segment("localhost:5000/a/b@sha256:ff"),
            "localhost:5000/a/b@sha256:ff"
        );
        assert_eq!(segment("a b?c#d%\r\n"), "a%20b%3Fc%23d%25%0D%0A");
    }
}
