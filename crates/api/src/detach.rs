//! Detach keys: the sequence that leaves a terminal without ending what runs in it, as `detachKeys` spells it. Pure.
//!
//! ```text
//! ctrl-p,ctrl-q        a,ctrl-[        DEL
//! ```

/// `ctrl-p,ctrl-q`, unless something else is asked for.
pub const DEFAULT: &[u8] = &[16, 17];

/// Reads a sequence: keys with commas between them, each one character, `ctrl-` and a lower-case letter or one of
/// `@[\\]^_`, or `DEL`. `None` if it is none.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    text.split(',')
        .map(|key| match key.as_bytes() {
            [byte] => Some(*byte),
            b"DEL" => Some(127),
            _ => match key.strip_prefix("ctrl-")?.as_bytes() {
                [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
                [b'@'] => Some(0),
                [sign @ b'['..=b'_'] => Some(sign - b'[' + 27),
                _ => None,
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_written_as_docker_writes_them() {
        assert_eq!(parse("ctrl-p,ctrl-q"), Some(DEFAULT.to_vec()));
        assert_eq!(
            parse("a,ctrl-@,ctrl-[,ctrl-_,DEL"),
            Some(vec![b'a', 0, 27, 31, 127])
        );
        for bad in ["", "ctrl-", "ctrl-P", "ab", "ctrl-p,"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
