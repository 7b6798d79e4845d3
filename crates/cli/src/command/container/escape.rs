//! Detach keys: the sequence that leaves a container's terminal without ending it.

/// `ctrl-p,ctrl-q`.
pub(super) const DEFAULT: &[u8] = &[16, 17];

/// Reads a sequence such as `ctrl-p,ctrl-q` or `a,ctrl-[`; `None` if it is none.
pub(super) fn parse(text: &str) -> Option<Vec<u8>> {
    text.split(',')
        .map(|key| match key.as_bytes() {
            [byte] => Some(*byte),
            _ => match key.strip_prefix("ctrl-")?.as_bytes() {
                [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
                [b'@'] => Some(0),
                [sign @ b'['..=b'_'] => Some(sign - b'[' + 27),
                _ => None,
            },
        })
        .collect()
}

/// Watches what is typed for the sequence.
#[derive(Debug)]
pub(super) struct Watch {
    keys: Vec<u8>,
    /// How many keys of the sequence were typed last and are held back.
    matched: usize,
}

/// What a piece of input came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// For the container; a begun sequence at the end is held back.
    Input(Vec<u8>),
    /// The sequence is complete; what was typed before it is still for the container.
    Detach(Vec<u8>),
}

impl Watch {
    /// Watches for `keys`; none means never.
    pub(super) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Takes a piece of input.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Typed {
        let mut input = Vec::with_capacity(bytes.len() + self.matched);
        if self.keys.is_empty() {
            input.extend_from_slice(bytes);
            return Typed::Input(input);
        }
        for &byte in bytes {
            if self.matched > 0 && byte != self.keys[self.matched] {
                input.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte != self.keys[self.matched] {
                input.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return Typed::Detach(input);
            }
        }
        Typed::Input(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_written_as_docker_writes_them() {
        assert_eq!(parse("ctrl-p,ctrl-q"), Some(DEFAULT.to_vec()));
        assert_eq!(parse("a,ctrl-@,ctrl-[,ctrl-_"), Some(vec![b'a', 0, 27, 31]));
        for bad in ["", "ctrl-", "ctrl-P", "ab", "ctrl-p,"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_sequence_is_found_however_it_is_typed() {
        let mut watch = Watch::new(DEFAULT.to_vec());
        assert_eq!(watch.feed(b"ab\x10"), Typed::Input(b"ab".to_vec()));
        assert_eq!(watch.feed(b"\x11"), Typed::Detach(Vec::new()));
        assert_eq!(watch.feed(b"x\x10\x11y"), Typed::Detach(b"x".to_vec()));
    }

    #[test]
    fn a_begun_sequence_reaches_the_container_when_it_was_none() {
        let mut watch = Watch::new(DEFAULT.to_vec());
        assert_eq!(watch.feed(b"\x10"), Typed::Input(Vec::new()));
        assert_eq!(watch.feed(b"z"), Typed::Input(b"\x10z".to_vec()));
        // The key that breaks a sequence may begin the next one.
        assert_eq!(watch.feed(b"\x10\x10\x11"), Typed::Detach(b"\x10".to_vec()));
    }

    #[test]
    fn without_keys_everything_passes() {
        assert_eq!(
            Watch::new(Vec::new()).feed(b"\x10\x11"),
            Typed::Input(b"\x10\x11".to_vec())
        );
    }
}
