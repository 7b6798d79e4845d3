//! Our encoding beside nft's own: the same rules, read from a file by nft and
//! loaded by us, must be the same to the kernel.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use super::*;
use crate::fixture::{isolated, output};
use crate::keeper::{Forwarding, Options, Publish};
use crate::{Ipv4Config, Ipv6Config, PortBinding, Protocol};

/// Our tables as an administrator would write them.
const RULES: &str = include_str!("rules.nft");

fn owner() -> Owner {
    Owner {
        table: "conex-test".into(),
        prefix: "cx12345".into(),
    }
}

fn network() -> Network {
    Network {
        id: "5".repeat(64),
        name: String::new(),
        bridge: "conex0".into(),
        ipv4: Some(Ipv4Config {
            subnet: "172.17.0.0/16".parse().unwrap(),
            gateway: "172.17.0.1".parse().unwrap(),
        }),
        ipv6: Some(Ipv6Config {
            subnet: "fd00:1::/64".parse().unwrap(),
            gateway: "fd00:1::1".parse().unwrap(),
        }),
        mtu: None,
        icc: true,
        masquerade: true,
        internal: false,
    }
}

fn endpoint(number: u32, ports: Vec<PortBinding>) -> Endpoint {
    let [_, _, c, d] = number.to_be_bytes();
    Endpoint {
        id: format!("{number:064x}"),
        network: network().id,
        bridge: network().bridge,
        host_interface: format!("cx12345{number:08x}"),
        interface: "eth0".into(),
        mac: format!("02:42:ac:11:{c:02x}:{d:02x}").parse().unwrap(),
        ipv4: Some(format!("172.17.{c}.{d}/16").parse().unwrap()),
        ipv6: Some(format!("fd00:1::{number:x}/64").parse().unwrap()),
        default_route: true,
        routers: (None, None),
        names: Vec::new(),
        ports,
    }
}

fn binding(host_ip: &str, host_port: u16) -> PortBinding {
    PortBinding {
        container_port: 80,
        protocol: Protocol::Tcp,
        host_ip: host_ip.parse().unwrap(),
        host_port,
    }
}

fn state() -> State {
    let internal = Network {
        id: "6".repeat(64),
        bridge: "br-666666666666".into(),
        ipv4: Some(Ipv4Config {
            subnet: "172.18.0.0/16".parse().unwrap(),
            gateway: "172.18.0.1".parse().unwrap(),
        }),
        ipv6: None,
        icc: false,
        masquerade: false,
        internal: true,
        ..network()
    };
    let ports = vec![
        binding("0.0.0.0", 8080),
        binding("::", 8080),
        binding("127.0.0.1", 8081),
        binding("fd00:2::1", 8082),
    ];
    State {
        options: Options {
            publish: Publish::Forward,
            forwarding: Forwarding::Guarded,
            ..Options::default()
        },
        networks: vec![network(), internal],
        endpoints: vec![endpoint(2, ports)],
        resolvers: Vec::new(),
    }
}

fn listing() -> String {
    output("nft", &["list", "ruleset"])
}

/// The target of a neighbour advertisement, which the text cannot name as an
/// address before nft 1.1: the one rule that is not in `rules.nft`.
const TARGET: [&str; 2] = ["@th,64,128", "transport header + 8"];

fn without_target(rules: &[String]) -> Vec<String> {
    let others = rules
        .iter()
        .filter(|rule| !TARGET.iter().any(|target| rule.contains(target)));
    others.cloned().collect()
}

/// The kernel's expressions, a string for each rule.
fn expressions() -> Vec<String> {
    let all = output("nft", &["--debug=netlink", "list", "ruleset"]);
    let mut rules = Vec::new();
    let mut rule = String::new();
    for line in all.lines().map(str::trim) {
        if line.starts_with("[ ") {
            rule.push_str(line);
            rule.push('\n');
        } else if !rule.is_empty() {
            rules.push(std::mem::take(&mut rule));
        }
    }
    rules
}

fn load_by_nft(text: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    output("nft", &["-f", file.path().to_str().unwrap()]);
}

