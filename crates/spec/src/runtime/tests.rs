//! Configurations as runtimes and engines write them.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn minimal() -> Value {
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
        "root": {"path": "rootfs"},
    })
}

fn load(value: &Value) -> Result<Spec, SpecError> {
    Spec::load(&bytes(value))
}

fn error(value: &Value) -> String {
    load(value).unwrap_err().to_string()
}

/// Every member these types have.
fn full() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true,
            "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [5, 6], "username": "x"},
            "args": ["sh", "-c", "true"],
            "env": ["PATH=/bin"],
            "cwd": "/work",
            "capabilities": {
                "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                "permitted": ["CAP_KILL"], "ambient": ["CAP_OF_THE_FUTURE"],
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 18_446_744_073_709_551_615_u64, "soft": 1024}],
            "noNewPrivileges": true,
            "apparmorProfile": "docker-default",
            "oomScoreAdj": -500,
            "scheduler": {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RECLAIM"], "runtime": 1, "deadline": 2, "period": 3},
            "selinuxLabel": "label",
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        },
        "root": {"path": "/root", "readonly": true},
        "hostname": "h",
        "domainname": "d",
        "mounts": [{
            "destination": "/data", "type": "none", "source": "/src", "options": ["rbind", "ro"],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
        }],
        "hooks": {
            "prestart": [{"path": "/a", "args": ["a", "b"], "env": ["A=B"], "timeout": 5}],
            "createRuntime": [{"path": "/b"}],
            "createContainer": [{"path": "/c"}],
            "startContainer": [{"path": "/d"}],
            "poststart": [{"path": "/e"}],
            "poststop": [{"path": "/f"}],
        },
        "annotations": {"a.b": "c"},
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65536}],
            "gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65536}],
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
                "memory": {
                    "limit": 1, "reservation": 2, "swap": -1, "kernel": 4, "kernelTCP": 5, "swappiness": 0,
                    "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true,
                },
                "cpu": {
                    "shares": 1024, "quota": -1, "burst": 1, "period": 100_000, "realtimeRuntime": 1,
                    "realtimePeriod": 2, "cpus": "0-1", "mems": "0", "idle": 1,
                },
                "pids": {"limit": 32},
                "blockIO": {
                    "weight": 10, "leafWeight": 11,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 600}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 600}],
                },
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
                "network": {"classID": 1_048_577, "priorities": [{"name": "eth0", "priority": 500}]},
                "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
                "unified": {"memory.high": "max"},
            },
            "cgroupsPath": "/a/b",
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/proc/1/ns/net"}, {"type": "ipc"},
                {"type": "uts"}, {"type": "user"}, {"type": "cgroup"}, {"type": "time"},
            ],
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "listenerPath": "/run/l.sock", "listenerMetadata": "m",
                "syscalls": [{
                    "names": ["clone", "no_such_call"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1,
                    "args": [{"index": 0, "value": 2_114_060_288, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
                }],
            },
            "rootfsPropagation": "slave",
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "mountLabel": "label",
            "intelRdt": {"closID": "g", "l3CacheSchema": "L3:0=7f0", "memBwSchema": "MB:0=20", "enableCMT": true, "enableMBM": true},
            "personality": {"domain": "LINUX32", "flags": ["f"]},
            "timeOffsets": {"monotonic": {"secs": 172_800, "nanosecs": 5}},
        },
    })
}

#[test]
fn every_member_is_read_and_written_unchanged() {
    let spec = load(&full()).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), full());
    assert_eq!(
        serde_json::to_value(load(&minimal()).unwrap()).unwrap(),
        minimal()
    );
}

#[test]
fn members_of_other_platforms_and_of_the_future_are_ignored() {
    let mut value = full();
    value["windows"] = json!({"layerFolders": []});
    value["linux"]["resources"]["quantum"] = json!({"limit": 1});
    assert_eq!(load(&value).unwrap(), load(&full()).unwrap());
}

