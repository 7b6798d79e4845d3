//! The daemon itself: its flags, its files, engines side by side, and the one
//! that a command starts because there is none.

use std::fs;
use std::process::Command;
use std::time::Duration;

use conex_tests::client::{Client, with_busybox};
use conex_tests::engine::{Engine, write_file};
use conex_tests::process::{self, Output};
use conex_tests::{leftovers, workspace};

const LIMIT: Duration = Duration::from_secs(60);

/// A daemon that is expected to give up at its start.
fn failing_daemon(engine: &Engine, args: &[&str]) -> Output {
    let mut command = Command::new(workspace::conex());
    command
        .arg("daemon")
        .arg("--data-root")
        .arg(engine.data_root())
        .arg("--exec-root")
        .arg(engine.exec_root())
        .args(["-H", &format!("unix://{}/other", engine.root().display())])
        .args(args);
    process::output_limited(command, b"", LIMIT)
}

#[test]
fn flags_of_dockerd_are_taken() {
    let flags = [
        "--debug",
        "--log-level=debug",
        "--label=a=b",
        "--storage-driver=overlay2",
        "--experimental",
        "--bridge=none",
        "--registry-mirror=https://mirror.example",
        "--insecure-registry=10.0.0.0/8",
        "--containerd=/run/containerd/containerd.sock",
        "--iptables=false",
        "--ip6tables=false",
        "--userland-proxy=false",
        "--live-restore",
        "--max-concurrent-downloads=5",
        "--max-concurrent-uploads=5",
        "--default-ulimit=nofile=1000:2000",
        "--log-driver=json-file",
        "--log-opt=max-size=1m",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        "--default-shm-size=32m",
        "--shutdown-timeout=5",
        "--dns=10.0.0.2",
        "--mtu=1400",
        "--icc=false",
    ];
    let Some(engine) = Engine::start_with(&flags, &[]) else {
        return;
    };
    let info = engine.api("GET", "/info", None).json();
    assert_eq!(info["Labels"][0], "a=b");
    assert_eq!(info["Debug"], true);
    assert_eq!(info["ExperimentalBuild"], true);
    let pid = fs::read_to_string(engine.root().join("pid")).expect("a pid file");
    assert_eq!(pid.trim(), engine.pid().to_string());
    // What has no effect says so instead of pretending.
    assert!(engine.log().contains("containerd"), "{}", engine.log());
}

#[test]
fn a_configuration_file_is_read_and_must_not_contradict_the_flags() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let file = engine.root().join("daemon.json");
    let path = file.to_string_lossy().into_owned();
    write_file(&file, "{\"labels\": [\"from=file\"], \"debug\": true}");
    let with_file = Engine::start_with(&["--config-file", &path], &[]).expect("root, as before");
    let info = with_file.api("GET", "/info", None).json();
    assert_eq!(
        (&info["Labels"][0], &info["Debug"]),
        (&"from=file".into(), &true.into())
    );

    let output = failing_daemon(&engine, &["--config-file", &path, "--debug"]);
    assert_ne!(output.code, Some(0));
    assert!(output.stderr.contains("debug"), "{output}");
    write_file(&file, "{\"nosuchkey\": 1}");
    let output = failing_daemon(&engine, &["--config-file", &path]);
    assert_ne!(output.code, Some(0));
    assert!(output.stderr.contains("nosuchkey"), "{output}");
    write_file(&file, "{\"labels\": ");
    assert_ne!(
        failing_daemon(&engine, &["--config-file", &path]).code,
        Some(0)
    );
}

#[test]
fn a_data_root_has_one_daemon() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let output = failing_daemon(&engine, &[]);
    assert_ne!(output.code, Some(0));
    assert!(!output.stderr.is_empty(), "it must say why");
    assert!(engine.lives());
    assert_eq!(engine.api("GET", "/_ping", None).status, 200);
}

#[test]
fn unknown_flags_are_refused() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let output = failing_daemon(&engine, &["--nosuchflag"]);
    assert_ne!(output.code, Some(0));
    assert!(
        output.stderr.contains("unknown flag: --nosuchflag"),
        "{output}"
    );
}

#[test]
fn engines_live_side_by_side() {
    with_busybox(Client::Conex, |one| {
        with_busybox(Client::Conex, |two| {
            for cli in [one, two] {
                cli.ok(&[
                    "run",
                    "-d",
                    "--name",
                    "same",
                    "--network",
                    "none",
                    "busybox",
                    "sleep",
                    "1000",
                ]);
            }
            one.ok(&["rm", "-f", "same"]);
            assert_eq!(one.engine.container_count(), 0);
            assert_eq!(two.inspect("same", "{{.State.Running}}"), "true");
        });
        assert_eq!(one.ok(&["images", "-q"]).lines().count(), 1);
    });
}

/// A command with no engine named and room for one to be started.
fn lonely(room: &Engine, args: &[&str]) -> Command {
    let mut command = Command::new(workspace::conex());
    command
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", room.root().join("home"))
        .env("CONEX_DATA_ROOT", room.data_root())
        .env("CONEX_EXEC_ROOT", room.exec_root());
    command
}

fn daemons(room: &Engine) -> Vec<u32> {
    leftovers::processes(room.root(), &[])
        .into_iter()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|&byte| byte == 0).any(|word| word == b"daemon"))
        })
        .collect()
}

fn pidfd(pid: u32) -> std::os::fd::OwnedFd {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::pidfd_open(pid.expect("a pid"), rustix::process::PidfdFlags::empty())
        .expect("the daemon runs")
}

#[test]
fn commands_without_an_engine_start_one_together() {
    let Some(room) = Engine::unstarted() else {
        return;
    };
    let said: Vec<Output> = std::thread::scope(|scope| {
        let commands: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    process::output_limited(
                        lonely(&room, &["run", "--rm", "hello-world"]),
                        b"",
                        LIMIT,
                    )
                })
            })
            .collect();
        commands
            .into_iter()
            .map(|command| command.join().expect("a command ends well"))
            .collect()
    });
    for output in said {
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (Some(0), ""),
            "{output}"
        );
        assert!(output.stdout.contains("Hello"), "{output}");
    }
    let daemons = daemons(&room);
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    let daemon = pidfd(daemons[0]);
    rustix::process::pidfd_send_signal(&daemon, rustix::process::Signal::TERM)
        .expect("the daemon can be signalled");
    assert!(process::readable_within(&daemon, LIMIT).expect("a pidfd can be polled"));
}

#[test]
#[ignore = "soak: waits for more than a minute"]
fn an_engine_that_was_started_by_itself_leaves_by_itself() {
    let Some(room) = Engine::unstarted() else {
        return;
    };
    let output =
        process::output_limited(lonely(&room, &["run", "--rm", "hello-world"]), b"", LIMIT);
    assert_eq!(output.code, Some(0), "{output}");
    let daemon = pidfd(daemons(&room)[0]);
    let left = process::readable_within(&daemon, Duration::from_secs(90));
    assert!(left.expect("a pidfd can be polled"), "it is still there");
    assert!(!room.exec_root().join("conex.sock").exists());
}
