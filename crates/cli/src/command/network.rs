//! `conex network …`: commands on networks, and what they share.

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

use std::collections::BTreeMap;

/// `NAME=value` words as a map; a word alone has an empty value, the last of
/// several wins.
fn pairs(words: &[String]) -> BTreeMap<String, String> {
    words
        .iter()
        .map(|word| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

/// Refuses a word without `=`.
fn check_pair(text: &str) -> Result<(), String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(()),
        _ => Err(format!("invalid argument {text:?}: expected name=value")),
    }
}
