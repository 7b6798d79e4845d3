//! Go's spelling of flag values: numbers, booleans, durations and CSV lines.
//!
//! Each parser answers with the text Go's own would, because users and scripts
//! know them. It must not know flags.

/// Parses a boolean as Go's `strconv.ParseBool` does.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            go_quote(text)
        )),
    }
}

/// Parses a signed number with Go's prefixes (`0x`, `0o`, `0b`, leading `0`).
pub fn parse_int(text: &str) -> Result<i64, String> {
    let fail = |why: &str| format!("strconv.ParseInt: parsing {}: {why}", go_quote(text));
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = magnitude(digits).map_err(&fail)?;
    let limit = if negative { 1 << 63 } else { (1 << 63) - 1 };
    if magnitude > limit {
        return Err(fail("value out of range"));
    }
    Ok(if negative {
        (magnitude as i64).wrapping_neg()
    } else {
        magnitude as i64
    })
}

/// Parses an unsigned number of at most `bits` bits.
pub(crate) fn parse_uint(text: &str, bits: u32) -> Result<u64, String> {
    let fail = |why: &str| format!("strconv.ParseUint: parsing {}: {why}", go_quote(text));
    let number = magnitude(text).map_err(&fail)?;
    if bits < 64 && number >> bits != 0 {
        return Err(fail("value out of range"));
    }
    Ok(number)
}

/// The digits of a number in the base its prefix names.
fn magnitude(digits: &str) -> Result<u64, &'static str> {
    let lower = digits.to_ascii_lowercase();
    let (base, rest) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if rest.is_empty() || !rest.chars().all(|c| c.is_digit(base)) {
        return Err("invalid syntax");
    }
    u64::from_str_radix(rest, base).map_err(|_| "value out of range")
}

/// Parses a floating-point number.
pub fn parse_float(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            go_quote(text)
        )
    })
}

/// Parses a Go duration (`-1.5h`, `2m3s`, `300ms`, `0`) into nanoseconds.
pub fn parse_duration_ns(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", go_quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total_ns: u64 = 0;
    while !rest.is_empty() {
        let digits_end = end_of(rest, |c| c.is_ascii_digit());
        let (whole, after) = rest.split_at(digits_end);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(tail) => tail.split_at(end_of(tail, |c| c.is_ascii_digit())),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = end_of(after, |c| c != '.' && !c.is_ascii_digit());
        let (unit, after) = after.split_at(unit_end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", go_quote(text)));
        }
        let unit_ns: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    go_quote(unit),
                    go_quote(text)
                ));
            }
        };
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let mut part_ns = whole.checked_mul(unit_ns).ok_or_else(invalid)?;
        if !fraction.is_empty() {
            let share: f64 = format!("0.{fraction}").parse().map_err(|_| invalid())?;
            part_ns = part_ns
                .checked_add((share * unit_ns as f64) as u64)
                .ok_or_else(invalid)?;
        }
        total_ns = total_ns.checked_add(part_ns).ok_or_else(invalid)?;
        rest = after;
    }
    let total_ns = i64::try_from(total_ns).map_err(|_| invalid())?;
    Ok(if negative { -total_ns } else { total_ns })
}

/// Length of the prefix whose characters all match.
fn end_of(text: &str, matches: impl Fn(char) -> bool) -> usize {
    text.find(|c| !matches(c)).unwrap_or(text.len())
}

/// Splits one CSV line into fields; double quotes protect commas.
pub fn split_csv(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next() {
                    Some((at, '"')) if quoted[at + 1..].starts_with('"') => {
                        field.push('"');
                        chars.next();
                    }
                    Some((at, '"')) => break at + 1,
                    Some((_, c)) => field.push(c),
                    None => {
                        return Err(csv_error(
                            line,
                            line.len(),
                            "extraneous or missing \" in quoted-field",
                        ));
                    }
                }
            };
            fields.push(field);
            rest = &quoted[end..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None if rest.is_empty() => return Ok(fields),
                None => {
                    let at = line.len() - rest.len();
                    return Err(csv_error(
                        line,
                        at,
                        "extraneous or missing \" in quoted-field",
                    ));
                }
            }
        } else {
            let (field, next) = match rest.split_once(',') {
                Some((field, next)) => (field, Some(next)),
                None => (rest, None),
            };
            if let Some(at) = field.find('"') {
                let at = line.len() - rest.len() + at;
                return Err(csv_error(line, at, "bare \" in non-quoted-field"));
            }
            fields.push(field.to_owned());
            match next {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
        }
    }
}

/// Go's text for a malformed CSV line, columns counted from 1.
fn csv_error(line: &str, at: usize, what: &str) -> String {
    let column = at.min(line.len()) + 1;
    format!("parse error on line 1, column {column}: {what}")
}

/// Quotes a text as Go's `%q` does.
pub(crate) fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                quoted.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
