//! Identifiers: 64 hexadecimal digits from the kernel's random source.

use std::fmt::Write;

/// A fresh id. Its first 12 digits become the host name, so they are never all
/// decimal (moby: pkg/stringid; a numeric host name is refused by some).
pub(crate) fn generate() -> String {
    loop {
        let id = random_hex();
        if !id.as_bytes()[..12].iter().all(u8::is_ascii_digit) {
            return id;
        }
    }
}

fn random_hex() -> String {
    let mut bytes = [0u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        // getrandom(2) of so few bytes is not interrupted once seeded.
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel has no random source: {error}"),
        }
    }
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        })
}

/// The 12 digits that people see.
pub(crate) fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    &hex[..hex.len().min(12)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_digits_and_differ() {
        let (a, b) = (generate(), generate());
        assert_eq!(a.len(), 64);
        assert!(a.bytes().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(a, b);
        assert_eq!(short(&format!("sha256:{a}")), &a[..12]);
    }
}
