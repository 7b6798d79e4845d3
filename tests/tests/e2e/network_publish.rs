//! Published ports, from wherever somebody may call: another machine (a
//! namespace at the end of a cable), the host by each of its addresses, another
//! container, the container itself. What greets the caller is a socket of the
//! test in the container's namespace, which says whom it sees.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use conex_tests::client::{Cli, Client, with_busybox_in_namespace};
use conex_tests::netns::{Namespace, inside};
use conex_tests::under_both_clients_in_namespaces;
use serde_json::json;

use crate::network::{namespace_of, settings, sleeper};

under_both_clients_in_namespaces! {
    a_published_port_is_reached_from_everywhere,
    a_port_on_loopback_is_the_hosts_alone,
    a_taken_port_is_named_and_everything_given_back,
    random_ports_ranges_and_udp_are_published,
    a_published_port_is_nobody_elses,
}

/// How long somebody is called before he counts as unreachable.
const PATIENCE: Duration = Duration::from_millis(700);

/// Greets every caller of a container's port with the address it sees.
pub(crate) fn greet(namespace: &Path, port: u16) {
    let listener = inside(namespace, || TcpListener::bind(("0.0.0.0", port)))
        .unwrap_or_else(|e| panic!("port {port} of the container: {e}"));
    // Ends with the test's process.
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _gone = stream.write_all(peer.ip().to_string().as_bytes()).is_err();
        }
    });
}

