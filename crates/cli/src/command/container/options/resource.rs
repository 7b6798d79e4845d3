//! Limits: `--cpus`, `--memory-swap`, `--ulimit`, `--sysctl`.

use std::collections::BTreeMap;

use conex_api::container::Ulimit;

use crate::units::ram_in_bytes;

/// Names `--ulimit` knows, of `RLIMIT_*`.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
/// Sysctls beside `net.*` and `fs.mqueue.*` that have a namespace.
const SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];
/// 10⁻⁹ of a CPU.
const NANO: i128 = 1_000_000_000;

/// A number of CPUs (`1.5`, `3/2`, `5e-1`) in 10⁻⁹ CPUs.
pub(in crate::command::container) fn nano_cpus(text: &str) -> Result<i64, String> {
    let no_number = || format!("failed to parse {text} as a rational number");
    let (numerator, denominator) = rational(text).ok_or_else(no_number)?;
    let nano = numerator.checked_mul(NANO).ok_or_else(no_number)?;
    if nano % denominator != 0 {
        return Err("value is too precise".to_owned());
    }
    i64::try_from(nano / denominator).map_err(|_| no_number())
}

/// Refuses what is no number of CPUs.
pub(in crate::command::container) fn check_cpus(text: &str) -> Result<(), String> {
    nano_cpus(text).map(drop)
}

/// A fraction, or a decimal with an exponent, as numerator and denominator.
fn rational(text: &str) -> Option<(i128, i128)> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let whole = |digits: &str| -> Option<i128> {
        let fits =
            !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|b| b.is_ascii_digit());
        if fits { digits.parse().ok() } else { None }
    };
    let (numerator, denominator) = if let Some((numerator, denominator)) = digits.split_once('/') {
        (whole(numerator)?, whole(denominator).filter(|d| *d != 0)?)
    } else {
        let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (digits, 0),
        };
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let fraction = fraction.trim_end_matches('0');
        let value = whole(&format!("{integer}{fraction}"))
            .or_else(|| (mantissa == "." || mantissa.is_empty()).then_some(-1))?;
        if value < 0 {
            return None;
        }
        let scale = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let power = 10i128
            .checked_pow(scale.unsigned_abs())
            .filter(|_| scale.unsigned_abs() <= 20)?;
        if scale < 0 {
            (value, power)
        } else {
            (value.checked_mul(power)?, 1)
        }
    };
    Some((if negative { -numerator } else { numerator }, denominator))
}

/// A size in bytes, or -1 for no limit.
pub(in crate::command::container) fn memory_swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        Ok(-1)
    } else {
        ram_in_bytes(text)
    }
}

/// Refuses what is no size and not -1.
pub(in crate::command::container) fn check_memory_swap(text: &str) -> Result<(), String> {
    memory_swap(text).map(drop)
}

/// `name=soft[:hard]`, -1 for no limit.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
    };
    let parts: Vec<&str> = limits.split(':').collect();
    let (soft, hard) = match parts.as_slice() {
        [soft] => (number(soft)?, number(soft)?),
        [soft, hard] => {
            let hard = number(hard)?;
            (number(soft)?, hard)
        }
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    let rule = "ulimit soft limit must be less than or equal to hard limit";
    if hard != -1 && soft == -1 {
        return Err(format!("{rule}: soft: -1 (unlimited), hard: {hard}"));
    }
    if hard != -1 && soft > hard {
        return Err(format!("{rule}: {soft} > {hard}"));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        hard,
        soft,
    })
}

/// Refuses what is no `--ulimit`.
pub(super) fn check_ulimit(text: &str) -> Result<(), String> {
    ulimit(text).map(drop)
}

/// Every `--ulimit`, the last one of a name, in the order of names.
pub(super) fn ulimits(values: &[String]) -> Result<Vec<Ulimit>, String> {
    let mut by_name = BTreeMap::new();
    for value in values {
        let limit = ulimit(value)?;
        by_name.insert(limit.name.clone(), limit);
    }
    Ok(by_name.into_values().collect())
}

/// Refuses a sysctl that has no namespace.
pub(super) fn check_sysctl(text: &str) -> Result<(), String> {
    let allowed = text.split_once('=').is_some_and(|(name, _)| {
        SYSCTLS.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.")
    });
    if allowed {
        Ok(())
    } else {
        Err(format!("sysctl '{text}' is not allowed"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn cpus_are_exact_numbers() {
        for (text, want) in [
            ("1", 1_000_000_000),
            ("0.5", 500_000_000),
            (".5", 500_000_000),
            ("1.", 1_000_000_000),
            ("1.50", 1_500_000_000),
            ("3/2", 1_500_000_000),
            ("5e-1", 500_000_000),
            ("1E1", 10_000_000_000),
            ("0.000000001", 1),
            ("-1", -1_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(nano_cpus(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "a",
            ".",
            "1/0",
            "1.5/2",
            "1e",
            "1e99",
            "1e-99",
            "-",
            "1 ",
            "99999999999",
        ] {
            assert_eq!(
                nano_cpus(text),
                Err(format!("failed to parse {text} as a rational number")),
                "{text}"
            );
        }
        assert_eq!(
            nano_cpus("0.0000000001"),
            Err("value is too precise".into())
        );
        assert_eq!(nano_cpus("1/3"), Err("value is too precise".into()));
    }

    #[test]
    fn swap_may_be_unlimited() {
        assert_eq!(memory_swap("-1"), Ok(-1));
        assert_eq!(memory_swap("1g"), Ok(1 << 30));
        assert!(check_memory_swap("-2").is_err());
    }

    #[test]
    fn ulimits_have_a_soft_and_a_hard_side() {
        let limit = ulimit("nofile=10:20").unwrap();
        assert_eq!((limit.soft, limit.hard), (10, 20));
        assert_eq!(ulimit("core=-1").unwrap().hard, -1);
        for (text, want) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("nope=1", "invalid ulimit type: nope"),
            ("core=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "core=1:2:3",
                "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
            ),
            (
                "core=2:1",
                "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
            ),
            (
                "core=-1:1",
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 1",
            ),
        ] {
            assert_eq!(check_ulimit(text).unwrap_err(), want, "{text}");
        }
        let all = ulimits(&["nproc=1".into(), "core=1".into(), "nproc=2".into()]).unwrap();
        assert_eq!(
            all.iter()
                .map(|l| (l.name.as_str(), l.soft))
                .collect::<Vec<_>>(),
            [("core", 1), ("nproc", 2)]
        );
    }

    #[test]
    fn a_sysctl_must_have_a_namespace() {
        for good in [
            "net.ipv4.ip_forward=1",
            "kernel.shmmax=1",
            "fs.mqueue.msg_max=1",
        ] {
            assert_eq!(check_sysctl(good), Ok(()));
        }
        for bad in ["kernel.panic=1", "net.x", "=1", ""] {
            assert_eq!(
                check_sysctl(bad),
                Err(format!("sysctl '{bad}' is not allowed"))
            );
        }
    }
}
