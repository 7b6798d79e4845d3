//! Configurations of a few requests, member by member.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;

use conex_api::container::{Config, HostConfig, MountPoint};
use conex_spec::runtime::{DeviceKind, Mount, SeccompAction};
use serde_json::{Value, json};

use super::*;

/// A request like those that [`super::super::validate`] lets through.
fn record(config: Value, host: Value) -> Record {
    let mut config: Config = serde_json::from_value(config).unwrap();
    let mut host_config: HostConfig = serde_json::from_value(host).unwrap();
    let engine = crate::Config::new("/var/lib/conex", "/run/conex");
    let id = "18a4bf6a296f296272530151f4d8b06e4e9bf6b4f68d4cef151532c72bee632c";
    super::super::validate::normalise(&engine, &mut config, &mut host_config, id).unwrap();
    Record {
        id: id.into(),
        name: "g1".into(),
        created_ns: 0,
        image_id: String::new(),
        path: "sh".into(),
        args: vec!["-c".into(), "true".into()],
        config,
        host_config,
        networking: Default::default(),
        mounts: Vec::new(),
        anonymous_volumes: Vec::new(),
        subpaths: std::collections::BTreeMap::new(),
        driver: "overlay2".into(),
        log_path: None,
    }
}

fn build_with(record: &Record, joined: Joined) -> Result<Spec, Error> {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(
        root.path().join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nme:x:7:8::/me:\n",
    )
    .unwrap();
    std::fs::write(root.path().join("etc/group"), "root:x:0:\nwheel:x:9:\n").unwrap();
    let config = crate::Config::new("/var/lib/conex", "/run/conex");
    let host = Host {
        config: &config,
        cgroup_path: "/conex/c1".into(),
        unified: false,
        files: Path::new("/files"),
        own_oom_score: 0,
        joined,
        linked: Vec::new(),
    };
    let root = File::open(root.path()).unwrap();
    build(&host, record, root.as_fd())
}

fn build_of(config: Value, host: Value) -> Spec {
    build_with(&record(config, host), Joined::default()).unwrap()
}

fn at<'a>(spec: &'a Spec, destination: &str) -> Option<&'a Mount> {
    spec.mounts
        .iter()
        .find(|mount| mount.destination == Path::new(destination))
}

fn kinds(spec: &Spec) -> Vec<NamespaceKind> {
    let linux = spec.linux.as_ref().unwrap();
    linux
        .namespaces
        .iter()
        .map(|namespace| namespace.kind)
        .collect()
}

#[test]
fn a_plain_container_is_dockers() {
    let spec = build_of(json!({}), json!({"CgroupnsMode": "private"}));
    let process = spec.process.as_ref().unwrap();
    assert_eq!(process.args, ["sh", "-c", "true"]);
    assert_eq!(process.cwd, Path::new("/"));
    assert_eq!(
        process.env,
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=18a4bf6a296f",
            "HOME=/root"
        ]
    );
    let capabilities = process.capabilities.as_ref().unwrap();
    assert!(capabilities.bounding.contains(&"CAP_CHOWN".to_owned()));
    assert!(!capabilities.bounding.contains(&"CAP_SYS_ADMIN".to_owned()));
    assert_eq!(capabilities.effective, capabilities.bounding);
    assert!(capabilities.inheritable.is_empty() && capabilities.ambient.is_empty());
    assert!(!process.no_new_privileges && !process.terminal);
    assert_eq!(spec.hostname.as_deref(), Some("18a4bf6a296f"));

    let destinations: Vec<_> = spec
        .mounts
        .iter()
        .map(|mount| mount.destination.to_str().unwrap())
        .collect();
    assert_eq!(
        destinations,
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/dev/shm",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/etc/hosts"
        ]
    );
    assert!(
        at(&spec, "/dev/shm")
            .unwrap()
            .options
            .contains(&"size=67108864".to_owned())
    );
    assert!(
        at(&spec, "/sys")
            .unwrap()
            .options
            .contains(&"ro".to_owned())
    );
    let hosts = at(&spec, "/etc/hosts").unwrap();
    assert_eq!(hosts.source.as_deref(), Some(Path::new("/files/hosts")));
    assert_eq!(hosts.options, ["rbind", "rprivate"]);

    use NamespaceKind as Kind;
    let mut expected = vec![
        Kind::Mount,
        Kind::Network,
        Kind::Pid,
        Kind::Ipc,
        Kind::Uts,
        Kind::Cgroup,
    ];
    if Path::new("/proc/self/ns/time").exists() {
        expected.push(Kind::Time);
    }
    assert_eq!(kinds(&spec), expected);
    let linux = spec.linux.unwrap();
    assert_eq!(linux.cgroups_path.as_deref(), Some("/conex/c1"));
    assert_eq!(linux.seccomp.unwrap().default_action, SeccompAction::Errno);
    assert_eq!(linux.sysctl["net.ipv4.ip_unprivileged_port_start"], "0");
    assert_eq!(linux.sysctl["net.ipv4.ping_group_range"], "0 2147483647");
    assert_eq!(
        (linux.masked_paths[0].as_path(), linux.readonly_paths.len()),
        (Path::new("/proc/acpi"), 5)
    );
    let resources = linux.resources.unwrap();
    assert_eq!(
        (resources.memory, resources.cpu, resources.pids),
        (None, None, None)
    );
    assert!(!resources.devices[0].allow);
}

