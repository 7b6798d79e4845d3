//! Limits that really limit: memory, processor, processes, seen from the host.

use std::fs;

use conex_tests::client::Cli;
use conex_tests::{leftovers, under_both_clients};

/// The first text of this name in the container's cgroups that has the word.
fn cgroup_file(id: &str, name: &str, word: &str) -> Option<String> {
    leftovers::cgroups(&[id.to_owned()])
        .iter()
        .filter_map(|dir| fs::read_to_string(dir.join(name)).ok())
        .find(|text| text.contains(word))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

under_both_clients! {
    memory_beyond_the_limit_kills,
    a_processor_limit_throttles,
    a_limit_of_processes_stops_forks,
    too_little_memory_is_refused,
    limits_are_seen_from_inside,
    a_limit_may_be_lower_than_what_the_start_needs,
}

fn a_limit_may_be_lower_than_what_the_start_needs(cli: &Cli<'_>) {
    for init in [&[][..], &["--init"]] {
        let flags = ["run", "--rm", "--network", "none", "--ulimit", "nofile=5:6"];
        let shell = ["busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn"];
        assert_eq!(cli.ok(&[&flags[..], init, &shell].concat()), "5\n6");
    }
}

fn memory_beyond_the_limit_kills(cli: &Cli<'_>) {
    let output = cli.run(&[
        "run",
        "--name",
        "fat",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "--network",
        "none",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=64M",
        "count=1",
    ]);
    assert_eq!(output.code, Some(137), "{output}");
    assert_eq!(
        cli.inspect(
            "fat",
            "{{.State.ExitCode}} {{.State.OOMKilled}} {{.HostConfig.Memory}}"
        ),
        "137 true 16777216"
    );
    // Within the limit the same work is fine.
    cli.ok(&[
        "run",
        "--rm",
        "-m",
        "128m",
        "--network",
        "none",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=32M",
        "count=1",
    ]);
}

fn a_processor_limit_throttles(cli: &Cli<'_>) {
    let burn = "timeout 2 sh -c 'while :; do :; done'; echo burnt; sleep 1000";
    let id = cli.ok(&[
        "run",
        "-d",
        "--name",
        "hot",
        "--cpus",
        "0.2",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        burn,
    ]);
    cli.wait_for_line("hot", "burnt");
    let stat = cgroup_file(&id, "cpu.stat", "nr_throttled").expect("a processor cgroup");
    let throttled = field(&stat, "nr_throttled").expect("a count of throttled periods");
    assert!(throttled >= 5, "{stat}");
    let used_us = field(&stat, "usage_usec").unwrap_or_else(|| {
        let text = cgroup_file(&id, "cpuacct.usage", "").expect("an accounting cgroup");
        let ns: u64 = text.trim().parse().expect("a number");
        ns / 1000
    });
    // Two seconds at a fifth of a processor, and some room for the rest.
    assert!((100_000..700_000).contains(&used_us), "{used_us} us");
}

fn a_limit_of_processes_stops_forks(cli: &Cli<'_>) {
    let output = cli.run(&[
        "run",
        "--rm",
        "--pids-limit",
        "5",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; echo all",
    ]);
    assert_ne!(output.code, Some(0), "{output}");
    assert!(output.stderr.contains("can't fork"), "{output}");
}

fn too_little_memory_is_refused(cli: &Cli<'_>) {
    let complaint = cli.fails(125, &["run", "-m", "1k", "busybox", "true"]);
    assert!(
        complaint.contains("Minimum memory limit allowed is 6MB"),
        "{complaint}"
    );
    assert_eq!(cli.engine.container_count(), 0);
}

fn limits_are_seen_from_inside(cli: &Cli<'_>) {
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true";
    let said = cli.ok(&[
        "run",
        "--rm",
        "-m",
        "64m",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(said, "67108864");
}