#[test]
fn nulls_and_empty_texts_are_as_if_absent() {
    let mut value = minimal();
    value["hostname"] = json!("");
    value["mounts"] = json!(null);
    value["annotations"] = json!(null);
    value["hooks"] = json!(null);
    value["process"]["env"] = json!(null);
    value["process"]["capabilities"] = json!({"bounding": null});
    value["process"]["apparmorProfile"] = json!("");
    value["linux"] = json!({
        "namespaces": [{"type": "pid", "path": ""}],
        "resources": {"devices": [{"allow": false, "type": "", "access": ""}], "cpu": {"cpus": ""}, "pids": {"limit": null}},
        "cgroupsPath": "",
        "seccomp": null,
    });
    let spec = load(&value).unwrap();
    assert_eq!(spec.hostname, None);
    assert_eq!(spec.process.unwrap().apparmor_profile, None);
    let linux = spec.linux.unwrap();
    assert_eq!(
        linux.namespace(NamespaceKind::Pid),
        Some(&Namespace::new(NamespaceKind::Pid))
    );
    assert_eq!(linux.namespace(NamespaceKind::User), None);
    assert_eq!(linux.cgroups_path, None);
    let resources = linux.resources.unwrap();
    assert_eq!(resources.devices[0].kind, Some(DeviceKind::All));
    assert_eq!(resources.devices[0].access, None);
    assert_eq!(resources.cpu.unwrap().cpus, None);
    assert_eq!(resources.pids.unwrap().limit, None);
}

#[test]
fn only_versions_1_are_taken() {
    let mut value = minimal();
    for version in ["1.0.0", "1.0.2-dev", "1.2.1", "1.99.0-rc.1+build"] {
        value["ociVersion"] = json!(version);
        assert_eq!(load(&value).unwrap().oci_version, version);
    }
    for version in [
        "", "1", "1.0", "1.0.0.0", "1.x.0", "1..0", "0.9.0", "2.0.0", "10.0.0", "v1.0.0",
    ] {
        value["ociVersion"] = json!(version);
        assert_eq!(error(&value), format!("unsupported ociVersion {version:?}"));
    }
    value.as_object_mut().unwrap().remove("ociVersion");
    assert!(matches!(load(&value), Err(SpecError::Json(_))));
}

#[test]
fn each_broken_rule_is_named() {
    for (pointer, wrong, message) in [
        (
            "/process/cwd",
            json!("work"),
            "process.cwd must be an absolute path, not \"work\"",
        ),
        (
            "/process/cwd",
            json!(""),
            "process.cwd must be an absolute path, not \"\"",
        ),
        ("/process/cwd", json!("/a\0b"), "process.cwd has a NUL byte"),
        ("/process/args", json!([]), "process.args must not be empty"),
        (
            "/process/args",
            json!(null),
            "process.args must not be empty",
        ),
        (
            "/process/args",
            json!(["a\0"]),
            "process.args has a NUL byte",
        ),
        (
            "/process/env",
            json!(["A=\0"]),
            "process.env has a NUL byte",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "hard": 1, "soft": 1}, {"type": "RLIMIT_CPU", "hard": 2, "soft": 1}]),
            "process.rlimits has \"RLIMIT_CPU\" twice",
        ),
        ("/root", json!(null), "root must be specified"),
        ("/root/path", json!(""), "root.path must not be empty"),
        (
            "/mounts/0/destination",
            json!(""),
            "mounts.destination must not be empty",
        ),
        (
            "/mounts/0/options",
            json!(["size=\0"]),
            "mounts.options has a NUL byte",
        ),
        (
            "/hooks/poststop/0/path",
            json!("f"),
            "hook path must be absolute, not \"f\"",
        ),
        (
            "/hooks/prestart/0/timeout",
            json!(0),
            "timeout of hook \"/a\" must be greater than zero",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "pid"}, {"type": "pid", "path": "/proc/1/ns/pid"}]),
            "linux.namespaces has \"pid\" twice",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "network", "path": "net"}]),
            "path of the network namespace must be absolute, not \"net\"",
        ),
        (
            "/linux/devices/0/path",
            json!(""),
            "linux.devices.path must not be empty",
        ),
    ] {
        let mut value = full();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert_eq!(error(&value), message);
    }
}

