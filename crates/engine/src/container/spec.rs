//! From a container's record to the OCI configuration its monitor executes:
//! Docker's defaults, then what the user asked for. It must not know how a
//! monitor is started or a network is made.
//!
//! Source: moby `daemon/oci_linux.go`, `daemon/pkg/oci/defaults.go`.

mod devices;
mod exec;
mod mounts;
mod process;
mod resources;
mod security;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use conex_spec::runtime::{Linux, Namespace, NamespaceKind, Root, Spec};

use super::Record;
use super::validate::SecurityOptions;
use crate::error::chain;
use crate::{Error, ErrorKind};
pub(super) use devices::parse_rule as parse_device_rule;
pub(crate) use exec::exec_process;
pub(super) use mounts::{tmpfs_options, tmpfs_words};
pub(super) use resources::resources as limits;

/// What of the host goes into a configuration.
#[derive(Debug)]
pub(super) struct Host<'a> {
    /// The engine's settings.
    pub(super) config: &'a crate::Config,
    /// The container's cgroup, from the cgroup mount.
    pub(super) cgroup_path: String,
    /// Whether cgroups are version 2 alone.
    pub(super) unified: bool,
    /// The directory with the container's `hosts`, `hostname` and `resolv.conf`.
    pub(super) files: &'a Path,
    /// The engine's own `oom_score_adj`, which the container would inherit.
    pub(super) own_oom_score: i32,
    /// What other containers share with it.
    pub(super) joined: Joined,
    /// Variables that tell of linked containers.
    pub(super) linked: Vec<String>,
}

/// Parts of other containers, by path; each is there if the mode is
/// `container:…`.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// Network namespace.
    pub(super) network: Option<PathBuf>,
    /// Process id namespace.
    pub(super) pid: Option<PathBuf>,
    /// IPC namespace.
    pub(super) ipc: Option<PathBuf>,
    /// The other one's `/dev/shm`, as a path below its root in `/proc`.
    pub(super) shm: Option<PathBuf>,
}

/// Builds a container's configuration.
///
/// `root` is its root file system, where its user is looked up. Every error is
/// of the system's kind, as Docker has it: the request to start is a good one.
pub(super) fn build(host: &Host<'_>, record: &Record, root: BorrowedFd<'_>) -> Result<Spec, Error> {
    assemble(host, record, root).map_err(|error| Error::new(ErrorKind::System, error.to_string()))
}

fn assemble(host: &Host<'_>, record: &Record, root: BorrowedFd<'_>) -> Result<Spec, Error> {
    let (config, asked) = (&record.config, &record.host_config);
    let options = SecurityOptions::parse(asked.security_opt.as_deref().unwrap_or_default())?;
    let capabilities = security::capabilities(asked)?;
    let (devices, rules) = devices::devices(asked)?;
    let own_names = asked.uts_mode != "host";
    let name = |name: &String| Some(name.clone()).filter(|name| own_names && !name.is_empty());
    let paths = |list: &Option<Vec<String>>| list.iter().flatten().map(PathBuf::from).collect();
    let spec = Spec {
        process: Some(process::process(
            host,
            record,
            root,
            &options,
            capabilities,
        )?),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: asked.readonly_rootfs,
        }),
        hostname: name(&config.hostname),
        domainname: name(&config.domainname),
        mounts: mounts::mounts(host, record, &options)?,
        annotations: asked.annotations.clone(),
        linux: Some(Linux {
            sysctl: security::sysctls(asked),
            resources: Some(resources::resources(asked, rules, host.unified)?),
            cgroups_path: Some(host.cgroup_path.clone()),
            namespaces: namespaces(host, record)?,
            devices,
            seccomp: security::seccomp(host.config, asked, &options, capabilities)?,
            masked_paths: paths(&asked.masked_paths),
            readonly_paths: paths(&asked.readonly_paths),
            ..Linux::default()
        }),
        ..Spec::default()
    };
    spec.validate()
        .map_err(|error| Error::invalid(chain(&error)))?;
    Ok(spec)
}

fn namespaces(host: &Host<'_>, record: &Record) -> Result<Vec<Namespace>, Error> {
    let asked = &record.host_config;
    let mut namespaces = vec![Namespace::new(NamespaceKind::Mount)];
    for (kind, mode, joined) in [
        (
            NamespaceKind::Network,
            &asked.network_mode,
            host.joined.network.as_ref(),
        ),
        (
            NamespaceKind::Pid,
            &asked.pid_mode,
            host.joined.pid.as_ref(),
        ),
        (
            NamespaceKind::Ipc,
            &asked.ipc_mode,
            host.joined.ipc.as_ref(),
        ),
        (NamespaceKind::Uts, &asked.uts_mode, None),
        (NamespaceKind::Cgroup, &asked.cgroupns_mode, None),
    ] {
        let path = match mode.as_str() {
            "host" => continue,
            mode if mode.starts_with("container:") => Some(joined.cloned().ok_or_else(|| {
                Error::conflict(format!(
                    "cannot join the {kind} namespace of {mode}: it is gone"
                ))
            })?),
            _ => None,
        };
        namespaces.push(Namespace { kind, path });
    }
    if Path::new("/proc/self/ns/time").exists() {
        namespaces.push(Namespace::new(NamespaceKind::Time));
    }
    Ok(namespaces)
}

#[cfg(test)]
mod tests;
