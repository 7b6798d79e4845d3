//! What templates work on: JSON, or rows whose fields are computed when asked for.
//!
//! Go templates of the original run on typed structures, JSON here has fewer
//! types: a [`Hint`] remembers, by a field's name, whether a value is a map or a
//! list of strings, so that absent keys and nulls print as they do there.

use std::borrow::Cow;

use serde_json::Value;

/// A record with computed fields, such as a line of `ps`.
pub trait Row {
    /// The type's name in error texts, such as `*formatter.ContainerContext`.
    fn type_name(&self) -> &'static str;
    /// A field, or a method called with arguments; none when there is no such name.
    fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>>;
    /// Every field by name, for `{{json .}}`.
    fn to_json(&self) -> Value;

    /// How many arguments a field takes; only methods take any.
    fn arguments(&self, _name: &str) -> usize {
        0
    }

    /// Whether `{{json .}}` escapes `<`, `>` and `&`.
    fn escapes_html(&self) -> bool {
        true
    }
}

/// An engine's JSON object as a record of a named type.
#[derive(Debug)]
pub struct Document {
    /// The object.
    pub value: Value,
    /// The type's name in error texts.
    pub type_name: &'static str,
}

impl Row for Document {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn field(&self, name: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        let value = Val::borrowed(&self.value);
        let member = value.member(name).or_else(|| value.exported(name))?;
        Some(Ok(member.json().into_owned()))
    }

    fn to_json(&self) -> Value {
        self.value.clone()
    }

    fn escapes_html(&self) -> bool {
        false
    }
}

/// What a value would be in a typed world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing special.
    None,
    /// A map whose absent keys are no error.
    Map,
    /// A list, empty when null.
    List,
}

/// Fields that are maps from the user's keys.
const MAPS: &[&str] = &[
    "Annotations",
    "Attributes",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "IndexConfigs",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Fields that are lists.
const LISTS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Layers",
    "Links",
    "Mounts",
    "OnBuild",
    "RepoDigests",
    "RepoTags",
    "SecurityOpt",
    "Ulimits",
    "VolumesFrom",
];

impl Hint {
    /// What a field's name says.
    pub fn of(field: &str) -> Self {
        if MAPS.contains(&field) {
            Self::Map
        } else if LISTS.contains(&field) {
            Self::List
        } else {
            Self::None
        }
    }
}

/// A value while a template runs.
#[derive(Clone)]
pub enum Val<'a> {
    /// JSON, and what its field's name says of it.
    Json(Cow<'a, Value>, Hint),
    /// A record with computed fields.
    Row(&'a dyn Row),
    /// Nothing: an absent key, printed as `<no value>`.
    Missing,
}

impl<'a> Val<'a> {
    /// JSON that lives longer than the execution.
    pub fn borrowed(value: &'a Value) -> Self {
        Self::Json(Cow::Borrowed(value), Hint::None)
    }

    /// JSON made on the way.
    pub fn owned(value: Value) -> Self {
        Self::Json(Cow::Owned(value), Hint::None)
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::owned(Value::String(text.into()))
    }

    /// The value as JSON; a row becomes an object.
    pub fn json(&self) -> Cow<'_, Value> {
        match self {
            Self::Json(value, _) => Cow::Borrowed(value),
            Self::Row(row) => Cow::Owned(row.to_json()),
            Self::Missing => Cow::Owned(Value::Null),
        }
    }

    /// Whether `if` takes it for true: not absent, false, zero or empty.
    pub fn truth(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::Row(_) => true,
            Self::Json(value, _) => match value.as_ref() {
                Value::Null => false,
                Value::Bool(value) => *value,
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => !fields.is_empty(),
            },
        }
    }

    /// The member of an object by its exact key, none when absent.
    pub fn member(&self, key: &str) -> Option<Val<'a>> {
        let hint = Hint::of(key);
        match self {
            Self::Json(Cow::Borrowed(value), _) => value
                .get(key)
                .map(|value| Val::Json(Cow::Borrowed(value), hint)),
            Self::Json(Cow::Owned(value), _) => value
                .get(key)
                .map(|value| Val::Json(Cow::Owned(value.clone()), hint)),
            _ => None,
        }
    }

    /// The member a Go field's name stands for: upper and lower case aside.
    ///
    /// Go names `APIVersion` what JSON calls `ApiVersion`; its fields start with a capital.
    pub fn exported(&self, field: &str) -> Option<Val<'a>> {
        if !field.starts_with(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        let Self::Json(value, _) = self else {
            return None;
        };
        let key = value
            .as_object()?
            .keys()
            .find(|key| key.eq_ignore_ascii_case(field))?;
        self.member(&key.clone())
    }

    /// The element of a list.
    pub fn element(&self, index: usize) -> Option<Val<'a>> {
        match self {
            Self::Json(Cow::Borrowed(value), _) => value
                .get(index)
                .map(|value| Val::Json(Cow::Borrowed(value), Hint::None)),
            Self::Json(Cow::Owned(value), _) => value
                .get(index)
                .map(|value| Val::Json(Cow::Owned(value.clone()), Hint::None)),
            _ => None,
        }
    }

    /// The Go type error texts name.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Missing => "nil",
            Self::Row(row) => row.type_name(),
            Self::Json(value, _) => match value.as_ref() {
                Value::Null => "nil",
                Value::Bool(_) => "bool",
                Value::Number(number) if number.is_f64() => "float64",
                Value::Number(_) => "int",
                Value::String(_) => "string",
                Value::Array(_) => "[]interface {}",
                Value::Object(_) => "map[string]interface {}",
            },
        }
    }
}