/// Calls and gives what was said.
pub(crate) fn call(address: &str) -> Result<String, String> {
    let address: SocketAddr = address.parse().map_err(|e| format!("{address}: {e}"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|e| e.to_string())?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(|e| e.to_string())?;
    let mut said = String::new();
    stream
        .read_to_string(&mut said)
        .map_err(|e| e.to_string())?;
    match said.is_empty() {
        true => Err("nobody spoke".into()),
        false => Ok(said),
    }
}

/// A machine outside, at 10.99.0.2 and fd99::2 of a cable whose other end the
/// engine's host has as .1 and ::1.
pub(crate) fn outside(cli: &Cli<'_>) -> Option<Namespace> {
    let outside = Namespace::new()?;
    let host = cli.engine.namespace();
    host.cable(("up0", "10.99.0.1/24"), &outside, ("up0", "10.99.0.2/24"));
    for (namespace, address) in [(host, "fd99::1/64"), (&outside, "fd99::2/64")] {
        namespace.ip(&["address", "add", address, "dev", "up0", "nodad"]);
    }
    Some(outside)
}

fn a_published_port_is_reached_from_everywhere(cli: &Cli<'_>) {
    let Some(outside) = outside(cli) else { return };
    let host = cli.engine.namespace();
    sleeper(cli, "web", &["-p", "8080:80"]);
    sleeper(cli, "other", &[]);
    let web = namespace_of(cli, "web");
    greet(&web, 80);
    // The caller's own address is seen.
    let from_outside = outside.inside(|| call("10.99.0.1:8080"));
    assert_eq!(from_outside.as_deref(), Ok("10.99.0.2"));
    for address in [
        "127.0.0.1:8080",
        "10.99.0.1:8080",
        "172.17.0.1:8080",
        "[::1]:8080",
    ] {
        let said = host.inside(|| call(address));
        assert!(said.is_ok(), "the host at {address}: {said:?}");
    }
    // By the host's address from a container, the published one included.
    let other = namespace_of(cli, "other");
    for from in [&other, &web] {
        let said = inside(from, || call("10.99.0.1:8080"));
        assert!(said.is_ok(), "{}: {said:?}", from.display());
    }
    // The container's own address is not the outside's business.
    outside.ip(&["route", "add", "172.17.0.0/16", "via", "10.99.0.1"]);
    let address = cli.inspect("web", "{{.NetworkSettings.IPAddress}}");
    let direct = outside.inside(|| call(&format!("{address}:80")));
    assert!(direct.is_err(), "{direct:?}");
    // Whoever was published is not after its end.
    cli.ok(&["stop", "-t0", "web"]);
    assert!(outside.inside(|| call("10.99.0.1:8080")).is_err());
}

fn a_port_on_loopback_is_the_hosts_alone(cli: &Cli<'_>) {
    let Some(outside) = outside(cli) else { return };
    sleeper(
        cli,
        "web",
        &["-p", "127.0.0.1:8081:80", "-p", "10.99.0.1:8082:80"],
    );
    greet(&namespace_of(cli, "web"), 80);
    let host = cli.engine.namespace();
    assert!(host.inside(|| call("127.0.0.1:8081")).is_ok());
    assert!(host.inside(|| call("10.99.0.1:8081")).is_err());
    assert!(outside.inside(|| call("10.99.0.1:8081")).is_err());
    assert!(outside.inside(|| call("10.99.0.1:8082")).is_ok());
    // Packets to 127.0.0.1 that come over the cable are dropped.
    outside.ip(&["address", "del", "127.0.0.1/8", "dev", "lo"]);
    outside.ip(&["route", "add", "127.0.0.1/32", "via", "10.99.0.1"]);
    outside.run(
        "sh",
        &["-c", "echo 1 >/proc/sys/net/ipv4/conf/up0/route_localnet"],
    );
    let said = outside.inside(|| call("127.0.0.1:8081"));
    assert!(said.is_err(), "{said:?}");
}

fn a_taken_port_is_named_and_everything_given_back(cli: &Cli<'_>) {
    sleeper(cli, "first", &["-p", "8080:80"]);
    let second = [
        "run", "-d", "--name", "second", "-p", "8090:90", "-p", "8080:80", "busybox", "true",
    ];
    let told = cli.fails(125, &second);
    let text = "Bind for 0.0.0.0:8080 failed: port is already allocated";
    assert!(told.contains(text), "{told}");
    let begin = "failed to set up container networking: driver failed programming external \
                 connectivity on endpoint second (";
    assert!(told.contains(begin), "{told}");
    let state = cli.inspect(
        "second",
        "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}",
    );
    assert!(state.starts_with("created 128 failed to set up"), "{state}");
    assert!(state.ends_with(text), "{state}");
    // Its other port, its address and its interface came back.
    sleeper(cli, "third", &["-p", "8090:90"]);
    let links = cli
        .engine
        .namespace()
        .ip(&["-o", "link", "show", "type", "veth"]);
    assert_eq!(links.lines().count(), 2, "{links}");
    cli.ok(&["rm", "-f", "first", "third"]);
    cli.ok(&["start", "second"]);
    // A program of the host's is in the way.
    let listener = cli
        .engine
        .namespace()
        .inside(|| TcpListener::bind("0.0.0.0:8070"));
    let held = listener.expect("the port is free");
    let told = cli.fails(125, &["run", "--rm", "-p", "8070:80", "busybox", "true"]);
    assert!(
        told.contains("8070") && told.contains("address already in use"),
        "{told}"
    );
    drop(held);
    cli.ok(&["run", "--rm", "-p", "8070:80", "busybox", "true"]);
}

fn random_ports_ranges_and_udp_are_published(cli: &Cli<'_>) {
    let Some(outside) = outside(cli) else { return };
    let flags = [
        "-p",
        "53/udp",
        "-p",
        "7000-7002:7000-7002",
        "-P",
        "--expose",
        "99",
    ];
    sleeper(cli, "web", &flags);
    let ports = settings(cli, "web")["Ports"].clone();
    let number = |key: &str| -> u16 {
        let text = ports[key][0]["HostPort"].as_str().unwrap_or_default();
        text.parse().unwrap_or_else(|_| panic!("{key} in {ports}"))
    };
    assert!(number("53/udp") > 1024 && number("99/tcp") > 1024);
    assert_eq!(number("7001/tcp"), 7001);
    assert_eq!(
        ports["7001/tcp"][1],
        json!({"HostIp": "::", "HostPort": "7001"})
    );
    let shown = cli.ok(&["ps", "--format", "{{.Ports}}"]);
    assert!(
        shown.contains("0.0.0.0:7000-7002->7000-7002/tcp"),
        "{shown}"
    );
    assert!(shown.contains("[::]:7000-7002->7000-7002/tcp"), "{shown}");
    let told = cli.ok(&["port", "web", "7002"]);
    assert_eq!(told, "0.0.0.0:7002\n[::]:7002");
    assert_eq!(
        cli.ok(&["ps", "-q", "--filter", "publish=7000-7005"])
            .lines()
            .count(),
        1
    );
    // A datagram goes there and its answer comes back.
    let service = inside(&namespace_of(cli, "web"), || UdpSocket::bind("0.0.0.0:53"));
    let service = service.expect("port 53 of the container is free");
    service
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a socket takes a timeout");
    let caller = outside
        .inside(|| UdpSocket::bind("0.0.0.0:0"))
        .expect("a free port");
    caller
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a socket takes a timeout");
    caller
        .send_to(b"who?", ("10.99.0.1", number("53/udp")))
        .expect("a route");
    let mut room = [0; 16];
    let (length, peer) = service.recv_from(&mut room).expect("the datagram arrives");
    assert_eq!(
        (&room[..length], peer.ip()),
        (&b"who?"[..], IpAddr::from([10, 99, 0, 2]))
    );
    service.send_to(b"you", peer).expect("a route");
    let (length, from) = caller.recv_from(&mut room).expect("the answer arrives");
    assert_eq!(&room[..length], b"you");
    assert_eq!(
        (from.ip(), from.port()),
        (IpAddr::from([10, 99, 0, 1]), number("53/udp"))
    );
    // Random ports are shown while it runs, and what was asked for always.
    cli.ok(&["stop", "-t0", "web"]);
    assert_eq!(settings(cli, "web")["Ports"], json!({}));
    let asked = cli.inspect("web", "{{json .HostConfig.PortBindings}}");
    assert!(
        asked.contains("\"53/udp\":[{\"HostIp\":\"\",\"HostPort\":\"\"}]"),
        "{asked}"
    );
}

fn a_published_port_is_nobody_elses(cli: &Cli<'_>) {
    sleeper(cli, "web", &["-p", "8080:80", "-p", "8053:53/udp"]);
    let host = cli.engine.namespace();
    for address in ["0.0.0.0:8080", "127.0.0.1:8080", "[::]:8080"] {
        assert!(
            host.inside(|| TcpListener::bind(address)).is_err(),
            "{address}"
        );
    }
    assert!(host.inside(|| UdpSocket::bind("0.0.0.0:8053")).is_err());
    // Free when the command has returned.
    cli.ok(&["rm", "-f", "web"]);
    for address in ["0.0.0.0:8080", "[::]:8080"] {
        let listener = host.inside(|| TcpListener::bind(address));
        assert!(listener.is_ok(), "{address}: {listener:?}");
    }
}

#[test]
fn ipv6_is_published_and_routed_where_it_is_enabled() {
    let flags = ["--ipv6", "--fixed-cidr-v6", "fd00:77::/64"];
    with_busybox_in_namespace(Client::Conex, &flags, |cli| {
        let Some(outside) = outside(cli) else { return };
        sleeper(cli, "web", &["-p", "8080:80"]);
        sleeper(cli, "other", &[]);
        let shown = settings(cli, "web")["Networks"]["bridge"].clone();
        assert_eq!(shown["GlobalIPv6Address"], json!("fd00:77::2"));
        assert_eq!(shown["GlobalIPv6PrefixLen"], json!(64));
        assert_eq!(shown["IPv6Gateway"], json!("fd00:77::1"));
        let listener = inside(&namespace_of(cli, "web"), || {
            TcpListener::bind("[fd00:77::2]:80")
        });
        let listener = listener.expect("the container has its address");
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _gone = stream.write_all(peer.ip().to_string().as_bytes()).is_err();
            }
        });
        assert_eq!(
            outside.inside(|| call("[fd99::1]:8080")).as_deref(),
            Ok("fd99::2")
        );
        let host = cli.engine.namespace();
        assert!(host.inside(|| call("[::1]:8080")).is_ok());
        let other = namespace_of(cli, "other");
        assert!(inside(&other, || call("[fd00:77::2]:80")).is_ok());
        let hosts = cli.ok(&["exec", "web", "cat", "/etc/hosts"]);
        assert!(hosts.contains("fd00:77::2\t"), "{hosts}");
    });
}

