//! Modes of namespaces, what excludes what, and the kernel parameters that go
//! with them. It must not know whether another container exists.
//!
//! Source: moby `runconfig/hostconfig_unix.go`; runc `libcontainer/configs/validate`.

use conex_api::container::{Config, HostConfig};

use super::machine::Machine;
use crate::Error;

/// `container:<name or id>` with something after the colon.
fn is_container(mode: &str) -> bool {
    mode.strip_prefix("container:")
        .is_some_and(|name| !name.is_empty())
}

/// What two options cannot both say.
pub(super) fn check_conflicts(config: &Config, host: &HostConfig) -> Result<(), Error> {
    let network = host.network_mode.as_str();
    if network == "container" || network == "container:" {
        return Err(Error::invalid(
            "Invalid network mode: invalid container format container:<name|id>",
        ));
    }
    let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let (joins, is_host) = (is_container(network), network == "host");
    let names = !config.hostname.is_empty();
    let links = given(&host.links);
    let publishes = host.publish_all_ports
        || host
            .port_bindings
            .as_ref()
            .is_some_and(|ports| !ports.is_empty());
    const UNDEFINED: &str = "can't be used with links. This would result in undefined behavior";
    let conflicts = [
        (joins && names, "hostname and the network mode".to_owned()),
        (
            joins && links,
            format!("container type network {UNDEFINED}"),
        ),
        (joins && given(&host.dns), "dns and the network mode".into()),
        (
            joins && given(&host.extra_hosts),
            "custom host-to-IP mapping and the network mode".into(),
        ),
        (
            (joins || is_host) && !config.mac_address.is_empty(),
            "mac-address and the network mode".into(),
        ),
        (
            joins && publishes,
            "port publishing and the container type network mode".into(),
        ),
        (
            host.uts_mode == "host" && names,
            "hostname and the UTS mode".into(),
        ),
        (
            is_host && links,
            format!("host type networking {UNDEFINED}"),
        ),
    ];
    match conflicts.into_iter().find(|(is_conflict, _)| *is_conflict) {
        Some((_, what)) => Err(Error::invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

/// The modes one by one.
pub(super) fn check(host: &HostConfig) -> Result<(), Error> {
    let ipc = host.ipc_mode.as_str();
    let pid = host.pid_mode.as_str();
    let checks = [
        (
            matches!(ipc, "" | "none" | "private" | "host" | "shareable") || is_container(ipc),
            "IPC",
            ipc,
        ),
        (matches!(pid, "" | "host") || is_container(pid), "PID", pid),
        (
            matches!(host.uts_mode.as_str(), "" | "host"),
            "UTS",
            &host.uts_mode,
        ),
        (
            matches!(host.userns_mode.as_str(), "" | "host"),
            "user namespace",
            &host.userns_mode,
        ),
        (
            matches!(host.cgroupns_mode.as_str(), "" | "private" | "host"),
            "cgroup namespace",
            &host.cgroupns_mode,
        ),
    ];
    for (is_valid, kind, mode) in checks {
        if !is_valid {
            return Err(Error::invalid(format!("invalid {kind} mode: {mode}")));
        }
    }
    Ok(())
}

pub(super) fn set_defaults(machine: &Machine, engine: &crate::Config, host: &mut HostConfig) {
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".into();
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "private".into();
    }
    if host.cgroupns_mode.is_empty() {
        let fallback = if machine.unified { "private" } else { "host" };
        host.cgroupns_mode = match &engine.cgroupns_mode {
            // Programs that are given everything look for version 1's whole tree.
            Some(_) if host.privileged && !machine.unified => "host".into(),
            Some(mode) => mode.clone(),
            None => fallback.into(),
        };
    }
}

/// Parameters of the IPC namespace besides `fs.mqueue.*`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Only parameters of the container's own namespaces may be set, all others
/// are the host's. After the defaults are set.
pub(super) fn check_sysctls(host: &HostConfig) -> Result<(), Error> {
    for name in host.sysctls.keys() {
        // Slashes are as good as dots, whichever comes first.
        let first = name.find(['.', '/']).map(|at| name.as_bytes()[at]);
        let dotted = match first {
            Some(b'/') => name.replace('.', "\0").replace('/', ".").replace('\0', "/"),
            _ => name.clone(),
        };
        if dotted.split(['.', '/']).any(|part| part.is_empty()) {
            return Err(Error::invalid(format!("invalid sysctl name: {name:?}")));
        }
        let problem = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            match host.ipc_mode.as_str() {
                "host" => "is not allowed in the hosts ipc namespace",
                _ => continue,
            }
        } else if dotted.starts_with("net.") {
            match host.network_mode.as_str() {
                "host" => "not allowed in host network namespace",
                _ => continue,
            }
        } else if host.uts_mode != "host" && dotted == "kernel.domainname" {
            continue;
        } else if host.uts_mode != "host" && dotted == "kernel.hostname" {
            "is not allowed as it conflicts with the OCI \"hostname\" field"
        } else {
            "is not in a separate kernel namespace"
        };
        return Err(Error::invalid(format!("sysctl {dotted:?} {problem}")));
    }
    Ok(())
}
