//! How a value that is not there may look in JSON: Go writers, whose files
//! this crate reads, leave `null`, `""` or `0` where another would leave the
//! member out. It knows nothing of the types it fills.

use serde::{Deserialize, Deserializer};

/// Reads `null` as the type's default value.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads `null` and `""` as `None`.
pub(crate) fn empty_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<String>,
{
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(T::from))
}

/// Reads `null` and the type's default value as `None`.
pub(crate) fn zero_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    let value: Option<T> = Option::deserialize(deserializer)?;
    Ok(value.filter(|value| *value != T::default()))
}
