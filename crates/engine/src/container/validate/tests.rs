//! Refusals word by word, and what inspect shows of an empty request.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::machine::Limits;
use super::*;

const ID: &str = "18a4bf6a296f296272530151f4d8b06e4e9bf6b4f68d4cef151532c72bee632c";

/// Two CPUs, one node, version 1 of cgroups, nothing missing.
fn machine() -> Machine {
    Machine {
        cpu_count: 2,
        cpus: "0-1".into(),
        memory_nodes: "0".into(),
        hostname: "host".into(),
        limits: Limits {
            memory: true,
            swap: true,
            reservation: true,
            swappiness: true,
            oom_kill_disable: true,
            cpu_shares: true,
            cpu_quota: true,
            cpu_realtime: true,
            cpuset: true,
            pids: true,
            blkio_weight: true,
            blkio_throttle: true,
        },
        ..Machine::default()
    }
}

fn engine() -> crate::Config {
    crate::Config::new("/var/lib/conex", "/run/conex")
}

type Outcome = Result<(Config, HostConfig, Vec<String>), Error>;

fn ask_of(machine: &Machine, engine: &crate::Config, config: Value, host: Value) -> Outcome {
    let mut config: Config = serde_json::from_value(config).unwrap();
    let mut host: HostConfig = serde_json::from_value(host).unwrap();
    let warnings = normalise_on(machine, engine, &mut config, &mut host, ID)?;
    Ok((config, host, warnings))
}

fn ask(config: Value, host: Value) -> Outcome {
    ask_of(&machine(), &engine(), config, host)
}

#[test]
fn an_empty_request_gets_dockers_defaults() {
    let (config, host, warnings) = ask(json!({}), json!({})).unwrap();
    assert_eq!(config.hostname, "18a4bf6a296f");
    assert_eq!(warnings, [""; 0]);
    let shown = serde_json::to_value(&host).unwrap();
    for (member, value) in [
        ("NetworkMode", json!("bridge")),
        ("IpcMode", json!("private")),
        ("CgroupnsMode", json!("host")),
        ("ShmSize", json!(67_108_864)),
        (
            "RestartPolicy",
            json!({"Name": "no", "MaximumRetryCount": 0}),
        ),
        ("LogConfig", json!({"Type": "json-file", "Config": {}})),
        ("Runtime", json!("conex")),
        ("OomKillDisable", json!(false)),
        ("PidsLimit", json!(null)),
        ("PortBindings", json!({})),
        ("SecurityOpt", json!(null)),
        ("UsernsMode", json!("")),
        (
            "ReadonlyPaths",
            json!([
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger"
            ]),
        ),
    ] {
        assert_eq!(shown[member], value, "{member}");
    }
    let masked = host.masked_paths.unwrap();
    assert_eq!((masked.len(), masked[0].as_str()), (12, "/proc/acpi"));
}

#[test]
fn a_second_pass_changes_nothing() {
    let asked = json!({"Memory": 67_108_864, "Privileged": true, "PidMode": "host"});
    let (config, host, _) = ask(json!({}), asked).unwrap();
    let again = ask(
        serde_json::to_value(&config).unwrap(),
        serde_json::to_value(&host).unwrap(),
    )
    .unwrap();
    assert_eq!((again.0, again.1), (config, host));
}

#[test]
fn what_is_set_depends_on_what_else_is() {
    let of = |host: Value| ask(json!({}), host).unwrap();
    assert_eq!(of(json!({"Memory": 67_108_864})).1.memory_swap, 134_217_728);
    assert_eq!(of(json!({"PidsLimit": -1})).1.pids_limit, None);
    assert_eq!(of(json!({"PidsLimit": 0})).1.pids_limit, None);
    assert_eq!(
        of(json!({"NetworkMode": "default"})).1.network_mode,
        "bridge"
    );
    assert_eq!(of(json!({"NetworkMode": "host"})).0.hostname, "host");
    assert_eq!(of(json!({"UTSMode": "host"})).0.hostname, "host");
    let privileged = of(json!({"Privileged": true})).1;
    assert_eq!(
        (privileged.masked_paths, privileged.readonly_paths),
        (None, None)
    );
    assert_eq!(privileged.security_opt.unwrap(), ["label=disable"]);
    let open = of(json!({"SecurityOpt": ["systempaths=unconfined"]})).1;
    assert_eq!(
        (open.masked_paths, open.readonly_paths),
        (Some(vec![]), Some(vec![]))
    );
    let given = of(json!({"MaskedPaths": ["/x"], "ReadonlyPaths": []})).1;
    assert_eq!(given.masked_paths, Some(vec!["/x".into()]));
    assert_eq!(given.readonly_paths, Some(vec![]));

    let unified = Machine {
        unified: true,
        ..machine()
    };
    let host = ask_of(&unified, &engine(), json!({}), json!({})).unwrap().1;
    assert_eq!(host.cgroupns_mode, "private");
}

