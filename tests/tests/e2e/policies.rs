//! Restart policies, removal on exit and what a stop obeys: what becomes of a container that ends.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::fixture::{self, Fixture};
use conex_tests::{http, skip, under_both_clients};
use serde_json::Value;

under_both_clients! {
    failures_are_tried_again_as_often_as_said_and_ever_later,
    success_and_a_stop_end_a_policy,
    a_throw_away_container_takes_its_anonymous_volumes_along,
    the_id_is_printed_and_kept_in_a_file,
    waits_answer_in_the_order_asked,
}

/// A container without a network from this image, detached, with more flags in front.
fn run(cli: &Cli<'_>, flags: &[&str], program: &[&str]) -> String {
    let words = [
        &["run", "-d", "--network", "none"],
        flags,
        &["busybox"],
        program,
    ]
    .concat();
    cli.ok(&words)
}

/// Events of one kind of a container from the beginning until so many were seen, with their times in nanoseconds.
fn events(
    cli: &Cli<'_>,
    name: &str,
    kinds: &[&str],
    last: &str,
    count: usize,
) -> Vec<(String, u64)> {
    let mut command = cli.command(&["events", "--since", "0", "--format", "{{json .}}"]);
    command.args(["--filter", &format!("container={name}")]);
    for kind in kinds {
        command.args(["--filter", &format!("event={kind}")]);
    }
    let mut client = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client can be started");
    let output = client.stdout.take().expect("stdout is a pipe");
    let mut seen = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.expect("events are text");
        let event: Value = serde_json::from_str(&line).expect("an event is JSON");
        let action = event["Action"].as_str().expect("an action").to_owned();
        seen.push((action, event["timeNano"].as_u64().expect("a time")));
        if seen.iter().filter(|(action, _)| action == last).count() == count {
            break;
        }
    }
    client.kill().expect("a child can be killed");
    client.wait().expect("a child can be reaped");
    seen
}

fn failures_are_tried_again_as_often_as_said_and_ever_later(cli: &Cli<'_>) {
    run(
        cli,
        &["--name", "web", "--restart", "on-failure:2"],
        &["sh", "-c", "exit 3"],
    );
    let told = events(cli, "web", &["start", "die"], "die", 3);
    let actions: Vec<&str> = told.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["start", "die", "start", "die", "start", "die"]);
    // 100 ms, then twice as long; an early look at the clock is not an early start.
    let pause = |from: usize| (told[from + 1].1 - told[from].1) / 1_000_000;
    assert!(pause(1) >= 95 && pause(3) >= 190, "{told:?}");
    let state = "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}";
    assert_eq!(cli.inspect("web", state), "exited 3 2");
    // Started by hand it begins anew.
    cli.ok(&["start", "web"]);
    events(cli, "web", &["die"], "die", 6);
    assert_eq!(cli.inspect("web", state), "exited 3 2");
}

fn success_and_a_stop_end_a_policy(cli: &Cli<'_>) {
    run(
        cli,
        &["--name", "fine", "--restart", "on-failure"],
        &["true"],
    );
    events(cli, "fine", &["die"], "die", 1);
    let state = "{{.State.Status}} {{.RestartCount}}";
    assert_eq!(cli.inspect("fine", state), "exited 0");
    let sleep = ["sleep", "1000"];
    for (name, command) in [
        ("stopped", &["stop", "-t", "0"][..]),
        ("killed", &["kill"]),
        ("asked", &["kill", "-s", "USR1"]),
    ] {
        let flags = [
            "--name",
            name,
            "--restart",
            "always",
            "--stop-signal",
            "USR1",
            "--init",
        ];
        run(cli, &flags, &sleep);
        cli.ok(&[command, &[name]].concat());
        events(cli, name, &["die"], "die", 1);
        assert_eq!(cli.inspect(name, state), "exited 0", "{name}");
    }
    let conflict = cli.fails(
        125,
        &["create", "--rm", "--restart", "always", "busybox", "true"],
    );
    assert!(conflict.contains("--restart and --rm"), "{conflict}");
    let both = serde_json::json!({
        "Image": "busybox",
        "HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}},
    });
    let refused = cli.engine.api("POST", "/containers/create", Some(&both));
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (
            400,
            "can't create 'AutoRemove' container with restart policy"
        )
    );
}

