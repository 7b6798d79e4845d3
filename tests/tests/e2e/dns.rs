//! Names on networks of the user's: who is found by which name, from where, and
//! who answers for the rest of the world.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use conex_tests::client::{Cli, Client, with_busybox_in_namespace};
use conex_tests::nameserver::{
    A, AAAA, Answer, BIG, EMBEDDED, NameServer, PTR, Way, ask, query, resolve,
};
use conex_tests::netns::inside;
use conex_tests::under_both_clients_in_namespaces;
use serde_json::json;

use crate::network::{namespace_of, settings, sleeper};
use crate::network_publish::outside;

under_both_clients_in_namespaces! {
    a_neighbour_is_found_by_each_of_its_names,
    names_change_the_moment_their_container_does,
    names_stay_within_their_network,
    a_link_is_a_name_for_one_container,
    resolv_conf_holds_what_was_asked_for,
}

fn addresses(answer: &Answer) -> Vec<String> {
    answer.addresses.iter().map(IpAddr::to_string).collect()
}

/// What a name leads to, for the container of a namespace.
fn found(namespace: &Path, name: &str) -> Vec<String> {
    addresses(&resolve(namespace, name))
}

fn asked(namespace: &Path, name: &str, kind: u16, way: Way) -> Answer {
    inside(namespace, || ask(EMBEDDED, name, kind, way))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn network(cli: &Cli<'_>, name: &str, subnet: &str) {
    cli.ok(&["network", "create", "--subnet", subnet, name]);
}

fn a_neighbour_is_found_by_each_of_its_names(cli: &Cli<'_>) {
    network(cli, "gnet", "10.77.0.0/24");
    let flags = [
        "--network",
        "gnet",
        "--network-alias",
        "store",
        "-h",
        "host1",
    ];
    let id = sleeper(cli, "db", &flags);
    sleeper(cli, "web", &["--network", "gnet"]);
    let web = namespace_of(cli, "web");
    for name in ["db", "DB", "store", "host1", &id[..12], "db.gnet"] {
        let answer = resolve(&web, name);
        assert_eq!(addresses(&answer), ["10.77.0.2"], "{name}");
        assert_eq!((answer.code, answer.ttl), (0, Some(600)), "{name}");
    }
    // Its own too, and over a connection as well.
    assert_eq!(found(&web, "web"), ["10.77.0.3"]);
    assert_eq!(addresses(&asked(&web, "db", A, Way::Tcp)), ["10.77.0.2"]);
    // There is such a name, but no such address.
    let six = asked(&web, "db", AAAA, Way::Udp);
    assert_eq!((six.code, six.addresses.len()), (0, 0));
    let reverse = asked(&web, "2.0.77.10.in-addr.arpa", PTR, Way::Udp);
    assert_eq!(reverse.names, ["db.gnet"]);
    // Nobody can say more here.
    assert_eq!(resolve(&web, "nobody").code, 2);
    // As programs do it.
    let script = "ping -c1 -W2 db >/dev/null && nslookup store && nslookup 10.77.0.2";
    let said = cli.ok(&["exec", "web", "sh", "-c", script]);
    assert!(said.contains("10.77.0.2"), "{said}");
    assert!(said.contains("db.gnet"), "{said}");
    let names = settings(cli, "db")["Networks"]["gnet"]["DNSNames"].clone();
    assert_eq!(names, json!(["db", "store", &id[..12], "host1"]));
    // One alias of several containers is all of them, each of them first.
    sleeper(
        cli,
        "db2",
        &["--network", "gnet", "--network-alias", "store"],
    );
    let mut firsts: Vec<String> = (0..4).map(|_| found(&web, "store").remove(0)).collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts, ["10.77.0.2", "10.77.0.4"]);
}

