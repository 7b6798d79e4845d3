//! Command lines of `run` and the create requests they become.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::flag::{Flag, parse};

const FLAGS: &[&[Flag]] = &[flags::RUN, flags::AROUND, flags::REQUEST];

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|w| (*w).to_owned()).collect()
}

/// The request of a command line as JSON, `busybox` appended when no image is named.
fn request(line: &[&str]) -> Value {
    let matches = parse(FLAGS, &words(line), false).unwrap();
    serde_json::to_value(create_request(&matches).unwrap()).unwrap()
}

/// The text a command line is refused with.
fn refusal(line: &[&str]) -> String {
    match parse(FLAGS, &words(line), false) {
        Err(error) => error.to_string(),
        Ok(matches) => create_request(&matches).unwrap_err().text().unwrap(),
    }
}

/// The value at a path such as `HostConfig.Memory`.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| &value[key])
}

#[test]
fn a_bare_run_sends_dockers_defaults() {
    let request = request(&["busybox", "echo", "-n", "--rm"]);
    for (path, want) in [
        ("Image", json!("busybox")),
        ("Cmd", json!(["echo", "-n", "--rm"])),
        ("Entrypoint", json!(null)),
        ("Env", json!(null)),
        ("AttachStdin", json!(false)),
        ("AttachStdout", json!(true)),
        ("AttachStderr", json!(true)),
        ("Labels", json!({})),
        ("Volumes", json!({})),
        ("HostConfig.NetworkMode", json!("default")),
        (
            "HostConfig.RestartPolicy",
            json!({"Name": "no", "MaximumRetryCount": 0}),
        ),
        ("HostConfig.AutoRemove", json!(false)),
        ("HostConfig.Dns", json!([])),
        ("HostConfig.Binds", json!(null)),
        ("HostConfig.PortBindings", json!({})),
        ("HostConfig.MemorySwappiness", json!(null)),
        ("HostConfig.PidsLimit", json!(null)),
        ("HostConfig.LogConfig", json!({"Type": "", "Config": {}})),
        ("NetworkingConfig.EndpointsConfig", json!({})),
    ] {
        assert_eq!(at(&request, path), &want, "{path}");
    }
    assert!(request.get("ExposedPorts").is_none() && request.get("StopTimeout").is_none());
    assert!(at(&request, "HostConfig").get("Init").is_none());
}

