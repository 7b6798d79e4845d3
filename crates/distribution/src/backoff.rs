//! When to try again, and who is told.

use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::settings::Settings;

/// Told how a transfer goes.
pub trait Watch: Send + Sync {
    /// So many bytes of it are done.
    fn progress(&self, _current_bytes: u64) {}
    /// It failed and is tried again in so many seconds; told once a second.
    fn retrying(&self, _seconds: u64) {}
}

/// Nobody is told.
impl Watch for () {}

/// A registry that wants to be left alone longer than this gets its error to the user instead.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// The doubling ends here.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The pause after the `failures`-th failure; `None`: give up.
fn delay(settings: &Settings, failures: u32, error: &Error) -> Option<Duration> {
    if !error.is_transient() || failures >= settings.attempts.max(1) {
        return None;
    }
    let doubled = settings
        .first_delay
        .saturating_mul(1 << (failures - 1).min(16))
        .min(LONGEST_DELAY);
    match error.retry_after() {
        Some(after) if after > LONGEST_WAIT => None,
        Some(after) => Some(after.max(doubled)),
        None => Some(doubled),
    }
}

/// Waits before the next try, telling the seconds that are left; `false`: there is to be none.
pub(crate) async fn pause(
    settings: &Settings,
    failures: u32,
    error: &Error,
    watch: &dyn Watch,
) -> bool {
    let Some(mut left) = delay(settings, failures, error) else {
        return false;
    };
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(1));
        watch.retrying(left.as_secs_f64().ceil() as u64);
        tokio::time::sleep(step).await;
        left -= step;
    }
    true
}

/// Reads `Retry-After`: seconds or a date (RFC 9110 section 10.2.3).
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    let at = SystemTime::from(date.timestamp());
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn limited(seconds: u64) -> Error {
        Error::Limited {
            message: String::new(),
            after: Some(Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn pauses_double_until_the_attempts_are_used_up() {
        let settings = Settings::default();
        let broken = Error::Unreachable {
            request: String::new(),
            reason: String::new(),
        };
        let pauses: Vec<_> = (1..=5).map(|n| delay(&settings, n, &broken)).collect();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(
            pauses,
            [seconds(1), seconds(2), seconds(4), seconds(8), None]
        );
    }

    #[test]
    fn a_registry_is_waited_for_as_it_asks_but_not_for_ever() {
        let settings = Settings::default();
        let wait = |seconds| delay(&settings, 1, &limited(seconds));
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(0), Some(Duration::from_secs(1)));
        assert_eq!(wait(3600), None);
        let refusal = Error::NotFound(String::new());
        assert_eq!(delay(&settings, 1, &refusal), None);
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        assert_eq!(retry_after(" 30 "), Some(Duration::from_secs(30)));
        assert_eq!(
            retry_after("Fri, 31 Dec 1999 23:59:59 GMT"),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after("soon"), None);
    }
}