fn names_change_the_moment_their_container_does(cli: &Cli<'_>) {
    network(cli, "gnet", "10.77.0.0/24");
    sleeper(cli, "db", &["--network", "gnet"]);
    sleeper(cli, "web", &["--network", "gnet"]);
    let web = namespace_of(cli, "web");
    let nobody: [&str; 0] = [];
    cli.ok(&["rename", "db", "store"]);
    assert_eq!(found(&web, "store"), ["10.77.0.2"]);
    assert_eq!(found(&web, "db"), nobody);
    let reverse = asked(&web, "2.0.77.10.in-addr.arpa", PTR, Way::Udp);
    assert_eq!(reverse.names, ["store.gnet"]);
    cli.ok(&["network", "disconnect", "gnet", "store"]);
    assert_eq!(found(&web, "store"), nobody);
    let again = [
        "network",
        "connect",
        "--ip",
        "10.77.0.9",
        "--alias",
        "also",
        "gnet",
        "store",
    ];
    cli.ok(&again);
    for name in ["store", "also"] {
        assert_eq!(found(&web, name), ["10.77.0.9"], "{name}");
    }
    // It left all its networks in between, and finds the others again.
    assert_eq!(found(&namespace_of(cli, "store"), "web"), ["10.77.0.3"]);
    cli.ok(&["stop", "-t0", "store"]);
    assert_eq!(found(&web, "store"), nobody);
    cli.ok(&["start", "store"]);
    assert_eq!(found(&web, "also"), ["10.77.0.9"]);
    cli.ok(&["rm", "-f", "store"]);
    assert_eq!(found(&web, "also"), nobody);
}

fn names_stay_within_their_network(cli: &Cli<'_>) {
    network(cli, "blue", "10.77.0.0/24");
    network(cli, "red", "10.78.0.0/24");
    sleeper(
        cli,
        "blue-db",
        &["--network", "blue", "--network-alias", "db"],
    );
    sleeper(
        cli,
        "red-db",
        &["--network", "red", "--network-alias", "db"],
    );
    sleeper(cli, "web", &["--network", "blue"]);
    sleeper(cli, "plain", &[]);
    let nobody: [&str; 0] = [];
    let web = namespace_of(cli, "web");
    assert_eq!(found(&web, "db"), ["10.77.0.2"]);
    assert_eq!(found(&web, "red-db"), nobody);
    assert_eq!(found(&web, "db.red"), nobody);
    assert_eq!(found(&web, "plain"), nobody);
    // On both it may say which it means.
    cli.ok(&["network", "connect", "red", "web"]);
    assert_eq!(found(&web, "red-db"), ["10.78.0.2"]);
    assert_eq!(found(&web, "db.red"), ["10.78.0.2"]);
    assert_eq!(found(&web, "db.blue"), ["10.77.0.2"]);
    cli.ok(&["network", "disconnect", "red", "web"]);
    assert_eq!(found(&web, "red-db"), nobody);
    // The default network has no names, until its container comes to one that has.
    let plain = namespace_of(cli, "plain");
    let silent = inside(&plain, || ask(EMBEDDED, "db", A, Way::Tcp));
    assert!(silent.is_err(), "{silent:?}");
    let before = cli.ok(&["exec", "plain", "cat", "/etc/resolv.conf"]);
    assert!(!before.contains("127.0.0.11"), "{before}");
    cli.ok(&["network", "connect", "blue", "plain"]);
    assert_eq!(found(&plain, "db"), ["10.77.0.2"]);
    let after = cli.ok(&["exec", "plain", "cat", "/etc/resolv.conf"]);
    assert!(after.contains("nameserver 127.0.0.11\n"), "{after}");
    assert_eq!(found(&web, "plain"), ["10.77.0.4"]);
}

fn a_link_is_a_name_for_one_container(cli: &Cli<'_>) {
    network(cli, "gnet", "10.77.0.0/24");
    sleeper(cli, "db", &["--network", "gnet"]);
    sleeper(cli, "web", &["--network", "gnet", "--link", "db:data"]);
    sleeper(cli, "other", &["--network", "gnet"]);
    assert_eq!(found(&namespace_of(cli, "web"), "data"), ["10.77.0.2"]);
    let nobody: [&str; 0] = [];
    assert_eq!(found(&namespace_of(cli, "other"), "data"), nobody);
}

