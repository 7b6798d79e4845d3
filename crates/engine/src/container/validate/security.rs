//! `--security-opt`, capabilities, and the paths of /proc and /sys that are
//! hidden. It must not know how any of it is enforced.

use conex_api::container::HostConfig;

use super::machine::Machine;
use crate::Error;

/// What a list of security options says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::container) struct SecurityOptions {
    /// `None` where nothing is said.
    pub(in crate::container) no_new_privileges: Option<bool>,
    /// `unconfined`, `builtin` or a profile as JSON.
    pub(in crate::container) seccomp: Option<String>,
    /// `unconfined` or a profile's name.
    pub(in crate::container) apparmor: Option<String>,
    /// SELinux labels, `type:name`, or `disable`.
    pub(in crate::container) labels: Vec<String>,
    /// The container may manage cgroups below its own.
    pub(in crate::container) writable_cgroups: bool,
    /// Nothing of /proc and /sys is hidden.
    pub(in crate::container) shows_system_paths: bool,
}

impl SecurityOptions {
    /// Reads `key=value`, the older `key:value`, and the bare words; the last
    /// of a kind counts.
    pub(in crate::container) fn parse(options: &[String]) -> Result<SecurityOptions, Error> {
        let mut read = SecurityOptions::default();
        for option in options {
            match option.as_str() {
                "no-new-privileges" => read.no_new_privileges = Some(true),
                "writable-cgroups" => read.writable_cgroups = true,
                "disable" => read.labels.push(option.clone()),
                _ => read.pair(option)?,
            }
        }
        Ok(read)
    }

    fn pair(&mut self, option: &str) -> Result<(), Error> {
        let invalid =
            |stage: u8| Error::invalid(format!("invalid --security-opt {stage}: {option:?}"));
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        let (key, value) = pair.ok_or_else(|| invalid(1))?;
        match key {
            "label" => self.labels.push(value.to_owned()),
            "apparmor" => self.apparmor = Some(value.to_owned()),
            "seccomp" => self.seccomp = Some(value.to_owned()),
            "no-new-privileges" => {
                self.no_new_privileges = Some(parse_bool(value).ok_or_else(|| invalid(2))?);
            }
            "writable-cgroups" => {
                self.writable_cgroups = parse_bool(value).ok_or_else(|| invalid(2))?;
            }
            "systempaths" if value == "unconfined" => self.shows_system_paths = true,
            _ => return Err(invalid(2)),
        }
        Ok(())
    }
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

pub(super) fn check(
    machine: &Machine,
    host: &HostConfig,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let options = SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let words = |list: &Option<conex_api::container::StrSlice>| {
        list.as_ref().map(|list| list.0.clone()).unwrap_or_default()
    };
    conex_runtime::capability::apply(
        &words(&host.cap_add),
        &words(&host.cap_drop),
        host.privileged,
    )
    .map_err(|e| Error::invalid(e.to_string()))?;
    let confines = |profile: &String| !matches!(profile.as_str(), "" | "unconfined");
    if options.apparmor.iter().any(confines) && !machine.apparmor {
        warnings.push("AppArmor is not enabled on this host: the profile is not applied".into());
    }
    if options.labels.iter().any(|label| label != "disable") {
        warnings.push("SELinux labels are not available yet: the label is not applied".into());
    }
    let relabels = |bind: &String| {
        let mode = bind.splitn(3, ':').nth(2).unwrap_or_default();
        mode.split(',').any(|word| matches!(word, "z" | "Z"))
    };
    if machine.selinux && host.binds.iter().flatten().any(relabels) {
        warnings.push("SELinux labels are not available yet: no file is relabelled".into());
    }
    Ok(())
}

/// Paths nobody can read in a container, besides each CPU's `thermal_throttle`.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths nobody can write in a container.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// After a successful [`check`].
pub(super) fn set_defaults(machine: &Machine, host: &mut HostConfig) {
    let options = SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())
        .unwrap_or_default();
    let is_open = host.privileged || host.ipc_mode == "host" || host.pid_mode == "host";
    if is_open && options.labels.is_empty() {
        host.security_opt
            .get_or_insert_default()
            .push("label=disable".into());
    }
    if options.shows_system_paths {
        host.masked_paths = Some(Vec::new());
        host.readonly_paths = Some(Vec::new());
    } else if !host.privileged {
        let owned = |list: &[&str]| {
            list.iter()
                .map(|path| (*path).to_owned())
                .collect::<Vec<_>>()
        };
        host.masked_paths.get_or_insert_with(|| {
            let mut paths = owned(&MASKED);
            paths.extend(machine.thermal.iter().cloned());
            paths
        });
        host.readonly_paths.get_or_insert_with(|| owned(&READ_ONLY));
    }
}
