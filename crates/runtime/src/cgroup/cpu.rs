//! The cpu controller: weight, quota and realtime time. It must not know
//! `--cpus`, which is quota and period by the time it comes here.

use conex_spec::runtime::{Cpu, Resources};

use super::Error;
use super::file::{Dir, Place};

const NO_SHARES: &str = "Your kernel does not support CPU shares or the cgroup is not mounted. \
     Shares discarded.";
const NO_QUOTA: &str = "Your kernel does not support CPU CFS scheduler or the cgroup is not \
     mounted. Quota and period discarded.";
const NO_REALTIME: &str = "Your kernel does not support CPU real-time scheduler. Real-time \
     period and runtime discarded.";
const NO_BURST: &str = "Your kernel does not support CPU burst. Burst discarded.";
const NO_IDLE: &str = "Your kernel does not support idle cgroups. CPU idle discarded.";

/// Length of a period unless set, in microseconds.
const DEFAULT_PERIOD_US: u64 = 100_000;

pub(super) fn apply(
    place: Place<'_>,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(cpu) = &resources.cpu else {
        return Ok(());
    };
    let limits = Limits::of(cpu);
    match place {
        Place::V1(dir) => limits.apply_v1(dir, warnings),
        Place::V2(dir) => limits.apply_v2(dir, warnings),
        Place::Missing => {
            if limits.shares.is_some() {
                warnings.push(NO_SHARES.to_owned());
            }
            if limits.quota_us.is_some() || limits.period_us.is_some() {
                warnings.push(NO_QUOTA.to_owned());
            }
            Ok(())
        }
    }
}

/// What is asked for, zero being the same as absent.
struct Limits {
    shares: Option<u64>,
    quota_us: Option<i64>,
    period_us: Option<u64>,
    burst_us: Option<u64>,
    realtime_runtime_us: Option<i64>,
    realtime_period_us: Option<u64>,
    idle: Option<i64>,
}

impl Limits {
    fn of(cpu: &Cpu) -> Self {
        Self {
            shares: cpu.shares.filter(|shares| *shares != 0),
            quota_us: cpu.quota.filter(|quota| *quota != 0),
            period_us: cpu.period.filter(|period| *period != 0),
            burst_us: cpu.burst,
            realtime_runtime_us: cpu.realtime_runtime.filter(|runtime| *runtime != 0),
            realtime_period_us: cpu.realtime_period.filter(|period| *period != 0),
            idle: cpu.idle,
        }
    }

    fn apply_v1(&self, dir: Dir<'_>, warnings: &mut Vec<String>) -> Result<(), Error> {
        let mut write = |file: &str, value: Option<i64>, warning: &str| match value {
            Some(value) if !dir.write_if_supported(file, value)? => {
                warnings.push(warning.to_owned());
                Ok(())
            }
            _ => Ok::<(), Error>(()),
        };
        write("cpu.idle", self.idle, NO_IDLE)?;
        if self.idle != Some(1) {
            write("cpu.shares", self.shares.map(signed), NO_SHARES)?;
        }
        write(
            "cpu.rt_period_us",
            self.realtime_period_us.map(signed),
            NO_REALTIME,
        )?;
        write("cpu.rt_runtime_us", self.realtime_runtime_us, NO_REALTIME)?;

        // Each write must fit what is there: a shorter period may only fit the
        // new quota, a smaller quota only the new burst. So what fails before
        // is tried again after.
        let burst = self.burst_us.map(signed);
        let early = write("cpu.cfs_burst_us", burst, NO_BURST);
        let period = self.period_us.map(signed);
        let first = write("cpu.cfs_period_us", period, NO_QUOTA);
        if self.quota_us.is_none() {
            first?;
            return early;
        }
        write("cpu.cfs_quota_us", self.quota_us, NO_QUOTA)?;
        if first.is_err() {
            write("cpu.cfs_period_us", period, NO_QUOTA)?;
        }
        if early.is_err() {
            write("cpu.cfs_burst_us", burst, NO_BURST)?;
        }
        Ok(())
    }

