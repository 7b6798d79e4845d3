//! How an API object reads its fields: `null` and absence are the zero value.
//! Knows nothing of any particular object.

use serde::{Deserialize, Deserializer, Serialize};

/// Declares API objects: ordinary structs whose every field may be missing or `null` in the JSON.
macro_rules! object {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $type:ty, )*
        }
    )*) => { $(
        // Before the object's own attributes, some of which are the derive's.
        #[derive(Clone, Debug, Default, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        $(#[$meta])*
        #[serde(default)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(deserialize_with = "crate::object::null_as_default")]
                pub $field: $type,
            )*
        }
    )* };
}

/// Reads a value, taking `null` for the type's default.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether a field that is omitted at its zero value is to be omitted.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An object without members, `{}`: the value of a JSON map used as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

// Whatever a client puts there (also `null`) only says that the key is in the set.
impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer)?;
        Ok(Self {})
    }
}
