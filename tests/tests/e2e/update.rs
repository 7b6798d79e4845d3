//! `update` and `container prune`.

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::under_both_clients;
use serde_json::json;

under_both_clients! {
    limits_change_while_a_container_runs_and_stay_changed,
    a_restart_policy_changes_for_the_next_end,
    what_does_not_run_is_pruned,
}

fn run(cli: &Cli<'_>, name: &str, flags: &[&str]) {
    let own = ["run", "-d", "--name", name, "--network", "none"];
    cli.ok(&[&own[..], flags, &["busybox", "sleep", "1000"]].concat());
}

/// What the kernel has in a file of either cgroup version of the container.
fn limit(cli: &Cli<'_>, name: &str, controller: &str, files: [&str; 2]) -> String {
    let pid = cli.inspect(name, "{{.State.Pid}}");
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    for line in text.lines() {
        let fields: Vec<&str> = line.splitn(3, ':').collect();
        let is_v1 = fields[1].split(',').any(|name| name == controller);
        let (root, file) = match (is_v1, fields[1]) {
            (true, _) => (format!("/sys/fs/cgroup/{controller}"), files[0]),
            (false, "") => ("/sys/fs/cgroup".to_owned(), files[1]),
            _ => continue,
        };
        if let Ok(value) = std::fs::read_to_string(format!("{root}{}/{file}", fields[2])) {
            return value.trim().to_owned();
        }
    }
    panic!("no {controller} in {text}");
}

fn limits_change_while_a_container_runs_and_stay_changed(cli: &Cli<'_>) {
    run(
        cli,
        "web",
        &["-m", "64m", "--memory-swap", "128m", "--pids-limit", "50"],
    );
    let memory = || {
        limit(
            cli,
            "web",
            "memory",
            ["memory.limit_in_bytes", "memory.max"],
        )
    };
    let pids = || limit(cli, "web", "pids", ["pids.max", "pids.max"]);
    assert_eq!((memory().as_str(), pids().as_str()), ("67108864", "50"));
    let output = cli.ok(&["update", "-m", "32m", "--pids-limit", "20", "web"]);
    assert_eq!(output, "web");
    assert_eq!((memory().as_str(), pids().as_str()), ("33554432", "20"));
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}}";
    assert_eq!(cli.inspect("web", shown), "33554432 134217728 20");
    cli.ok(&["restart", "-t", "0", "web"]);
    assert_eq!((memory().as_str(), pids().as_str()), ("33554432", "20"));
    cli.ok(&["update", "--pids-limit", "-1", "--cpus", "0.5", "web"]);
    assert_eq!(pids(), "max");
    assert_eq!(cli.inspect("web", "{{.HostConfig.NanoCpus}}"), "500000000");

    run(cli, "free", &[]);
    let id = cli.inspect("free", "{{.Id}}");
    let text = cli.fails(1, &["update", "-m", "64m", "free"]);
    let expected = format!(
        "Cannot update container {id}: Memory limit should be smaller than already set memoryswap \
         limit, update the memoryswap at the same time"
    );
    assert!(text.contains(&expected), "{text}");
    // What is wrong whatever the container is, is said without it.
    for (flags, problem) in [
        (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (["--cpus", "1000"], "Range of CPUs is from 0.01 to "),
        (
            ["--restart", "maybe"],
            "invalid restart policy: unknown policy 'maybe'",
        ),
    ] {
        let text = cli.fails(1, &["update", flags[0], flags[1], "free"]);
        let expected = format!("Error response from daemon: {problem}");
        assert!(text.starts_with(&expected), "{text}");
    }
    let quota = cli.fails(1, &["update", "--cpu-quota", "5000", "web"]);
    assert!(
        quota.contains("CPU Quota cannot be updated as NanoCPUs has already been set"),
        "{quota}"
    );
    assert!(
        cli.fails(1, &["update", "web"])
            .contains("you must provide one or more flags")
    );
}

fn a_restart_policy_changes_for_the_next_end(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "while [ ! -e /tmp/go ]; do usleep 10000; done; exit 3",
    ]);
    cli.ok(&["update", "--restart", "on-failure:2", "web"]);
    let policy =
        "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(cli.inspect("web", policy), "on-failure 2");
    cli.ok(&["exec", "web", "touch", "/tmp/go"]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while cli.inspect("web", "{{.RestartCount}} {{.State.Status}}") != "2 exited" {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            cli.ok(&["ps", "-a"])
        );
    }
}

fn what_does_not_run_is_pruned(cli: &Cli<'_>) {
    run(cli, "runs", &[]);
    let mut ids = Vec::new();
    for label in ["keep=1", "x=y", "x=z"] {
        let script = "dd if=/dev/zero of=/file bs=1k count=64 2>/dev/null";
        ids.push(cli.ok(&[
            "create",
            "--label",
            label,
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            script,
        ]));
    }
    let started = cli.ok(&["start", "-a", &ids[2]]);
    assert_eq!(started, "");
    let old = cli.ok(&["container", "prune", "-f", "--filter", "until=1h"]);
    assert_eq!(old, "Total reclaimed space: 0B");
    let labelled = cli.ok(&["container", "prune", "-f", "--filter", "label=x=y"]);
    assert_eq!(
        labelled,
        format!(
            "Deleted Containers:\n{}\n\nTotal reclaimed space: 0B",
            ids[1]
        )
    );
    let rest = cli.ok(&["container", "prune", "-f", "--filter", "label!=keep"]);
    assert!(
        rest.starts_with(&format!("Deleted Containers:\n{}\n", ids[2])),
        "{rest}"
    );
    assert!(!rest.ends_with(" 0B"), "{rest}");
    assert_eq!(cli.ok(&["ps", "-a", "-q"]).lines().count(), 2);
    let refused = cli.run_with_input(&["container", "prune"], b"n\n");
    assert!(
        refused
            .stdout
            .contains("Are you sure you want to continue? [y/N]"),
        "{refused}"
    );
    cli.ok(&["container", "prune", "-f"]);
    assert_eq!(cli.ok(&["ps", "-a", "--format", "{{.Names}}"]), "runs");
}

#[test]
fn an_update_on_the_wire_is_dockers() {
    with_busybox(Client::Conex, |cli| {
        run(cli, "web", &["--rm"]);
        let update = |body: serde_json::Value| {
            cli.engine
                .api("POST", "/containers/web/update", Some(&body))
        };
        let both = json!({"Memory": 134_217_728, "MemorySwap": 268_435_456, "RestartPolicy": {"Name": "no"}});
        let answer = update(both);
        assert_eq!(
            (answer.status, answer.text().trim()),
            (200, r#"{"Warnings":null}"#)
        );
        let small = update(json!({"Memory": 1, "MemorySwap": 2}));
        assert_eq!(small.status, 400);
        assert!(
            small
                .message()
                .ends_with("Minimum memory limit allowed is 6MB"),
            "{}",
            small.message()
        );
        let policy = update(json!({"RestartPolicy": {"Name": "always"}}));
        assert_eq!(policy.status, 409);
        assert_eq!(cli.inspect("web", "{{.HostConfig.Memory}}"), "134217728");
        let prune = cli.engine.api("POST", "/containers/prune", None);
        assert_eq!(
            prune.text().trim(),
            r#"{"ContainersDeleted":null,"SpaceReclaimed":0}"#
        );
    });
}
