//! `process`: what is executed in the container and with which rights. It
//! must not know how the kernel takes any of it.

use serde::{Deserialize, Serialize};

use std::path::{Path, PathBuf};

use super::SpecError;
use crate::absent::{empty_is_none, null_is_default};

/// The program a container runs (`process` of config.json, or the file given to `exec --process`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Whether a pseudo-terminal becomes stdin, stdout and stderr.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// First size of that terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Ids it runs as, seen from inside the container.
    #[serde(deserialize_with = "null_is_default")]
    pub user: User,
    /// The program and its arguments, at least one.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub args: Vec<String>,
    /// Environment as `NAME=value`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// Working directory, absolute in the container.
    pub cwd: PathBuf,
    /// Capability sets; `None` leaves those of the runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits, each type once.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub rlimits: Vec<Rlimit>,
    /// Whether `no_new_privs` is set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    /// AppArmor profile to change to.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub apparmor_profile: Option<String>,
    /// `oom_score_adj`, -1000 to 1000; `None` leaves the inherited value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Scheduling policy, for sched_setattr(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// SELinux label of the process.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub selinux_label: Option<String>,
    /// I/O priority, for ioprio_set(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
}

impl Process {
    /// Reads and checks a process as given to `exec --process`.
    ///
    /// # Errors
    /// See [`SpecError`].
    pub fn load(json: &[u8]) -> Result<Self, SpecError> {
        let process: Self = super::parse(json)?;
        process.validate()?;
        Ok(process)
    }

    /// Checks what the specification demands and types do not say.
    ///
    /// # Errors
    /// Every [`SpecError`] about `process`.
    pub fn validate(&self) -> Result<(), SpecError> {
        if !self.cwd.is_absolute() {
            return Err(SpecError::CwdNotAbsolute {
                cwd: self.cwd.clone(),
            });
        }
        if self.args.is_empty() {
            return Err(SpecError::NoArgs);
        }
        super::no_nul("process.cwd", path_bytes(&self.cwd))?;
        for arg in &self.args {
            super::no_nul("process.args", arg.as_bytes())?;
        }
        for variable in &self.env {
            super::no_nul("process.env", variable.as_bytes())?;
        }
        for (index, limit) in self.rlimits.iter().enumerate() {
            if self.rlimits[..index]
                .iter()
                .any(|seen| seen.kind == limit.kind)
            {
                return Err(SpecError::Duplicate {
                    field: "process.rlimits",
                    value: limit.kind.clone(),
                });
            }
        }
        Ok(())
    }
}

/// The bytes of a path as the kernel would get them.
pub(super) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// Ids a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// File mode creation mask; `None` leaves the inherited one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub additional_gids: Vec<u32>,
    /// User name, of meaning on Windows only.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub username: Option<String>,
}

/// Capability sets, as `CAP_…` names; unknown names are the runtime's to judge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// What the process may ever gain.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bounding: Vec<String>,
    /// What the kernel checks.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub effective: Vec<String>,
    /// What a file may pass through execve.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub inheritable: Vec<String>,
    /// What the process may make effective.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub permitted: Vec<String>,
    /// What survives execve of an ordinary file.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ambient: Vec<String>,
}

/// One resource limit, in the unit setrlimit(2) gives its type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_…` name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ceiling; `u64::MAX` is no limit.
    pub hard: u64,
    /// Limit in force; `u64::MAX` is no limit.
    pub soft: u64,
}

/// Arguments of sched_setattr(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduler {
    /// Scheduling policy.
    pub policy: SchedulerPolicy,
    /// Nice value of the time-sharing policies.
    #[serde(default, skip_serializing_if = "is_zero_i32")]
    pub nice: i32,
    /// Static priority of the realtime policies.
    #[serde(default, skip_serializing_if = "is_zero_i32")]
    pub priority: i32,
    /// `SCHED_FLAG_…` names.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub flags: Vec<String>,
    /// Run time in each period of the deadline policy, in nanoseconds.
    #[serde(default, rename = "runtime", skip_serializing_if = "is_zero_u64")]
    pub runtime_ns: u64,
    /// Deadline of the deadline policy, in nanoseconds.
    #[serde(default, rename = "deadline", skip_serializing_if = "is_zero_u64")]
    pub deadline_ns: u64,
    /// Period of the deadline policy, in nanoseconds.
    #[serde(default, rename = "period", skip_serializing_if = "is_zero_u64")]
    pub period_ns: u64,
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_i32(value: &i32) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_u64(value: &u64) -> bool {
    *value == 0
}

/// A Linux scheduling policy (sched(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchedulerPolicy {
    /// Time sharing.
    #[default]
    #[serde(rename = "SCHED_OTHER")]
    Other,
    /// Realtime, first in first out.
    #[serde(rename = "SCHED_FIFO")]
    Fifo,
    /// Realtime, round robin.
    #[serde(rename = "SCHED_RR")]
    RoundRobin,
    /// Time sharing for long computations.
    #[serde(rename = "SCHED_BATCH")]
    Batch,
    /// Isochronous, which no released kernel has.
    #[serde(rename = "SCHED_ISO")]
    Isochronous,
    /// Only when nothing else runs.
    #[serde(rename = "SCHED_IDLE")]
    Idle,
    /// Earliest deadline first.
    #[serde(rename = "SCHED_DEADLINE")]
    Deadline,
}

/// Arguments of ioprio_set(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// Scheduling class.
    pub class: IoPriorityClass,
    /// Level in the class, 0 (first) to 7.
    #[serde(default)]
    pub priority: i32,
}

/// An I/O scheduling class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IoPriorityClass {
    /// Realtime.
    #[serde(rename = "IOPRIO_CLASS_RT")]
    Realtime,
    /// Best effort.
    #[serde(rename = "IOPRIO_CLASS_BE")]
    BestEffort,
    /// Only when the disk is idle.
    #[serde(rename = "IOPRIO_CLASS_IDLE")]
    Idle,
}