#[test]
fn a_privileged_container_has_everything() {
    let spec = build_of(json!({}), json!({"Privileged": true}));
    for path in ["/sys", "/sys/fs/cgroup"] {
        assert!(
            !at(&spec, path).unwrap().options.contains(&"ro".to_owned()),
            "{path}"
        );
    }
    let bounding = spec.process.unwrap().capabilities.unwrap().bounding;
    assert!(bounding.contains(&"CAP_SYS_ADMIN".to_owned()));
    let linux = spec.linux.unwrap();
    assert!(linux.seccomp.is_none());
    assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    let rules = linux.resources.unwrap().devices;
    assert!(matches!(&rules[..], [rule] if rule.allow && rule.kind.is_none()));
    assert!(
        !linux
            .devices
            .iter()
            .any(|device| device.path.starts_with("/dev/pts"))
    );
    assert!(
        !linux
            .devices
            .iter()
            .any(|device| device.path == Path::new("/dev/null"))
    );
}

#[test]
fn the_hosts_namespaces_are_not_made() {
    let spec = build_of(
        json!({}),
        json!({"NetworkMode": "host", "PidMode": "host", "IpcMode": "host", "UTSMode": "host",
               "CgroupnsMode": "host"}),
    );
    let made: Vec<_> = kinds(&spec)
        .into_iter()
        .filter(|kind| *kind != NamespaceKind::Time)
        .collect();
    assert_eq!(made, [NamespaceKind::Mount]);
    assert_eq!(spec.hostname, None);
    let shm = at(&spec, "/dev/shm").unwrap();
    assert_eq!(
        (shm.kind.as_deref(), shm.source.as_deref()),
        (Some("bind"), Some(Path::new("/dev/shm")))
    );
    assert!(spec.linux.unwrap().sysctl.is_empty());
}

