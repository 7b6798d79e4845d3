//! `WWW-Authenticate`: what a registry asks for before it answers. Pure.
//!
//! ```text
//! Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull"
//! Basic realm="Registry"
//! ```
//!
//! Source: RFC 9110 section 11.6.1, and the distribution specification's token page.

use std::collections::BTreeMap;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    /// By name in lower case.
    pub(crate) parameters: BTreeMap<String, String>,
}

/// A header longer than this is no honest registry's.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// All challenges of a header's value; what cannot be read ends the list.
pub(crate) fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    if value.len() > MAX_HEADER_BYTES {
        return challenges;
    }
    let mut rest = value.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let Some((word, after)) = token(rest) else {
            return challenges;
        };
        let after = after.trim_start();
        match (after.strip_prefix('='), challenges.last_mut()) {
            (Some(after), Some(challenge)) => {
                let Some((text, after)) = parameter(after.trim_start()) else {
                    return challenges;
                };
                challenge.parameters.insert(word.to_ascii_lowercase(), text);
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge {
                    scheme: word.to_ascii_lowercase(),
                    parameters: BTreeMap::new(),
                });
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    challenges
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let length = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (length > 0).then(|| text.split_at(length))
}

/// A token or a quoted string, and what follows.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Laxer than the grammar: some registries do not quote their realm.
        let length = text.find([',', ' ']).unwrap_or(text.len());
        let (word, rest) = text.split_at(length);
        return Some((word.to_owned(), rest));
    };
    let mut out = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((out, &quoted[at + 1..])),
            '\\' => out.push(letters.next()?.1),
            letter => out.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bearer_challenge_is_read() {
        let value = r#"Bearer realm="https://a.example/token",service="r, \"x\"",scope="repository:a/b:pull,push""#;
        let challenges = parse(value);
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameters["realm"], "https://a.example/token");
        assert_eq!(challenges[0].parameters["service"], "r, \"x\"");
        assert_eq!(
            challenges[0].parameters["scope"],
            "repository:a/b:pull,push"
        );
    }

    #[test]
    fn several_challenges_are_told_apart() {
        let challenges = parse(r#"Negotiate, Basic realm="R", BEARER Realm=https://a/t"#);
        let schemes: Vec<&str> = challenges.iter().map(|c| &*c.scheme).collect();
        assert_eq!(schemes, ["negotiate", "basic", "bearer"]);
        assert_eq!(challenges[2].parameters["realm"], "https://a/t");
    }

    #[test]
    fn noise_gives_nothing() {
        assert!(parse("").is_empty() && parse("=\"x\"").is_empty());
        assert!(parse("Bearer realm=\"open").len() <= 1);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(text in ".*") {
            drop(parse(&text));
        }
    }
}
