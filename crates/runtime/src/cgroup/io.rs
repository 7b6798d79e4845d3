//! The io controller, blkio in version 1: weights and rates of block devices.
//! It must not know device names.

use std::collections::BTreeMap;

use conex_spec::runtime::{BlockIo, Resources, ThrottleDevice};

use super::Error;
use super::file::{Dir, Place};

const NO_WEIGHT: &str = "Your kernel does not support Block I/O weight or the cgroup is not \
     mounted. Weight discarded.";
const NO_WEIGHT_DEVICE: &str = "Your kernel does not support Block I/O weight_device or the \
     cgroup is not mounted. Weight-device discarded.";

/// One list of rates: where it goes in either version, and what is said where it cannot go.
struct Throttle {
    v1: &'static str,
    v2: &'static str,
    warning: &'static str,
    rates: fn(&BlockIo) -> &[ThrottleDevice],
}

const THROTTLES: [Throttle; 4] = [
    Throttle {
        v1: "blkio.throttle.read_bps_device",
        v2: "rbps",
        warning: "Your kernel does not support BPS Block I/O read limit or the cgroup is not \
             mounted. Block I/O BPS read limit discarded.",
        rates: |io| &io.throttle_read_bps_device,
    },
    Throttle {
        v1: "blkio.throttle.write_bps_device",
        v2: "wbps",
        warning: "Your kernel does not support BPS Block I/O write limit or the cgroup is not \
             mounted. Block I/O BPS write limit discarded.",
        rates: |io| &io.throttle_write_bps_device,
    },
    Throttle {
        v1: "blkio.throttle.read_iops_device",
        v2: "riops",
        warning: "Your kernel does not support IOPS Block read limit or the cgroup is not \
             mounted. Block I/O IOPS read limit discarded.",
        rates: |io| &io.throttle_read_iops_device,
    },
    Throttle {
        v1: "blkio.throttle.write_iops_device",
        v2: "wiops",
        warning: "Your kernel does not support IOPS Block write limit or the cgroup is not \
             mounted. Block I/O IOPS write limit discarded.",
        rates: |io| &io.throttle_write_iops_device,
    },
];

pub(super) fn apply(
    place: Place<'_>,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(io) = &resources.block_io else {
        return Ok(());
    };
    match place {
        Place::V1(dir) => {
            weights(dir, io, &WEIGHTS_V1, warnings)?;
            for throttle in &THROTTLES {
                for device in (throttle.rates)(io) {
                    let line = format!("{}:{} {}", device.major, device.minor, device.rate);
                    if !dir.write_if_supported(throttle.v1, line)? {
                        warnings.push(throttle.warning.to_owned());
                    }
                }
            }
            Ok(())
        }
        Place::V2(dir) => {
            weights(dir, io, &WEIGHTS_V2, warnings)?;
            for line in max_lines(io) {
                if !dir.write_if_supported("io.max", line)? {
                    warnings.extend(unsupported(io));
                    break;
                }
            }
            Ok(())
        }
        Place::Missing => {
            if weight(io).is_some() {
                warnings.push(NO_WEIGHT.to_owned());
            }
            if !io.weight_device.is_empty() {
                warnings.push(NO_WEIGHT_DEVICE.to_owned());
            }
            warnings.extend(unsupported(io));
            Ok(())
        }
    }
}

