//! Health: how it is asked for, and what the answers mean; pure.
//!
//! ```text
//!             success                    retries failures in a row
//!  Starting ───────────► Healthy ◄──────────────────────────────► Unhealthy
//!      │                             one success                      ▲
//!      └── retries failures after the start period ───────────────────┘
//! ```
//! A container that does not run has nobody healthy in it: its end is Unhealthy.

use std::time::Duration;

use conex_api::container::{self as api, Config};
use serde::{Deserialize, Serialize};

use crate::time::rfc3339;

/// What is kept of a probe's output, in bytes.
pub(super) const MAX_OUTPUT: usize = 4096;

/// How many results are kept.
const REMEMBERED: usize = 5;

/// How a container's health is asked for, with Docker's defaults where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) command: Vec<String>,
    interval: Duration,
    pub(super) timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Check {
    /// `None` when nothing is to be asked.
    pub(super) fn of(config: &Config) -> Option<Check> {
        let health = config.healthcheck.as_ref()?;
        let (kind, words) = health.test.split_first()?;
        let command = match kind.as_str() {
            "CMD" => words.to_vec(),
            "CMD-SHELL" => {
                let shell = match config.shell.as_slice() {
                    [] => vec!["/bin/sh".into(), "-c".into()],
                    shell => shell.to_vec(),
                };
                [shell, words.to_vec()].concat()
            }
            // `NONE`, and what Docker does not know either.
            _ => return None,
        };
        let or = |ns: i64, default_seconds| match u64::try_from(ns) {
            Ok(ns @ 1..) => Duration::from_nanos(ns),
            _ => Duration::from_secs(default_seconds),
        };
        Some(Check {
            command,
            interval: or(health.interval, 30),
            timeout: or(health.timeout, 30),
            start_period: or(health.start_period, 0),
            start_interval: or(health.start_interval, 5),
            retries: u32::try_from(health.retries)
                .ok()
                .filter(|retries| *retries > 0)
                .unwrap_or(3),
        })
    }

    /// How long to wait before the next probe of a container that has run for `ran`.
    pub(super) fn pause(&self, health: &Health, ran: Duration) -> Duration {
        if health.status == Status::Starting && ran < self.start_period {
            self.start_interval
        } else {
            self.interval
        }
    }
}

/// What is known of a container's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// No probe has succeeded yet.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Enough probes have failed.
    Unhealthy,
}

impl Status {
    /// Its word in the API.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Healthy => "healthy",
            Status::Unhealthy => "unhealthy",
        }
    }
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Nanoseconds since the epoch.
    pub(super) started_ns: i64,
    /// Nanoseconds since the epoch.
    pub(super) ended_ns: i64,
    /// 0 is healthy; −1 when there is none.
    pub(super) exit_code: i32,
    pub(super) output: String,
}

/// The health of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(super) status: Status,
    failing_streak: u32,
    /// The oldest first.
    log: Vec<Probe>,
}

impl Health {
    /// Of a container that was just started.
    pub(super) fn starting() -> Health {
        Health {
            status: Status::Starting,
            failing_streak: 0,
            log: Vec::new(),
        }
    }

    /// After one more probe of a container that was started at `started_ns`.
    pub(super) fn after(&self, probe: Probe, check: &Check, started_ns: i64) -> Health {
        let mut next = self.clone();
        if probe.exit_code == 0 {
            next.failing_streak = 0;
            next.status = Status::Healthy;
        } else {
            let ran = u64::try_from(probe.started_ns - started_ns).unwrap_or(0);
            let is_excused =
                self.status == Status::Starting && Duration::from_nanos(ran) < check.start_period;
            if !is_excused {
                next.failing_streak += 1;
                if next.failing_streak >= check.retries {
                    next.status = Status::Unhealthy;
                }
            }
        }
        next.log.push(probe);
        let surplus = next.log.len().saturating_sub(REMEMBERED);
        next.log.drain(..surplus);
        next
    }

    /// `State.Health` of the API.
    pub(super) fn shown(&self) -> api::Health {
        let result = |probe: &Probe| api::HealthcheckResult {
            start: rfc3339(probe.started_ns),
            end: rfc3339(probe.ended_ns),
            exit_code: probe.exit_code,
            output: probe.output.clone(),
        };
        api::Health {
            status: self.status.as_str().into(),
            failing_streak: self.failing_streak.into(),
            log: Some(self.log.iter().map(result).collect()),
        }
    }