#[test]
fn the_engines_settings_are_the_defaults() {
    let mut engine = engine();
    engine.shm_size_bytes = 1 << 20;
    engine.log_options = BTreeMap::from([("max-size".into(), "1m".into())]);
    engine.cgroupns_mode = Some("private".into());
    let of = |host: Value| ask_of(&machine(), &engine, json!({}), host).unwrap().1;
    let host = of(json!({"LogConfig": {"Type": "", "Config": {"max-file": "2"}}}));
    assert_eq!(host.shm_size, 1 << 20);
    assert_eq!(host.cgroupns_mode, "private");
    let options = host.log_config.config.unwrap();
    assert_eq!(
        (options["max-size"].as_str(), options["max-file"].as_str()),
        ("1m", "2")
    );
    let other = of(json!({"LogConfig": {"Type": "none"}, "Privileged": true}));
    assert_eq!(other.log_config.config, Some(BTreeMap::new()));
    assert_eq!(other.cgroupns_mode, "host");
}

#[test]
fn refusals_of_the_portable_half_speak_dockers_words() {
    for (config, text) in [
        (
            json!({"WorkingDir": "rel/x"}),
            "the working directory 'rel/x' is invalid, it needs to be an absolute path",
        ),
        (
            json!({"Env": ["A=b", "=x"]}),
            "invalid environment variable: =x",
        ),
        (json!({"Env": [""]}), "invalid environment variable: "),
        (json!({"StopSignal": "SIGNOPE"}), "invalid signal: SIGNOPE"),
        (json!({"Hostname": "a b"}), "invalid hostname format: a b"),
        (
            json!({"Healthcheck": {"Interval": 5}}),
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (
            json!({"Healthcheck": {"Retries": -1}}),
            "Retries in Healthcheck cannot be negative",
        ),
    ] {
        let error = ask(config, json!({})).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), crate::ErrorKind::InvalidParameter);
    }
    let clean = ask(
        json!({"WorkingDir": "/a//b/../c/", "Hostname": "under_score.x"}),
        json!({}),
    );
    assert_eq!(clean.unwrap().0.working_dir, "/a/c");
}

