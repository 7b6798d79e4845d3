//! Many containers: what one costs, and what is left of all.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use conex_network::{Endpoint, Gone, Mac, Protocol, bridge};

use crate::lab::{ask_tcp, ip, machine, run, serve_tcp};
use crate::reach::publish;

/// Tries until it is so: the kernel takes interfaces away behind our backs.
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn of_500_containers_eight_at_a_time_nothing_is_left() {
    machine(|mut lab| {
        let network = lab.network.clone();
        // The rules as they are without anybody, but with the netkeeper there.
        let first = lab.container(&[]);
        lab.keeper.disconnect(&[&first.endpoint.id]).unwrap();
        lab.namespaces
            .forget(&[Gone::new(&network, &first.endpoint)])
            .unwrap();
        drop(first);
        let empty = run("nft", "-s list ruleset");
        let owner = lab.owner.clone();
        // The subnet holds 253: those that are there at one moment differ.
        let endpoints = (0..500_usize).map(|number| {
            let last = 2 + number % 250;
            let id = format!("{number:064x}");
            let mut endpoint = Endpoint::new(&owner, &network, id, Mac::random());
            endpoint.ipv4 = Some(format!("172.30.0.{last}/24").parse().unwrap());
            endpoint.ipv6 = Some(format!("fd00:30::{last:x}/64").parse().unwrap());
            endpoint
        });
        let waiting = Mutex::new(endpoints.enumerate());
        let lab = &lab;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().unwrap().next();
                        let Some((number, mut endpoint)) = next else {
                            return;
                        };
                        let port = 20_000 + u16::try_from(number).unwrap();
                        let ports = [publish(None, port, Protocol::Tcp)];
                        lab.keeper.connect(&mut endpoint, &ports).unwrap();
                        let namespace = lab.namespaces.connect(&[(&network, &endpoint)]).unwrap();
                        if number % 50 == 7 {
                            // There may be none at this moment.
                            let pid = lab.keeper_pid();
                            pid.map(|pid| conex_sys::process::kill(pid, libc::SIGKILL));
                        }
                        lab.keeper.disconnect(&[&endpoint.id]).unwrap();
                        lab.namespaces
                            .forget(&[Gone::new(&network, &endpoint)])
                            .unwrap();
                        drop(namespace);
                    }
                });
            }
        });
        assert_eq!(run("nft", "-s list ruleset"), empty);
        assert_eq!(ip("neigh show dev conex0"), "");
        assert_eq!(ip("-6 neigh show dev conex0"), "");
        soon("all interfaces are gone", || {
            !ip("link show").contains(&lab.owner.prefix)
        });
        bridge::remove("conex0").unwrap();
        assert!(!ip("link show").contains("conex0"));
    });
}

#[test]
fn interfaces_of_a_killed_engine_are_swept_and_others_left() {
    machine(|mut lab| {
        let kept = lab.container(&[]);
        let lost = lab.container(&[]);
        ip("link add cxzzzzz00000001 type veth peer name other");
        let known = HashSet::from([kept.endpoint.host_interface.as_str()]);
        lab.namespaces.sweep(&lab.owner, &known).unwrap();
        soon("the lost interface is gone", || {
            !ip("link show").contains(&lost.endpoint.host_interface)
        });
        let left = ip("link show");
        assert!(left.contains(&kept.endpoint.host_interface));
        assert!(left.contains("cxzzzzz00000001"));
    });
}

#[test]
fn a_bridge_is_made_once_and_corrected_where_it_differs() {
    machine(|mut lab| {
        let mut network = lab.network.clone();
        let server = lab.container(&[]);
        serve_tcp(&server.namespace, "[::]:80");
        let before = ip("-o addr show dev conex0");
        bridge::ensure(&network, true).unwrap();
        assert_eq!(ip("-o addr show dev conex0"), before);
        ip("link set conex0 down");
        ip("addr add 10.9.9.9/24 dev conex0");
        ip("addr del 172.30.0.1/24 dev conex0");
        network.mtu = Some(1400);
        bridge::ensure(&network, true).unwrap();
        let after = ip("addr show dev conex0");
        assert!(after.contains("mtu 1400") && after.contains("172.30.0.1/24"));
        assert!(!after.contains("10.9.9.9"), "{after}");
        ask_tcp(&lab.host, &format!("{}:80", server.ip())).unwrap();
        ip("link add taken type veth peer name other");
        network.bridge = "taken".into();
        let error = bridge::ensure(&network, true).unwrap_err();
        assert_eq!(error.errno(), Some(rustix::io::Errno::EXIST), "{error}");
        bridge::remove("never-there").unwrap();
    });
}