#[test]
fn the_default_address_of_published_ports_can_be_loopback() {
    with_busybox_in_namespace(Client::Conex, &["--ip", "127.0.0.1"], |cli| {
        let Some(outside) = outside(cli) else { return };
        sleeper(cli, "web", &["-p", "8080:80", "-p", "0.0.0.0:8081:80"]);
        greet(&namespace_of(cli, "web"), 80);
        let host = cli.engine.namespace();
        assert!(host.inside(|| call("127.0.0.1:8080")).is_ok());
        assert!(outside.inside(|| call("10.99.0.1:8080")).is_err());
        assert!(outside.inside(|| call("10.99.0.1:8081")).is_ok());
        assert_eq!(cli.ok(&["port", "web", "80"]).lines().count(), 2);
    });
}

#[test]
fn the_hosts_firewall_decides_where_it_is_to_be_respected() {
    with_busybox_in_namespace(Client::Conex, &["--respect-host-firewall"], |cli| {
        let Some(outside) = outside(cli) else { return };
        sleeper(cli, "web", &["-p", "8080:80", "-p", "8081:80"]);
        greet(&namespace_of(cli, "web"), 80);
        assert!(outside.inside(|| call("10.99.0.1:8080")).is_ok());
        let host = cli.engine.namespace();
        if conex_tests::workspace::program("nft").is_none() {
            return conex_tests::skip("nft is missing (Debian: nftables)");
        }
        let rules = "add table inet admin; add chain inet admin input { type filter hook input \
                     priority 0; }; add rule inet admin input tcp dport 8080 iifname up0 drop";
        host.run("nft", &[rules]);
        assert!(outside.inside(|| call("10.99.0.1:8080")).is_err());
        assert!(outside.inside(|| call("10.99.0.1:8081")).is_ok());
        assert!(host.inside(|| call("127.0.0.1:8080")).is_ok());
    });
}