fn resolv_conf_holds_what_was_asked_for(cli: &Cli<'_>) {
    network(cli, "gnet", "10.77.0.0/24");
    let flags = [
        "run",
        "--rm",
        "--network",
        "gnet",
        "--dns",
        "10.9.9.9",
        "--dns-search",
        "example.org",
        "--dns-opt",
        "ndots:2",
        "--dns-opt",
        "edns0",
        "busybox",
        "cat",
        "/etc/resolv.conf",
    ];
    let said = cli.ok(&flags);
    for line in [
        "nameserver 127.0.0.11",
        "search example.org",
        "options ndots:2 edns0",
        "# ExtServers: [10.9.9.9]",
    ] {
        assert!(said.lines().any(|l| l == line), "{line}: {said}");
    }
    let plain = [
        "run",
        "--rm",
        "--network",
        "gnet",
        "busybox",
        "cat",
        "/etc/resolv.conf",
    ];
    let said = cli.ok(&plain);
    assert!(
        said.contains("\noptions ") && said.contains("ndots:0"),
        "{said}"
    );
}

/// In an engine of its own under our client: what is tested is no client's.
fn with_conex(case: fn(&Cli<'_>)) {
    with_busybox_in_namespace(Client::Conex, &[], case);
}

#[test]
fn the_rest_of_the_world_is_asked_about_elsewhere() {
    with_conex(|cli| {
        let Some(outside) = outside(cli) else { return };
        let first = NameServer::start(&outside.path(), "10.99.0.2", [192, 0, 2, 1]);
        outside.ip(&["address", "add", "10.99.0.3/24", "dev", "up0"]);
        let second = NameServer::start(&outside.path(), "10.99.0.3", [192, 0, 2, 2]);
        network(cli, "gnet", "10.77.0.0/24");
        let dns = |servers: &[&'static str]| -> Vec<&'static str> {
            let flags = servers.iter().flat_map(|server| ["--dns", server]);
            ["--network", "gnet"].into_iter().chain(flags).collect()
        };
        sleeper(cli, "web", &dns(&["10.99.0.2", "10.99.0.3"]));
        let web = namespace_of(cli, "web");
        for way in [Way::Udp, Way::Tcp] {
            let answer = asked(&web, "www.example.org", A, way);
            assert_eq!(addresses(&answer), ["192.0.2.1"], "{way:?}");
            assert_eq!(asked(&web, "missing.example.org", A, way).code, 3);
            // Whoever fails is not believed, but the next one does so too.
            let before = second.asked();
            assert_eq!(asked(&web, "failing.example.org", A, way).code, 2);
            assert_eq!(asked(&web, "refused.example.org", A, way).code, 2);
            assert_eq!(second.asked(), before + 2);
        }
        let cut = asked(&web, "big.example.org", A, Way::Udp);
        assert_eq!((cut.is_truncated, cut.addresses.len()), (true, 0));
        let whole = asked(&web, "big.example.org", A, Way::Tcp);
        assert_eq!((whole.is_truncated, whole.addresses.len()), (false, BIG));
        // Names of neighbours never get there.
        let before = first.asked();
        found(&web, "web");
        asked(&web, "web", AAAA, Way::Udp);
        asked(&web, "web", 65, Way::Udp);
        assert_eq!(first.asked(), before);
        // A server that is silent costs a second.
        sleeper(cli, "patient", &dns(&["10.99.0.99", "10.99.0.3"]));
        let begun = Instant::now();
        let patient = namespace_of(cli, "patient");
        assert_eq!(found(&patient, "www.example.org"), ["192.0.2.2"]);
        assert!(begun.elapsed() >= Duration::from_millis(900), "{begun:?}");
        // One that is not there at all costs nothing; without another one it fails.
        sleeper(cli, "refused", &dns(&["10.99.0.1"]));
        assert_eq!(
            resolve(&namespace_of(cli, "refused"), "www.example.org").code,
            2
        );
        // With ndots the client adds its own domains to short names.
        let mut flags = dns(&["10.99.0.2"]);
        flags.extend(["--dns-opt", "ndots:1"]);
        sleeper(cli, "short", &flags);
        let short = namespace_of(cli, "short");
        let before = first.asked();
        let answer = resolve(&short, "printer");
        assert_eq!((answer.code, answer.addresses.len()), (0, 0));
        assert_eq!(first.asked(), before);
    });
}

#[test]
fn a_server_on_the_hosts_loopback_is_asked_from_the_host() {
    let Some(mut engine) = crate::network_survival::engine_with_busybox() else {
        return;
    };
    engine.terminate();
    let host = engine.namespace().path();
    let server = NameServer::start(&host, "127.0.0.53", [192, 0, 2, 53]);
    // The host's own file, for this daemon alone.
    let file = engine.root().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.53\nsearch example.org\n").expect("a file");
    let script = format!(
        "mount --bind {} /etc/resolv.conf && exec \"$@\"",
        file.display()
    );
    engine.wrap(&["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned));
    engine.resume();
    let cli = engine.cli(Client::Conex);
    network(&cli, "gnet", "10.77.0.0/24");
    sleeper(&cli, "web", &["--network", "gnet"]);
    let web = namespace_of(&cli, "web");
    assert_eq!(found(&web, "www.example.org"), ["192.0.2.53"]);
    let text = cli.ok(&["exec", "web", "cat", "/etc/resolv.conf"]);
    assert!(text.contains("search example.org\n"), "{text}");
    assert!(text.contains("# ExtServers: [host(127.0.0.53)]"), "{text}");
    // What leads nowhere does not lead there by the host either.
    cli.ok(&["network", "create", "--internal", "inside"]);
    sleeper(&cli, "db", &["--network", "inside"]);
    sleeper(&cli, "shut", &["--network", "inside"]);
    let shut = namespace_of(&cli, "shut");
    let before = server.asked();
    assert_eq!(resolve(&shut, "www.example.org").code, 2);
    assert_eq!(found(&shut, "db").len(), 1);
    assert_eq!(server.asked(), before);
    // With a way out it does again, by the same resolver.
    cli.ok(&["network", "connect", "gnet", "shut"]);
    assert_eq!(found(&shut, "www.example.org"), ["192.0.2.53"]);
}

#[test]
fn a_container_may_be_a_name_server_itself() {
    with_conex(|cli| {
        network(cli, "gnet", "10.77.0.0/24");
        sleeper(cli, "dns", &["--network", "gnet"]);
        sleeper(cli, "web", &["--network", "gnet", "--dns", "10.77.0.2"]);
        let dns = namespace_of(cli, "dns");
        let server = NameServer::start(&dns, "0.0.0.0", [192, 0, 2, 9]);
        let web = namespace_of(cli, "web");
        assert_eq!(found(&web, "www.example.org"), ["192.0.2.9"]);
        assert_eq!(server.asked(), 1);
        assert_eq!(found(&web, "dns"), ["10.77.0.2"]);
        // It still finds its neighbours, and itself by its other address.
        assert_eq!(found(&dns, "web"), ["10.77.0.3"]);
        let own = inside(&dns, || ask("127.0.0.1:53", "web", A, Way::Udp));
        assert_eq!(addresses(&own.expect("its own server")), ["192.0.2.9"]);
        drop(inside(&web, || {
            (
                UdpSocket::bind("127.0.0.1:53").expect("it is free"),
                TcpListener::bind("0.0.0.0:53").expect("it is free"),
            )
        }));
    });
}

#[test]
fn a_thousand_questions_at_once_are_all_answered() {
    with_conex(|cli| {
        let Some(outside) = outside(cli) else { return };
        let _server = NameServer::start(&outside.path(), "10.99.0.2", [192, 0, 2, 1]);
        network(cli, "gnet", "10.77.0.0/24");
        sleeper(cli, "web", &["--network", "gnet", "--dns", "10.99.0.2"]);
        let web = namespace_of(cli, "web");
        let answered = inside(&web, || {
            let sockets: Vec<UdpSocket> = (0..1000_u16)
                .map(|number| {
                    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
                    socket.connect(EMBEDDED).expect("a resolver");
                    let patience = Some(Duration::from_secs(30));
                    socket.set_read_timeout(patience).expect("a socket");
                    let name = match number % 2 {
                        0 => "web".to_owned(),
                        _ => format!("n{number}.example.org"),
                    };
                    socket.send(&query(number, &name, A)).expect("room");
                    socket
                })
                .collect();
            let mut buffer = [0; 512];
            sockets
                .iter()
                .zip(0_u16..)
                .filter(|(socket, number)| {
                    socket.recv(&mut buffer).is_ok()
                        && buffer[..2] == number.to_be_bytes()
                        && buffer[3] & 0x0f == 0
                        && buffer[7] == 1
                })
                .count()
        });
        assert_eq!(answered, 1000);
    });
}