#[test]
fn refusals_of_limits_speak_dockers_words() {
    for (host, text) in [
        (
            json!({"Memory": 1024}),
            "Minimum memory limit allowed is 6MB",
        ),
        (
            json!({"Memory": 8_000_000, "MemorySwap": 7_000_000}),
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            json!({"MemorySwap": 8_000_000}),
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            json!({"MemoryReservation": 1}),
            "Minimum memory reservation allowed is 6MB",
        ),
        (
            json!({"Memory": 8_000_000, "MemoryReservation": 9_000_000}),
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            json!({"MemorySwappiness": 101}),
            "Invalid value: 101, valid memory swappiness range is 0-100",
        ),
        (
            json!({"NanoCpus": 2_000_000_001}),
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            json!({"NanoCpus": 1, "CpuPeriod": 1000}),
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            json!({"NanoCpus": 1, "CpuQuota": 1000}),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            json!({"CpuPeriod": 1}),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (
            json!({"CpuQuota": 1}),
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ),
        (
            json!({"CpuShares": -1}),
            "invalid CPUShares: value must be a positive integer",
        ),
        (
            json!({"CpusetCpus": "0,x"}),
            "Invalid value 0,x for cpuset cpus",
        ),
        (
            json!({"CpusetCpus": "0-99999999"}),
            "Invalid value 0-99999999 for cpuset cpus",
        ),
        (
            json!({"CpusetCpus": "0-2"}),
            "Requested CPUs are not available - requested 0-2, available: 0-1",
        ),
        (
            json!({"CpusetMems": "1"}),
            "Requested memory nodes are not available - requested 1, available: 0",
        ),
        (
            json!({"BlkioWeight": 5}),
            "Range of blkio weight is from 10 to 1000",
        ),
        (
            json!({"OomScoreAdj": 1001}),
            "Invalid value 1001, range for oom score adj is [-1000, 1000]",
        ),
        (json!({"ShmSize": -1}), "SHM size can not be less than 0"),
        (
            json!({"Ulimits": [{"Name": "nope"}]}),
            "invalid ulimit type: nope",
        ),
        (
            json!({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}),
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (
            json!({"DeviceCgroupRules": ["c 1:x r"]}),
            "invalid device cgroup rule format: 'c 1:x r'",
        ),
    ] {
        assert_eq!(ask(json!({}), host).unwrap_err().to_string(), text);
    }
}

#[test]
fn refusals_of_the_host_half_speak_dockers_words() {
    for (host, text) in [
        (
            json!({"RestartPolicy": {"Name": "sometimes"}}),
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', \
             'on-failure', or 'unless-stopped'",
        ),
        (
            json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}}),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}),
            "invalid restart policy: maximum retry count cannot be negative",
        ),
        (
            json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}}),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            json!({"Mounts": [{"Type": "bind", "Source": "/no/such/dir", "Target": "/x"}]}),
            "invalid mount config for type \"bind\": bind source path does not exist: /no/such/dir",
        ),
        (
            json!({"ExtraHosts": ["x"]}),
            "bad format for add-host: \"x\"",
        ),
        (
            json!({"ExtraHosts": ["x:y"]}),
            "invalid IP address in add-host: \"y\"",
        ),
        (
            json!({"PortBindings": {"99999/tcp": []}}),
            "invalid port specification: \"99999\"",
        ),
        (
            json!({"PortBindings": {"80/tcp": [{"HostPort": "9-8"}]}}),
            "invalid port specification: \"9-8\"",
        ),
        (
            json!({"Runtime": "gvisor"}),
            "unknown or invalid runtime name: gvisor",
        ),
        (
            json!({"StorageOpt": {"inodes": "1G"}}),
            "Unknown option inodes",
        ),
        (
            json!({"DeviceRequests": [{"Capabilities": [["gpu"]]}]}),
            "could not select device driver \"\" with capabilities: [[gpu]]",
        ),
        (
            json!({"LogConfig": {"Type": "nope"}}),
            "logger: no log driver named 'nope' is registered",
        ),
        (
            json!({"CapAdd": ["nope"]}),
            "invalid CapAdd: unknown capability: \"CAP_NOPE\"",
        ),
        (
            json!({"SecurityOpt": ["x=y"]}),
            "invalid --security-opt 2: \"x=y\"",
        ),
        (
            json!({"SecurityOpt": ["x"]}),
            "invalid --security-opt 1: \"x\"",
        ),
        (
            json!({"SecurityOpt": ["no-new-privileges=x"]}),
            "invalid --security-opt 2: \"no-new-privileges=x\"",
        ),
        (
            json!({"Tmpfs": {"/": ""}}),
            "invalid specification: destination can't be '/'",
        ),
        (
            json!({"Tmpfs": {"/x": "bogus"}}),
            "invalid tmpfs option \"bogus\"",
        ),
        (
            json!({"CgroupParent": "/a/../b"}),
            "invalid cgroup parent: /a/../b",
        ),
    ] {
        assert_eq!(ask(json!({}), host).unwrap_err().to_string(), text);
    }
}

