//! Points in time: as users write them in `--since`, and as lists print them.
//!
//! It must not know commands.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use crate::flag::{go_quote, parse_duration_ns};

/// Seconds since 1970 now.
pub fn now_s() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// A user's point in time as the engine takes it: `SECONDS` or `SECONDS.NANOS`.
///
/// Accepts a Go duration before now, RFC 3339 with parts left out, a date, and
/// seconds since 1970 with an optional fraction. Times without a zone are local.
pub fn query_timestamp(text: &str, now_s: i64) -> Result<String, String> {
    if text != "0"
        && let Ok(span_ns) = parse_duration_ns(text)
    {
        // Rounded towards the past, as whole seconds of the reference minus the span.
        let ns = i128::from(now_s) * 1_000_000_000 - i128::from(span_ns);
        return Ok(ns.div_euclid(1_000_000_000).to_string());
    }
    if let Some(timestamp) = parse_calendar(text) {
        let ns = timestamp.as_nanosecond();
        let (seconds, nanos) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
        return Ok(format!("{seconds}.{nanos:09}"));
    }
    let is_unix = text.split('.').count() <= 2
        && text
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if is_unix {
        return Ok(text.to_owned());
    }
    if text.contains('-') {
        return Err(format!(
            "parsing time {}: cannot parse as a date or an RFC 3339 time",
            go_quote(text)
        ));
    }
    Err(format!(
        "failed to parse value as time or duration: {}",
        go_quote(text)
    ))
}

/// A date with or without a time, a time with or without a zone.
fn parse_calendar(text: &str) -> Option<Timestamp> {
    let date_end = text.get(..10)?;
    let date: civil::Date = date_end.parse().ok()?;
    let mut rest = &text[10..];
    let mut time = civil::Time::midnight();
    if let Some(after) = rest.strip_prefix('T') {
        let end = after.find(['Z', 'z', '+', '-']).unwrap_or(after.len());
        time = parse_time(&after[..end])?;
        rest = &after[end..];
    }
    let local = date.to_datetime(time);
    let zone = match rest {
        "" => TimeZone::system(),
        "Z" | "z" => TimeZone::UTC,
        offset => {
            let sign = match offset.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = offset[1..].split_once(':')?;
            if hours.len() != 2 || minutes.len() != 2 {
                return None;
            }
            let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
            TimeZone::fixed(jiff::tz::Offset::from_seconds(sign * seconds).ok()?)
        }
    };
    Some(local.to_zoned(zone).ok()?.timestamp())
}

/// `HH`, `HH:MM`, `HH:MM:SS` or with a fraction.
fn parse_time(text: &str) -> Option<civil::Time> {
    let full = match text.len() {
        2 => format!("{text}:00:00"),
        5 => format!("{text}:00"),
        _ => text.to_owned(),
    };
    full.parse().ok()
}

/// Seconds since 1970 in local time as lists print it: `2026-11-22 05:53:11 +0000 UTC`.
pub fn list_time(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(timestamp) => timestamp
            .to_zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S %z %Z")
            .to_string(),
        Err(_) => seconds.to_string(),
    }
}

/// Seconds since 1970 in local time, RFC 3339: `2026-11-22T05:53:11Z`.
pub fn zoned(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(timestamp) => {
            let zoned = timestamp.to_zoned(TimeZone::system());
            let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            text.replace("+00:00", "Z")
        }
        Err(_) => seconds.to_string(),
    }
}

/// Nanoseconds since 1970 in local time as `events` prints it: RFC 3339 with nine digits.
pub fn event_time(nanoseconds: i128) -> String {
    match Timestamp::from_nanosecond(nanoseconds) {
        Ok(timestamp) => {
            let zoned = timestamp.to_zoned(TimeZone::system());
            let zone = match zoned.offset().seconds() {
                0 => "Z".to_owned(),
                _ => zoned.strftime("%:z").to_string(),
            };
            format!("{}{zone}", zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f"))
        }
        Err(_) => nanoseconds.to_string(),
    }
}

/// Seconds from an RFC 3339 time to now, none when it is malformed.
pub fn seconds_since(rfc3339: &str, now_s: f64) -> Option<f64> {
    let timestamp: Timestamp = rfc3339.parse().ok()?;
    Some(now_s - timestamp.as_nanosecond() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_count_back_from_now() {
        assert_eq!(query_timestamp("10m", 1_000_000), Ok("999400".to_owned()));
        assert_eq!(query_timestamp("1h30m", 1_000_000), Ok("994600".to_owned()));
        assert_eq!(
            query_timestamp("1500ms", 1_000_000),
            Ok("999998".to_owned())
        );
        assert_eq!(query_timestamp("-10s", 1_000_000), Ok("1000010".to_owned()));
    }

    #[test]
    fn calendar_times_with_a_zone_are_absolute() {
        let table = [
            ("2006-01-02T15:04:05.999999999Z", "1136214245.999999999"),
            (
                "2006-01-02T15:04:05.999999999+00:00",
                "1136214245.999999999",
            ),
            ("2006-01-02T15:04:05Z", "1136214245.000000000"),
            ("2006-01-02T15:04:05+01:00", "1136210645.000000000"),
            ("2006-01-02T15:04Z", "1136214240.000000000"),
            ("2006-01-02T15Z", "1136214000.000000000"),
            ("2006-01-02Z", "1136160000.000000000"),
            ("2006-01-02T15:04:05-07:00", "1136239445.000000000"),
        ];
        for (text, expected) in table {
            assert_eq!(query_timestamp(text, 0), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn seconds_pass_as_they_are() {
        for text in ["0", "1136073600", "1136073600.000000001"] {
            assert_eq!(query_timestamp(text, 0), Ok(text.to_owned()));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(
            query_timestamp("invalid", 0),
            Err("failed to parse value as time or duration: \"invalid\"".to_owned())
        );
        assert!(query_timestamp("2006-13-02", 0).is_err());
        assert!(query_timestamp("1.2.3", 0).is_err());
        assert!(query_timestamp("ä-äääääääää", 0).is_err());
    }

    #[test]
    fn ages_are_measured_from_the_engines_text() {
        assert_eq!(seconds_since("1970-01-01T00:00:10Z", 25.0), Some(15.0));
        assert_eq!(seconds_since("yesterday", 25.0), None);
    }
}
