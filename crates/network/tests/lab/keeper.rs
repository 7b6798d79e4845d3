//! What outlives whom.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use conex_network::keeper::{Options, Publish};
use conex_network::{HostPort, KeeperError, Protocol, host_ranges};

use crate::lab::{
    Lab, ask_tcp, ip, is_held, is_unreachable, machine, machine_with, network, run, serve_tcp,
};
use crate::reach::publish;

/// Tries until it is so; a second is the promise.
fn within_a_second(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(1), "{what}");
        std::thread::yield_now();
    }
}

fn tables(lab: &Lab) -> usize {
    let listed = run("nft", "list tables");
    listed.matches(&lab.owner.table).count()
}

#[test]
fn rules_that_somebody_removes_are_back_within_a_second() {
    machine(|mut lab| {
        let server = lab.container(&[publish(None, 8080, Protocol::Tcp)]);
        serve_tcp(&server.namespace, "[::]:80");
        let whole = run("nft", "-s list ruleset");
        let table = lab.owner.table.clone();
        for removal in [
            "flush ruleset".to_owned(),
            format!("delete table inet {table}"),
            format!("delete table bridge {table}"),
            format!("flush chain inet {table} forward"),
            format!("flush set bridge {table} sources4"),
            format!("delete element inet {table} ports4-any {{ tcp . 8080 }}"),
        ] {
            run("nft", &removal);
            within_a_second(&removal, || run("nft", "-s list ruleset") == whole);
            let answer = ask_tcp(&lab.outside, "192.0.2.1:8080").unwrap();
            assert_eq!(answer, "::ffff:192.0.2.2", "{removal}");
        }
        // Somebody else's table is nobody's business.
        run("nft", "add table ip theirs");
        run("nft", "delete table ip theirs");
        assert_eq!(run("nft", "-s list ruleset"), whole);
    });
}

#[test]
fn a_killed_netkeeper_is_replaced_and_told_everything() {
    machine(|mut lab| {
        let server = lab.container(&[publish(None, 8080, Protocol::Tcp)]);
        serve_tcp(&server.namespace, "[::]:80");
        for _ in 0..3 {
            let first = lab.keeper_pid().unwrap();
            conex_sys::process::kill(first, libc::SIGKILL).unwrap();
            within_a_second("another netkeeper", || {
                lab.keeper_pid().is_some_and(|pid| pid != first)
            });
            within_a_second("the port is held", || is_held(8080));
            for address in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
                ask_tcp(&lab.outside, address).unwrap();
            }
            ask_tcp(&lab.host, "[::1]:8080").unwrap();
        }
        // A request that finds it dead is answered by the next one.
        conex_sys::process::kill(lab.keeper_pid().unwrap(), libc::SIGKILL).unwrap();
        let second = lab.container(&[publish(None, 8081, Protocol::Tcp)]);
        assert_eq!(second.endpoint.ports.len(), 2);
        let reports = lab.reports.lock().unwrap();
        assert!(!reports.is_empty() && reports.iter().all(|r| r.contains("replaced")));
    });
}

#[test]
fn a_daemon_that_comes_back_finds_its_ports_and_drops_the_stale_ones() {
    machine(|mut lab| {
        let kept = lab.container(&[publish(None, 8080, Protocol::Tcp)]);
        let ended = lab.container(&[publish(None, 8081, Protocol::Tcp)]);
        serve_tcp(&kept.namespace, "[::]:80");
        let pid = lab.keeper_pid().unwrap();
        lab.keeper.leave();
        for address in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
            ask_tcp(&lab.outside, address).unwrap();
        }
        let keeper = lab.reopen(lab.state(&[&kept]));
        TcpListener::bind("0.0.0.0:8081").unwrap();
        TcpListener::bind("0.0.0.0:8080").unwrap_err();
        assert!(is_unreachable(&ended.namespace, "192.0.2.1:8080"));
        assert_eq!(
            ask_tcp(&lab.outside, "192.0.2.1:8080").unwrap(),
            "::ffff:192.0.2.2"
        );
        let mut endpoint = lab.endpoint(&lab.network.clone());
        keeper
            .connect(&mut endpoint, &[publish(None, 8081, Protocol::Tcp)])
            .unwrap();
        drop(keeper);
        lab.keeper = lab.reopen(lab.state(&[&kept]));
        assert_eq!(lab.keeper_pid(), Some(pid));
        assert_eq!(*lab.reports.lock().unwrap(), Vec::<String>::new());
    });
}

