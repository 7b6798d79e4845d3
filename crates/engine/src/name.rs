//! Container names: what is allowed, and what is made up when none is given.

use crate::Error;

/// Adjectives and surnames of people who made computing what it is.
const ADJECTIVES: [&str; 64] = [
    "able", "amber", "apt", "azure", "bold", "brave", "brisk", "calm", "candid", "clever",
    "cosmic", "crisp", "daring", "deft", "eager", "earnest", "fair", "fearless", "fluent", "frank",
    "gentle", "glad", "golden", "hardy", "honest", "humble", "ideal", "jolly", "keen", "kind",
    "lively", "lucid", "lucky", "mellow", "merry", "modest", "neat", "nimble", "noble", "patient",
    "placid", "polite", "proud", "quick", "quiet", "rapid", "ready", "robust", "serene", "sharp",
    "silent", "sincere", "smart", "solid", "steady", "sturdy", "sunny", "swift", "tender", "tidy",
    "vivid", "warm", "wise", "zesty",
];
const SURNAMES: [&str; 64] = [
    "allen",
    "babbage",
    "backus",
    "bartik",
    "berners",
    "booth",
    "boole",
    "brooks",
    "cerf",
    "church",
    "codd",
    "cray",
    "curie",
    "dahl",
    "diffie",
    "dijkstra",
    "engelbart",
    "estrin",
    "feinler",
    "floyd",
    "gauss",
    "goldberg",
    "goedel",
    "gosling",
    "granville",
    "hamilton",
    "hamming",
    "hellman",
    "hoare",
    "holberton",
    "hopper",
    "iverson",
    "johnson",
    "kahn",
    "kay",
    "keller",
    "kernighan",
    "knuth",
    "lamarr",
    "lamport",
    "leibniz",
    "liskov",
    "lovelace",
    "mccarthy",
    "meitner",
    "naur",
    "neumann",
    "noether",
    "nygaard",
    "pascal",
    "perlman",
    "postel",
    "ritchie",
    "rivest",
    "shannon",
    "stroustrup",
    "sutherland",
    "tarjan",
    "thompson",
    "torvalds",
    "turing",
    "wilkes",
    "wirth",
    "zuse",
];

/// A made-up name; `attempt` counts from 0, a digit is added from the second
/// on, as Docker does.
pub(crate) fn made_up(seed: &str, attempt: u32) -> String {
    let bytes = seed.as_bytes();
    let pick = |from: usize| {
        bytes
            .iter()
            .skip(from)
            .step_by(2)
            .fold(attempt as usize, |sum, b| {
                sum.wrapping_mul(31).wrapping_add(*b as usize)
            })
    };
    let adjective = ADJECTIVES[pick(0) % ADJECTIVES.len()];
    let surname = SURNAMES[pick(1) % SURNAMES.len()];
    if attempt == 0 {
        format!("{adjective}_{surname}")
    } else {
        format!("{adjective}_{surname}{}", pick(3) % 10)
    }
}

/// Checks `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, with or without a leading slash, and
/// returns the name without it.
pub(crate) fn check(name: &str) -> Result<&str, Error> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let first = bytes.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = bytes.all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
    if first && rest && bare.len() >= 2 {
        return Ok(bare);
    }
    Err(Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_checked_as_docker_does() {
        assert_eq!(check("/web-1.x_y").unwrap(), "web-1.x_y");
        for bad in ["", "/", "a", "-ab", "a b", "ä1", "a/b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn made_up_names_are_valid_and_vary() {
        let first = made_up("18a4bf6a296f", 0);
        assert!(check(&first).is_ok());
        assert_ne!(first, made_up("28a4bf6a296f", 0));
        assert!(made_up("18a4bf6a296f", 1).ends_with(|c: char| c.is_ascii_digit()));
    }
}