    /// What a list shows of it.
    pub(super) fn summary(health: Option<&Health>) -> api::HealthSummary {
        api::HealthSummary {
            status: health
                .map_or("none", |health| health.status.as_str())
                .into(),
            failing_streak: health.map_or(0, |health| health.failing_streak.into()),
        }
    }
}

/// A probe's output, cut where it is too long.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Output {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT - self.bytes.len();
        self.is_cut |= bytes.len() > room;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let end = if self.is_cut { "..." } else { "" };
        format!("{text}{end}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_api::container::HealthConfig;

    const SECOND: i64 = 1_000_000_000;

    fn check(health: HealthConfig) -> Option<Check> {
        Check::of(&Config {
            healthcheck: Some(health),
            ..Config::default()
        })
    }

    fn of(words: &[&str]) -> HealthConfig {
        HealthConfig {
            test: words.iter().map(|w| (*w).to_owned()).collect(),
            ..HealthConfig::default()
        }
    }

    fn probe(started_ns: i64, exit_code: i32) -> Probe {
        Probe {
            started_ns,
            ended_ns: started_ns + 1,
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn a_check_has_dockers_defaults() {
        for none in [&["NONE"][..], &[], &["CMDS", "x"]] {
            assert_eq!(check(of(none)), None);
        }
        assert_eq!(Check::of(&Config::default()), None);
        let plain = check(of(&["CMD", "a", "b"])).unwrap();
        assert_eq!(plain.command, ["a", "b"]);
        let seconds = [
            plain.interval,
            plain.timeout,
            plain.start_period,
            plain.start_interval,
        ];
        assert_eq!(seconds.map(|d| d.as_secs()), [30, 30, 0, 5]);
        assert_eq!(plain.retries, 3);
        let shell = check(of(&["CMD-SHELL", "a b"])).unwrap();
        assert_eq!(shell.command, ["/bin/sh", "-c", "a b"]);
    }

    #[test]
    fn enough_failures_in_a_row_are_unhealthy_and_one_success_heals() {
        let check = check(HealthConfig {
            retries: 2,
            ..of(&["CMD", "x"])
        })
        .unwrap();
        let mut health = Health::starting();
        let mut seen = Vec::new();
        for exit_code in [1, 0, -1, 0, 1, 1, 1, 0] {
            health = health.after(probe(SECOND, exit_code), &check, 0);
            seen.push(health.status);
        }
        use Status::{Healthy as H, Starting as S, Unhealthy as U};
        assert_eq!(seen, [S, H, H, H, H, U, U, H]);
        assert_eq!(health.log.len(), REMEMBERED);
        let codes: Vec<_> = health.log.iter().map(|p| p.exit_code).collect();
        assert_eq!(codes, [0, 1, 1, 1, 0]);
    }

    #[test]
    fn failures_of_the_start_do_not_count_until_a_success_ended_it() {
        let check = check(HealthConfig {
            retries: 1,
            start_period: 10 * SECOND,
            ..of(&["CMD", "x"])
        })
        .unwrap();
        let health = Health::starting().after(probe(9 * SECOND, 1), &check, 0);
        assert_eq!(
            (health.status, health.failing_streak),
            (Status::Starting, 0)
        );
        assert_eq!(check.pause(&health, Duration::from_secs(9)).as_secs(), 5);
        assert_eq!(check.pause(&health, Duration::from_secs(10)).as_secs(), 30);
        let late = health.after(probe(11 * SECOND, 1), &check, 0);
        assert_eq!(late.status, Status::Unhealthy);
        let well = health.after(probe(SECOND, 0), &check, 0);
        assert_eq!(check.pause(&well, Duration::from_secs(2)).as_secs(), 30);
        assert_eq!(
            well.after(probe(SECOND, 1), &check, 0).status,
            Status::Unhealthy
        );
    }

    #[test]
    fn long_outputs_are_cut() {
        let mut output = Output::default();
        output.push(&[b'x'; MAX_OUTPUT]);
        assert_eq!(output.text().len(), MAX_OUTPUT);
        output.push(b"y");
        assert!(output.text().ends_with("xx...") && output.text().len() == MAX_OUTPUT + 3);
    }
}
