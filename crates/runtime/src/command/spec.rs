//! `spec`: writes a configuration to start from.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use conex_spec::runtime::{
    Capabilities, DeviceCgroup, Linux, Mount, Namespace, NamespaceKind, Process, Resources, Rlimit,
    Root, Spec,
};

use super::{Error, Given, Globals, Verb, value};

pub(super) const VERB: Verb = Verb {
    name: "spec",
    about: "write a config.json to start from",
    usage: "[-b BUNDLE]",
    flags: &[value("bundle").short('b')],
    run,
};

fn run(_: &Globals, given: &Given) -> Result<ExitCode, Error> {
    let bundle = given.path("bundle")?.unwrap_or_else(|| ".".into());
    let path = bundle.join("config.json");
    let mut json = serde_json::to_string_pretty(&default_spec()).map_err(Error::encode)?;
    json.push('\n');
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path);
    made.and_then(|mut file| file.write_all(json.as_bytes()))
        .map_err(|e| Error::io("write", &path, e))?;
    Ok(ExitCode::SUCCESS)
}

/// A shell at a terminal with few rights on a read-only root.
fn default_spec() -> Spec {
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
    let capabilities = words(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, source: &str, options: &str| Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.split_terminator(',').map(str::to_owned).collect(),
        ..Mount::default()
    };
    let namespaces = [
        NamespaceKind::Pid,
        NamespaceKind::Network,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Mount,
        NamespaceKind::Cgroup,
    ];
    Spec {
        process: Some(Process {
            terminal: true,
            args: words(&["sh"]),
            env: words(&[
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ]),
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            }),
            rlimits: vec![Rlimit {
                kind: "RLIMIT_NOFILE".into(),
                hard: 1024,
                soft: 1024,
            }],
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: true,
        }),
        hostname: Some("conex".into()),
        mounts: vec![
            mount("/proc", "proc", "proc", ""),
            mount(
                "/dev",
                "tmpfs",
                "tmpfs",
                "nosuid,strictatime,mode=755,size=65536k",
            ),
            mount(
                "/dev/pts",
                "devpts",
                "devpts",
                "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            ),
            mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                "nosuid,noexec,nodev,mode=1777,size=65536k",
            ),
            mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
            mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
            mount(
                "/sys/fs/cgroup",
                "cgroup",
                "cgroup",
                "nosuid,noexec,nodev,relatime,ro",
            ),
        ],
        linux: Some(Linux {
            resources: Some(Resources {
                devices: vec![DeviceCgroup {
                    access: Some("rwm".into()),
                    ..DeviceCgroup::default()
                }],
                ..Resources::default()
            }),
            namespaces: namespaces.map(Namespace::new).to_vec(),
            masked_paths: paths(&[
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
            ]),
            readonly_paths: paths(&[
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ]),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let json = serde_json::to_vec(&default_spec()).unwrap();
        assert_eq!(Spec::load(&json).unwrap(), default_spec());
    }
}
