//! Points in time as the API writes them: RFC 3339 with nanoseconds, UTC.

/// Nanoseconds since the epoch.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// `2026-11-22T05:52:27.63126524Z`; the zero time for 0, as Go writes it.
pub(crate) fn rfc3339(ns: i64) -> String {
    if ns == 0 {
        return conex_api::ZERO_TIME.to_owned();
    }
    let mut out = Vec::with_capacity(32);
    conex_logs::timestamp::push_trimmed(&mut out, ns.into());
    String::from_utf8_lossy(&out).into_owned()
}

/// How long ago, in the words of Docker's `ps`: "5 minutes", "About an hour".
pub(crate) fn human_duration(ns: i64) -> String {
    let seconds = ns / 1_000_000_000;
    let minutes = seconds / 60;
    // Rounded to the hour, as go-units does.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// A length of time as Go prints one: `1m30s`, `1.5s`, `500ms`.
pub(crate) fn go_duration(length: std::time::Duration) -> String {
    let (seconds, ns) = (length.as_secs(), u64::from(length.subsec_nanos()));
    let decimal = |whole: u64, rest: u64, width: usize| {
        let text = format!("{whole}.{rest:0width$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match (seconds, ns) {
        (0, 0) => "0s".into(),
        (0, ..1_000) => format!("{ns}ns"),
        (0, ..1_000_000) => decimal(ns / 1_000, ns % 1_000, 3) + "µs",
        (0, _) => decimal(ns / 1_000_000, ns % 1_000_000, 6) + "ms",
        _ => {
            let last = decimal(seconds % 60, ns, 9) + "s";
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => last,
                (0, minutes) => format!("{minutes}m{last}"),
                (hours, minutes) => format!("{hours}h{minutes}m{last}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_docker_writes_them() {
        assert_eq!(rfc3339(0), "0001-01-01T00:00:00Z");
        assert_eq!(
            rfc3339(1_795_326_747_631_265_240),
            "2026-11-22T05:52:27.63126524Z"
        );
    }

    #[test]
    fn durations_read_as_docker_says_them() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (15 * 24 * 3600, "2 weeks"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds * 1_000_000_000), text);
        }
    }

    #[test]
    fn lengths_of_time_read_as_go_prints_them() {
        let cases = [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_000_000_000, "1s"),
            (90_050_000_000, "1m30.05s"),
            (3_600_000_000_000, "1h0m0s"),
        ];
        for (ns, text) in cases {
            assert_eq!(go_duration(std::time::Duration::from_nanos(ns)), text);
        }
    }
}
