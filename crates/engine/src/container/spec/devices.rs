//! Device nodes and who may use which device. It must not know mknod(2) or the
//! nodes every container has.
//!
//! Source: moby `daemon/pkg/oci/devices_linux.go`, containerd `pkg/oci/utils_unix.go`.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use conex_api::container::HostConfig;
use conex_spec::runtime::{Device, DeviceCgroup, DeviceKind};

use crate::Error;

/// Directories are followed no further, and no machine has more nodes.
const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 1 << 16;

/// Nodes and links that the runtime makes itself.
const RUNTIMES: [&str; 7] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
];

/// The nodes a container gets, and the rules of the device cgroup.
pub(super) fn devices(asked: &HostConfig) -> Result<(Vec<Device>, Vec<DeviceCgroup>), Error> {
    let mut rules = conex_runtime::cgroup::devices::default_rules();
    let mut nodes = Vec::new();
    if asked.privileged {
        walk(
            Path::new("/dev"),
            Path::new("/dev"),
            &HOST_SKIPS,
            0,
            &mut nodes,
        );
        rules = vec![DeviceCgroup {
            allow: true,
            access: Some("rwm".into()),
            ..DeviceCgroup::default()
        }];
    }
    for mapping in asked.devices.iter().flatten() {
        let (source, mut target) = (&mapping.path_on_host, mapping.path_in_container.as_str());
        if target.is_empty() {
            target = source;
        }
        let found = from_path(Path::new(source), Path::new(target)).map_err(|error| {
            Error::invalid(format!(
                "error gathering device information while adding custom device {source:?}: {error}"
            ))
        })?;
        if !asked.privileged {
            rules.extend(
                found
                    .iter()
                    .map(|device| rule_for(device, &mapping.cgroup_permissions)),
            );
        }
        nodes.extend(found);
    }
    if !asked.privileged {
        for rule in asked.device_cgroup_rules.iter().flatten() {
            rules.push(parse_rule(rule)?);
        }
    }
    // The last one asked for at a path counts.
    let mut kept: Vec<Device> = Vec::with_capacity(nodes.len());
    let mut seen = std::collections::HashSet::new();
    for node in nodes.into_iter().rev() {
        let is_runtimes = RUNTIMES.iter().any(|path| node.path == Path::new(path));
        if !is_runtimes && seen.insert(node.path.clone()) {
            kept.push(node);
        }
    }
    kept.reverse();
    Ok((kept, rules))
}

/// What of the host's /dev belongs to the host alone or is made anew.
const HOST_SKIPS: [&str; 8] = [
    "pts",
    "shm",
    "fd",
    "mqueue",
    ".lxc",
    ".lxd-mounts",
    ".udev",
    "console",
];

/// The device at a path, or every device below it, at a path of the container.
fn from_path(source: &Path, target: &Path) -> Result<Vec<Device>, String> {
    let source = fs::canonicalize(source).map_err(says)?;
    let metadata = fs::metadata(&source).map_err(says)?;
    if let Some(device) = from_metadata(target, &metadata) {
        return Ok(vec![device]);
    }
    let mut found = Vec::new();
    if metadata.is_dir() {
        walk(&source, target, &[], 0, &mut found);
    }
    if found.is_empty() {
        return Err("not a device node".into());
    }
    Ok(found)
}

/// In the words of C libraries.
fn says(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        _ => error.to_string(),
    }
}

/// Collects nodes; what vanishes or cannot be read meanwhile is left out.
fn walk(source: &Path, target: &Path, skips: &[&str], depth: usize, found: &mut Vec<Device>) {
    let mut entries: Vec<_> = fs::read_dir(source)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    entries.sort();
    for name in entries {
        if found.len() >= MAX_NODES || skips.iter().any(|skip| *skip == name) {
            continue;
        }
        let path = source.join(&name);
        // A link to a node is not a second node.
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() && depth < MAX_DEPTH {
            walk(&path, &target.join(&name), skips, depth + 1, found);
        } else if let Some(device) = from_metadata(&target.join(&name), &metadata)
            && device.kind != DeviceKind::Fifo
        {
            found.push(device);
        }
    }
}

fn from_metadata(target: &Path, metadata: &fs::Metadata) -> Option<Device> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        kind if kind.is_fifo() => DeviceKind::Fifo,
        _ => return None,
    };
    Some(Device {
        path: PathBuf::from(target),
        kind,
        major: rustix::fs::major(metadata.rdev()).into(),
        minor: rustix::fs::minor(metadata.rdev()).into(),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

fn rule_for(device: &Device, letters: &str) -> DeviceCgroup {
    let letters = if letters.is_empty() { "rwm" } else { letters };
    DeviceCgroup {
        allow: true,
        kind: Some(device.kind),
        major: Some(device.major),
        minor: Some(device.minor),
        access: Some(letters.to_owned()),
    }
}

/// Reads `c 42:* rmw`.
pub(in crate::container) fn parse_rule(rule: &str) -> Result<DeviceCgroup, Error> {
    read_rule(rule)
        .ok_or_else(|| Error::invalid(format!("invalid device cgroup rule format: '{rule}'")))
}

fn read_rule(rule: &str) -> Option<DeviceCgroup> {
    let mut parts = rule.split(' ');
    let (kind, numbers, letters) = (parts.next()?, parts.next()?, parts.next()?);
    let kind = match kind {
        "a" => DeviceKind::All,
        "b" => DeviceKind::Block,
        "c" => DeviceKind::Char,
        _ => return None,
    };
    let number = |text: &str| -> Option<Option<i64>> {
        if text == "*" {
            return Some(None);
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number
            .then(|| text.parse::<u32>().ok())
            .flatten()
            .map(|number| Some(number.into()))
    };
    let (major, minor) = numbers.split_once(':')?;
    let is_mode = (1..=3).contains(&letters.len()) && letters.chars().all(|l| "rwm".contains(l));
    if parts.next().is_some() || !is_mode {
        return None;
    }
    Some(DeviceCgroup {
        allow: true,
        kind: Some(kind),
        major: number(major)?,
        minor: number(minor)?,
        access: Some(letters.to_owned()),
    })
}