#[test]
fn a_host_that_begins_to_forward_keeps_its_own_routers() {
    machine(|lab| {
        let conf = |file: &str| {
            let path = format!("/proc/sys/net/ipv6/conf/{file}");
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        };
        assert_eq!(conf("all/forwarding"), "1");
        assert_eq!(conf("up0/accept_ra"), "2");
        assert_eq!(conf("default/accept_ra"), "1");
        assert_eq!(conf("conex0/accept_ra"), "0");
        drop(lab);
    });
}

#[test]
fn what_a_container_finds_in_its_namespace() {
    machine(|mut lab| {
        let one = lab.container(&[]);
        let [links, four, six, routes] = crate::lab::inside(&one.namespace, || {
            [
                "-o link show",
                "-4 -o addr show dev eth0",
                "-6 -o addr show dev eth0",
                "route show",
            ]
            .map(ip)
        });
        assert_eq!(links.lines().count(), 2, "{links}");
        assert!(links.contains(&one.endpoint.mac.to_string()) && links.contains("LOWER_UP"));
        assert!(
            four.contains(&format!("{}/24 brd 172.30.0.255", one.ip())),
            "{four}"
        );
        assert!(six.contains(&one.ip6().to_string()), "{six}");
        let link_local = one.endpoint.mac.link_local().to_string();
        assert!(six.contains(&link_local), "{six}");
        // The kernel makes them good a moment later, without looking for others.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let is_tentative = || ip("-6 -o addr show dev eth0").contains("tentative");
        while crate::lab::inside(&one.namespace, is_tentative) {
            assert!(std::time::Instant::now() < deadline, "{six}");
        }
        assert!(
            routes.contains("default via 172.30.0.1 dev eth0"),
            "{routes}"
        );
        // Without IPv6 there is no address of it, and loopback keeps its own.
        let network = lab.network.clone();
        let mut endpoint = lab.endpoint(&network);
        endpoint.ipv6 = None;
        let two = lab.start(&network, endpoint, &[]);
        let six = crate::lab::inside(&two.namespace, || ip("-6 -o addr show"));
        assert!(six.contains("::1/128") && !six.contains("eth0"), "{six}");
    });
}

/// The times are no judgement, since machines differ: run it with `--nocapture`
/// to see them. Memory is.
#[test]
fn a_netkeeper_with_40_containers_is_small() {
    machine(|mut lab| {
        let network = lab.network.clone();
        let mut rules = Vec::new();
        let mut links = Vec::new();
        let mut all = Vec::new();
        for number in 0..40 {
            let mut endpoint = lab.endpoint(&network);
            let ports = [publish(None, 9000 + number, Protocol::Tcp)];
            let start = Instant::now();
            lab.keeper.connect(&mut endpoint, &ports).unwrap();
            rules.push(start.elapsed());
            let start = Instant::now();
            let made = lab.namespaces.connect(&[(&network, &endpoint)]).unwrap();
            links.push(start.elapsed());
            all.push((endpoint, made));
        }
        rules.sort();
        links.sort();
        let pid = lab.keeper_pid().unwrap();
        let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        // Its program's pages are shared with daemon and monitors.
        let anonymous = memory
            .lines()
            .find_map(|line| line.strip_prefix("Pss_Anon:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse::<u32>().ok());
        assert!(anonymous.is_none_or(|kib| kib < 1024), "{memory}");
        eprintln!("netkeeper with 40 ports: {anonymous:?} KiB of its own");
        eprintln!(
            "rules and ports: {:?}; interface: {:?}",
            rules[20], links[20]
        );
    });
}