#[test]
fn words_that_change_what_is_isolated_are_not_guessed() {
    for (pointer, wrong) in [
        ("/linux/namespaces", json!([{"type": "net"}])),
        ("/linux/seccomp/defaultAction", json!("SCMP_ACT_MAYBE")),
        ("/linux/seccomp/syscalls/0/action", json!(null)),
        ("/linux/devices/0/type", json!("x")),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": -1, "size": 1}]),
        ),
        ("/process/user/uid", json!(-1)),
        ("/process/rlimits", json!([{"type": "RLIMIT_CPU"}])),
    ] {
        let mut value = full();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert!(matches!(load(&value), Err(SpecError::Json(_))), "{pointer}");
    }
}

#[test]
fn a_configuration_without_process_is_complete() {
    let mut value = minimal();
    value.as_object_mut().unwrap().remove("process");
    assert_eq!(load(&value).unwrap().process, None);
}

#[test]
fn too_many_bytes_are_not_parsed() {
    let error = Spec::load(&vec![b' '; MAX_CONFIG_BYTES + 1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration is 16777217 bytes long, more than 16777216"
    );
}

#[test]
fn the_process_of_an_exec_is_checked_like_that_of_a_container() {
    let process = Process::load(br#"{"args":["ps"],"cwd":"/","user":{"uid":5,"gid":0}}"#).unwrap();
    assert_eq!(process.user.uid, 5);
    assert!(matches!(
        Process::load(br#"{"cwd":"/"}"#),
        Err(SpecError::NoArgs)
    ));
}

#[test]
fn the_state_of_a_stopped_container_has_no_process() {
    let json = r#"{"ociVersion":"1.0.2-dev","id":"c","pid":0,"status":"stopped","bundle":"/b","rootfs":"/b/r","owner":""}"#;
    let state: State = serde_json::from_str(json).unwrap();
    assert_eq!((state.pid, state.status), (None, Status::Stopped));
    assert_eq!(
        serde_json::to_string(&state).unwrap(),
        r#"{"ociVersion":"1.0.2-dev","id":"c","status":"stopped","bundle":"/b"}"#
    );
}

#[test]
fn words_are_shown_as_they_are_written_in_json() {
    for kind in NamespaceKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.to_string()));
    }
    for status in [
        Status::Creating,
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Stopped,
    ] {
        assert_eq!(
            serde_json::to_value(status).unwrap(),
            json!(status.to_string())
        );
    }
}

#[test]
fn features_leave_out_what_is_unknown() {
    let features = Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: OCI_VERSION.to_owned(),
        linux: Some(LinuxFeatures {
            cgroup: Some(CgroupFeatures {
                v2: Some(true),
                systemd_user: Some(false),
                ..CgroupFeatures::default()
            }),
            mount_extensions: Some(MountExtensions {
                idmap: Some(Support {
                    enabled: Some(true),
                }),
            }),
            ..LinuxFeatures::default()
        }),
        ..Features::default()
    };
    assert_eq!(
        serde_json::to_value(&features).unwrap(),
        json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": OCI_VERSION,
            "linux": {
                "cgroup": {"v2": true, "systemdUser": false},
                "mountExtensions": {"idmap": {"enabled": true}},
            },
        })
    );
}

#[test]
fn hooks_without_any_are_empty() {
    assert!(Hooks::default().is_empty());
    assert!(!load(&full()).unwrap().hooks.unwrap().is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(json in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Spec::load(&json).is_err());
    }
}