#[test]
fn namespaces_of_others_are_joined_by_path() {
    let host = json!({"NetworkMode": "container:a", "PidMode": "container:a"});
    let record = record(json!({}), host);
    let error = build_with(&record, Joined::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    let joined = Joined {
        network: Some("/proc/7/ns/net".into()),
        pid: Some("/proc/7/ns/pid".into()),
        ..Joined::default()
    };
    let linux = build_with(&record, joined).unwrap().linux.unwrap();
    let path = |kind| linux.namespace(kind).unwrap().path.clone();
    assert_eq!(path(NamespaceKind::Network), Some("/proc/7/ns/net".into()));
    assert_eq!(path(NamespaceKind::Pid), Some("/proc/7/ns/pid".into()));
    assert_eq!(path(NamespaceKind::Ipc), None);
    assert!(linux.sysctl.is_empty());
}

#[test]
fn a_user_without_rights_has_a_bound_and_nothing_more() {
    let spec = build_of(
        json!({"User": "me", "WorkingDir": "/w"}),
        json!({"GroupAdd": ["wheel"]}),
    );
    let process = spec.process.unwrap();
    assert_eq!((process.user.uid, process.user.gid), (7, 8));
    assert_eq!(process.user.additional_gids, [8, 9]);
    assert_eq!(
        (process.cwd.as_path(), process.env.last().unwrap().as_str()),
        (Path::new("/w"), "HOME=/me")
    );
    let capabilities = process.capabilities.unwrap();
    assert!(capabilities.effective.is_empty() && capabilities.permitted.is_empty());
    assert!(!capabilities.bounding.is_empty());

    let unknown = record(json!({"User": "nobody-here"}), json!({}));
    let error = build_with(&unknown, Joined::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unable to find user nobody-here: no matching entries in passwd file"
    );
}

#[test]
fn the_environment_is_layered() {
    let env = [
        "A=1",
        "PATH=/p",
        "HOSTNAME",
        "HOME=/h",
        "A=2",
        "GONE",
        "HOSTNAME=again",
    ];
    let spec = build_of(
        json!({"Tty": true, "Env": env}),
        json!({"ConsoleSize": [24, 80]}),
    );
    let process = spec.process.unwrap();
    assert_eq!(
        process.env,
        ["PATH=/p", "HOSTNAME=again", "TERM=xterm", "A=2", "HOME=/h"]
    );
    assert!(process.terminal);
    assert_eq!(
        process.console_size.map(|size| (size.height, size.width)),
        Some((24, 80))
    );
}

#[test]
fn users_mounts_go_by_depth_and_cover_the_defaults() {
    let point = |kind: &str, destination: &str, rw: bool| MountPoint {
        kind: kind.into(),
        source: "/src".into(),
        destination: destination.into(),
        rw,
        propagation: if kind == "bind" {
            "rprivate".into()
        } else {
            String::new()
        },
        ..MountPoint::default()
    };
    let asked = json!({
        "Tmpfs": {"/scratch": "size=1m,exec"}, "ReadonlyRootfs": true,
        "Mounts": [{"Type": "bind", "Source": "/", "Target": "/c/d", "ReadOnly": true,
                    "BindOptions": {"NonRecursive": true, "ReadOnlyNonRecursive": true}},
                   {"Type": "tmpfs", "Target": "/t", "ReadOnly": true,
                    "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 448}}]
    });
    let mut record = record(json!({}), asked);
    record.mounts = vec![
        point("volume", "/a/b/c", false),
        point("bind", "/c/d", false),
        point("bind", "/dev", true),
        point("bind", "/etc/hosts", true),
        point("tmpfs", "/t", false),
    ];
    let spec = build_with(&record, Joined::default()).unwrap();
    let destinations: Vec<_> = spec
        .mounts
        .iter()
        .map(|mount| mount.destination.to_str().unwrap())
        .collect();
    assert_eq!(
        destinations,
        [
            "/proc",
            "/sys",
            "/sys/fs/cgroup",
            "/dev",
            "/t",
            "/scratch",
            "/c/d",
            "/etc/hosts",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/a/b/c"
        ]
    );
    let options = |path: &str| at(&spec, path).unwrap().options.clone();
    assert_eq!(options("/a/b/c"), ["rbind", "rro"]);
    assert_eq!(options("/c/d"), ["bind", "ro", "rprivate"]);
    assert_eq!(options("/dev"), ["rbind", "rprivate"]);
    assert_eq!(options("/etc/hosts"), ["rbind", "rprivate"]);
    assert_eq!(options("/etc/hostname"), ["rbind", "rprivate", "ro"]);
    assert_eq!(
        options("/scratch"),
        ["nosuid", "nodev", "rprivate", "size=1m", "exec"]
    );
    assert_eq!(
        options("/t"),
        [
            "noexec",
            "nosuid",
            "nodev",
            "rprivate",
            "ro",
            "mode=700",
            "size=1048576"
        ]
    );
    assert!(spec.root.unwrap().readonly);
}

#[test]
fn no_ipc_means_no_shared_memory() {
    let spec = build_of(json!({}), json!({"IpcMode": "none"}));
    assert!(at(&spec, "/dev/shm").is_none());
    assert!(kinds(&spec).contains(&NamespaceKind::Ipc));
    // What is shared is another one's.
    let joined = Joined {
        ipc: Some("/proc/7/ns/ipc".into()),
        shm: Some("/proc/7/root/dev/shm".into()),
        ..Joined::default()
    };
    let record = record(json!({}), json!({"IpcMode": "container:a"}));
    let spec = build_with(&record, joined).unwrap();
    let shm = at(&spec, "/dev/shm").unwrap();
    assert_eq!(
        (shm.kind.as_deref(), shm.source.as_deref()),
        (Some("bind"), Some(Path::new("/proc/7/root/dev/shm")))
    );
}

#[test]
fn limits_arrive_in_the_specifications_units() {
    let spec = build_of(
        json!({}),
        json!({"NanoCpus": 500_000_000, "PidsLimit": 50,
               "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "OomScoreAdj": 300}),
    );
    let resources = spec.linux.unwrap().resources.unwrap();
    let cpu = resources.cpu.unwrap();
    assert_eq!((cpu.quota, cpu.period), (Some(50_000), Some(100_000)));
    assert_eq!(resources.pids.unwrap().limit, Some(50));
    let process = spec.process.unwrap();
    assert_eq!(
        (process.rlimits[0].kind.as_str(), process.rlimits[0].hard),
        ("RLIMIT_NOFILE", 200)
    );
    assert_eq!(process.oom_score_adj, Some(300));

    let host = HostConfig {
        memory: 64 << 20,
        memory_swap: 128 << 20,
        memory_reservation: 32 << 20,
        cpu_shares: 512,
        cpuset_cpus: "0".into(),
        oom_kill_disable: Some(false),
        ..HostConfig::default()
    };
    let resources = resources::resources(&host, Vec::new(), false).unwrap();
    let memory = resources.memory.unwrap();
    assert_eq!(
        (memory.limit, memory.swap),
        (Some(64 << 20), Some(128 << 20))
    );
    assert_eq!(
        (memory.reservation, memory.disable_oom_killer),
        (Some(32 << 20), None)
    );
    let cpu = resources.cpu.unwrap();
    assert_eq!((cpu.shares, cpu.cpus.as_deref()), (Some(512), Some("0")));
    let legacy = HostConfig {
        memory_swappiness: Some(5),
        oom_kill_disable: Some(true),
        ..HostConfig::default()
    };
    let memory = |unified| {
        resources::resources(&legacy, Vec::new(), unified)
            .unwrap()
            .memory
    };
    assert_eq!(memory(false).unwrap().swappiness, Some(5));
    assert_eq!(memory(true), None);
    let unlimited = HostConfig {
        memory: 64 << 20,
        memory_swap: -1,
        ..HostConfig::default()
    };
    let memory = resources::resources(&unlimited, Vec::new(), false)
        .unwrap()
        .memory
        .unwrap();
    assert_eq!(memory.swap, None);
    let rate = json!({"BlkioDeviceReadBps": [{"Path": "/no/device", "Rate": 1}]});
    let host: HostConfig = serde_json::from_value(rate).unwrap();
    let error = resources::resources(&host, Vec::new(), false)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("stat /no/device: "), "{error}");
}

#[test]
fn a_device_gets_a_node_and_a_rule() {
    let host = json!({
        "Devices": [{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/other", "CgroupPermissions": "r"}],
        "DeviceCgroupRules": ["c 42:* rmw", "b 8:1 m"]
    });
    let linux = build_of(json!({}), host).linux.unwrap();
    let [device] = linux.devices.as_slice() else {
        panic!("{:?}", linux.devices)
    };
    assert_eq!(
        (device.path.as_path(), device.kind),
        (Path::new("/dev/other"), DeviceKind::Char)
    );
    assert_eq!((device.major, device.minor), (1, 5));
    let rules = linux.resources.unwrap().devices;
    let [.., own, wild, block] = rules.as_slice() else {
        panic!("{rules:?}")
    };
    assert_eq!(
        (own.major, own.minor, own.access.as_deref()),
        (Some(1), Some(5), Some("r"))
    );
    assert_eq!(
        (wild.major, wild.minor, wild.access.as_deref()),
        (Some(42), None, Some("rmw"))
    );
    assert_eq!(
        (block.kind, block.minor),
        (Some(DeviceKind::Block), Some(1))
    );

    let missing = json!({"Devices": [{"PathOnHost": "/dev/no-such"}]});
    let error = build_with(&record(json!({}), missing), Joined::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error gathering device information while adding custom device \"/dev/no-such\": no such \
         file or directory"
    );
    for bad in [
        "c 42:* x",
        "d 1:1 r",
        "c 1 r",
        "c 1:1  r",
        "c 1:1 rwmr",
        "c 1:1 r r",
        "c -1:1 r",
    ] {
        assert!(parse_device_rule(bad).is_err(), "{bad}");
    }
}

#[test]
fn filters_are_chosen_by_option() {
    let of = |options: Value, privileged: bool| {
        let host = json!({"SecurityOpt": options, "Privileged": privileged});
        build_with(&record(json!({}), host), Joined::default()).map(|spec| {
            (
                spec.linux.unwrap().seccomp,
                spec.process.unwrap().no_new_privileges,
            )
        })
    };
    assert!(
        of(json!(["seccomp=unconfined"]), false)
            .unwrap()
            .0
            .is_none()
    );
    assert!(of(json!(["seccomp=builtin"]), true).unwrap().0.is_some());
    let profile = "seccomp={\"defaultAction\":\"SCMP_ACT_LOG\"}";
    let (filter, no_new_privileges) = of(json!([profile, "no-new-privileges"]), true).unwrap();
    assert_eq!(filter.unwrap().default_action, SeccompAction::Log);
    assert!(no_new_privileges);
    let error = of(json!(["seccomp={"]), false).unwrap_err().to_string();
    assert!(
        error.starts_with("decoding seccomp profile failed: "),
        "{error}"
    );
}

#[test]
fn asked_sysctls_win_over_the_defaults() {
    let name = "net.ipv4.ip_unprivileged_port_start";
    let linux = build_of(json!({}), json!({"Sysctls": {name: "99"}}))
        .linux
        .unwrap();
    let expected = BTreeMap::from([
        (name.to_owned(), "99".to_owned()),
        (
            "net.ipv4.ping_group_range".to_owned(),
            "0 2147483647".to_owned(),
        ),
    ]);
    assert_eq!(linux.sysctl, expected);
}
