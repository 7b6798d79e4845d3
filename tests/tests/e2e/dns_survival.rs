//! Names through deaths: of the daemon, of the netkeeper, of both, and of the
//! containers they are of.

use std::path::Path;
use std::time::{Duration, Instant};

use conex_tests::client::Client;
use conex_tests::leftovers;
use conex_tests::nameserver::{A, EMBEDDED, Way, ask, resolve};
use conex_tests::netns::inside;

use crate::network::{namespace_of, sleeper};
use crate::network_survival::{engine_with_busybox, kill, netkeepers};

/// Asks until the name leads there, as clients do that wait for an answer.
fn is_found_soon(namespace: &Path, name: &str, address: &str) {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        // A connection is refused at once where a datagram is waited for.
        let answer = inside(namespace, || ask(EMBEDDED, name, A, Way::Tcp));
        match answer {
            Ok(answer) if answer.addresses.iter().any(|a| a.to_string() == address) => return,
            other if Instant::now() > deadline => panic!("{name}: {other:?}"),
            _ => std::thread::yield_now(),
        }
    }
}

fn found(namespace: &Path, name: &str) -> Vec<String> {
    let answer = resolve(namespace, name);
    answer.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn names_are_resolved_whoever_was_killed() {
    let Some(mut engine) = engine_with_busybox() else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&["network", "create", "--subnet", "10.77.0.0/24", "gnet"]);
    sleeper(
        &cli,
        "old",
        &["--network", "gnet", "--network-alias", "store"],
    );
    sleeper(&cli, "web", &["--network", "gnet", "--link", "old:data"]);
    sleeper(&cli, "gone", &["--network", "gnet"]);
    cli.ok(&["rename", "old", "db"]);
    let web = namespace_of(&cli, "web");
    let gone: u32 = cli
        .inspect("gone", "{{.State.Pid}}")
        .parse()
        .expect("a pid");
    let everything = |web: &Path| {
        for name in ["db", "store"] {
            assert_eq!(found(web, name), ["10.77.0.2"], "{name}");
        }
        assert_eq!(found(web, "old"), Vec::<String>::new());
    };
    // The netkeeper: the daemon starts another one.
    let keepers = netkeepers(&engine);
    assert_eq!(keepers.len(), 1, "{keepers:?}");
    kill(keepers[0]);
    is_found_soon(&web, "db", "10.77.0.2");
    everything(&web);
    // The daemon: nothing changes, and who ends is forgotten all the same.
    engine.kill9();
    everything(&web);
    assert_eq!(found(&web, "gone"), ["10.77.0.4"]);
    let links = || {
        let all = engine
            .namespace()
            .ip(&["-o", "link", "show", "type", "veth"]);
        all.lines().count()
    };
    assert_eq!(links(), 3);
    kill(gone);
    leftovers::await_end(gone);
    let deadline = Instant::now() + Duration::from_secs(15);
    while links() != 2 || !found(&web, "gone").is_empty() {
        assert!(
            Instant::now() < deadline,
            "its interface is held by its resolver"
        );
    }
    engine.resume();
    everything(&web);
    let cli = engine.cli(Client::Conex);
    cli.ok(&["rename", "db", "base"]);
    assert_eq!(found(&web, "base"), ["10.77.0.2"]);
    // Both: the next daemon brings all of it back.
    let keepers = netkeepers(&engine);
    engine.kill9();
    keepers.into_iter().for_each(|pid| {
        kill(pid);
        leftovers::await_end(pid);
    });
    engine.resume();
    is_found_soon(&web, "base", "10.77.0.2");
    assert_eq!(found(&web, "store"), ["10.77.0.2"]);
    let cli = engine.cli(Client::Conex);
    sleeper(&cli, "late", &["--network", "gnet"]);
    assert_eq!(found(&web, "late").len(), 1);
    cli.ok(&["rm", "-f", "base", "web", "gone", "late"]);
    cli.ok(&["network", "rm", "gnet"]);
}
