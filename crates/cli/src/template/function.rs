//! The functions: Go's built-in ones and those `--format` adds.
//!
//! It must not know how templates are parsed or fields are found.

use std::cmp::Ordering;

use serde_json::Value;

use super::Mode;
use super::print::{compact_json, escaped_json, show, show_json};
use super::printf::sprintf;
use super::value::{Hint, Val};

/// Every function with the fewest and the most arguments it takes.
const FUNCTIONS: &[(&str, usize, Option<usize>)] = &[
    ("and", 1, None),
    ("call", 1, None),
    ("eq", 1, None),
    ("ge", 2, Some(2)),
    ("gt", 2, Some(2)),
    ("html", 0, None),
    ("index", 1, None),
    ("join", 2, Some(2)),
    ("js", 0, None),
    ("json", 1, Some(1)),
    ("le", 2, Some(2)),
    ("len", 1, Some(1)),
    ("lower", 1, Some(1)),
    ("lt", 2, Some(2)),
    ("ne", 2, Some(2)),
    ("not", 1, Some(1)),
    ("or", 1, None),
    ("pad", 3, Some(3)),
    ("print", 0, None),
    ("printf", 1, None),
    ("println", 0, None),
    ("slice", 1, None),
    ("split", 2, Some(2)),
    ("title", 1, Some(1)),
    ("truncate", 2, Some(2)),
    ("upper", 1, Some(1)),
    ("urlquery", 0, None),
];

/// Longest padding `pad` and `printf` make, in characters.
pub(super) const MAX_PADDING: usize = 64 * 1024;

/// Whether a function of this name exists.
pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|function| function.0 == name)
}

/// Why a function gave no value.
pub(super) enum Failure {
    /// An argument of the wrong type.
    Argument(String),
    /// The function's own complaint.
    Call(String),
}

/// The complaint about a wrong number of arguments.
pub(super) fn check_count(name: &str, got: usize) -> Option<String> {
    let (_, least, most) = FUNCTIONS.iter().find(|function| function.0 == name)?;
    if most.is_none() && got < *least {
        return Some(format!(
            "wrong number of args for {name}: want at least {least} got {got}"
        ));
    }
    match most {
        Some(most) if got != *most => Some(format!(
            "wrong number of args for {name}: want {most} got {got}"
        )),
        _ => None,
    }
}

/// Calls a function; `check_count` has passed.
pub(super) fn call<'a>(name: &str, args: Vec<Val<'a>>, mode: Mode) -> Result<Val<'a>, Failure> {
    if mode == Mode::Header && matches!(name, "json" | "lower" | "title" | "truncate" | "upper") {
        return Ok(args.into_iter().next().unwrap_or(Val::Missing));
    }
    let fail = Failure::Call;
    match name {
        "json" => Ok(Val::text(match &args[0] {
            Val::Row(row) if row.escapes_html() => escaped_json(&row.to_json()),
            other => compact_json(&other.json()),
        })),
        "lower" => Ok(Val::text(string(&args[0])?.to_lowercase())),
        "upper" => Ok(Val::text(string(&args[0])?.to_uppercase())),
        "title" => Ok(Val::text(title(&string(&args[0])?))),
        "split" => {
            let (text, separator) = (string(&args[0])?, string(&args[1])?);
            let parts: Vec<Value> = if separator.is_empty() {
                text.chars().map(|c| Value::String(c.to_string())).collect()
            } else {
                text.split(separator.as_str())
                    .map(|part| Value::String(part.to_owned()))
                    .collect()
            };
            Ok(Val::owned(Value::Array(parts)))
        }
        "join" => join(&args),
        "pad" => {
            let (text, before, after) = (string(&args[0])?, int(&args[1])?, int(&args[2])?);
            if text.is_empty() {
                return Ok(Val::text(text));
            }
            let blanks =
                |count: i64| " ".repeat(usize::try_from(count).unwrap_or(0).min(MAX_PADDING));
            Ok(Val::text(format!(
                "{}{text}{}",
                blanks(before),
                blanks(after)
            )))
        }
        "truncate" => {
            let (text, length) = (string(&args[0])?, int(&args[1])?);
            let length = usize::try_from(length)
                .map_err(|_| fail(format!("slice bounds out of range [:{length}]")))?;
            let end = text
                .char_indices()
                .nth(length)
                .map_or(text.len(), |(at, _)| at);
            Ok(Val::text(&text[..end]))
        }
        "print" => Ok(Val::text(sprint(&args))),
        "println" => {
            let shown: Vec<String> = args.iter().map(show_argument).collect();
            Ok(Val::text(format!("{}\n", shown.join(" "))))
        }
        "printf" => Ok(Val::text(sprintf(&string(&args[0])?, &args[1..]))),
        "html" => Ok(Val::text(escape_html(&sprint(&args)))),
        "js" => Ok(Val::text(escape_js(&sprint(&args)))),
        "urlquery" => Ok(Val::text(escape_query(&sprint(&args)))),
        "len" => length(&args[0])
            .map(|length| Val::owned(Value::from(length)))
            .map_err(fail),
        "not" => Ok(Val::owned(Value::Bool(!args[0].truth()))),
        "index" => index(args),
        "slice" => slice(&args),
        "call" => Err(fail(match &args[0] {
            Val::Missing => "call of nil".to_owned(),
            other => format!("non-function {} of type {}", show(other), other.type_name()),
        })),
        "eq" => {
            let (first, rest) = args.split_first().ok_or_else(no_argument)?;
            if rest.is_empty() {
                return Err(no_argument());
            }
            for other in rest {
                if equal(first, other).map_err(fail)? {
                    return Ok(Val::owned(Value::Bool(true)));
                }
            }
            Ok(Val::owned(Value::Bool(false)))
        }
        "ne" => Ok(Val::owned(Value::Bool(
            !equal(&args[0], &args[1]).map_err(fail)?,
        ))),
        comparison => {
            let order = compare(&args[0], &args[1]).map_err(fail)?;
            Ok(Val::owned(Value::Bool(match comparison {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })))
        }
    }
}

