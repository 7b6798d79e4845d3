//! Sizes and spans of time in the words people read, and sizes as they write them.
//!
//! The spellings are those of the go-units package. It must not know commands.

/// Decimal suffixes, powers of 1000.
const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
/// Binary suffixes, powers of 1024.
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// A size in decimal units with four significant digits: `8.192kB`.
pub fn human_size(bytes: f64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 4)
}

/// A size in decimal units with three significant digits: `4.1kB`.
pub fn short_size(bytes: f64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 3)
}

/// A size in binary units with four significant digits: `23.54GiB`.
pub fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(bytes: f64, base: f64, suffixes: &[&str], digits: usize) -> String {
    let mut size = bytes;
    let mut index = 0;
    while size >= base && index < suffixes.len() - 1 {
        size /= base;
        index += 1;
    }
    format!("{}{}", significant(size, digits), suffixes[index])
}

/// A number with so many significant digits and no trailing zeros: C's `%.4g`.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let rounded = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

/// Parses a size with an optional binary suffix: `64m`, `1.5GiB`, `512 kb`.
///
/// Errors are complete sentences for the user: `invalid suffix: 'x'`.
pub fn ram_in_bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let last = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(invalid)?;
    let number = if text.as_bytes()[last] == b' ' {
        &text[..last]
    } else {
        &text[..=last]
    };
    let suffix = &text[last + 1..];
    let size: f64 = number.parse().map_err(|_| {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            crate::flag::go_quote(number)
        )
    })?;
    if size < 0.0 {
        return Err(invalid());
    }
    if suffix.is_empty() {
        return Ok(size as i64);
    }
    let suffix = if suffix.len() > 3 {
        suffix.to_owned()
    } else {
        suffix.to_lowercase()
    };
    let bad = || format!("invalid suffix: '{suffix}'");
    if suffix == "b" {
        return Ok(size as i64);
    }
    let (unit, tail) = suffix.split_at_checked(1).ok_or_else(bad)?;
    let power = match unit {
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    if !matches!(tail, "" | "b" | "ib") {
        return Err(bad());
    }
    Ok((size * 1024f64.powi(power)) as i64)
}

/// A span of time as a person would say it: `5 minutes`, `About an hour`.
pub fn human_duration(span_s: f64) -> String {
    let seconds = span_s as i64;
    let minutes = (span_s / 60.0) as i64;
    let hours = (span_s / 3600.0 + 0.5) as i64;
    if seconds < 1 {
        "Less than a second".to_owned()
    } else if seconds == 1 {
        "1 second".to_owned()
    } else if seconds < 60 {
        format!("{seconds} seconds")
    } else if minutes == 1 {
        "About a minute".to_owned()
    } else if minutes < 60 {
        format!("{minutes} minutes")
    } else if hours == 1 {
        "About an hour".to_owned()
    } else if hours < 48 {
        format!("{hours} hours")
    } else if hours < 24 * 7 * 2 {
        format!("{} days", hours / 24)
    } else if hours < 24 * 30 * 2 {
        format!("{} weeks", hours / 24 / 7)
    } else if hours < 24 * 365 * 2 {
        format!("{} months", hours / 24 / 30)
    } else {
        format!("{} years", (span_s / 3600.0) as i64 / 24 / 365)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_three_or_four_significant_digits() {
        let table = [
            (0.0, "0B", "0B", "0B"),
            (1.0, "1B", "1B", "1B"),
            (999.0, "999B", "999B", "999B"),
            (1000.0, "1kB", "1kB", "1000B"),
            (1023.0, "1.023kB", "1.02kB", "1023B"),
            (1024.0, "1.024kB", "1.02kB", "1KiB"),
            (4096.0, "4.096kB", "4.1kB", "4KiB"),
            (2_060_000.0, "2.06MB", "2.06MB", "1.965MiB"),
            (3_124_100.0, "3.124MB", "3.12MB", "2.979MiB"),
            (25_276_510_208.0, "25.28GB", "25.3GB", "23.54GiB"),
            (1e15, "1PB", "1PB", "909.5TiB"),
        ];
        for (bytes, human, short, binary) in table {
            assert_eq!(human_size(bytes), human, "{bytes}");
            assert_eq!(short_size(bytes), short, "{bytes}");
            assert_eq!(binary_size(bytes), binary, "{bytes}");
        }
    }

    #[test]
    fn sizes_are_read_with_binary_suffixes() {
        let table = [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32kb", 32 << 10),
            ("32KiB", 32 << 10),
            ("1.5m", 3 << 19),
            ("64 m", 64 << 20),
            ("2g", 2 << 30),
            ("1T", 1 << 40),
            ("1pib", 1 << 50),
            (".5k", 512),
        ];
        for (text, bytes) in table {
            assert_eq!(ram_in_bytes(text), Ok(bytes), "{text}");
        }
        let refused = [
            ("", "invalid size: ''"),
            ("hello", "invalid size: 'hello'"),
            ("-32", "invalid size: '-32'"),
            ("1x", "invalid suffix: 'x'"),
            ("32 mbyte", "invalid suffix: 'mbyte'"),
            ("32bb", "invalid suffix: 'bb'"),
            ("32kx", "invalid suffix: 'kx'"),
            (
                "1.2.3",
                "strconv.ParseFloat: parsing \"1.2.3\": invalid syntax",
            ),
        ];
        for (text, message) in refused {
            assert_eq!(ram_in_bytes(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn spans_of_time_read_as_people_say_them() {
        let (minute, hour, day) = (60.0, 3600.0, 86400.0);
        let table = [
            (-5.0, "Less than a second"),
            (0.45, "Less than a second"),
            (1.0, "1 second"),
            (45.0, "45 seconds"),
            (minute, "About a minute"),
            (1.5 * minute, "About a minute"),
            (3.0 * minute, "3 minutes"),
            (35.0 * minute + 40.0, "35 minutes"),
            (hour, "About an hour"),
            (hour + 29.0 * minute, "About an hour"),
            (hour + 31.0 * minute, "2 hours"),
            (47.0 * hour, "47 hours"),
            (2.0 * day, "2 days"),
            (13.0 * day, "13 days"),
            (14.0 * day, "2 weeks"),
            (59.0 * day, "8 weeks"),
            (60.0 * day, "2 months"),
            (700.0 * day, "23 months"),
            (730.0 * day, "2 years"),
            (2000.0 * day, "5 years"),
        ];
        for (span_s, words) in table {
            assert_eq!(human_duration(span_s), words, "{span_s}");
        }
    }
}