/// The files of one version that take weights, best first.
struct WeightFiles {
    own: [(&'static str, Scale); 2],
    device: [(&'static str, Scale); 2],
}

/// How a weight of 10 to 1000 is written.
#[derive(Clone, Copy)]
enum Scale {
    AsIs,
    /// As 1 to 10000, after the word `default`.
    Default10000,
    /// As 1 to 10000.
    To10000,
}

const WEIGHTS_V1: WeightFiles = WeightFiles {
    own: [
        ("blkio.weight", Scale::AsIs),
        ("blkio.bfq.weight", Scale::AsIs),
    ],
    device: [
        ("blkio.weight_device", Scale::AsIs),
        ("blkio.bfq.weight_device", Scale::AsIs),
    ],
};
const WEIGHTS_V2: WeightFiles = WeightFiles {
    own: [
        ("io.bfq.weight", Scale::AsIs),
        ("io.weight", Scale::Default10000),
    ],
    device: [
        ("io.bfq.weight", Scale::AsIs),
        ("io.weight", Scale::To10000),
    ],
};

fn weight(io: &BlockIo) -> Option<u16> {
    io.weight.filter(|weight| *weight != 0)
}

fn weights(
    dir: Dir<'_>,
    io: &BlockIo,
    files: &WeightFiles,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    if let Some(weight) = weight(io)
        && !write_first(dir, &files.own, "", weight)?
    {
        warnings.push(NO_WEIGHT.to_owned());
    }
    for device in &io.weight_device {
        let Some(weight) = device.weight.filter(|weight| *weight != 0) else {
            continue;
        };
        let prefix = format!("{}:{} ", device.major, device.minor);
        if !write_first(dir, &files.device, &prefix, weight)? {
            warnings.push(NO_WEIGHT_DEVICE.to_owned());
        }
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0)
        && !dir.write_if_supported("blkio.leaf_weight", weight)?
    {
        // It went with the CFQ scheduler, in Linux 5.0.
        warnings.push(NO_WEIGHT.to_owned());
    }
    Ok(())
}

fn write_first(
    dir: Dir<'_>,
    files: &[(&str, Scale)],
    prefix: &str,
    weight: u16,
) -> Result<bool, Error> {
    for (file, scale) in files {
        let value = match scale {
            Scale::AsIs => format!("{prefix}{weight}"),
            Scale::Default10000 => format!("default {}", to_10000(weight)),
            Scale::To10000 => format!("{prefix}{}", to_10000(weight)),
        };
        if dir.write_if_supported(file, value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// 10 to 1000 as 1 to 10000, the ends to the ends.
fn to_10000(weight: u16) -> u32 {
    1 + (u32::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

/// Lines of `io.max`, one a device; a rate of 0 lifts the limit.
fn max_lines(io: &BlockIo) -> Vec<String> {
    let mut lines: BTreeMap<(i64, i64), String> = BTreeMap::new();
    for throttle in &THROTTLES {
        for device in (throttle.rates)(io) {
            let rate = match device.rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            *lines.entry((device.major, device.minor)).or_default() +=
                &format!(" {}={rate}", throttle.v2);
        }
    }
    lines
        .into_iter()
        .map(|((major, minor), limits)| format!("{major}:{minor}{limits}"))
        .collect()
}

fn unsupported(io: &BlockIo) -> impl Iterator<Item = String> {
    THROTTLES
        .iter()
        .filter(move |throttle| !(throttle.rates)(io).is_empty())
        .map(|throttle| throttle.warning.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    fn io() -> BlockIo {
        let rate = |rate| ThrottleDevice {
            major: 8,
            minor: 0,
            rate,
        };
        BlockIo {
            weight: Some(500),
            throttle_read_bps_device: vec![rate(1024)],
            throttle_write_iops_device: vec![rate(0)],
            ..BlockIo::default()
        }
    }

    #[test]
    fn rates_of_one_device_share_a_line_in_version_2() {
        assert_eq!(max_lines(&io()), ["8:0 rbps=1024 wiops=max"]);
    }

    #[test]
    fn a_weight_goes_where_the_kernel_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let resources = Resources {
            block_io: Some(io()),
            ..Resources::default()
        };
        fs::write(dir.path().join("io.weight"), "").unwrap();
        let mut warnings = Vec::new();
        apply(Place::V2(Dir(dir.path())), &resources, &mut warnings).unwrap();
        let written = fs::read_to_string(dir.path().join("io.weight")).unwrap();
        assert_eq!(written, "default 4950");
        assert_eq!(warnings.len(), 2, "no io.max, two lists: {warnings:?}");
        let mut warnings = Vec::new();
        apply(Place::Missing, &resources, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 3);
        assert_eq!((to_10000(10), to_10000(1000)), (1, 10_000));
    }
}
