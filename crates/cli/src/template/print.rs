//! How values print: Go's `%v` and JSON in Go's spelling.
//!
//! It must not know templates.

use serde_json::{Number, Value};

use super::value::{Hint, Val};

/// A value as an action prints it.
pub(super) fn show(value: &Val<'_>) -> String {
    match value {
        Val::Missing => "<no value>".to_owned(),
        Val::Row(row) => show_json(&row.to_json()),
        Val::Json(json, hint) => match (json.as_ref(), hint) {
            (Value::Null, Hint::Map) => "map[]".to_owned(),
            (Value::Null, Hint::List) => "[]".to_owned(),
            (Value::Null, Hint::None) => "<no value>".to_owned(),
            (json, _) => show_json(json),
        },
    }
}

/// JSON as Go's `%v` prints it; maps by sorted key.
pub(super) fn show_json(json: &Value) -> String {
    match json {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => show_number(number),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(show_json).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            let pairs: Vec<String> = keys
                .into_iter()
                .map(|key| format!("{key}:{}", show_json(&fields[key])))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// A number as Go's `%v` prints it.
pub(super) fn show_number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => go_float(float),
        _ => number.to_string(),
    }
}

/// A float in Go's shortest form: an exponent from 1e+21 on and below 1e-4.
fn go_float(float: f64) -> String {
    if float == 0.0 {
        return "0".to_owned();
    }
    let magnitude = float.abs();
    if (1e-4..1e21).contains(&magnitude) {
        return float.to_string();
    }
    let text = format!("{float:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

/// JSON without line breaks, as Go's encoder writes it without escaping HTML.
pub(super) fn compact_json(json: &Value) -> String {
    let text = serde_json::to_string(json).expect("JSON values always serialise");
    if text.contains(['\u{2028}', '\u{2029}']) {
        return text
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029");
    }
    text
}

/// JSON with `<`, `>` and `&` escaped, as Go's `json.Marshal` writes it.
pub(super) fn escaped_json(json: &Value) -> String {
    let text = compact_json(json);
    if !text.contains(['<', '>', '&']) {
        return text;
    }
    // Outside strings JSON holds none of the three.
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
