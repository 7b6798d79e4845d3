//! What starts containers again: `restart`, policies when the daemon comes back; and
//! the killer of processes that keeps them from running.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::{skip, under_both_clients};
use rustix::process::{Pid, Signal};

const LIMIT: Duration = Duration::from_secs(60);

under_both_clients! {
    a_throw_away_container_that_is_restarted_runs_again_and_goes_with_its_own_end,
    the_killer_is_told_of_while_the_container_goes_on,
}

fn a_throw_away_container_that_is_restarted_runs_again_and_goes_with_its_own_end(cli: &Cli<'_>) {
    let script = "echo started; exec sleep 1000";
    let id = cli.ok(&[
        "run",
        "-d",
        "--rm",
        "--name",
        "web",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let pid = cli.inspect("web", "{{.State.Pid}}");
    cli.ok(&["restart", "-t", "0", "web"]);
    assert_eq!(
        cli.inspect("web", "{{.Id}} {{.State.Running}}"),
        format!("{id} true")
    );
    assert_ne!(cli.inspect("web", "{{.State.Pid}}"), pid);
    cli.wait_for_line("web", "started");
    cli.ok(&["stop", "-t", "0", "web"]);
    let deadline = Instant::now() + LIMIT;
    while cli.engine.container_count() > 0 {
        assert!(Instant::now() < deadline, "it stays");
    }
}

fn the_killer_is_told_of_while_the_container_goes_on(cli: &Cli<'_>) {
    let script = "sh -c 'head -c 200m /dev/zero | tail' ; echo survived; exec sleep 1000";
    let mut client = cli
        .command(&[
            "events",
            "--since",
            "0",
            "--filter",
            "event=oom",
            "--format",
            "{{.Action}}",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client can be started");
    let output = client.stdout.take().expect("stdout is a pipe");
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "-m",
        "20m",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let line = BufReader::new(output).lines().next();
    client.kill().expect("a child can be killed");
    client.wait().expect("a child can be reaped");
    assert_eq!(line.expect("an event").expect("text"), "oom");
    let state = "{{.State.Running}} {{.State.OOMKilled}}";
    assert_eq!(cli.inspect("web", state), "true true");
    cli.wait_for_line("web", "survived");
    cli.ok(&["stop", "-t", "0", "web"]);
    assert_eq!(cli.inspect("web", state), "false true");
}

fn engine(flags: &[&str]) -> Option<Engine> {
    let engine = Engine::start_with(flags, &[])?;
    match fixture::make(Fixture::Busybox) {
        Ok(tar) => {
            drop(
                engine
                    .cli(Client::Conex)
                    .ok(&["import", &tar.to_string_lossy(), "busybox"]),
            )
        }
        Err(reason) => {
            skip(&reason);
            return None;
        }
    }
    Some(engine)
}

#[test]
fn policies_start_containers_after_those_they_stand_on() {
    let Some(mut engine) = engine(&["--live-restore=false"]) else {
        return;
    };
    let run = |engine: &Engine, name: &str, flags: &[&str]| {
        let own = [
            "run",
            "-d",
            "--restart",
            "always",
            "--stop-signal",
            "KILL",
            "--name",
            name,
        ];
        let program = ["busybox", "sleep", "1000"];
        engine
            .cli(Client::Conex)
            .ok(&[&own[..], flags, &program].concat());
    };
    run(
        &engine,
        "base",
        &["--network", "none", "--ipc", "shareable"],
    );
    for number in 0..3 {
        let network = ["--network", "container:base", "--pid", "container:base"];
        run(&engine, &format!("near{number}"), &network);
        let near = format!("container:near{number}");
        run(
            &engine,
            &format!("far{number}"),
            &["--network", "none", "--pid", &near],
        );
    }
    assert_eq!(engine.terminate(), Some(0));
    engine.resume();
    let cli = engine.cli(Client::Conex);
    let deadline = Instant::now() + LIMIT;
    while cli.ok(&["ps", "-q"]).lines().count() < 7 {
        assert!(
            Instant::now() < deadline,
            "{}\n{}",
            cli.ok(&["ps", "-a"]),
            engine.log()
        );
    }
    assert!(!engine.log().contains("not restarted"), "{}", engine.log());
}

#[test]
#[ignore = "soak: waits half a minute for monitors that say nothing"]
fn monitors_that_hang_are_waited_for_together() {
    let Some(mut engine) = engine(&[]) else {
        return;
    };
    let mut monitors = Vec::new();
    for _ in 0..4 {
        let cli = engine.cli(Client::Conex);
        let id = cli.ok(&["run", "-d", "--network", "none", "busybox", "sleep", "1000"]);
        let pid = cli.inspect(&id, "{{.State.Pid}}");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let parent = stat
            .split_whitespace()
            .nth(3)
            .and_then(|word| word.parse().ok());
        monitors.extend(parent.and_then(Pid::from_raw));
    }
    engine.kill9();
    for monitor in &monitors[..3] {
        rustix::process::kill_process(*monitor, Signal::STOP).expect("a monitor of ours");
    }
    let began = Instant::now();
    engine.resume();
    assert!(
        began.elapsed() < Duration::from_secs(50),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        engine.cli(Client::Conex).ok(&["ps", "-q"]).lines().count(),
        1
    );
}