    fn apply_v2(&self, dir: Dir<'_>, warnings: &mut Vec<String>) -> Result<(), Error> {
        if let Some(idle) = self.idle
            && !dir.write_if_supported("cpu.idle", idle)?
        {
            warnings.push(NO_IDLE.to_owned());
        }
        // The weight of an idle cgroup is fixed.
        if let Some(shares) = self.shares
            && self.idle != Some(1)
            && !dir.write_if_supported("cpu.weight", weight(shares))?
        {
            warnings.push(NO_SHARES.to_owned());
        }
        let early = self
            .burst_us
            .map(|burst_us| dir.write_if_supported("cpu.max.burst", burst_us));
        if self.quota_us.is_some() || self.period_us.is_some() {
            if dir.exists("cpu.max") {
                dir.write("cpu.max", self.max_line(&dir.read("cpu.max")?))?;
            } else {
                warnings.push(NO_QUOTA.to_owned());
            }
        }
        if let (Some(early), Some(burst_us)) = (early, self.burst_us) {
            let supported = match early {
                Ok(supported) => supported,
                Err(_) => dir.write_if_supported("cpu.max.burst", burst_us)?,
            };
            if !supported {
                warnings.push(NO_BURST.to_owned());
            }
        }
        Ok(())
    }

    /// `quota period`, what is not asked for kept from the line that is there.
    fn max_line(&self, current: &str) -> String {
        let mut current = current.split_whitespace();
        let quota = match (self.quota_us, current.next()) {
            (Some(quota_us), _) if quota_us > 0 => quota_us.to_string(),
            (None, Some(quota)) => quota.to_owned(),
            _ => "max".to_owned(),
        };
        let period_us = self
            .period_us
            .or_else(|| current.next()?.parse().ok())
            .unwrap_or(DEFAULT_PERIOD_US);
        format!("{quota} {period_us}")
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Shares (2 to 262144, 1024 by default) as a weight (1 to 10000, 100 by default).
///
/// The curve through the three that runc and crun agree on; a straight line
/// would give the default shares a weight of 39.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let exponent = (shares as f64).log2();
            let exponent = (exponent * exponent + 125.0 * exponent) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn shares_become_weights_at_the_known_points() {
        for (shares, expected) in [
            (2, 1),
            (3, 2),
            (1024, 100),
            (512, 60),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            let got = weight(shares);
            assert!(
                got.abs_diff(expected) <= 1,
                "{shares}: {got}, not {expected}"
            );
        }
        assert_eq!(weight(1024), 100);
    }

    fn cpu(quota: Option<i64>, period: Option<u64>) -> Limits {
        Limits::of(&Cpu {
            quota,
            period,
            ..Cpu::default()
        })
    }

    #[test]
    fn what_is_not_asked_for_stays_in_cpu_max() {
        assert_eq!(
            cpu(Some(50_000), None).max_line("max 100000\n"),
            "50000 100000"
        );
        assert_eq!(
            cpu(None, Some(20_000)).max_line("50000 100000\n"),
            "50000 20000"
        );
        assert_eq!(cpu(Some(-1), None).max_line("50000 20000\n"), "max 20000");
        assert_eq!(cpu(Some(10), Some(20)).max_line(""), "10 20");
    }

    #[test]
    fn version_2_writes_weight_and_quota() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [("cpu.weight", "100\n"), ("cpu.max", "max 100000\n")] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let resources = Resources {
            cpu: Some(Cpu {
                shares: Some(262_144),
                quota: Some(150_000),
                burst: Some(1),
                ..Cpu::default()
            }),
            ..Resources::default()
        };
        let mut warnings = Vec::new();
        apply(Place::V2(Dir(dir.path())), &resources, &mut warnings).unwrap();
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(read("cpu.weight").starts_with("10000"));
        assert!(read("cpu.max").starts_with("150000 100000"));
        assert_eq!(warnings, [NO_BURST]);
    }
}
