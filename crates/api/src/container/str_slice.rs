//! A list of words that clients may also send as one string (`Cmd`, `Entrypoint`).

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize};

/// A list of strings; a lone JSON string reads as a list of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StrSlice(pub Vec<String>);

impl<'de> Deserialize<'de> for StrSlice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a string or a list of strings")]
        enum Form {
            List(Vec<String>),
            Word(String),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::List(list) => list,
            Form::Word(word) => vec![word],
        }))
    }
}

impl Deref for StrSlice {
    type Target = Vec<String>;

    fn deref(&self) -> &Vec<String> {
        &self.0
    }
}

impl DerefMut for StrSlice {
    fn deref_mut(&mut self) -> &mut Vec<String> {
        &mut self.0
    }
}

impl From<Vec<String>> for StrSlice {
    fn from(list: Vec<String>) -> Self {
        Self(list)
    }
}

impl From<StrSlice> for Vec<String> {
    fn from(slice: StrSlice) -> Self {
        slice.0
    }
}

impl FromIterator<String> for StrSlice {
    fn from_iter<I: IntoIterator<Item = String>>(words: I) -> Self {
        Self(words.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::StrSlice;

    #[test]
    fn one_string_is_a_list_of_one() {
        let slice: StrSlice = serde_json::from_str(r#""true""#).unwrap();
        assert_eq!(slice, StrSlice(vec!["true".into()]));
        let slice: StrSlice = serde_json::from_str(r#"["sh","-c"]"#).unwrap();
        assert_eq!(slice.len(), 2);
        assert_eq!(serde_json::to_string(&slice).unwrap(), r#"["sh","-c"]"#);
    }

    #[test]
    fn numbers_are_refused() {
        assert!(serde_json::from_str::<StrSlice>("[1]").is_err());
        assert!(serde_json::from_str::<StrSlice>("1").is_err());
    }
}
