//! What is done to a running container besides stopping it: pause, rename, a
//! look at its processes and ports.

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::under_both_clients;
use serde_json::Value;

under_both_clients! {
    a_paused_container_stands_still_until_it_is_let_go,
    stopping_and_killing_reach_a_paused_container,
    a_renamed_container_answers_to_its_new_name_alone,
    its_processes_are_listed_as_ps_does,
    a_container_that_publishes_nothing_has_no_ports,
}

/// A container that writes a line into `/tmp/ticks` ten times a second.
fn ticking(cli: &Cli<'_>, name: &str) {
    let script =
        "trap 'exit 4' TERM; echo ready; while :; do echo x >>/tmp/ticks; usleep 100000; done";
    cli.ok(&[
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
}

fn ticks(cli: &Cli<'_>, name: &str) -> usize {
    let pid = cli.inspect(name, "{{.State.Pid}}");
    std::fs::read(format!("/proc/{pid}/root/tmp/ticks")).map_or(0, |ticks| ticks.len())
}

fn a_paused_container_stands_still_until_it_is_let_go(cli: &Cli<'_>) {
    ticking(cli, "web");
    let id = cli.inspect("web", "{{.Id}}");
    assert_eq!(cli.ok(&["pause", "web"]), "web");
    let before = ticks(cli, "web");
    let state = "{{.State.Status}} {{.State.Running}} {{.State.Paused}}";
    assert_eq!(cli.inspect("web", state), "paused true true");
    let status = cli.ok(&["ps", "--filter", "status=paused", "--format", "{{.Status}}"]);
    assert!(
        status.starts_with("Up ") && status.ends_with(" (Paused)"),
        "{status}"
    );
    for (args, text) in [
        (
            &["exec", "web", "true"][..],
            "Container web is paused, unpause the container before exec".to_owned(),
        ),
        (
            &["pause", "web"],
            format!("container {id} is already paused"),
        ),
        (
            &["start", "web"],
            "cannot start a paused container, try unpause instead".to_owned(),
        ),
    ] {
        let told = cli.fails(1, args);
        assert!(told.contains(&text), "{told}");
    }
    assert_eq!(ticks(cli, "web"), before, "it went on");
    assert_eq!(cli.ok(&["unpause", "web"]), "web");
    let told = cli.fails(1, &["unpause", "web"]);
    assert!(
        told.contains(&format!("Container {id} is not paused")),
        "{told}"
    );
    cli.ok(&["exec", "web", "usleep", "300000"]);
    assert!(ticks(cli, "web") > before, "it still stands");
}

fn stopping_and_killing_reach_a_paused_container(cli: &Cli<'_>) {
    for (name, command, code) in [("one", "stop", 4), ("two", "kill", 137)] {
        ticking(cli, name);
        cli.wait_for_line(name, "ready");
        cli.ok(&["pause", name]);
        cli.ok(&[command, name]);
        assert_eq!(cli.ok(&["wait", name]), code.to_string());
        let state = cli.inspect(name, "{{.State.Status}} {{.State.Paused}}");
        assert_eq!(state, "exited false");
    }
    ticking(cli, "three");
    cli.ok(&["pause", "three"]);
    cli.ok(&["rm", "-f", "three"]);
}

fn a_renamed_container_answers_to_its_new_name_alone(cli: &Cli<'_>) {
    cli.ok(&["create", "--name", "old", "busybox", "true"]);
    cli.ok(&["create", "--name", "taken", "busybox", "true"]);
    let id = cli.inspect("old", "{{.Id}}");
    assert_eq!(cli.ok(&["rename", "old", "new"]), "");
    assert_eq!(
        cli.inspect("new", "{{.Id}} {{.Name}}"),
        format!("{id} /new")
    );
    cli.fails(1, &["inspect", "old"]);
    let told = cli.fails(1, &["rename", "new", "taken"]);
    assert!(
        told.contains("Conflict. The container name \"/taken\" is already in use"),
        "{told}"
    );
    cli.fails(1, &["rename", "new", "b/d"]);
    cli.fails(1, &["rename", "new", "new"]);
    // The old name is free.
    cli.ok(&["create", "--name", "old", "busybox", "true"]);
}

fn its_processes_are_listed_as_ps_does(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "-u",
        "54321",
        "busybox",
        "sleep",
        "1000",
    ]);
    let pid = cli.inspect("web", "{{.State.Pid}}");
    let table = cli.ok(&["top", "web"]);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    assert_eq!((lines.len(), lines[1].len()), (2, 9), "{table}");
    assert_eq!(
        (lines[1][0], lines[1][1], &lines[1][7..]),
        ("54321", pid.as_str(), &["sleep", "1000"][..])
    );
    let own = cli.ok(&["top", "web", "-o", "pid,comm"]);
    let cells: Vec<&str> = own.split_whitespace().collect();
    assert_eq!(cells, ["PID", "COMMAND", pid.as_str(), "sleep"]);
    cli.ok(&["create", "--name", "made", "busybox", "true"]);
    let told = cli.fails(1, &["top", "made"]);
    assert!(told.contains("is not running"), "{told}");
}

fn a_container_that_publishes_nothing_has_no_ports(cli: &Cli<'_>) {
    cli.ok(&["create", "--name", "made", "busybox", "true"]);
    assert_eq!(cli.ok(&["port", "made"]), "");
    let told = cli.fails(1, &["port", "made", "80/tcp"]);
    assert_eq!(told, "Error: No public port '80/tcp' published for made\n");
}

#[test]
fn control_is_told_in_events_and_outlives_the_daemon() {
    let mut names = Vec::new();
    with_busybox(Client::Conex, |cli| {
        ticking(cli, "web");
        cli.ok(&["rename", "web", "other"]);
        cli.ok(&["top", "other"]);
        cli.ok(&["pause", "other"]);
        cli.ok(&["unpause", "other"]);
        let now = cli.ok(&["info", "-f", "{{.SystemTime}}"]);
        let events = cli.ok(&[
            "events",
            "--since",
            "0",
            "--until",
            &now,
            "--filter",
            "type=container",
            "--format",
            "{{json .}}",
        ]);
        for line in events.lines() {
            let event: Value = serde_json::from_str(line).expect("an event is JSON");
            let action = event["Action"].as_str().expect("an action").to_owned();
            if action == "rename" {
                assert_eq!(event["Actor"]["Attributes"]["oldName"], "/web");
                assert_eq!(event["Actor"]["Attributes"]["name"], "other");
            }
            names.push(action);
        }
        let told = ["create", "start", "rename", "top", "pause", "unpause"];
        assert_eq!(names, told);
    });
    let Some(mut engine) = conex_tests::client::engine_for(Client::Conex) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    let tar = match conex_tests::fixture::make(conex_tests::fixture::Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return conex_tests::skip(&reason),
    };
    cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
    ticking(&cli, "web");
    cli.ok(&["rename", "web", "other"]);
    cli.ok(&["pause", "other"]);
    engine.kill9();
    engine.resume();
    let cli = engine.cli(Client::Conex);
    let state = cli.inspect("other", "{{.State.Status}} {{.Name}}");
    assert_eq!(state, "paused /other");
    cli.ok(&["unpause", "other"]);
    assert_eq!(cli.ok(&["exec", "other", "echo", "moves"]), "moves");
}
