//! `--filter name=value` options and the query parameter made of them.
//!
//! It must not know which filters exist; the engine refuses unknown ones.

use serde_json::{Map, Value};

use crate::flag::Flag;

/// The `--filter` flag with its short spelling.
pub const FLAG: Flag = Flag::checked_list(
    "filter",
    "filter",
    check,
    "Filter output based on conditions provided",
)
.short('f');

/// Refuses a filter without `=`.
pub fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('=') {
        Ok(())
    } else {
        Err("bad format of filter (expected name=value)".to_owned())
    }
}

/// The `filters` parameter: a JSON object of lists, none without filters.
pub fn to_query<S: AsRef<str>>(filters: &[S]) -> Option<String> {
    let mut object = Map::new();
    for filter in filters {
        let Some((name, value)) = filter.as_ref().split_once('=') else {
            continue;
        };
        let values = object
            .entry(name.trim().to_lowercase())
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            let value = Value::from(value.trim());
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }
    (!object.is_empty()).then(|| Value::Object(object).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_one_name_are_gathered() {
        assert_eq!(
            to_query(&[
                "Status=exited",
                "status = created",
                "label=a=b",
                "label=a=b",
                ""
            ]),
            Some(r#"{"status":["exited","created"],"label":["a=b"]}"#.to_owned())
        );
        assert_eq!(to_query::<&str>(&[]), None);
    }

    #[test]
    fn a_filter_needs_an_equals_sign() {
        assert!(check("a=b").is_ok());
        assert_eq!(
            check("q"),
            Err("bad format of filter (expected name=value)".to_owned())
        );
    }
}
