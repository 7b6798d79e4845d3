//! Networks through deaths: of the daemon, of the netkeeper, of the rules; and
//! what a crowd of short lives leaves behind.

use std::process::Command;
use std::time::{Duration, Instant};

use conex_tests::client::{Client, with_busybox_in_namespace};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::leftovers;
use conex_tests::netns::{Namespace, inside};
use conex_tests::skip;

use crate::network::{namespace_of, settings, sleeper};
use crate::network_publish::{call, greet, outside};

pub(crate) fn engine_with_busybox() -> Option<Engine> {
    let engine = Engine::start_in_namespace(&[])?;
    match fixture::make(Fixture::Busybox) {
        Ok(tar) => {
            let cli = engine.cli(Client::Conex);
            cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
            Some(engine)
        }
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// Calls until somebody answers; panics when nobody does within a second and a
/// half, which is what is promised with room for a busy machine.
fn answers_soon(from: &Namespace, address: &str) {
    let deadline = Instant::now() + Duration::from_millis(2500);
    loop {
        match from.inside(|| call(address)) {
            Ok(_) => return,
            Err(error) if Instant::now() > deadline => panic!("{address}: {error}"),
            Err(_) => {}
        }
    }
}

pub(crate) fn netkeepers(engine: &Engine) -> Vec<u32> {
    let ids = leftovers::container_ids(&engine.data_root());
    let processes = leftovers::processes(&engine.exec_root(), &ids);
    let is_keeper = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"conex\0netkeeper\0")
    };
    processes.into_iter().filter(is_keeper).collect()
}

pub(crate) fn kill(pid: u32) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
}

