//! Seccomp profiles in JSON: the OCI form, and Docker's, whose rules may depend
//! on capabilities, architecture and kernel. It must not know numbers or BPF.

use std::path::PathBuf;

use conex_spec::runtime::{Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompSyscall};
use serde::Deserialize;

use super::Error;
use super::arch::Arch;
use crate::capability::{CapSet, Capability};

/// What the conditions of a profile are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// The container's bounding set.
    pub capabilities: CapSet,
    /// The machine's architecture.
    pub arch: Arch,
    /// The running kernel.
    pub kernel: KernelVersion,
}

/// A kernel's version and major revision, as in `6.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32);

impl KernelVersion {
    /// The running kernel's.
    pub fn running() -> Self {
        let uname = rustix::system::uname();
        Self::of_release(&uname.release().to_string_lossy())
    }

    /// Reads a release such as `6.1.0-13-amd64`; what cannot be read counts as 0.
    fn of_release(release: &str) -> Self {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|digits| digits.parse().unwrap_or(0));
        Self(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Reads exactly `4.8`.
    fn of_condition(text: &str) -> Result<Self, Error> {
        let invalid = || Error::KernelVersion(text.to_owned());
        let (kernel, major) = text.split_once('.').ok_or_else(invalid)?;
        let number = |digits: &str| digits.parse::<u8>().map(u32::from).map_err(|_| invalid());
        let version = Self(number(kernel)?, number(major)?);
        if version == Self(0, 0) {
            return Err(invalid());
        }
        Ok(version)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default)]
    default_action: Option<SeccompAction>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<SeccompArch>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: SeccompArch,
    sub_architectures: Option<Vec<SeccompArch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Option<Vec<String>>,
    name: Option<String>,
    action: SeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<SeccompArg>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile and settles its conditions; `None` is a profile that says nothing.
///
/// Unknown members are ignored; unknown calls and capabilities are harmless.
pub fn from_json(text: &[u8], conditions: &Conditions) -> Result<Option<Seccomp>, Error> {
    let profile: Profile = serde_json::from_slice(text).map_err(Error::Decode)?;
    let rules = profile.syscalls.unwrap_or_default();
    let Some(default_action) = profile.default_action else {
        return if rules.is_empty() {
            Ok(None)
        } else {
            Err(Error::NoDefaultAction)
        };
    };
    let mut architectures = profile.architectures.unwrap_or_default();
    let arch_map = profile.arch_map.unwrap_or_default();
    if !architectures.is_empty() && !arch_map.is_empty() {
        return Err(Error::Both {
            first: "architectures",
            second: "archMap",
        });
    }
    let native = conditions.arch.to_spec();
    if let Some(own) = arch_map
        .into_iter()
        .find(|entry| entry.architecture == native)
    {
        architectures.push(native);
        architectures.extend(own.sub_architectures.unwrap_or_default());
    }

    let mut syscalls = Vec::with_capacity(rules.len());
    for rule in rules {
        let names = match (rule.name.filter(|name| !name.is_empty()), rule.names) {
            (Some(_), Some(names)) if !names.is_empty() => {
                return Err(Error::Both {
                    first: "name",
                    second: "names",
                });
            }
            (Some(name), _) => vec![name],
            (None, names) => names.unwrap_or_default(),
        };
        if rule.excludes.unwrap_or_default().excludes(conditions)?
            || !rule.includes.unwrap_or_default().includes(conditions)?
        {
            continue;
        }
        syscalls.push(SeccompSyscall {
            names,
            action: rule.action,
            errno_ret: rule.errno_ret,
            args: rule.args.unwrap_or_default(),
        });
    }
    Ok(Some(Seccomp {
        default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile
            .listener_path
            .filter(|path| !path.as_os_str().is_empty()),
        listener_metadata: profile.listener_metadata.filter(|text| !text.is_empty()),
        syscalls,
    }))
}

impl Condition {
    /// Whether everything named is there.
    fn includes(&self, conditions: &Conditions) -> Result<bool, Error> {
        let caps = self.caps.iter().flatten();
        Ok(self.names_arch(conditions).unwrap_or(true)
            && caps.clone().all(|name| has(conditions, name))
            && self.reached(conditions)?.unwrap_or(true))
    }

    /// Whether anything named is there.
    fn excludes(&self, conditions: &Conditions) -> Result<bool, Error> {
        let mut caps = self.caps.iter().flatten();
        Ok(self.names_arch(conditions).unwrap_or(false)
            || caps.any(|name| has(conditions, name))
            || self.reached(conditions)?.unwrap_or(false))
    }

    fn names_arch(&self, conditions: &Conditions) -> Option<bool> {
        let arches = self.arches.as_ref().filter(|arches| !arches.is_empty())?;
        let own = conditions.arch.condition_name();
        Some(arches.iter().any(|arch| arch == own))
    }

    fn reached(&self, conditions: &Conditions) -> Result<Option<bool>, Error> {
        let Some(text) = self.min_kernel.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(
            conditions.kernel >= KernelVersion::of_condition(text)?,
        ))
    }
}

fn has(conditions: &Conditions, name: &str) -> bool {
    // Docker compares the names as they are written, with their prefix.
    name.strip_prefix("CAP_")
        .and_then(Capability::from_bare_name)
        .is_some_and(|capability| conditions.capabilities.contains(capability))
}

#[cfg(test)]
mod tests;
