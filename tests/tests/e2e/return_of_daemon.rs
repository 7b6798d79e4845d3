//! The daemon dies by `kill -9` and comes back: containers do not notice, and
//! nothing that happened meanwhile is lost.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use conex_tests::client::{Cli, Client, engine_for};
use conex_tests::engine::{Engine, write_file};
use conex_tests::fixture::{self, Fixture};
use conex_tests::{process, skip};
use jiff::Timestamp;

const CROWD: usize = 20;

fn engine_with_busybox(client: Client) -> Option<Engine> {
    let engine = engine_for(client)?;
    match fixture::make(Fixture::Busybox) {
        Ok(tar) => engine
            .cli(client)
            .ok(&["import", &tar.to_string_lossy(), "busybox"]),
        Err(reason) => {
            skip(&reason);
            return None;
        }
    };
    Some(engine)
}

fn pidfd(cli: &Cli<'_>, name: &str) -> OwnedFd {
    let pid: i32 = cli.inspect(name, "{{.State.Pid}}").parse().expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a running container has a pid");
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("it still runs")
}

fn time(text: &str) -> SystemTime {
    let stamp: Timestamp = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    SystemTime::from(stamp)
}

/// Even ones are short and end while the daemon is away, odd ones outlast it.
fn lines_of(index: usize) -> usize {
    if index.is_multiple_of(2) { 250 } else { 800 }
}

fn story(client: Client) {
    let Some(mut engine) = engine_with_busybox(client) else {
        return;
    };
    let cli = engine.cli(client);
    let signals = engine.root().join("signals");
    std::fs::create_dir(&signals).expect("a fresh directory");
    let volume = format!("{}:/signals", signals.display());
    for index in 0..CROWD {
        let script = format!(
            "while [ ! -e /signals/go ]; do usleep 10000; done; i=0; while [ $i -lt {} ]; do i=$((i+1)); echo {index} line $i; echo {index} err $i >&2; usleep 10000; done; exit {index}",
            lines_of(index)
        );
        cli.ok(&[
            "run",
            "-d",
            "--name",
            &format!("p{index}"),
            "-v",
            &volume,
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            &script,
        ]);
    }
    let started: Vec<String> = (0..CROWD)
        .map(|index| cli.inspect(&format!("p{index}"), "{{.State.StartedAt}}"))
        .collect();
    let watched: Vec<OwnedFd> = (0..CROWD)
        .map(|index| pidfd(&cli, &format!("p{index}")))
        .collect();
    write_file(&signals.join("go"), "");
    // The last one is among those that outlast the daemon's absence.
    cli.wait_for_line(
        &format!("p{}", CROWD - 1),
        &format!("{} line 20", CROWD - 1),
    );

    engine.kill9();
    let mut ended = vec![None; CROWD];
    for index in (0..CROWD).filter(|index| index.is_multiple_of(2)) {
        assert!(
            process::readable_within(&watched[index], Duration::from_secs(60))
                .expect("a pidfd can be polled"),
            "p{index} hangs without its daemon"
        );
        ended[index] = Some(SystemTime::now());
    }
    engine.resume();

    let cli = engine.cli(client);
    for index in 0..CROWD {
        let name = format!("p{index}");
        assert_eq!(
            cli.ok(&["wait", &name]),
            index.to_string(),
            "exit code of {name}"
        );
        let output = cli.run(&["logs", &name]);
        let expected = |kind: &str| -> String {
            (1..=lines_of(index))
                .map(|i| format!("{index} {kind} {i}\n"))
                .collect()
        };
        assert!(
            output.stdout == expected("line"),
            "{name} lost output: {} lines",
            output.stdout.lines().count()
        );
        assert!(
            output.stderr == expected("err"),
            "{name} lost errors: {} lines",
            output.stderr.lines().count()
        );

        let state = cli.inspect(
            &name,
            "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}",
        );
        assert_eq!(state, format!("exited {index} "));
        assert_eq!(cli.inspect(&name, "{{.State.StartedAt}}"), started[index]);
        let finished = time(&cli.inspect(&name, "{{.State.FinishedAt}}"));
        if let Some(seen) = ended[index] {
            // Ends are seen one after the other, so only "not later" is exact.
            assert!(
                finished <= seen + Duration::from_millis(200),
                "{name} finished after it was seen to end"
            );
        }
        assert!(
            finished > time(&started[index]),
            "{name} finished before it started"
        );
    }
    // And it is a working engine.
    assert_eq!(
        cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "echo",
            "back"
        ]),
        "back"
    );
}

#[test]
fn twenty_printing_containers_outlive_their_daemon_with_conex() {
    story(Client::Conex);
}

#[test]
fn twenty_printing_containers_outlive_their_daemon_with_docker() {
    story(Client::Docker);
}

#[test]
fn running_containers_can_be_used_after_the_daemons_return() {
    let Some(mut engine) = engine_with_busybox(Client::Conex) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&[
        "run",
        "-d",
        "-i",
        "--name",
        "old",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "while read x; do echo got $x; [ $x != bye ] || exit 6; done",
    ]);
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "victim",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ]);
    cli.ok(&[
        "create",
        "--name",
        "never",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    let pid = cli.inspect("old", "{{.State.Pid}}");
    engine.kill9();
    engine.resume();

    let cli = engine.cli(Client::Conex);
    assert_eq!(
        cli.inspect("old", "{{.State.Status}} {{.State.Pid}}"),
        format!("running {pid}")
    );
    assert_eq!(cli.inspect("never", "{{.State.Status}}"), "created");
    let attached = cli.run_with_input(&["attach", "old"], b"hello\nbye\n");
    assert_eq!(
        (attached.code, attached.stdout.as_str()),
        (Some(6), "got hello\ngot bye\n"),
        "{attached}"
    );
    cli.ok(&["stop", "-t", "0", "victim"]);
    assert_eq!(cli.inspect("victim", "{{.State.ExitCode}}"), "137");
    cli.ok(&["rm", "old", "victim", "never"]);
    assert_eq!(engine.container_count(), 0);
}

#[test]
fn a_container_removed_on_exit_goes_though_it_ended_while_nobody_watched() {
    let Some(mut engine) = engine_with_busybox(Client::Conex) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&[
        "run",
        "-d",
        "--rm",
        "--name",
        "brief",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1",
    ]);
    let watched = pidfd(&cli, "brief");
    engine.kill9();
    assert!(
        process::readable_within(&watched, Duration::from_secs(30)).expect("a pidfd can be polled")
    );
    engine.resume();
    let cli = engine.cli(Client::Conex);
    // Its removal may still be under way; a wait ends with it.
    cli.run(&["wait", "brief"]);
    let name_is_free = cli.run(&[
        "run",
        "--rm",
        "--name",
        "brief",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    assert_eq!(name_is_free.code, Some(0), "{name_is_free}");
    assert_eq!(engine.container_count(), 0);
}

#[test]
fn a_polite_end_leaves_no_process_behind() {
    let Some(mut engine) = engine_with_busybox(Client::Conex) else {
        return;
    };
    assert_eq!(engine.terminate(), Some(0));
    assert!(!engine.socket().exists(), "the socket outlives its daemon");
    engine.resume();
    assert_eq!(
        engine
            .conex(&[
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "echo",
                "again"
            ])
            .stdout,
        "again\n"
    );
}
