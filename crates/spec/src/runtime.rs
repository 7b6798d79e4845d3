//! The OCI runtime specification 1.2 (`config.json`, `state`, `features`) as
//! types. Members of other platforms and unknown ones are ignored, absent ones
//! are not written. It must not know how a container is made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::absent::{empty_is_none, null_is_default};

mod hooks;
mod linux;
mod mount;
mod process;
mod resources;
mod seccomp;
mod state;

pub use hooks::{Hook, Hooks};
pub use linux::{
    Device, DeviceKind, IdMapping, IntelRdt, Linux, Namespace, NamespaceKind, Personality,
    PersonalityDomain, TimeOffset,
};
pub use mount::{Mount, Root};
pub use process::{
    Capabilities, ConsoleSize, IoPriority, IoPriorityClass, Process, Rlimit, Scheduler,
    SchedulerPolicy, User,
};
pub use resources::{
    BlockIo, Cpu, DeviceCgroup, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma,
    Resources, ThrottleDevice, WeightDevice,
};
pub use seccomp::{Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOp, SeccompSyscall};
pub use state::{
    CgroupFeatures, ContainerProcessState, Features, LinuxFeatures, MountExtensions,
    SeccompFeatures, State, Status, Support,
};

/// The version of the specification these types follow.
pub const OCI_VERSION: &str = "1.2.1";

/// The longest config.json that is read, in bytes.
pub const MAX_CONFIG_BYTES: usize = 16 << 20;

/// The configuration of a container (`config.json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Version of the specification it follows, 1.x.
    pub oci_version: String,
    /// The program; may be absent until `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Host name of a new UTS namespace.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub hostname: Option<String>,
    /// Domain name of a new UTS namespace.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub domainname: Option<String>,
    /// Mounts on top of the root, in the order they are made.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub mounts: Vec<Mount>,
    /// Programs run at points of the container's life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Anything, by name; the runtime hands it on.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            oci_version: OCI_VERSION.to_owned(),
            process: None,
            root: None,
            hostname: None,
            domainname: None,
            mounts: Vec::new(),
            hooks: None,
            annotations: BTreeMap::new(),
            linux: None,
        }
    }
}

impl Spec {
    /// Reads and checks a config.json.
    ///
    /// # Errors
    /// See [`SpecError`].
    pub fn load(json: &[u8]) -> Result<Self, SpecError> {
        let spec: Self = parse(json)?;
        spec.validate()?;
        Ok(spec)
    }

    /// Checks what the specification demands and types do not say.
    ///
    /// # Errors
    /// Every [`SpecError`] but those about the bytes of the file.
    pub fn validate(&self) -> Result<(), SpecError> {
        if !is_version_1(&self.oci_version) {
            return Err(SpecError::Version {
                version: self.oci_version.clone(),
            });
        }
        let root = self.root.as_ref().ok_or(SpecError::NoRoot)?;
        if root.path.as_os_str().is_empty() {
            return Err(SpecError::Empty { field: "root.path" });
        }
        no_nul("root.path", process::path_bytes(&root.path))?;
        if let Some(process) = &self.process {
            process.validate()?;
        }
        for mount in &self.mounts {
            if mount.destination.as_os_str().is_empty() {
                return Err(SpecError::Empty {
                    field: "mounts.destination",
                });
            }
            no_nul(
                "mounts.destination",
                process::path_bytes(&mount.destination),
            )?;
            if let Some(source) = &mount.source {
                no_nul("mounts.source", process::path_bytes(source))?;
            }
            for option in &mount.options {
                no_nul("mounts.options", option.as_bytes())?;
            }
        }
        if let Some(hooks) = &self.hooks {
            hooks.validate()?;
        }
        if let Some(linux) = &self.linux {
            linux.validate()?;
        }
        Ok(())
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// More bytes than [`MAX_CONFIG_BYTES`].
    #[error("configuration is {len} bytes long, more than {MAX_CONFIG_BYTES}")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// Not JSON, or not of the specification's shape.
    #[error("configuration is not of the shape the OCI runtime specification gives")]
    Json(#[source] serde_json::Error),
    /// Not a version this crate follows.
    #[error("unsupported ociVersion {version:?}")]
    Version {
        /// What the file says.
        version: String,
    },
    /// No root file system.
    #[error("root must be specified")]
    NoRoot,
    /// The working directory is empty or relative.
    #[error("process.cwd must be an absolute path, not {cwd:?}")]
    CwdNotAbsolute {
        /// What the file says.
        cwd: PathBuf,
    },
    /// No program.
    #[error("process.args must not be empty")]
    NoArgs,
    /// A hook's program is empty or relative.
    #[error("hook path must be absolute, not {path:?}")]
    HookNotAbsolute {
        /// What the file says.
        path: PathBuf,
    },
    /// A hook's timeout is not greater than zero.
    #[error("timeout of hook {path:?} must be greater than zero")]
    HookTimeout {
        /// The hook's program.
        path: PathBuf,
    },
    /// A namespace to join is given by a relative path.
    #[error("path of the {kind} namespace must be absolute, not {path:?}")]
    NamespaceNotAbsolute {
        /// Which namespace.
        kind: NamespaceKind,
        /// What the file says.
        path: PathBuf,
    },
    /// Something that must be there is not.
    #[error("{field} must not be empty")]
    Empty {
        /// Member of config.json.
        field: &'static str,
    },
    /// Something is there twice.
    #[error("{field} has {value:?} twice")]
    Duplicate {
        /// Member of config.json.
        field: &'static str,
        /// What is there twice.
        value: String,
    },
    /// A text the kernel cannot be given.
    #[error("{field} has a NUL byte")]
    Nul {
        /// Member of config.json.
        field: &'static str,
    },
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, SpecError> {
    if json.len() > MAX_CONFIG_BYTES {
        return Err(SpecError::TooLong { len: json.len() });
    }
    serde_json::from_slice(json).map_err(SpecError::Json)
}

fn no_nul(field: &'static str, text: &[u8]) -> Result<(), SpecError> {
    if text.contains(&0) {
        return Err(SpecError::Nul { field });
    }
    Ok(())
}

/// Whether a text is a semantic version with major number 1.
fn is_version_1(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = core.split('.');
    let is_number = |number: Option<&str>| {
        number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    numbers.next() == Some("1")
        && is_number(numbers.next())
        && is_number(numbers.next())
        && numbers.next().is_none()
}

#[cfg(test)]
mod tests;