#[test]
fn a_killed_daemon_costs_no_address_port_or_connection() {
    let Some(mut engine) = engine_with_busybox() else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    let Some(outside) = outside(&cli) else { return };
    cli.ok(&["network", "create", "--subnet", "10.77.0.0/24", "gnet"]);
    sleeper(&cli, "web", &["-p", "8080:80", "-p", "81"]);
    cli.ok(&["network", "connect", "gnet", "web"]);
    sleeper(&cli, "gone", &["-p", "8082:80"]);
    greet(&namespace_of(&cli, "web"), 80);
    let before = settings(&cli, "web");
    let links = engine
        .namespace()
        .ip(&["-o", "link", "show", "type", "veth"]);
    engine.kill9();
    assert!(
        outside.inside(|| call("10.99.0.1:8080")).is_ok(),
        "without a daemon"
    );
    assert!(
        engine.namespace().inside(|| call("[::1]:8080")).is_ok(),
        "without a daemon"
    );
    engine.resume();
    let cli = engine.cli(Client::Conex);
    assert_eq!(settings(&cli, "web"), before);
    let after = engine
        .namespace()
        .ip(&["-o", "link", "show", "type", "veth"]);
    assert_eq!(after, links);
    assert!(outside.inside(|| call("10.99.0.1:8080")).is_ok());
    // Its addresses and ports are known to be taken.
    let told = cli.fails(125, &["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(told.contains("port is already allocated"), "{told}");
    let script = [
        "run", "--rm", "busybox", "ip", "-4", "-o", "addr", "show", "eth0",
    ];
    let said = cli.ok(&script);
    for taken in [" 172.17.0.2/", " 172.17.0.3/"] {
        assert!(!said.contains(taken), "{said}");
    }
    cli.ok(&["rm", "-f", "web", "gone"]);
    assert!(outside.inside(|| call("10.99.0.1:8080")).is_err());
    cli.ok(&[
        "run", "--rm", "-p", "8080:80", "-p", "8082:80", "busybox", "true",
    ]);
    cli.ok(&["network", "rm", "gnet"]);
}

#[test]
fn what_ended_without_the_daemon_gives_back_its_ports() {
    let Some(mut engine) = engine_with_busybox() else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    sleeper(&cli, "web", &["-p", "8080:80"]);
    let pid: u32 = cli.inspect("web", "{{.State.Pid}}").parse().expect("a pid");
    engine.kill9();
    kill(pid);
    leftovers::await_end(pid);
    engine.resume();
    let cli = engine.cli(Client::Conex);
    cli.ok(&["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert_eq!(cli.inspect("web", "{{.State.Status}}"), "exited");
}

#[test]
fn flushed_rules_and_a_killed_netkeeper_are_made_good() {
    let Some(engine) = engine_with_busybox() else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    let Some(outside) = outside(&cli) else { return };
    sleeper(&cli, "web", &["-p", "8080:80"]);
    greet(&namespace_of(&cli, "web"), 80);
    assert!(outside.inside(|| call("10.99.0.1:8080")).is_ok());
    if conex_tests::workspace::program("nft").is_some() {
        engine.namespace().run("nft", &["flush", "ruleset"]);
        answers_soon(&outside, "10.99.0.1:8080");
        answers_soon(engine.namespace(), "127.0.0.1:8080");
    } else {
        skip("nft is missing (Debian: nftables)");
    }
    let keepers = netkeepers(&engine);
    assert_eq!(keepers.len(), 1, "{keepers:?}");
    kill(keepers[0]);
    answers_soon(&outside, "10.99.0.1:8080");
    answers_soon(engine.namespace(), "[::1]:8080");
    // Ports are held again, and new ones can be had.
    sleeper(&cli, "other", &["-p", "8081:80"]);
    let told = cli.fails(125, &["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(told.contains("port is already allocated"), "{told}");
    let keepers = netkeepers(&engine);
    assert_eq!(keepers.len(), 1, "{keepers:?}");
}

#[test]
fn an_engine_that_leaves_takes_its_bridges_and_rules_along() {
    let Some(mut engine) = engine_with_busybox() else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&["network", "create", "gnet"]);
    cli.ok(&["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    engine.terminate();
    let links = engine
        .namespace()
        .ip(&["-o", "link", "show", "type", "bridge"]);
    assert_eq!(links, "");
    for pid in netkeepers(&engine) {
        leftovers::await_end(pid);
    }
    if conex_tests::workspace::program("nft").is_some() {
        let rules = engine.namespace().run("nft", &["list", "ruleset"]);
        assert_eq!(rules, "");
    }
    // And brings them back, the same.
    engine.resume();
    let cli = engine.cli(Client::Conex);
    cli.ok(&[
        "run",
        "--rm",
        "--network",
        "gnet",
        "busybox",
        "ping",
        "-c1",
        "172.18.0.1",
    ]);
}

/// Starts and stops, several at a time, while daemon and netkeeper are killed;
/// then nothing may be left but what an engine without containers has.
fn churn(lives: usize, kills: usize) {
    let Some(mut engine) = engine_with_busybox() else {
        return;
    };
    let host = engine.root().to_owned();
    let run = |number: usize| {
        let port = format!("{}:80", 20000 + number % 8);
        let conex = conex_tests::workspace::conex();
        let output = Command::new(conex)
            .args([
                "run", "--rm", "-p", &port, "-p", "81/udp", "busybox", "true",
            ])
            .env(
                "DOCKER_HOST",
                format!("unix://{}", host.join("s").display()),
            )
            .env("HOME", host.join("home"))
            .env("CONEX_NO_AUTOSTART", "1")
            .output();
        output.is_ok_and(|output| output.status.success())
    };
    let mut done = 0;
    for round in 0..=kills {
        let part = lives / (kills + 1);
        let finished = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|worker| scope.spawn(move || (0..part / 8).filter(|_| run(worker)).count()))
                .collect();
            if round < kills {
                match round % 2 {
                    0 => engine.kill9(),
                    _ => netkeepers(&engine).into_iter().for_each(kill),
                }
                if round % 2 == 0 {
                    engine.resume();
                }
            }
            let counts = workers.into_iter().map(|w| w.join().unwrap_or(0));
            counts.sum::<usize>()
        });
        done += finished;
    }
    assert!(
        done >= lives / (kills + 1) / 8 * 8,
        "only {done} of {lives} ran"
    );
    let cli = engine.cli(Client::Conex);
    for id in cli.ok(&["ps", "-aq"]).lines() {
        cli.ok(&["rm", "-f", id]);
    }
    engine.settle();
    // Every address can be had once more: none is lost.
    let free = cli.ok(&["network", "inspect", "-f", "{{json .Containers}}", "bridge"]);
    assert_eq!(free, "{}");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let links = engine
            .namespace()
            .ip(&["-o", "link", "show", "type", "veth"]);
        if links.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{links}");
    }
    let neighbours = engine.namespace().ip(&["neigh", "show"]);
    assert!(!neighbours.contains("172.17.0."), "{neighbours}");
    if conex_tests::workspace::program("nft").is_some() {
        let rules = engine.namespace().run("nft", &["list", "ruleset"]);
        assert!(
            !rules.contains("172.17.0.2") && !rules.contains("2000"),
            "{rules}"
        );
    }
    assert!(netkeepers(&engine).len() <= 1);
    let namespace = engine.namespace().path();
    for port in 20000..20008 {
        let listener = inside(&namespace, || {
            std::net::TcpListener::bind(("0.0.0.0", port))
        });
        assert!(listener.is_ok(), "{port}: {listener:?}");
    }
}

#[test]
fn a_crowd_of_short_lives_leaves_nothing() {
    churn(96, 2);
}

#[test]
#[ignore = "soak: five hundred lives with a dozen deaths"]
fn five_hundred_lives_leave_nothing() {
    churn(500, 12);
}

#[test]
fn networks_of_two_engines_do_not_meet() {
    with_busybox_in_namespace(Client::Conex, &[], |first| {
        // The other one sees the first one's routes.
        let room = tempfile::Builder::new()
            .prefix("cx-")
            .tempdir_in("/tmp")
            .expect("a directory");
        let path = |name: &str| room.path().join(name).display().to_string();
        let socket = format!("unix://{}", path("s"));
        let mut daemon = first
            .engine
            .namespace()
            .command(&conex_tests::workspace::conex().to_string_lossy())
            .args([
                "daemon",
                "--data-root",
                &path("d"),
                "--exec-root",
                &path("r"),
            ])
            .args(["--pidfile", &path("pid"), "-H", &socket, "--auto-start"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("a daemon can be started");
        // It says so when it is ready.
        let mut line = [0; 6];
        let out = daemon.stdout.as_mut().expect("a pipe");
        std::io::Read::read_exact(out, &mut line).expect("it becomes ready");
        let subnet = |host: &str| {
            let output = Command::new(conex_tests::workspace::conex())
                .args(["-H", host, "network", "inspect", "bridge", "-f"])
                .arg("{{(index .IPAM.Config 0).Subnet}}")
                .env("HOME", room.path())
                .output()
                .expect("a client can be started");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        assert_eq!(subnet(&first.engine.host()), "172.17.0.0/16");
        assert_eq!(subnet(&socket), "172.18.0.0/16");
        let pid = rustix::process::Pid::from_child(&daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a child");
        daemon.wait().expect("a child can be reaped");
        let left = first
            .engine
            .namespace()
            .ip(&["-o", "link", "show", "type", "bridge"]);
        assert_eq!(left.lines().count(), 1, "{left}");
    });
}
