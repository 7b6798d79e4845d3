//! The `filters` of list, prune and event requests: a JSON map from key to values.
//!
//! Two spellings are read, `{"key":["value"]}` and `{"key":{"value":true}}`. Values of one key are
//! alternatives (labels excepted), keys add up; matching by regular expression is the engine's.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use thiserror::Error;

/// Bytes of filter JSON read at most.
const MAX_JSON_BYTES: usize = 1 << 20;

/// A filter that means nothing; its text is part of the API.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidFilter {
    /// The parameter is not a map from keys to values.
    #[error("invalid filter")]
    Malformed,
    /// Nothing can be filtered by this key here.
    #[error("invalid filter '{0}'")]
    Key(String),
    /// The key does not take this value.
    #[error("invalid filter '{key}={value}'")]
    Value {
        /// The key.
        key: String,
        /// Its value, or its values as `[a b]`.
        value: String,
    },
    /// The key does not take this value, and this is why.
    #[error("invalid filter '{key}={value}': {reason}")]
    Because {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// Why not.
        reason: String,
    },
}

/// Parsed filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    keys: BTreeMap<String, BTreeSet<String>>,
}

impl Filters {
    /// Reads the query parameter; empty is no filter.
    pub fn parse(json: &str) -> Result<Self, InvalidFilter> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(Vec<String>),
            Set(BTreeMap<String, bool>),
            Null(()),
        }
        if json.is_empty() {
            return Ok(Self::default());
        }
        if json.len() > MAX_JSON_BYTES {
            return Err(InvalidFilter::Malformed);
        }
        let map: BTreeMap<String, Values> =
            serde_json::from_str(json).map_err(|_| InvalidFilter::Malformed)?;
        let keys = map
            .into_iter()
            .map(|(key, values)| {
                let values = match values {
                    Values::List(list) => list.into_iter().collect(),
                    Values::Set(set) => set
                        .into_iter()
                        .filter(|(_, on)| *on)
                        .map(|(value, _)| value)
                        .collect(),
                    Values::Null(()) => BTreeSet::new(),
                };
                (key, values)
            })
            .collect();
        Ok(Self { keys })
    }

    /// The filters as the JSON a client sends; empty when there is none.
    pub fn to_json(&self) -> String {
        if self.keys.is_empty() {
            return String::new();
        }
        let map: BTreeMap<&str, BTreeMap<&str, bool>> = self
            .keys
            .iter()
            .map(|(key, values)| {
                (
                    key.as_str(),
                    values.iter().map(|value| (value.as_str(), true)).collect(),
                )
            })
            .collect();
        serde_json::to_string(&map).expect("maps of strings and booleans serialise")
    }

    /// Adds a value to a key.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.keys
            .entry(key.into())
            .or_default()
            .insert(value.into());
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the key was given.
    pub fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// The values of a key, in order; none if it was not given.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.keys.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Refuses keys that are not among `accepted`.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), InvalidFilter> {
        match self
            .keys
            .keys()
            .find(|key| !accepted.contains(&key.as_str()))
        {
            Some(key) => Err(InvalidFilter::Key(key.clone())),
            None => Ok(()),
        }
    }

    /// Whether `source` is one of the key's values; true when the key was not given.
    pub fn exact(&self, key: &str, source: &str) -> bool {
        self.keys
            .get(key)
            .is_none_or(|values| values.is_empty() || values.contains(source))
    }

    /// Whether `source` begins with one of the key's values; true when the key was not given.
    pub fn fuzzy(&self, key: &str, source: &str) -> bool {
        self.keys.get(key).is_none_or(|values| {
            values.is_empty()
                || values
                    .iter()
                    .any(|value| source.starts_with(value.as_str()))
        })
    }

    /// Whether `labels` has every value of the key, each `name` or `name=value`.
    pub fn label(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }

    /// The boolean value of a key; `None` when it was not given.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, InvalidFilter> {
        let Some(values) = self.keys.get(key).filter(|values| !values.is_empty()) else {
            return Ok(None);
        };
        let (mut yes, mut no) = (false, false);
        for value in values {
            match value.as_str() {
                "1" | "true" => yes = true,
                "0" | "false" => no = true,
                _ => (yes, no) = (true, true),
            }
        }
        if yes == no {
            let value = values
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ");
            return Err(InvalidFilter::Value {
                key: key.to_owned(),
                value: format!("[{value}]"),
            });
        }
        Ok(Some(yes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_spellings_read_the_same() {
        let list = Filters::parse(r#"{"label":["a","b=c"],"status":["running"]}"#).unwrap();
        let set = Filters::parse(
            r#"{"label":{"a":true,"b=c":true,"d":false},"status":{"running":true}}"#,
        )
        .unwrap();
        assert_eq!(list, set);
        assert_eq!(Filters::parse(&list.to_json()).unwrap(), list);
        assert_eq!(list.get("label").collect::<Vec<_>>(), ["a", "b=c"]);
    }

    #[test]
    fn nothing_is_no_filter() {
        assert!(Filters::parse("").unwrap().is_empty());
        assert!(Filters::parse("{}").unwrap().is_empty());
        assert_eq!(Filters::default().to_json(), "");
        let filters = Filters::parse(r#"{"name":null}"#).unwrap();
        assert!(filters.exact("name", "x") && filters.contains("name"));
    }

    #[test]
    fn what_is_no_map_of_values_is_refused() {
        for json in ["[]", "1", "{", r#"{"a":"b"}"#, r#"{"a":[1]}"#] {
            assert_eq!(
                Filters::parse(json),
                Err(InvalidFilter::Malformed),
                "{json}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        let filters = Filters::parse(r#"{"nope":["x"]}"#).unwrap();
        let error = filters.validate(&["label"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid filter 'nope'");
        assert_eq!(filters.validate(&["nope"]), Ok(()));
    }

    #[test]
    fn labels_must_all_be_there() {
        let labels = [
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), String::new()),
        ]
        .into();
        let matches = |json: &str| Filters::parse(json).unwrap().label("label", &labels);
        assert!(matches(r#"{"label":["a","b"]}"#));
        assert!(matches(r#"{"label":["a=1","b="]}"#));
        assert!(!matches(r#"{"label":["a=2"]}"#));
        assert!(!matches(r#"{"label":["a","c"]}"#));
        assert!(matches("{}"));
    }

    #[test]
    fn exact_and_fuzzy_are_alternatives() {
        let filters = Filters::parse(r#"{"id":["18a","ffff"]}"#).unwrap();
        assert!(filters.fuzzy("id", "18a4bf") && !filters.fuzzy("id", "x18a"));
        assert!(filters.exact("id", "ffff") && !filters.exact("id", "18a4bf"));
    }

    #[test]
    fn booleans_must_agree() {
        let boolean = |json: &str| Filters::parse(json).unwrap().boolean("dangling");
        assert_eq!(boolean("{}"), Ok(None));
        assert_eq!(boolean(r#"{"dangling":["1","true"]}"#), Ok(Some(true)));
        assert_eq!(boolean(r#"{"dangling":{"false":true}}"#), Ok(Some(false)));
        let error = boolean(r#"{"dangling":["true","false"]}"#).unwrap_err();
        assert_eq!(error.to_string(), "invalid filter 'dangling=[false true]'");
        assert!(boolean(r#"{"dangling":["maybe"]}"#).is_err());
    }
}
