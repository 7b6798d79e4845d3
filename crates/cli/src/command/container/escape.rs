//! Whether what was typed last is the detach sequence. The engine acts on it and ends the connection; this
//! process only has to know why that ended.

use conex_api::detach;

/// Remembers the end of what was typed.
#[derive(Debug)]
pub(super) struct Typed {
    keys: Vec<u8>,
    last: Vec<u8>,
}

impl Typed {
    /// `keys` as the user spelt them. Docker's client, too, falls back to the default for what it cannot read.
    pub(super) fn new(keys: &str) -> Typed {
        Typed {
            keys: detach::parse(keys).unwrap_or_else(|| detach::DEFAULT.to_vec()),
            last: Vec::new(),
        }
    }

    /// Takes a piece of input; says whether the sequence was typed last.
    pub(super) fn ends_with_keys(&mut self, bytes: &[u8]) -> bool {
        self.last.extend_from_slice(bytes);
        let surplus = self.last.len().saturating_sub(self.keys.len());
        self.last.drain(..surplus);
        self.last == self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_seen_however_it_is_typed() {
        let mut typed = Typed::new("");
        assert!(!typed.ends_with_keys(b"ab\x10"));
        assert!(typed.ends_with_keys(b"\x11"));
        assert!(!typed.ends_with_keys(b"x"));
        assert!(typed.ends_with_keys(b"y\x10\x11"));
        assert!(Typed::new("a,b").ends_with_keys(b"ab"));
        assert!(Typed::new("no keys").ends_with_keys(b"\x10\x11"));
    }
}