fn no_argument() -> Failure {
    Failure::Call("missing argument for comparison".to_owned())
}

/// A string argument.
fn string(value: &Val<'_>) -> Result<String, Failure> {
    match value {
        Val::Json(json, _) => match json.as_ref() {
            Value::String(text) => Ok(text.clone()),
            Value::Null => Err(Failure::Argument(
                "invalid value; expected string".to_owned(),
            )),
            _ => Err(wrong_type("string", value)),
        },
        Val::Missing => Err(Failure::Argument(
            "invalid value; expected string".to_owned(),
        )),
        Val::Row(_) => Err(wrong_type("string", value)),
    }
}

/// A number argument.
fn int(value: &Val<'_>) -> Result<i64, Failure> {
    value
        .json()
        .as_i64()
        .ok_or_else(|| wrong_type("int", value))
}

fn wrong_type(wanted: &str, got: &Val<'_>) -> Failure {
    Failure::Argument(format!(
        "wrong type for value; expected {wanted}; got {}",
        got.type_name()
    ))
}

fn join<'a>(args: &[Val<'a>]) -> Result<Val<'a>, Failure> {
    let separator = string(&args[1])?;
    let list = args[0].json();
    match list.as_ref() {
        Value::Null => Ok(Val::text("")),
        Value::Array(items) => {
            let parts: Vec<String> = items.iter().map(show_json).collect();
            Ok(Val::text(parts.join(&separator)))
        }
        _ => Err(wrong_type("[]string", &args[0])),
    }
}

/// The first letter of every word in upper case.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut starts = true;
    for c in text.chars() {
        if starts {
            titled.extend(c.to_uppercase());
        } else {
            titled.push(c);
        }
        starts = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    titled
}

