//! Detach keys in what an attacher types: a begun sequence is held back, and goes
//! to the program when it was none (COMPAT D1.6).

/// Watches what is typed for the sequence.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: Vec<u8>,
    /// How many keys of the sequence were typed last and are held back.
    matched: usize,
}

/// What a piece of input came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    /// For the program; a begun sequence at the end is held back.
    pub(crate) input: Vec<u8>,
    /// The sequence is complete: what came after it is nobody's.
    pub(crate) leaves: bool,
}

impl Watch {
    /// Watches for `keys`, of which there is at least one.
    pub(crate) fn new(keys: Vec<u8>) -> Watch {
        Watch { keys, matched: 0 }
    }

    /// Takes a piece of input.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Typed {
        let mut input = Vec::with_capacity(bytes.len() + self.matched);
        for &byte in bytes {
            if self.matched > 0 && byte != self.keys[self.matched] {
                input.append(&mut self.held_back());
            }
            if byte != self.keys[self.matched] {
                input.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return Typed {
                    input,
                    leaves: true,
                };
            }
        }
        Typed {
            input,
            leaves: false,
        }
    }

    /// Gives up on a begun sequence: what was typed of it.
    pub(crate) fn held_back(&mut self) -> Vec<u8> {
        let matched = std::mem::take(&mut self.matched);
        self.keys[..matched].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch::new(vec![16, 17])
    }

    fn typed(input: &[u8], leaves: bool) -> Typed {
        Typed {
            input: input.to_vec(),
            leaves,
        }
    }

    #[test]
    fn a_sequence_is_found_however_it_is_typed() {
        let mut watch = watch();
        assert_eq!(watch.feed(b"ab\x10"), typed(b"ab", false));
        assert_eq!(watch.feed(b"\x11"), typed(b"", true));
        assert_eq!(watch.feed(b"x\x10\x11y"), typed(b"x", true));
    }

    #[test]
    fn a_begun_sequence_reaches_the_program_when_it_was_none() {
        let mut watch = watch();
        assert_eq!(watch.feed(b"\x10"), typed(b"", false));
        assert_eq!(watch.feed(b"z"), typed(b"\x10z", false));
        // The key that breaks a sequence may begin the next one.
        assert_eq!(watch.feed(b"\x10\x10\x11"), typed(b"\x10", true));
        assert_eq!(watch.feed(b"\x10"), typed(b"", false));
        assert_eq!(watch.held_back(), b"\x10");
        assert_eq!(watch.held_back(), b"");
    }
}