#[test]
fn a_container_cannot_pretend_to_be_another() {
    with_busybox_in_namespace(Client::Conex, &[], |cli| {
        sleeper(cli, "good", &[]);
        sleeper(cli, "bad", &["--cap-add", "NET_ADMIN"]);
        let good = cli.inspect("good", "{{.NetworkSettings.IPAddress}}");
        // It takes the neighbour's and the gateway's address.
        let script = format!(
            "ip addr add {good}/32 dev eth0; ip addr add 172.17.0.1/32 dev eth0; \
             arping -U -c2 -I eth0 -s {good} {good}; arping -A -c2 -I eth0 -s 172.17.0.1 172.17.0.1; \
             ip addr del 172.17.0.1/32 dev eth0; ping -c1 -W1 -I {good} 172.17.0.1 && echo fooled"
        );
        let said = cli.run(&["exec", "bad", "sh", "-c", &script]);
        assert!(!said.stdout.contains("fooled"), "{said}");
        // Both are still reached where they are.
        let host = cli.engine.namespace();
        greet(&namespace_of(cli, "good"), 80);
        assert!(host.inside(|| call(&format!("{good}:80"))).is_ok());
        let ping = cli.run(&["exec", "good", "ping", "-c1", "-W2", "172.17.0.1"]);
        assert_eq!(ping.code, Some(0), "{ping}");
        // Services of the host's loopback are not reached from a container.
        let listener = host.inside(|| TcpListener::bind("127.0.0.1:9999"));
        let _listener = listener.expect("the port is free");
        for address in ["127.0.0.1:9999", "172.17.0.1:9999"] {
            let said = inside(&namespace_of(cli, "bad"), || call(address));
            assert!(said.is_err(), "{address}: {said:?}");
        }
    });
}
