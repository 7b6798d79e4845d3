//! `printf` with the verbs templates use.
//!
//! Wrong verbs and arguments print Go's `%!d(string=x)` marks. It must not know
//! templates.

use serde_json::Value;

use super::function::{MAX_PADDING, show_argument};
use super::print::{compact_json, show_json};
use super::value::Val;
use crate::flag::go_quote;

/// Flags, width and precision between `%` and the verb.
#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// Formats arguments as Go's `fmt.Sprintf` does.
pub(super) fn sprintf(format: &str, args: &[Val<'_>]) -> String {
    let mut text = String::with_capacity(format.len());
    let mut args = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(&flag) = chars.peek() {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            chars.next();
        }
        spec.width = number(&mut chars, &mut args);
        if chars.peek() == Some(&'.') {
            chars.next();
            spec.precision = Some(number(&mut chars, &mut args));
        }
        let Some(verb) = chars.next() else {
            text.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            text.push('%');
            continue;
        }
        match args.next() {
            Some(arg) => text.push_str(&verb_text(verb, &spec, arg)),
            None => text.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    let extra: Vec<String> = args
        .map(|arg| format!("{}={}", arg.type_name(), show_argument(arg)))
        .collect();
    if !extra.is_empty() {
        text.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    text
}

/// A width or precision: digits, or `*` for the next argument.
fn number<'v>(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    args: &mut impl Iterator<Item = &'v Val<'v>>,
) -> usize {
    if chars.peek() == Some(&'*') {
        chars.next();
        let value = args.next().and_then(|arg| arg.json().as_u64()).unwrap_or(0);
        return usize::try_from(value).unwrap_or(0).min(MAX_PADDING);
    }
    let mut value = 0usize;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        value = value
            .saturating_mul(10)
            .saturating_add(digit as usize)
            .min(MAX_PADDING);
        chars.next();
    }
    value
}

fn verb_text(verb: char, spec: &Spec, arg: &Val<'_>) -> String {
    let json = arg.json();
    let body = match (verb, json.as_ref()) {
        ('v', Value::Number(number)) if number.is_f64() && spec.precision.is_some() => {
            float('g', spec, number.as_f64().unwrap_or(0.0))
        }
        ('v', Value::String(text)) if spec.sharp => go_quote(text),
        ('v', json) if spec.sharp => compact_json(json),
        ('v', Value::Number(number)) => signed(spec, show_json(&Value::Number(number.clone()))),
        ('v', _) => show_argument(arg),
        ('T', _) => arg.type_name().to_owned(),
        ('t', Value::Bool(value)) => value.to_string(),
        ('s' | 'q' | 'x' | 'X', Value::String(text)) => {
            let cut = match spec.precision {
                Some(length) => text
                    .char_indices()
                    .nth(length)
                    .map_or(text.as_str(), |(at, _)| &text[..at]),
                None => text,
            };
            match verb {
                's' => cut.to_owned(),
                'q' if spec.sharp && !cut.contains('`') => format!("`{cut}`"),
                'q' => go_quote(cut),
                'x' => cut.bytes().map(|byte| format!("{byte:02x}")).collect(),
                _ => cut.bytes().map(|byte| format!("{byte:02X}")).collect(),
            }
        }
        ('s' | 'q', Value::Array(items)) => {
            let inner = Spec {
                sharp: spec.sharp,
                precision: spec.precision,
                ..Spec::default()
            };
            let items: Vec<String> = items
                .iter()
                .map(|item| verb_text(verb, &inner, &Val::owned(item.clone())))
                .collect();
            format!("[{}]", items.join(" "))
        }
        ('d' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U', Value::Number(number))
            if !number.is_f64() =>
        {
            integer(verb, spec, number)
        }
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Number(number)) if number.is_f64() => {
            float(verb, spec, number.as_f64().unwrap_or(0.0))
        }
        _ => match arg.type_name() {
            "nil" => format!("%!{verb}(<nil>)"),
            kind => format!("%!{verb}({kind}={})", show_argument(arg)),
        },
    };
    pad(spec, body, json.is_number())
}

fn integer(verb: char, spec: &Spec, number: &serde_json::Number) -> String {
    let value = number
        .as_i64()
        .map(i128::from)
        .or(number.as_u64().map(i128::from))
        .unwrap_or(0);
    let magnitude = value.unsigned_abs();
    let character = u32::try_from(magnitude)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or('\u{fffd}');
    let mut digits = match verb {
        'c' => return character.to_string(),
        'q' => return format!("'{character}'"),
        'U' => return format!("U+{magnitude:04X}"),
        'd' => magnitude.to_string(),
        'b' => format!("{magnitude:b}"),
        'o' => format!("{magnitude:o}"),
        'O' => format!("0o{magnitude:o}"),
        'x' => format!("{magnitude:x}"),
        _ => format!("{magnitude:X}"),
    };
    if let Some(precision) = spec.precision {
        digits = format!("{digits:0>precision$}");
    }
    if spec.sharp {
        let prefix = match verb {
            'x' => "0x",
            'X' => "0X",
            'o' => "0",
            'b' => "0b",
            _ => "",
        };
        digits.insert_str(0, prefix);
    }
    if value < 0 {
        format!("-{digits}")
    } else {
        signed(spec, digits)
    }
}

fn float(verb: char, spec: &Spec, value: f64) -> String {
    let text = match verb.to_ascii_lowercase() {
        'f' => format!("{value:.*}", spec.precision.unwrap_or(6)),
        'e' => exponent(&format!("{value:.*e}", spec.precision.unwrap_or(6))),
        _ => match spec.precision {
            Some(precision) => crate::units::significant(value, precision.max(1)),
            None => show_json(&Value::from(value)),
        },
    };
    let text = if verb.is_ascii_uppercase() {
        text.to_uppercase()
    } else {
        text
    };
    signed(spec, text)
}

/// Rust's `1e3` as C's `1e+03`.
fn exponent(text: &str) -> String {
    match text.split_once('e') {
        Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
            Some(digits) => format!("{mantissa}e-{digits:0>2}"),
            None => format!("{mantissa}e+{exponent:0>2}"),
        },
        None => text.to_owned(),
    }
}

fn signed(spec: &Spec, text: String) -> String {
    match text.starts_with('-') {
        false if spec.plus => format!("+{text}"),
        false if spec.space => format!(" {text}"),
        _ => text,
    }
}

fn pad(spec: &Spec, text: String, is_number: bool) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if spec.left {
        return text + &" ".repeat(missing);
    }
    if spec.zero && is_number {
        let sign = usize::from(text.starts_with(['-', '+']));
        return format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..]);
    }
    let filler = if spec.zero { "0" } else { " " };
    filler.repeat(missing) + &text
}
