//! `linux`: what only Linux has, namespaces, devices and paths with special
//! treatment. It must not know clone flags or mknod.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::process::path_bytes;
use super::{Resources, Seccomp, SpecError};
use crate::absent::{empty_is_none, null_is_default};

/// The Linux part of a container's configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// User ids of a new user namespace.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of a new user namespace.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters, by dotted name.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub sysctl: BTreeMap<String, String>,
    /// Cgroup limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Cgroup of the container: a path from the cgroup mount, or `slice:prefix:name` for systemd.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub cgroups_path: Option<String>,
    /// Namespaces made or joined; a kind not named here is the runtime's own.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub namespaces: Vec<Namespace>,
    /// Device nodes made in the container besides the default ones.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub devices: Vec<Device>,
    /// System call filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// Propagation of the root mount: `shared`, `slave`, `private`, `unbindable` or one with `r` before it.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub rootfs_propagation: Option<String>,
    /// Paths covered so that they cannot be read.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub masked_paths: Vec<PathBuf>,
    /// Paths made read-only.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub readonly_paths: Vec<PathBuf>,
    /// SELinux label of the mounts.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub mount_label: Option<String>,
    /// Intel Resource Director settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Execution domain, for personality(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// Clock offsets of a new time namespace, by clock: `monotonic`, `boottime`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub time_offsets: BTreeMap<String, TimeOffset>,
}

impl Linux {
    /// The namespace of a kind, if one is made or joined.
    #[must_use]
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces
            .iter()
            .find(|namespace| namespace.kind == kind)
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        for (index, namespace) in self.namespaces.iter().enumerate() {
            if self.namespaces[..index]
                .iter()
                .any(|seen| seen.kind == namespace.kind)
            {
                return Err(SpecError::Duplicate {
                    field: "linux.namespaces",
                    value: namespace.kind.to_string(),
                });
            }
            if let Some(path) = &namespace.path {
                if !path.is_absolute() {
                    return Err(SpecError::NamespaceNotAbsolute {
                        kind: namespace.kind,
                        path: path.clone(),
                    });
                }
                super::no_nul("linux.namespaces", path_bytes(path))?;
            }
        }
        for device in &self.devices {
            if device.path.as_os_str().is_empty() {
                return Err(SpecError::Empty {
                    field: "linux.devices.path",
                });
            }
            super::no_nul("linux.devices.path", path_bytes(&device.path))?;
        }
        for path in self.masked_paths.iter().chain(&self.readonly_paths) {
            super::no_nul(
                "linux.maskedPaths and linux.readonlyPaths",
                path_bytes(path),
            )?;
        }
        Ok(())
    }
}

/// A run of ids inside a user namespace and their counterparts outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id on the host.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many ids.
    pub size: u32,
}

/// A namespace to make or to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// The namespace file to join, absolute; `None` makes a new one.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub path: Option<PathBuf>,
}

impl Namespace {
    /// A new namespace of a kind.
    #[must_use]
    pub fn new(kind: NamespaceKind) -> Self {
        Self { kind, path: None }
    }
}

/// The kinds of namespaces Linux has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Mount points.
    Mount,
    /// Process ids.
    Pid,
    /// Network devices, addresses, ports.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// User and group ids, capabilities.
    User,
    /// The root of the cgroup tree.
    Cgroup,
    /// Monotonic and boot-time clocks.
    Time,
}

impl NamespaceKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Mount,
        Self::Pid,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::User,
        Self::Cgroup,
        Self::Time,
    ];
}

impl fmt::Display for NamespaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        })
    }
}

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Where in the container.
    pub path: PathBuf,
    /// What kind of node.
    #[serde(rename = "type")]
    pub kind: DeviceKind,
    /// Major number; without meaning for a fifo.
    #[serde(default)]
    pub major: i64,
    /// Minor number; without meaning for a fifo.
    #[serde(default)]
    pub minor: i64,
    /// Permission bits; the runtime's choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Owner in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// Kinds of device nodes, as mknod(1) and the devices cgroup write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Every kind; in cgroup rules only.
    #[serde(rename = "a", alias = "")]
    All,
    /// Block device.
    #[serde(rename = "b")]
    Block,
    /// Character device.
    #[serde(rename = "c")]
    Char,
    /// Unbuffered character device, on Linux the same as [`DeviceKind::Char`].
    #[serde(rename = "u")]
    UnbufferedChar,
    /// Named pipe; not in cgroup rules.
    #[serde(rename = "p")]
    Fifo,
}

/// Offset of a clock in a time namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Whole seconds.
    #[serde(skip_serializing_if = "is_zero_i64")]
    pub secs: i64,
    /// Nanoseconds on top.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub nanosecs: u32,
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_i64(value: &i64) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

/// Intel Resource Director settings, written to resctrl as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntelRdt {
    /// Class of service.
    #[serde(
        rename = "closID",
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub clos_id: Option<String>,
    /// L3 cache schema.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth schema.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub mem_bw_schema: Option<String>,
    /// Whether cache occupancy is monitored.
    #[serde(rename = "enableCMT", skip_serializing_if = "std::ops::Not::not")]
    pub enable_cmt: bool,
    /// Whether memory bandwidth is monitored.
    #[serde(rename = "enableMBM", skip_serializing_if = "std::ops::Not::not")]
    pub enable_mbm: bool,
}

/// Execution domain of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personality {
    /// Which one.
    pub domain: PersonalityDomain,
    /// Flags, of which the specification has none yet.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub flags: Vec<String>,
}

/// Execution domains of personality(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PersonalityDomain {
    /// The machine's own.
    #[serde(rename = "LINUX")]
    Linux,
    /// Looking like a 32-bit machine.
    #[serde(rename = "LINUX32")]
    Linux32,
}
