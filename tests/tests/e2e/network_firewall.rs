//! What the daemon's flags say about rules: none, some, or more open ones; and
//! rules that somebody throws away.

use std::time::{Duration, Instant};

use conex_tests::client::{Cli, Client, with_busybox_in_namespace};
use conex_tests::nameserver::resolve;
use conex_tests::netns::{Namespace, inside};
use conex_tests::{skip, workspace};

use crate::network::{namespace_of, sleeper};
use crate::network_publish::{call, greet, outside};

fn with_flags(flags: &[&str], case: fn(&Cli<'_>)) {
    if workspace::program("nft").is_none() {
        return skip("nft is missing (Debian: nftables)");
    }
    with_busybox_in_namespace(Client::Conex, flags, case);
}

fn ruleset(host: &Namespace) -> String {
    host.run("nft", &["list", "ruleset"])
}

#[test]
fn without_rules_ports_are_passed_on_and_nothing_is_guarded() {
    with_flags(&["--iptables=false", "--ip6tables=false"], |cli| {
        let Some(outside) = outside(cli) else { return };
        let host = cli.engine.namespace();
        cli.ok(&["network", "create", "gnet"]);
        sleeper(cli, "web", &["--network", "gnet", "-p", "8080:80"]);
        sleeper(cli, "other", &["--network", "gnet"]);
        assert_eq!(ruleset(host), "");
        greet(&namespace_of(cli, "web"), 80);
        let address = cli.inspect("web", "{{.NetworkSettings.Networks.gnet.IPAddress}}");
        let gateway = cli.inspect("web", "{{.NetworkSettings.Networks.gnet.Gateway}}");
        // The caller is the host, as with any proxy.
        let said = outside.inside(|| call("10.99.0.1:8080"));
        assert_eq!(said, Ok(gateway));
        for caller in ["127.0.0.1:8080", "[::1]:8080"] {
            let said = host.inside(|| call(caller));
            assert!(said.is_ok(), "{caller}: {said:?}");
        }
        let other = namespace_of(cli, "other");
        assert!(inside(&other, || call(&format!("{address}:80"))).is_ok());
        assert_eq!(resolve(&other, "web").addresses.len(), 1);
        // Nobody guards the host's loopback, so nothing leads there.
        let id = cli.ok(&["network", "inspect", "-f", "{{.Id}}", "gnet"]);
        let switch = format!("/proc/sys/net/ipv4/conf/br-{}/route_localnet", &id[..12]);
        let value = host.inside(|| std::fs::read_to_string(&switch));
        assert_eq!(value.expect("a switch").trim(), "0");
        // Whoever routes the network reaches all of it.
        let subnet = cli.ok(&[
            "network",
            "inspect",
            "-f",
            "{{(index .IPAM.Config 0).Subnet}}",
            "gnet",
        ]);
        outside.ip(&["route", "add", &subnet, "via", "10.99.0.1"]);
        assert!(outside.inside(|| call(&format!("{address}:80"))).is_ok());
        cli.ok(&["rm", "-f", "web", "other"]);
        assert!(outside.inside(|| call("10.99.0.1:8080")).is_err());
    });
}

#[test]
fn one_protocol_may_go_without_rules() {
    with_flags(&["--iptables=false"], |cli| {
        let Some(outside) = outside(cli) else { return };
        sleeper(cli, "web", &["-p", "8080:80"]);
        greet(&namespace_of(cli, "web"), 80);
        let said = outside.inside(|| call("10.99.0.1:8080"));
        assert_eq!(said.as_deref(), Ok("172.17.0.1"));
        let rules = ruleset(cli.engine.namespace());
        assert!(rules.contains("meta nfproto ipv4 accept"), "{rules}");
        assert!(!rules.contains("meta nfproto ipv6 accept"), "{rules}");
    });
}

#[test]
fn published_ports_are_reached_directly_where_that_is_allowed() {
    with_flags(&["--allow-direct-routing"], |cli| {
        let Some(outside) = outside(cli) else { return };
        sleeper(cli, "web", &["-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
        let web = namespace_of(cli, "web");
        greet(&web, 80);
        greet(&web, 81);
        outside.ip(&["route", "add", "172.17.0.0/16", "via", "10.99.0.1"]);
        let said = outside.inside(|| call("172.17.0.2:80"));
        assert_eq!(said.as_deref(), Ok("10.99.0.2"));
        // What was not published is nobody's from outside.
        assert!(outside.inside(|| call("172.17.0.2:81")).is_err());
        // The element goes with the container, and comes back with it.
        cli.ok(&["restart", "-t0", "web"]);
        let address = cli.inspect("web", "{{.NetworkSettings.IPAddress}}");
        greet(&namespace_of(cli, "web"), 80);
        assert!(outside.inside(|| call(&format!("{address}:80"))).is_ok());
    });
}

#[test]
fn a_bridge_that_does_not_exist_refuses_the_start() {
    let Some(mut engine) = crate::network_survival::engine_with_busybox() else {
        return;
    };
    engine.terminate();
    let told = engine.refuses_to_start(&["--bridge", "nosuch0"]);
    let text = "failed to start daemon: Error initializing network controller: error creating \
                default \"bridge\" network: bridge device with non default name nosuch0 must be \
                created manually";
    assert!(told.contains(text), "{told}");
    let host = engine.namespace();
    host.ip(&["link", "add", "nosuch0", "type", "bridge"]);
    let told = engine.refuses_to_start(&["--bridge", "nosuch0"]);
    assert!(
        told.contains("bridge nosuch0 has no IPv4 address"),
        "{told}"
    );
    host.ip(&["address", "add", "10.88.0.1/24", "dev", "nosuch0"]);
    host.ip(&["link", "set", "nosuch0", "up"]);
    engine.resume_with(&["--bridge", "nosuch0"]);
    let cli = engine.cli(Client::Conex);
    sleeper(&cli, "web", &[]);
    let address = cli.inspect("web", "{{.NetworkSettings.IPAddress}}");
    assert_eq!(address, "10.88.0.2");
}

#[test]
fn flushed_rules_are_back_within_a_second() {
    with_flags(&[], |cli| {
        let host = cli.engine.namespace();
        sleeper(cli, "web", &["-p", "8080:80"]);
        let before = ruleset(host);
        for what in [&["flush", "ruleset"][..], &["flush", "ruleset", "inet"]] {
            host.run("nft", what);
            let begun = Instant::now();
            while ruleset(host) != before {
                assert!(
                    begun.elapsed() < Duration::from_secs(1),
                    "{}",
                    ruleset(host)
                );
            }
        }
    });
}