#[test]
fn every_flag_lands_in_the_request() {
    for (line, path, want) in [
        (&["-it", "x"][..], "Tty", json!(true)),
        (&["-it", "x"], "OpenStdin", json!(true)),
        (&["-it", "x"], "StdinOnce", json!(true)),
        (&["-i", "-a", "stdout", "x"], "AttachStdin", json!(true)),
        (&["-a", "STDOUT", "x"], "AttachStdout", json!(true)),
        (&["-a", "STDOUT", "x"], "AttachStderr", json!(false)),
        (&["-a", "stdin", "x"], "StdinOnce", json!(false)),
        (&["-e", "A=b", "-eC=d", "x"], "Env", json!(["A=b", "C=d"])),
        (
            &["-e", "NO_SUCH_VARIABLE_HERE", "x"],
            "Env",
            json!(["NO_SUCH_VARIABLE_HERE"]),
        ),
        (&["-w", "/w", "x"], "WorkingDir", json!("/w")),
        (&["-u", "1:2", "x"], "User", json!("1:2")),
        (&["-h", "n", "x"], "Hostname", json!("n")),
        (&["--domainname", "d", "x"], "Domainname", json!("d")),
        (&["--entrypoint", "sh", "x"], "Entrypoint", json!(["sh"])),
        (&["--entrypoint", "", "x"], "Entrypoint", json!([""])),
        (
            &["-l", "a=b=c", "--label", "d", "x"],
            "Labels",
            json!({"a": "b=c", "d": ""}),
        ),
        (&["--stop-signal", "INT", "x"], "StopSignal", json!("INT")),
        (&["--stop-timeout=-1", "x"], "StopTimeout", json!(-1)),
        (&["-v", "/data", "x"], "Volumes", json!({"/data": {}})),
        (
            &["--expose", "53/udp", "x"],
            "ExposedPorts",
            json!({"53/udp": {}}),
        ),
        (&["-p8080:80", "x"], "ExposedPorts", json!({"80/tcp": {}})),
        (
            &["-p=127.0.0.1:8080:80", "x"],
            "HostConfig.PortBindings",
            json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
        ),
        (&["-P", "x"], "HostConfig.PublishAllPorts", json!(true)),
        (
            &["-v/a:/b", "-v", "v:/c:ro", "-v/a:/b", "x"],
            "HostConfig.Binds",
            json!(["/a:/b", "v:/c:ro"]),
        ),
        (
            &["--tmpfs", "/t:size=1m,exec", "--tmpfs=/u", "x"],
            "HostConfig.Tmpfs",
            json!({"/t": "size=1m,exec", "/u": ""}),
        ),
        (
            &["--mount", "target=/m", "x"],
            "HostConfig.Mounts",
            json!([{"Type": "volume", "Target": "/m"}]),
        ),
        (&["-m", "64m", "x"], "HostConfig.Memory", json!(67_108_864)),
        (
            &["--memory-swap", "-1", "x"],
            "HostConfig.MemorySwap",
            json!(-1),
        ),
        (
            &["--memory-reservation", "1k", "x"],
            "HostConfig.MemoryReservation",
            json!(1024),
        ),
        (
            &["--memory-swappiness", "0", "x"],
            "HostConfig.MemorySwappiness",
            json!(0),
        ),
        (
            &["--cpus", "1.5", "x"],
            "HostConfig.NanoCpus",
            json!(1_500_000_000),
        ),
        (&["-c", "512", "x"], "HostConfig.CpuShares", json!(512)),
        (
            &["--cpu-period", "10", "x"],
            "HostConfig.CpuPeriod",
            json!(10),
        ),
        (
            &["--cpu-quota", "11", "x"],
            "HostConfig.CpuQuota",
            json!(11),
        ),
        (
            &["--cpu-rt-period", "12", "x"],
            "HostConfig.CpuRealtimePeriod",
            json!(12),
        ),
        (
            &["--cpu-rt-runtime", "13", "x"],
            "HostConfig.CpuRealtimeRuntime",
            json!(13),
        ),
        (
            &["--cpuset-cpus", "0-1", "x"],
            "HostConfig.CpusetCpus",
            json!("0-1"),
        ),
        (
            &["--cpuset-mems", "0", "x"],
            "HostConfig.CpusetMems",
            json!("0"),
        ),
        (
            &["--pids-limit", "-1", "x"],
            "HostConfig.PidsLimit",
            json!(-1),
        ),
        (
            &["--blkio-weight", "500", "x"],
            "HostConfig.BlkioWeight",
            json!(500),
        ),
        (
            &["--blkio-weight-device", "/dev/a:10", "x"],
            "HostConfig.BlkioWeightDevice",
            json!([{"Path": "/dev/a", "Weight": 10}]),
        ),
        (
            &["--device-read-bps", "/dev/a:1k", "x"],
            "HostConfig.BlkioDeviceReadBps",
            json!([{"Path": "/dev/a", "Rate": 1024}]),
        ),
        (
            &["--device-write-iops", "/dev/a:7", "x"],
            "HostConfig.BlkioDeviceWriteIOps",
            json!([{"Path": "/dev/a", "Rate": 7}]),
        ),
        (
            &["--device", "/dev/null:/dev/x:r", "x"],
            "HostConfig.Devices",
            json!([{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]),
        ),
        (
            &["--device-cgroup-rule", "c 1:3 r", "x"],
            "HostConfig.DeviceCgroupRules",
            json!(["c 1:3 r"]),
        ),
        (
            &["--gpus", "2", "x"],
            "HostConfig.DeviceRequests.0",
            json!(null),
        ),
        (
            &["--network", "none", "x"],
            "HostConfig.NetworkMode",
            json!("none"),
        ),
        (
            &["--net=host", "x"],
            "HostConfig.NetworkMode",
            json!("host"),
        ),
        (
            &["--read-only", "x"],
            "HostConfig.ReadonlyRootfs",
            json!(true),
        ),
        (
            &["--cap-add", "SYS_ADMIN", "x"],
            "HostConfig.CapAdd",
            json!(["SYS_ADMIN"]),
        ),
        (
            &["--cap-drop=all", "x"],
            "HostConfig.CapDrop",
            json!(["all"]),
        ),
        (&["--privileged", "x"], "HostConfig.Privileged", json!(true)),
        (
            &["--add-host", "h=[::1]", "x"],
            "HostConfig.ExtraHosts",
            json!(["h:::1"]),
        ),
        (
            &["--dns", "1.1.1.1", "x"],
            "HostConfig.Dns",
            json!(["1.1.1.1"]),
        ),
        (
            &["--dns-option", "a", "--dns-opt", "b", "x"],
            "HostConfig.DnsOptions",
            json!(["a", "b"]),
        ),
        (
            &["--dns-search", "x.y.", "x"],
            "HostConfig.DnsSearch",
            json!(["x.y"]),
        ),
        (&["--link", "a:b", "x"], "HostConfig.Links", json!(["a:b"])),
        (
            &["--restart", "on-failure:2", "x"],
            "HostConfig.RestartPolicy",
            json!({"Name": "on-failure", "MaximumRetryCount": 2}),
        ),
        (&["--rm", "x"], "HostConfig.AutoRemove", json!(true)),
        (&["--init=false", "x"], "HostConfig.Init", json!(false)),
        (
            &["--ulimit", "nofile=1:2", "x"],
            "HostConfig.Ulimits",
            json!([{"Name": "nofile", "Hard": 2, "Soft": 1}]),
        ),
        (
            &["--sysctl", "net.a=1", "x"],
            "HostConfig.Sysctls",
            json!({"net.a": "1"}),
        ),
        (
            &["--security-opt", "no-new-privileges", "x"],
            "HostConfig.SecurityOpt",
            json!(["no-new-privileges"]),
        ),
        (
            &["--security-opt", "systempaths=unconfined", "x"],
            "HostConfig.MaskedPaths",
            json!([]),
        ),
        (
            &["--shm-size", "1g", "x"],
            "HostConfig.ShmSize",
            json!(1_073_741_824),
        ),
        (
            &["--group-add", "5", "x"],
            "HostConfig.GroupAdd",
            json!(["5"]),
        ),
        (
            &["--userns", "host", "x"],
            "HostConfig.UsernsMode",
            json!("host"),
        ),
        (
            &["--pid", "container:a", "x"],
            "HostConfig.PidMode",
            json!("container:a"),
        ),
        (
            &["--ipc", "shareable", "x"],
            "HostConfig.IpcMode",
            json!("shareable"),
        ),
        (&["--uts", "host", "x"], "HostConfig.UTSMode", json!("host")),
        (
            &["--cgroupns", "private", "x"],
            "HostConfig.CgroupnsMode",
            json!("private"),
        ),
        (
            &["--cgroup-parent", "/p", "x"],
            "HostConfig.CgroupParent",
            json!("/p"),
        ),
        (
            &["--oom-kill-disable", "x"],
            "HostConfig.OomKillDisable",
            json!(true),
        ),
        (
            &["--oom-score-adj", "-5", "x"],
            "HostConfig.OomScoreAdj",
            json!(-5),
        ),
        (
            &["--log-driver", "local", "--log-opt", "a=b", "x"],
            "HostConfig.LogConfig",
            json!({"Type": "local", "Config": {"a": "b"}}),
        ),
        (
            &["--volumes-from", "a:ro", "x"],
            "HostConfig.VolumesFrom",
            json!(["a:ro"]),
        ),
        (
            &["--volume-driver", "d", "x"],
            "HostConfig.VolumeDriver",
            json!("d"),
        ),
        (
            &["--storage-opt", "size=1g", "x"],
            "HostConfig.StorageOpt",
            json!({"size": "1g"}),
        ),
        (
            &["--runtime", "crun", "x"],
            "HostConfig.Runtime",
            json!("crun"),
        ),
        (
            &["--isolation", "hyperv", "x"],
            "HostConfig.Isolation",
            json!("hyperv"),
        ),
        (
            &["--annotation", "a=b", "x"],
            "HostConfig.Annotations",
            json!({"a": "b"}),
        ),
        (
            &["--cidfile", "/c", "x"],
            "HostConfig.ContainerIDFile",
            json!("/c"),
        ),
        (
            &["--no-healthcheck", "x"],
            "Healthcheck",
            json!({"Test": ["NONE"]}),
        ),
        (
            &[
                "--health-cmd",
                "true",
                "--health-interval",
                "1m",
                "--health-retries",
                "2",
                "x",
            ],
            "Healthcheck",
            json!({"Test": ["CMD-SHELL", "true"], "Interval": 60_000_000_000i64, "Retries": 2}),
        ),
    ] {
        assert_eq!(at(&request(line), path), &want, "{line:?} at {path}");
    }
}

#[test]
fn what_docker_refuses_is_refused_in_its_words() {
    for (line, want) in [
        (
            &["-m", "x", "i"][..],
            r#"invalid argument "x" for "-m, --memory" flag: invalid size: 'x'"#,
        ),
        (
            &["--cpus", "a", "i"],
            r#"invalid argument "a" for "--cpus" flag: failed to parse a as a rational number"#,
        ),
        (
            &["-a", "x", "i"],
            r#"invalid argument "x" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR"#,
        ),
        (
            &["-e", "=x", "i"],
            r#"invalid argument "=x" for "-e, --env" flag: invalid environment variable: =x"#,
        ),
        (
            &["--dns", "x", "i"],
            r#"invalid argument "x" for "--dns" flag: IP address is not correctly formatted: x"#,
        ),
        (
            &["--ulimit", "x", "i"],
            r#"invalid argument "x" for "--ulimit" flag: invalid ulimit argument: x"#,
        ),
        (
            &["--mount", "type=bind", "i"],
            r#"invalid argument "type=bind" for "--mount" flag: target is required"#,
        ),
        (
            &["--rm", "--restart", "always", "i"],
            "conflicting options: cannot specify both --restart and --rm",
        ),
        (
            &["--mac-address", "zz", "i"],
            "zz is not a valid mac address",
        ),
        (
            &["--memory-swappiness", "101", "i"],
            "invalid value: 101. Valid memory swappiness range is 0-100",
        ),
        (&["-p", "a:b", "i"], "invalid containerPort: b"),
        (
            &["-v", "/a:/b:ro:/d", "i"],
            "invalid spec: /a:/b:ro:/d: too many colons",
        ),
        (&["--pid", "x", "i"], "--pid: invalid PID mode"),
        (
            &["--no-healthcheck", "--health-retries", "1", "i"],
            "--no-healthcheck conflicts with --health-* options",
        ),
        (
            &["--health-interval=-1s", "i"],
            "--health-interval cannot be negative",
        ),
        (
            &["--env-file", "/nonexistent", "i"],
            "open /nonexistent: no such file or directory",
        ),
        (&["--device", "x", "i"], "x is not an absolute path"),
        (&["--nosuchflag", "i"], "unknown flag: --nosuchflag"),
    ] {
        assert_eq!(refusal(line), want, "{line:?}");
    }
}

#[test]
fn files_come_before_flags() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pairs");
    std::fs::write(&file, "A=1\nB=2\n").unwrap();
    let file = file.to_str().unwrap();
    let request = request(&[
        "-e",
        "A=9",
        "--env-file",
        file,
        "--label-file",
        file,
        "-l",
        "B=9",
        "x",
    ]);
    assert_eq!(at(&request, "Env"), &json!(["A=1", "B=2", "A=9"]));
    assert_eq!(at(&request, "Labels"), &json!({"A": "1", "B": "9"}));
}

#[test]
fn no_two_flags_share_a_name_or_a_letter() {
    let mut names = std::collections::HashSet::new();
    let mut letters = std::collections::HashSet::new();
    for flag in FLAGS.iter().flat_map(|table| table.iter()) {
        assert!(names.insert(flag.long), "--{}", flag.long);
        assert!(
            flag.short.is_none_or(|letter| letters.insert(letter)),
            "-{:?}",
            flag.short
        );
    }
}