fn a_throw_away_container_takes_its_anonymous_volumes_along(cli: &Cli<'_>) {
    let volumes = ["-v", "/anonymous", "-v", "named:/named"];
    let run = ["run", "--rm", "--network", "none"];
    cli.ok(&[&run[..], &volumes, &["busybox", "true"]].concat());
    assert_eq!(cli.ok(&["volume", "ls", "-q"]), "named");
    assert_eq!(cli.ok(&["ps", "-aq"]), "");
}

fn the_id_is_printed_and_kept_in_a_file(cli: &Cli<'_>) {
    let file = cli.engine.root().join("cid");
    let file = file.to_str().expect("the path is text");
    let id = run(cli, &["--cidfile", file], &["true"]);
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(std::fs::read_to_string(file).expect("it was written"), id);
    let refused = cli.fails(125, &["run", "--cidfile", file, "busybox", "true"]);
    let problem = "container ID file found, make sure the other container isn't running or delete";
    assert!(refused.contains(problem), "{refused}");
    assert_eq!(cli.engine.container_count(), 1);
}

fn waits_answer_in_the_order_asked(cli: &Cli<'_>) {
    for (name, script) in [("three", "exit 3"), ("four", "exit 4")] {
        run(cli, &["--name", name], &["sh", "-c", script]);
    }
    assert_eq!(cli.ok(&["wait", "four", "three", "four"]), "4\n3\n4");
}

#[test]
fn a_stopped_container_comes_back_with_the_engine_if_its_policy_is_always() {
    let Some(mut engine) = conex_tests::client::engine_for(Client::Conex) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
    for policy in ["always", "unless-stopped"] {
        run(
            &cli,
            &["--name", policy, "--restart", policy],
            &["sleep", "1000"],
        );
        cli.ok(&["stop", "-t", "0", policy]);
    }
    engine.kill9();
    engine.resume();
    let cli = engine.cli(Client::Conex);
    events(&cli, "always", &["start"], "start", 1);
    let running = "{{.State.Running}}";
    assert_eq!(cli.inspect("always", running), "true");
    assert_eq!(cli.inspect("unless-stopped", running), "false");
    cli.ok(&["rm", "-f", "always", "unless-stopped"]);
}

#[test]
fn a_stop_goes_on_without_its_client_and_waits_as_long_as_the_container_says() {
    with_busybox(Client::Conex, |cli| {
        // Nothing but a kill ends it; ten seconds are the engine's default.
        let stubborn = [
            "sh",
            "-c",
            "trap '' TERM; echo ready; while :; do sleep 1; done",
        ];
        let id = run(cli, &["--name", "web", "--stop-timeout", "1"], &stubborn);
        cli.wait_for_line("web", "ready");
        let begun = std::time::Instant::now();
        let mut stream = http::connect(&cli.engine.socket()).expect("the engine listens");
        use std::io::Write;
        write!(
            stream,
            "POST /containers/{id}/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        )
        .expect("the engine reads");
        // The kill that comes first is the signal: then the engine has begun.
        events(cli, "web", &["kill"], "kill", 1);
        drop(stream);
        assert_eq!(cli.ok(&["wait", "web"]), "137");
        assert!(begun.elapsed().as_secs() < 9, "{:?}", begun.elapsed());
    });
}

#[test]
fn swarm_is_told_to_be_off() {
    let Some(engine) = conex_tests::client::engine_for(Client::Conex) else {
        return;
    };
    for path in [
        "/swarm",
        "/nodes",
        "/services",
        "/tasks",
        "/secrets",
        "/configs",
    ] {
        let told = engine.api("GET", path, None);
        assert_eq!(told.status, 503, "{path}");
        assert!(
            told.message()
                .starts_with("This node is not a swarm manager."),
            "{path}"
        );
    }
}
