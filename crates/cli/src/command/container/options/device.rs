//! Devices: `--device`, `--device-cgroup-rule`, `--gpus`, and block I/O limits by device.

use std::path::Path;

use conex_api::container::{DeviceMapping, DeviceRequest, ThrottleDevice, WeightDevice};

use super::key_value::{cut, map};
use super::volume::clean;
use crate::flag::split_csv;
use crate::units::ram_in_bytes;

/// What the `--device` flags ask for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Devices {
    /// Device files of the host.
    pub(super) mappings: Vec<DeviceMapping>,
    /// Names of the Container Device Interface, `vendor/class=name`.
    pub(super) cdi_names: Vec<String>,
}

/// Reads every `--device`.
pub(super) fn parse(values: &[String]) -> Result<Devices, String> {
    let mut devices = Devices::default();
    for value in values {
        if is_cdi_name(value) {
            devices.cdi_names.push(value.clone());
        } else {
            devices.mappings.push(mapping(value)?);
        }
    }
    Ok(devices)
}

/// `host[:container][:rwm]`.
fn mapping(value: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = value.split(':').collect();
    let bad_format = || format!("bad format for path: {value}");
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, None, "rwm"),
        [host, mode] if is_mode(mode) => (*host, None, *mode),
        [host, container] => (*host, Some(*container), "rwm"),
        [host, container, mode] if is_mode(mode) => (*host, Some(*container), *mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(bad_format()),
    };
    if host.is_empty() {
        return Err(bad_format());
    }
    let container_path = container.unwrap_or(host);
    if !container_path.starts_with('/') {
        return Err(format!("{container_path} is not an absolute path"));
    }
    let cleaned = |path: &str| clean(Path::new(path)).display().to_string();
    Ok(DeviceMapping {
        path_on_host: if container.is_some() {
            host.to_owned()
        } else {
            cleaned(host)
        },
        path_in_container: cleaned(container_path),
        cgroup_permissions: permissions.to_owned(),
    })
}

/// Letters of `rwm`, each at most once.
fn is_mode(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b"rwm".contains(&b))
        && b"rwm"
            .iter()
            .all(|b| text.bytes().filter(|t| t == b).count() <= 1)
}

/// `vendor/class=name` in the Container Device Interface's grammar.
fn is_cdi_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else {
        return false;
    };
    let Some((vendor, class)) = kind.split_once('/') else {
        return false;
    };
    let word = |text: &str, first: fn(&u8) -> bool, inner: &[u8]| {
        let bytes = text.as_bytes();
        bytes.first().is_some_and(first)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || inner.contains(b))
    };
    word(vendor, u8::is_ascii_alphabetic, b"_-.")
        && word(class, u8::is_ascii_alphabetic, b"_-.")
        && word(name, u8::is_ascii_alphanumeric, b"_-.:")
}

/// Refuses what is no rule of the device cgroup: `c 42:* rmw`.
pub(super) fn check_cgroup_rule(text: &str) -> Result<(), String> {
    let number = |s: &str| s == "*" || (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    let parts: Vec<&str> = text.split(' ').collect();
    let fits = match parts.as_slice() {
        [kind @ ("a" | "b" | "c"), numbers, access] => {
            !kind.is_empty()
                && numbers
                    .split_once(':')
                    .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&access.len())
                && access.bytes().all(|b| b"rwm".contains(&b))
        }
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("invalid device cgroup format '{text}'"))
    }
}

/// A device and what follows its colon.
fn device_path(text: &str) -> Result<(&str, &str), String> {
    let (path, rest) = text
        .split_once(':')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, rest))
}

/// `/dev/sda:500`: weights of 10 to 1000, or 0.
pub(super) fn weight(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_path(text)?;
    let weight = weight
        .parse()
        .ok()
        .filter(|weight| *weight == 0 || (10..=1000).contains(weight))
        .ok_or_else(|| format!("invalid weight for device: {text}"))?;
    Ok(WeightDevice {
        path: path.to_owned(),
        weight,
    })
}

/// `/dev/sda:1mb`: bytes per second.
pub(super) fn bytes_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_path(text)?;
    let rate = ram_in_bytes(rate).ok().and_then(|rate| u64::try_from(rate).ok()).ok_or_else(|| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. \
             Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice {
        path: path.to_owned(),
        rate,
    })
}

/// `/dev/sda:1000`: operations per second.
pub(super) fn operations_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_path(text)?;
    let rate = rate.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. \
             Number must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice {
        path: path.to_owned(),
        rate,
    })
}