#[test]
fn without_daemon_and_containers_the_netkeeper_ends_with_its_rules() {
    machine(|mut lab| {
        let one = lab.container(&[publish(None, 8080, Protocol::Tcp)]);
        assert_eq!(tables(&lab), 2);
        lab.keeper.leave();
        TcpListener::bind("0.0.0.0:8080").unwrap_err();
        assert_eq!(tables(&lab), 2);
        // The container's namespace goes, and its interface with it.
        let name = one.endpoint.host_interface.clone();
        drop(one);
        ip(&format!("link del {name}"));
        within_a_second("the rules are gone", || tables(&lab) == 0);
        within_a_second("the port is free", || {
            TcpListener::bind("0.0.0.0:8080").is_ok()
        });
    });
}

#[test]
fn a_port_that_is_taken_gives_everything_back() {
    machine(|mut lab| {
        let _first = lab.container(&[publish(None, 8080, Protocol::Tcp)]);
        let _foreign = TcpListener::bind("0.0.0.0:9090").unwrap();
        let before = run("nft", "-s list ruleset");
        let texts = [
            (
                8080,
                "Bind for 0.0.0.0:8080 failed: port is already allocated",
            ),
            (
                9090,
                "failed to bind host port 0.0.0.0:9090/tcp: address already in use",
            ),
        ];
        for (port, text) in texts {
            let network = lab.network.clone();
            let mut endpoint = lab.endpoint(&network);
            let wanted = [
                publish(None, 7070, Protocol::Tcp),
                publish(None, port, Protocol::Tcp),
            ];
            let error = lab.keeper.connect(&mut endpoint, &wanted).unwrap_err();
            assert_eq!(error.to_string(), text);
            assert!(matches!(error, KeeperError::Port(_)));
            assert_eq!(endpoint.ports, []);
            TcpListener::bind("0.0.0.0:7070").unwrap();
            assert_eq!(run("nft", "-s list ruleset"), before);
        }
        let mut stranger = lab.endpoint(&network(7));
        let error = lab.keeper.connect(&mut stranger, &[]).unwrap_err();
        assert!(matches!(error, KeeperError::UnknownNetwork(_)), "{error}");
    });
}

#[test]
fn two_addresses_of_the_host_share_a_port_and_part_again() {
    machine(|mut lab| {
        let on = |ip: &str| [publish(Some(ip), 8080, Protocol::Tcp)];
        let one = lab.container(&on("192.0.2.1"));
        let two = lab.container(&on("127.0.0.1"));
        for server in [&one, &two] {
            serve_tcp(&server.namespace, "[::]:80");
        }
        ask_tcp(&lab.host, "127.0.0.1:8080").unwrap();
        lab.keeper.disconnect(&[&two.endpoint.id]).unwrap();
        // By the host's address from the bridge itself, which is passed on.
        assert!(is_unreachable(&two.namespace, "192.0.2.1:8080"));
        ask_tcp(&one.namespace, "192.0.2.1:8080").unwrap();
        ask_tcp(&lab.outside, "192.0.2.1:8080").unwrap();
        lab.keeper.disconnect(&[&one.endpoint.id]).unwrap();
        assert!(!run("nft", "list ruleset").contains("8080"));
    });
}

#[test]
fn the_hosts_firewall_decides_where_it_shall() {
    let options = Options {
        publish: Publish::Input,
        ..Options::default()
    };
    machine_with(options, |mut lab| {
        let mut request = publish(None, 8080, Protocol::Tcp);
        let server = lab.container(&[request]);
        request.host_port = HostPort::One(8081);
        let other = lab.container(&[request]);
        for server in [&server, &other] {
            serve_tcp(&server.namespace, "[::]:80");
        }
        run("nft", "add table inet host");
        run(
            "nft",
            "add chain inet host in { type filter hook input priority 0 ; policy accept ; }",
        );
        run(
            "nft",
            "add rule inet host in iifname up0 tcp dport 8081 drop",
        );
        // Whoever is let in meets the netkeeper, and the container sees it.
        for address in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
            let answer = ask_tcp(&lab.outside, address).unwrap();
            assert!(answer.contains("30"), "{answer}");
        }
        for address in ["192.0.2.1:8081", "[2001:db8::1]:8081"] {
            assert!(is_unreachable(&lab.outside, address));
        }
        ask_tcp(&lab.host, "127.0.0.1:8081").unwrap();
    });
}

#[test]
fn what_the_host_uses_is_seen_when_a_subnet_is_chosen() {
    machine(|lab| {
        ip("route add 172.16.0.0/12 via 192.0.2.2");
        ip("addr add 192.168.1.5/24 dev up0");
        let ranges = host_ranges().unwrap();
        let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        for text in [
            "route 172.16.0.0/12 via up0",
            "address 192.168.1.0/24 of up0",
            "address 172.30.0.0/24 of conex0",
        ] {
            assert!(texts.iter().any(|t| t == text), "{texts:?}");
        }
        let chosen = conex_network::Pools::default()
            .choose(&[], &ranges)
            .unwrap();
        assert_eq!(chosen.to_string(), "192.168.16.0/20");
        drop(lab);
    });
}
