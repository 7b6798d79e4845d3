//! RFC 3339 times with nanoseconds, as log files and the API write them.
//!
//! Times are nanoseconds since 1970-01-01T00:00:00Z and always written in UTC. The two
//! forms differ in the fraction: `2026-01-02T03:04:05.6Z` (trailing zeros dropped, in
//! files) and `2026-01-02T03:04:05.600000000Z` (fixed width, in `logs --timestamps`).

const NS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// 0000-01-01T00:00:00Z in seconds.
const FIRST_SECOND: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z in seconds.
const LAST_SECOND: i64 = 253_402_300_799;
/// Length of the part that every form has: `2026-01-02T03:04:05`.
const SECONDS_LEN: usize = 19;

/// Appends the form with trailing zeros of the fraction dropped.
///
/// Years outside 0..=9999 have no such form; they are clamped.
pub fn push_trimmed(out: &mut Vec<u8>, time_ns: i128) {
    let nanos = push_seconds(out, time_ns);
    if nanos > 0 {
        let digits = nine_digits(nanos);
        let len = digits
            .iter()
            .rposition(|d| *d != b'0')
            .map_or(0, |last| last + 1);
        out.push(b'.');
        out.extend_from_slice(&digits[..len]);
    }
    out.push(b'Z');
}

/// Appends the form with nine digits of fraction, 30 bytes long.
///
/// Years outside 0..=9999 have no such form; they are clamped.
pub fn push_fixed(out: &mut Vec<u8>, time_ns: i128) {
    let nanos = push_seconds(out, time_ns);
    out.push(b'.');
    out.extend_from_slice(&nine_digits(nanos));
    out.push(b'Z');
}

/// Reads any RFC 3339 time, with or without a fraction, in UTC or with an offset.
pub fn parse(text: &[u8]) -> Option<i128> {
    parse_utc(text).or_else(|| {
        let text = std::str::from_utf8(text).ok()?;
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(time.as_nanosecond())
    })
}

/// Appends everything up to the seconds and returns the nanoseconds within the second.
fn push_seconds(out: &mut Vec<u8>, time_ns: i128) -> u32 {
    let first = i128::from(FIRST_SECOND) * NS_PER_SECOND;
    let last = i128::from(LAST_SECOND) * NS_PER_SECOND + (NS_PER_SECOND - 1);
    let time_ns = time_ns.clamp(first, last);
    let seconds = i64::try_from(time_ns.div_euclid(NS_PER_SECOND)).expect("clamped to year 9999");
    let nanos = u32::try_from(time_ns.rem_euclid(NS_PER_SECOND)).expect("less than 10^9");
    let (year, month, day) = civil(seconds.div_euclid(SECONDS_PER_DAY));
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut form = *b"0000-00-00T00:00:00";
    for (at, value) in [
        (0, year / 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, hour),
        (14, minute),
        (17, second),
    ] {
        form[at] = digit(value / 10);
        form[at + 1] = digit(value % 10);
    }
    out.extend_from_slice(&form);
    nanos
}

fn digit(value: i64) -> u8 {
    b'0' + u8::try_from(value).expect("one decimal digit")
}

fn nine_digits(nanos: u32) -> [u8; 9] {
    let mut digits = [b'0'; 9];
    let mut rest = nanos;
    for place in digits.iter_mut().rev() {
        *place = digit(i64::from(rest % 10));
        rest /= 10;
    }
    digits
}

/// Year, month and day of a number of days since 1970 (the proleptic Gregorian calendar,
/// counted in eras of 400 years that begin on the first of March).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970 of a date; the inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The quick way for our own shape; `None` sends the text to the general parser.
fn parse_utc(text: &[u8]) -> Option<i128> {
    let (seconds, fraction) = text.strip_suffix(b"Z")?.split_at_checked(SECONDS_LEN)?;
    let number = |at: usize, len: usize| -> Option<i64> {
        seconds[at..at + len].iter().try_fold(0, |sum, byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + i64::from(byte - b'0'))
        })
    };
    let shape = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if shape.iter().any(|(at, byte)| seconds[*at] != *byte) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if !(1..=12).contains(&month) || day < 1 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let day_number = days(year, month, day);
    if civil(day_number) != (year, month, day) {
        return None;
    }
    let nanos = match fraction.strip_prefix(b".") {
        None if fraction.is_empty() => 0,
        Some(digits) if (1..=9).contains(&digits.len()) => {
            let mut nanos = 0_i64;
            for at in 0..9 {
                let byte = digits.get(at).copied().unwrap_or(b'0');
                if !byte.is_ascii_digit() {
                    return None;
                }
                nanos = nanos * 10 + i64::from(byte - b'0');
            }
            nanos
        }
        _ => return None,
    };
    let total = day_number * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    Some(i128::from(total) * NS_PER_SECOND + i128::from(nanos))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn trimmed(time_ns: i128) -> String {
        let mut out = Vec::new();
        push_trimmed(&mut out, time_ns);
        String::from_utf8(out).unwrap()
    }

    fn fixed(time_ns: i128) -> String {
        let mut out = Vec::new();
        push_fixed(&mut out, time_ns);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_fraction_is_trimmed_in_files_and_fixed_in_answers() {
        let base = 1_794_462_747 * NS_PER_SECOND;
        assert_eq!(trimmed(base), "2026-11-12T05:52:27Z");
        assert_eq!(trimmed(base + 100_000_000), "2026-11-12T05:52:27.1Z");
        assert_eq!(trimmed(base + 1), "2026-11-12T05:52:27.000000001Z");
        assert_eq!(fixed(base + 853_504_830), "2026-11-12T05:52:27.853504830Z");
        assert_eq!(fixed(base), "2026-11-12T05:52:27.000000000Z");
    }

    #[test]
    fn times_without_a_form_are_clamped() {
        assert_eq!(trimmed(i128::MAX), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(trimmed(i128::MIN), "0000-01-01T00:00:00Z");
    }

    #[test]
    fn offsets_are_understood_and_nonsense_is_not() {
        assert_eq!(parse(b"1970-01-01T02:00:00.5+02:00"), Some(500_000_000));
        for wrong in [
            &b""[..],
            b"Z",
            b"2026-02-30T00:00:00Z",
            b"2026-13-01T00:00:00Z",
            b"2026-01-01T24:00:01Z",
            b"2026-01-01T00:00:00.Z",
            b"2026-01-01T00:00:00.12x4Z",
            b"\xff\xff\xff\xff-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }

    proptest! {
        #[test]
        fn our_calendar_agrees_with_the_general_one(
            seconds in FIRST_SECOND..=LAST_SECOND - 86_400, nanos in 0..NS_PER_SECOND,
        ) {
            let time_ns = i128::from(seconds) * NS_PER_SECOND + nanos;
            let text = trimmed(time_ns);
            let theirs: jiff::Timestamp = text.parse().unwrap();
            prop_assert_eq!(theirs.as_nanosecond(), time_ns);
            prop_assert_eq!(parse_utc(text.as_bytes()), Some(time_ns));
            prop_assert_eq!(parse_utc(fixed(time_ns).as_bytes()), Some(time_ns));
        }

        #[test]
        fn whatever_is_understood_can_be_written(bytes in "[0-9TZ:.+ -]{0,36}") {
            if let Some(time_ns) = parse(bytes.as_bytes()) {
                prop_assert_eq!(parse(trimmed(time_ns).as_bytes()), Some(time_ns));
            }
        }
    }
}