/// `all`, a number, or `device=0,capabilities=utility,…` as one CSV line.
pub(super) fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut seen: Vec<String> = Vec::new();
    for field in &split_csv(text)? {
        let (key, value) = cut(field);
        if seen.iter().any(|known| known == key) {
            return Err(format!(
                "gpu request key '{key}' can be specified only once"
            ));
        }
        seen.push(key.to_owned());
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        match (key, value) {
            (count, None) => {
                seen.push("count".to_owned());
                request.count = gpu_count(count)?;
            }
            ("count", Some(count)) => request.count = gpu_count(count)?,
            ("driver", Some(name)) => request.driver = name.to_owned(),
            ("device", Some(ids)) => request.device_ids = Some(list(ids)),
            ("capabilities", Some(names)) => {
                let mut names = list(names);
                names.push("gpu".to_owned());
                request.capabilities = Some(vec![names]);
            }
            ("options", Some(options)) => {
                let fields =
                    split_csv(options).map_err(|e| format!("failed to read gpu options: {e}"))?;
                request.options = Some(map(&fields));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if request.device_ids.is_none() && !seen.iter().any(|key| key == "count") {
        request.count = 1;
    }
    request.options.get_or_insert_default();
    request
        .capabilities
        .get_or_insert_with(|| vec![vec!["gpu".to_owned()]]);
    Ok(request)
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse().map_err(|_| {
        format!(
            "invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_device_is_understood() {
        for (text, want) in [
            ("/dev/snd", ["/dev/snd", "/dev/snd", "rwm"]),
            ("/dev/snd:rw", ["/dev/snd", "/dev/snd", "rw"]),
            ("/dev/snd:/dev/x", ["/dev/snd", "/dev/x", "rwm"]),
            ("/dev/snd:/dev/../x:m", ["/dev/snd", "/x", "m"]),
            ("rel:/x", ["rel", "/x", "rwm"]),
        ] {
            let d = mapping(text).unwrap();
            assert_eq!(
                [d.path_on_host, d.path_in_container, d.cgroup_permissions],
                want,
                "{text}"
            );
        }
        for (text, want) in [
            ("", "bad format for path: "),
            ("snd", "snd is not an absolute path"),
            ("/a:b", "b is not an absolute path"),
            ("/a:/b:rr", "bad mode specified: rr"),
            ("/a:/b:r:c", "bad format for path: /a:/b:r:c"),
        ] {
            assert_eq!(mapping(text).unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn a_cdi_name_is_no_path() {
        let devices = parse(&["nvidia.com/gpu=0".into(), "/dev/a=b".into()]).unwrap();
        assert_eq!(devices.cdi_names, ["nvidia.com/gpu=0"]);
        assert_eq!(devices.mappings[0].path_on_host, "/dev/a=b");
    }

    #[test]
    fn a_cgroup_rule_has_three_parts() {
        for good in ["c 42:* rmw", "a *:* m", "b 8:0 r"] {
            assert_eq!(check_cgroup_rule(good), Ok(()));
        }
        for bad in [
            "",
            "d 1:1 r",
            "c 1 r",
            "c 1:1 x",
            "c 1:1 rwmr",
            "c  1:1 r",
            "c 1:1 ",
        ] {
            assert_eq!(
                check_cgroup_rule(bad),
                Err(format!("invalid device cgroup format '{bad}'"))
            );
        }
    }

    #[test]
    fn limits_by_device_need_a_device_and_a_number() {
        assert_eq!(weight("/dev/sda:10").unwrap().weight, 10);
        assert_eq!(
            weight("/dev/sda:9").unwrap_err(),
            "invalid weight for device: /dev/sda:9"
        );
        assert_eq!(
            weight("sda:10").unwrap_err(),
            "bad format for device path: sda:10"
        );
        assert_eq!(weight(":10").unwrap_err(), "bad format: :10");
        assert_eq!(bytes_rate("/dev/sda:2mb").unwrap().rate, 2 << 20);
        assert!(
            bytes_rate("/dev/sda:-1")
                .unwrap_err()
                .starts_with("invalid rate for device: /dev/sda:-1. The")
        );
        assert_eq!(operations_rate("/dev/sda:7").unwrap().rate, 7);
        assert!(
            operations_rate("/dev/sda:7k")
                .unwrap_err()
                .ends_with("Number must be a positive integer")
        );
    }

    #[test]
    fn gpus_are_counted_or_named() {
        let value = |text: &str| serde_json::to_value(gpus(text).unwrap()).unwrap();
        assert_eq!(
            value("all"),
            json!({"Driver": "", "Count": -1, "DeviceIDs": null, "Capabilities": [["gpu"]], "Options": {}})
        );
        assert_eq!(value("driver=nvidia")["Count"], 1);
        let named = value("\"device=0,1\",capabilities=utility,\"options=a=b\"");
        assert_eq!(named["DeviceIDs"], json!(["0", "1"]));
        assert_eq!(named["Count"], 0);
        assert_eq!(named["Capabilities"], json!([["utility", "gpu"]]));
        assert_eq!(named["Options"], json!({"a": "b"}));
        assert_eq!(
            gpus("x").unwrap_err(),
            "invalid count (x): value must be either \"all\" or an integer: invalid syntax"
        );
        assert_eq!(
            gpus("count=1,count=2").unwrap_err(),
            "gpu request key 'count' can be specified only once"
        );
        assert_eq!(gpus("a=b").unwrap_err(), "unexpected key 'a' in 'a=b'");
    }
}