#[test]
fn refusals_of_modes_speak_dockers_words() {
    for (config, host, text) in [
        (json!({}), json!({"IpcMode": "x"}), "invalid IPC mode: x"),
        (
            json!({}),
            json!({"PidMode": "container:"}),
            "invalid PID mode: container:",
        ),
        (json!({}), json!({"UTSMode": "x"}), "invalid UTS mode: x"),
        (
            json!({}),
            json!({"UsernsMode": "private"}),
            "invalid user namespace mode: private",
        ),
        (
            json!({}),
            json!({"CgroupnsMode": "x"}),
            "invalid cgroup namespace mode: x",
        ),
        (
            json!({}),
            json!({"NetworkMode": "container:"}),
            "Invalid network mode: invalid container format container:<name|id>",
        ),
        (
            json!({"Hostname": "x"}),
            json!({"NetworkMode": "container:a"}),
            "conflicting options: hostname and the network mode",
        ),
        (
            json!({"Hostname": "x"}),
            json!({"UTSMode": "host"}),
            "conflicting options: hostname and the UTS mode",
        ),
        (
            json!({}),
            json!({"NetworkMode": "container:a", "PublishAllPorts": true}),
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            json!({}),
            json!({"NetworkMode": "host", "Links": ["a:b"]}),
            "conflicting options: host type networking can't be used with links. This would \
             result in undefined behavior",
        ),
        (
            json!({}),
            json!({"NetworkMode": "host", "Sysctls": {"net.core.somaxconn": "1"}}),
            "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
        ),
        (
            json!({}),
            json!({"IpcMode": "host", "Sysctls": {"kernel.shmmax": "1"}}),
            "sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace",
        ),
        (
            json!({}),
            json!({"Sysctls": {"kernel/panic": "1"}}),
            "sysctl \"kernel.panic\" is not in a separate kernel namespace",
        ),
        (
            json!({}),
            json!({"Sysctls": {"net/../kernel/panic": "1"}}),
            "sysctl \"net.//.kernel.panic\" not allowed",
        ),
    ] {
        let error = ask(config, host.clone()).unwrap_err().to_string();
        if text.ends_with("not allowed") {
            assert!(error.starts_with("invalid sysctl name"), "{error}");
        } else {
            assert_eq!(error, text, "{host}");
        }
    }
    let allowed = json!({"Sysctls": {
        "net.ipv4.conf.eth0/1.forwarding": "1", "fs.mqueue.msg_max": "5", "kernel.domainname": "x"
    }});
    assert!(ask(json!({}), allowed).is_ok());
}

#[test]
fn what_is_not_done_yet_is_said() {
    let published = json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}});
    let (_, _, warnings) = ask(json!({}), published.clone()).unwrap();
    assert_eq!(warnings, [""; 0]);
    let mut on_host = published;
    on_host["NetworkMode"] = json!("host");
    let (_, _, warnings) = ask(json!({}), on_host).unwrap();
    assert_eq!(
        warnings,
        ["Published ports are discarded when using host network mode"]
    );
    let checked = json!({"Healthcheck": {"Test": ["CMD", "true"]}});
    let (_, _, warnings) = ask(checked, json!({"Init": true, "PidMode": "host"})).unwrap();
    assert_eq!(
        warnings,
        ["An init process is discarded without a PID namespace of the container's own",]
    );
    let none = json!({"Healthcheck": {"Test": ["NONE"]}});
    assert_eq!(ask(none, json!({"Init": true})).unwrap().2, [""; 0]);
}

#[test]
fn what_the_machine_cannot_limit_is_discarded_with_a_word() {
    let bare = Machine {
        limits: Limits::default(),
        ..machine()
    };
    let asked = json!({
        "Memory": 67_108_864, "PidsLimit": 5, "CpuShares": 2, "CpusetCpus": "0",
        "BlkioWeight": 100, "OomKillDisable": true
    });
    let (_, host, warnings) = ask_of(&bare, &engine(), json!({}), asked).unwrap();
    assert_eq!(
        (host.memory, host.memory_swap, host.pids_limit),
        (0, -1, None)
    );
    assert_eq!(
        (
            host.cpu_shares,
            host.cpuset_cpus.as_str(),
            host.blkio_weight
        ),
        (0, "", 0)
    );
    assert_eq!(host.oom_kill_disable, None);
    assert_eq!(warnings.len(), 6, "{warnings:?}");
    assert_eq!(
        warnings[0],
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. \
         Limitation discarded."
    );
}

#[test]
fn security_options_are_read_in_both_spellings() {
    let words = [
        "no-new-privileges:true",
        "seccomp={\"a\":1}",
        "apparmor:x",
        "label=type:t",
    ];
    let options = SecurityOptions::parse(&words.map(str::to_owned)).unwrap();
    assert_eq!(
        options,
        SecurityOptions {
            no_new_privileges: Some(true),
            seccomp: Some("{\"a\":1}".into()),
            apparmor: Some("x".into()),
            labels: vec!["type:t".into()],
            ..SecurityOptions::default()
        }
    );
}