#[test]
fn our_rules_are_those_nft_makes_of_the_same_text() {
    isolated(&["nft"], || {
        let mut firewall = Firewall::open(owner()).unwrap();
        firewall.replace(&state()).unwrap();
        let (text, rules) = (listing(), expressions());
        output("nft", &["flush", "ruleset"]);
        load_by_nft(RULES);
        assert_eq!(expressions(), without_target(&rules));
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(
            listing().lines().collect::<Vec<_>>(),
            without_target(&lines)
        );
        assert_eq!(rules.len(), without_target(&rules).len() + 1);
    });
}

#[test]
fn what_an_endpoint_adds_goes_with_it() {
    isolated(&["nft"], || {
        let mut firewall = Firewall::open(owner()).unwrap();
        let mut state = state();
        firewall.replace(&state).unwrap();
        let full = listing();
        let first = state.endpoints.pop().unwrap();
        firewall.replace(&state).unwrap();
        let empty = listing();
        let second = endpoint(3, vec![binding("0.0.0.0", 9090)]);
        firewall.add_endpoint(&first).unwrap();
        let one = listing();
        firewall.add_endpoint(&second).unwrap();
        firewall
            .remove_endpoints(std::slice::from_ref(&second))
            .unwrap();
        assert_eq!(listing(), one);
        assert_eq!(one, full);
        firewall.remove_endpoints(&[first]).unwrap();
        assert_eq!(listing(), empty);
        for network in &state.networks {
            firewall.remove_network(network).unwrap();
        }
        for network in &state.networks {
            firewall.add_network(network).unwrap();
        }
        assert_eq!(listing(), empty);
        firewall.remove().unwrap();
        assert_eq!(listing(), "");
    });
}

#[test]
fn nothing_of_a_refused_transaction_is_in_force() {
    isolated(&["nft"], || {
        let mut firewall = Firewall::open(owner()).unwrap();
        firewall.replace(&state()).unwrap();
        let before = listing();
        let stranger = endpoint(9, vec![binding("0.0.0.0", 9090)]);
        let known = state().endpoints.remove(0);
        let error = firewall.remove_endpoints(&[known, stranger]).unwrap_err();
        let NftError::Refused { source, .. } = error.source else {
            panic!("{error}");
        };
        assert_eq!(source, Errno::NOENT);
        assert_eq!(listing(), before);
    });
}

#[test]
fn several_engines_and_the_hosts_own_rules_live_side_by_side() {
    isolated(&["nft"], || {
        let host = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward \
                    priority filter; policy drop;\n\t}\n}\n";
        load_by_nft(host);
        let others = Owner::new("another");
        let mut first = Firewall::open(owner()).unwrap();
        let mut second = Firewall::open(others.clone()).unwrap();
        first.replace(&state()).unwrap();
        second.replace(&state()).unwrap();
        first.remove().unwrap();
        let left = listing();
        assert!(left.starts_with(host), "{left}");
        assert!(left.contains(&format!("table inet {}", others.table)));
        assert!(!left.contains("conex-test"));
    });
}

#[test]
fn the_2000th_published_port_costs_what_the_first_costs() {
    isolated(&[], || {
        let mut firewall = Firewall::open(owner()).unwrap();
        firewall.replace(&State::default()).unwrap();
        let mut sizes = Vec::new();
        for number in 0..2000u16 {
            let ports = vec![binding("0.0.0.0", 10_000 + number)];
            let endpoint = endpoint(u32::from(number) + 2, ports);
            let transaction = firewall.adding(elements::of_endpoint(&endpoint, Options::default()));
            sizes.push((transaction.messages(), transaction.len()));
            firewall.nft.commit(transaction).unwrap();
        }
        assert_eq!(sizes[0], sizes[1999]);
        let (messages, bytes) = sizes[0];
        assert!(messages <= 4 && bytes < 600, "{messages} {bytes}");
    });
}

#[test]
fn ten_thousand_ports_are_loaded_in_one_transaction() {
    isolated(&["nft"], || {
        let mut firewall = Firewall::open(owner()).unwrap();
        let mut state = state();
        state.endpoints = (0..10_000u16)
            .map(|n| endpoint(u32::from(n) + 2, vec![binding("0.0.0.0", 10_000 + n)]))
            .collect();
        firewall.replace(&state).unwrap();
        let map = ["list", "map", "inet", "conex-test", "ports4-any"];
        let listed = output("nft", &map);
        assert_eq!(listed.matches("tcp . ").count(), 10_000);
    });
}