/// Arguments as `print` shows them: a blank between two when neither is a string.
fn sprint(args: &[Val<'_>]) -> String {
    let mut shown = String::new();
    let mut previous_is_text = true;
    for (index, arg) in args.iter().enumerate() {
        let is_text = matches!(arg, Val::Json(json, _) if json.is_string());
        if index > 0 && !is_text && !previous_is_text {
            shown.push(' ');
        }
        shown.push_str(&show_argument(arg));
        previous_is_text = is_text;
    }
    shown
}

/// A value as Go's fmt shows it, where nothing is `<nil>`.
pub(super) fn show_argument(value: &Val<'_>) -> String {
    match value {
        Val::Missing => "<nil>".to_owned(),
        Val::Json(json, Hint::None) if json.is_null() => "<nil>".to_owned(),
        other => show(other),
    }
}

fn length(value: &Val<'_>) -> Result<usize, String> {
    match value {
        Val::Json(json, hint) => match (json.as_ref(), hint) {
            (Value::String(text), _) => Ok(text.len()),
            (Value::Array(items), _) => Ok(items.len()),
            (Value::Object(fields), _) => Ok(fields.len()),
            (Value::Null, Hint::Map | Hint::List) => Ok(0),
            (Value::Null, Hint::None) => Err("len of nil pointer".to_owned()),
            _ => Err(format!("len of type {}", value.type_name())),
        },
        _ => Err("len of nil pointer".to_owned()),
    }
}

fn index(args: Vec<Val<'_>>) -> Result<Val<'_>, Failure> {
    let mut args = args.into_iter();
    let mut value = args.next().unwrap_or(Val::Missing);
    for key in args {
        let json = key.json();
        let next = match &value {
            Val::Json(item, hint) => match (item.as_ref(), json.as_ref()) {
                (Value::Array(items), Value::Number(number)) => {
                    let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
                    match at
                        .filter(|at| *at < items.len())
                        .and_then(|at| value.element(at))
                    {
                        Some(element) => element,
                        None => {
                            return Err(Failure::Call(format!("index out of range: {number}")));
                        }
                    }
                }
                (Value::String(text), Value::Number(number)) => {
                    let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
                    match at.and_then(|at| text.as_bytes().get(at)) {
                        Some(byte) => Val::owned(Value::from(*byte)),
                        None => {
                            return Err(Failure::Call(format!("index out of range: {number}")));
                        }
                    }
                }
                (Value::Object(fields), Value::String(name)) => match value.member(name) {
                    Some(Val::Json(json, _)) => Val::Json(json, Hint::None),
                    Some(member) => member,
                    // A map of strings has the empty string for absent keys.
                    None if fields.values().all(Value::is_string) => Val::text(""),
                    None => Val::Missing,
                },
                (Value::Null, Value::String(_)) if *hint == Hint::Map => Val::text(""),
                (Value::Null, _) => return Err(Failure::Call("index of untyped nil".to_owned())),
                (Value::Array(_) | Value::String(_), Value::Null) => {
                    return Err(Failure::Call(
                        "cannot index slice/array with nil".to_owned(),
                    ));
                }
                (Value::Array(_) | Value::String(_), _) => {
                    return Err(Failure::Call(format!(
                        "cannot index slice/array with type {}",
                        key.type_name()
                    )));
                }
                (Value::Object(_), Value::Null) => {
                    return Err(Failure::Call(
                        "value is nil; should be of type string".to_owned(),
                    ));
                }
                (Value::Object(_), _) => {
                    return Err(Failure::Call(format!(
                        "value has type {}; should be string",
                        key.type_name()
                    )));
                }
                _ => {
                    return Err(Failure::Call(format!(
                        "can't index item of type {}",
                        value.type_name()
                    )));
                }
            },
            _ => return Err(Failure::Call("index of untyped nil".to_owned())),
        };
        value = next;
    }
    Ok(value)
}

fn slice<'a>(args: &[Val<'a>]) -> Result<Val<'a>, Failure> {
    let fail = |message: String| Failure::Call(message);
    let json = args[0].json();
    let total = match json.as_ref() {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Null => return Err(fail("slice of untyped nil".to_owned())),
        _ => {
            return Err(fail(format!(
                "can't slice item of type {}",
                args[0].type_name()
            )));
        }
    };
    if args.len() > 4 {
        return Err(fail(format!("too many slice indexes: {}", args.len() - 1)));
    }
    if args.len() == 4 && json.is_string() {
        return Err(fail("cannot 3-index slice a string".to_owned()));
    }
    let mut bounds = [0, total];
    for (slot, arg) in bounds.iter_mut().zip(&args[1..]) {
        let number = arg.json();
        let Some(number) = number.as_i64() else {
            return Err(fail(format!(
                "cannot index slice/array with type {}",
                arg.type_name()
            )));
        };
        *slot = usize::try_from(number)
            .ok()
            .filter(|at| *at <= total)
            .ok_or_else(|| fail(format!("index out of range: {number}")))?;
    }
    let [from, to] = bounds;
    if from > to {
        return Err(fail(format!("invalid slice index: {from} > {to}")));
    }
    Ok(match json.as_ref() {
        Value::String(text) => {
            Val::text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned())
        }
        Value::Array(items) => Val::owned(Value::Array(items[from..to].to_vec())),
        _ => Val::Missing,
    })
}

fn equal(left: &Val<'_>, right: &Val<'_>) -> Result<bool, String> {
    let (left, right) = (left.json(), right.json());
    match (left.as_ref(), right.as_ref()) {
        (Value::Null, _) | (_, Value::Null) => Ok(left == right),
        (Value::Array(_) | Value::Object(_), _) => Err(format!(
            "non-comparable type {}: {}",
            show_json(&left),
            Val::owned(left.as_ref().clone()).type_name()
        )),
        (_, Value::Array(_) | Value::Object(_)) => Err(format!(
            "non-comparable type {}: {}",
            show_json(&right),
            Val::owned(right.as_ref().clone()).type_name()
        )),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::String(left), Value::String(right)) => Ok(left == right),
        (Value::Number(left), Value::Number(right)) if left.is_f64() == right.is_f64() => {
            Ok(left == right)
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn compare(left: &Val<'_>, right: &Val<'_>) -> Result<Ordering, String> {
    let (left, right) = (left.json(), right.json());
    match (left.as_ref(), right.as_ref()) {
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) if left.is_f64() == right.is_f64() => {
            if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
                return Ok(left.cmp(&right));
            }
            let order = left
                .as_f64()
                .zip(right.as_f64())
                .and_then(|(l, r)| l.partial_cmp(&r));
            order.ok_or_else(|| "invalid type for comparison".to_owned())
        }
        (
            Value::Number(_) | Value::String(_),
            Value::Number(_) | Value::String(_) | Value::Bool(_),
        ) => Err("incompatible types for comparison".to_owned()),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\0' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn escape_js(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\'' => escaped.push_str("\\'"),
            '"' => escaped.push_str("\\\""),
            '<' => escaped.push_str("\\u003C"),
            '>' => escaped.push_str("\\u003E"),
            '&' => escaped.push_str("\\u0026"),
            '=' => escaped.push_str("\\u003D"),
            c if (c as u32) < 0x20 => escaped.push_str(&format!("\\u{:04X}", c as u32)),
            c => escaped.push(c),
        }
    }
    escaped
}

fn escape_query(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
