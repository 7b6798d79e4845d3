//! What a runtime says: the state of a container (the answer of `state`, the
//! stdin of hooks) and the features of the runtime itself. It must not know
//! how a runtime remembers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::absent::{null_is_default, zero_is_none};

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification the state follows.
    pub oci_version: String,
    /// The container's id, unique to the runtime on this host.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// Its first process in the runtime's pid namespace; `None` once stopped.
    #[serde(
        default,
        deserialize_with = "zero_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub pid: Option<i32>,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// The annotations of its configuration.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being set up.
    Creating,
    /// Set up, its program not executed yet.
    Created,
    /// Its program was executed and has not ended.
    Running,
    /// Frozen (not of the specification, but every runtime says it).
    Paused,
    /// Its program ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// What goes to a seccomp listener, with the descriptors `fds` names attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerProcessState {
    /// Version of the specification it follows.
    pub oci_version: String,
    /// Names of the descriptors in the order they are sent; `seccompFd` is the listener's.
    pub fds: Vec<String>,
    /// The process under the filter.
    pub pid: i32,
    /// `listenerMetadata` of the filter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// The container.
    pub state: State,
}

/// What a runtime can do (the answer of `features`); `None` means unknown, not unable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Features {
    /// Oldest specification understood.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub oci_version_min: String,
    /// Newest specification understood.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub oci_version_max: String,
    /// Names of the hooks it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Vec<String>>,
    /// Mount options it understands, those of file systems aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_options: Option<Vec<String>>,
    /// What is special to Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<LinuxFeatures>,
    /// Things of the implementation.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Annotations that change what the runtime does; one that ends in `.` is a prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub potentially_unsafe_config_annotations: Option<Vec<String>>,
}

/// The Linux part of [`Features`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxFeatures {
    /// Kinds of namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// `CAP_…` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// Cgroup support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupFeatures>,
    /// Seccomp support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompFeatures>,
    /// AppArmor support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<Support>,
    /// SELinux support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux: Option<Support>,
    /// Intel Resource Director support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<Support>,
    /// Mounts beyond mount(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_extensions: Option<MountExtensions>,
}

/// Whether the runtime was built with something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Support {
    /// Whether it is built in, be it there on the host or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Mounts beyond mount(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountExtensions {
    /// Idmapped mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idmap: Option<Support>,
}

/// Cgroup support of a runtime, whatever the host has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CgroupFeatures {
    /// Version 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v1: Option<bool>,
    /// Version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v2: Option<bool>,
    /// Through systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<bool>,
    /// Through the user's systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd_user: Option<bool>,
    /// The rdma controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<bool>,
}

/// Seccomp support of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompFeatures {
    /// Whether it is built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `SCMP_ACT_…` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<String>>,
    /// `SCMP_CMP_…` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<Vec<String>>,
    /// `SCMP_ARCH_…` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archs: Option<Vec<String>>,
    /// `SECCOMP_FILTER_FLAG_…` names it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_flags: Option<Vec<String>>,
    /// Those of them the kernel takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported_flags: Option<Vec<String>>,
}
