//! Who reaches whom, and as whom.

use conex_network::{HostPort, PortRequest, Protocol};

use crate::lab::{ask_tcp, ask_udp, inside, ip, is_unreachable, machine, serve_tcp, serve_udp};

pub(crate) fn publish(host_ip: Option<&str>, host_port: u16, protocol: Protocol) -> PortRequest {
    PortRequest {
        container_port: 80,
        protocol,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port: HostPort::One(host_port),
    }
}

#[test]
fn a_published_port_is_reached_from_everywhere_and_sees_its_client() {
    machine(|mut lab| {
        let server = lab.container(&[
            publish(None, 8080, Protocol::Tcp),
            publish(None, 5353, Protocol::Udp),
        ]);
        let client = lab.container(&[]);
        serve_tcp(&server.namespace, "[::]:80");
        serve_udp(&server.namespace, "0.0.0.0:80");
        let (v4, v6) = ("192.0.2.1:8080", "[2001:db8::1]:8080");
        // Another host: its own address is seen.
        assert_eq!(ask_tcp(&lab.outside, v4).unwrap(), "::ffff:192.0.2.2");
        assert_eq!(ask_tcp(&lab.outside, v6).unwrap(), "2001:db8::2");
        // The host by its own address, and by loopback.
        assert_eq!(ask_tcp(&lab.host, v4).unwrap(), "::ffff:192.0.2.1");
        ask_tcp(&lab.host, v6).unwrap();
        assert_eq!(
            ask_tcp(&lab.host, "127.0.0.1:8080").unwrap(),
            "::ffff:172.30.0.1"
        );
        assert_eq!(ask_tcp(&lab.host, "[::1]:8080").unwrap(), "fd00:30::1");
        // Another container by the host's address, and the container itself.
        ask_tcp(&client.namespace, v4).unwrap();
        ask_tcp(&client.namespace, v6).unwrap();
        ask_tcp(&client.namespace, "172.30.0.1:8080").unwrap();
        ask_tcp(&server.namespace, v4).unwrap();
        ask_tcp(&server.namespace, v6).unwrap();
        // Directly, as containers of one network do.
        let direct = format!("{}:80", server.ip());
        let address = format!("::ffff:{}", client.ip());
        assert_eq!(ask_tcp(&client.namespace, &direct).unwrap(), address);
        let direct = format!("[{}]:80", server.ip6());
        assert_eq!(
            ask_tcp(&client.namespace, &direct).unwrap(),
            client.ip6().to_string()
        );
        // Datagrams.
        let udp = "192.0.2.1:5353";
        assert_eq!(ask_udp(&lab.outside, udp).unwrap(), "192.0.2.2");
        assert_eq!(ask_udp(&lab.host, udp).unwrap(), "192.0.2.1");
        ask_udp(&lab.host, "127.0.0.1:5353").unwrap();
        ask_udp(&client.namespace, udp).unwrap();
    });
}

#[test]
fn a_container_reaches_the_world_as_the_host() {
    machine(|mut lab| {
        serve_tcp(&lab.outside, "[::]:7000");
        let client = lab.container(&[]);
        let answer = ask_tcp(&client.namespace, "192.0.2.2:7000").unwrap();
        assert_eq!(answer, "::ffff:192.0.2.1");
        let answer = ask_tcp(&client.namespace, "[2001:db8::2]:7000").unwrap();
        assert_eq!(answer, "2001:db8::1");
        // The host itself, at the gateway.
        serve_tcp(&lab.host, "[::]:7001");
        let answer = ask_tcp(&client.namespace, "172.30.0.1:7001").unwrap();
        assert_eq!(answer, format!("::ffff:{}", client.ip()));
    });
}

#[test]
fn ipv6_clients_reach_a_container_that_has_ipv4_alone() {
    machine(|mut lab| {
        let network = lab.network.clone();
        let mut endpoint = lab.endpoint(&network);
        endpoint.ipv6 = None;
        let ports = [
            publish(None, 8080, Protocol::Tcp),
            publish(None, 5353, Protocol::Udp),
        ];
        let server = lab.start(&network, endpoint, &ports);
        serve_tcp(&server.namespace, "0.0.0.0:80");
        serve_udp(&server.namespace, "0.0.0.0:80");
        for from in [&lab.outside, &lab.host] {
            let answer = ask_tcp(from, "[2001:db8::1]:8080").unwrap();
            assert_eq!(answer, "172.30.0.1");
        }
        assert_eq!(ask_tcp(&lab.host, "[::1]:8080").unwrap(), "172.30.0.1");
        assert_eq!(ask_udp(&lab.host, "[::1]:5353").unwrap(), "172.30.0.1");
        let answer = ask_udp(&lab.outside, "[2001:db8::1]:5353").unwrap();
        assert_eq!(answer, "172.30.0.1");
    });
}

#[test]
fn a_port_on_one_address_is_on_no_other() {
    machine(|mut lab| {
        let server = lab.container(&[
            publish(Some("127.0.0.1"), 8080, Protocol::Tcp),
            publish(Some("192.0.2.1"), 8081, Protocol::Tcp),
            publish(Some("::1"), 8082, Protocol::Tcp),
        ]);
        serve_tcp(&server.namespace, "[::]:80");
        ask_tcp(&lab.host, "127.0.0.1:8080").unwrap();
        assert!(is_unreachable(&lab.outside, "192.0.2.1:8080"));
        assert!(is_unreachable(&lab.host, "192.0.2.1:8080"));
        ask_tcp(&lab.outside, "192.0.2.1:8081").unwrap();
        assert!(is_unreachable(&lab.host, "127.0.0.1:8081"));
        ask_tcp(&lab.host, "[::1]:8082").unwrap();
        assert!(is_unreachable(&lab.outside, "[2001:db8::1]:8082"));
    });
}

#[test]
fn loopback_of_the_host_is_reached_by_nobody_else() {
    machine(|mut lab| {
        let server = lab.container(&[publish(Some("127.0.0.1"), 8080, Protocol::Tcp)]);
        serve_tcp(&server.namespace, "[::]:80");
        serve_tcp(&lab.host, "127.0.0.1:7000");
        // A neighbour on the cable and a container both send to 127.0.0.1 on
        // purpose.
        let client = lab.container(&[]);
        for (namespace, device, gateway) in [
            (&lab.outside, "up1", "192.0.2.1"),
            (&client.namespace.into_fd(), "eth0", "172.30.0.1"),
        ] {
            inside(namespace, || {
                let conf = "/proc/sys/net/ipv4/conf";
                std::fs::write(format!("{conf}/all/route_localnet"), "1").unwrap();
                ip("addr del 127.0.0.1/8 dev lo");
                ip("rule del pref 0");
                ip("rule add pref 100 lookup local");
                ip(&format!(
                    "route add 127.0.0.1/32 via {gateway} dev {device}"
                ));
            });
            for port in [8080, 7000] {
                assert!(is_unreachable(namespace, &format!("127.0.0.1:{port}")));
            }
        }
    });
}

#[test]
fn what_is_not_published_is_not_reached_from_outside() {
    machine(|mut lab| {
        let server = lab.container(&[publish(None, 8080, Protocol::Tcp)]);
        serve_tcp(&server.namespace, "[::]:80");
        serve_tcp(&server.namespace, "[::]:81");
        inside(&lab.outside, || {
            ip("route add 172.30.0.0/24 via 192.0.2.1");
            ip("route add fd00:30::/64 via 2001:db8::1");
        });
        // The published one neither, by the container's own address.
        for port in [80, 81] {
            let direct = format!("{}:{port}", server.ip());
            assert!(is_unreachable(&lab.outside, &direct));
            let direct = format!("[{}]:{port}", server.ip6());
            assert!(is_unreachable(&lab.outside, &direct));
        }
        // The host itself may.
        ask_tcp(&lab.host, &format!("{}:81", server.ip())).unwrap();
    });
}

#[test]
fn networks_are_apart_in_both_directions_but_for_published_ports() {
    machine(|mut lab| {
        let other = crate::lab::network(1);
        lab.add_network(&other);
        let here = lab.container(&[publish(None, 8080, Protocol::Tcp)]);
        let there = lab.container_on(&other, &[]);
        for server in [&here, &there] {
            serve_tcp(&server.namespace, "[::]:80");
        }
        assert!(is_unreachable(
            &here.namespace,
            &format!("{}:80", there.ip())
        ));
        assert!(is_unreachable(
            &there.namespace,
            &format!("{}:80", here.ip())
        ));
        let answer = ask_tcp(&there.namespace, "192.0.2.1:8080").unwrap();
        assert_eq!(answer, format!("::ffff:{}", there.ip()));
    });
}

#[test]
fn an_internal_network_leads_nowhere_and_publishes_nothing() {
    machine(|mut lab| {
        let mut internal = crate::lab::network(1);
        internal.internal = true;
        lab.add_network(&internal);
        serve_tcp(&lab.outside, "0.0.0.0:7000");
        let one = lab.container_on(&internal, &[publish(None, 8080, Protocol::Tcp)]);
        let two = lab.container_on(&internal, &[]);
        assert_eq!(one.endpoint.ports, []);
        serve_tcp(&one.namespace, "0.0.0.0:80");
        ask_tcp(&two.namespace, &format!("{}:80", one.ip())).unwrap();
        inside(&two.namespace, || ip("route add default via 172.30.1.1"));
        assert!(is_unreachable(&two.namespace, "192.0.2.2:7000"));
        inside(&lab.outside, || ip("route add 172.30.1.0/24 via 192.0.2.1"));
        assert!(is_unreachable(&lab.outside, &format!("{}:80", one.ip())));
        assert!(is_unreachable(&lab.outside, "192.0.2.1:8080"));
    });
}

#[test]
fn without_icc_containers_of_a_network_meet_at_published_ports_only() {
    // Frames that the bridge passes on are shown to the firewall or not.
    for called in ["1", "0"] {
        machine(move |mut lab| {
            for family in ["iptables", "ip6tables", "arptables"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
                std::fs::write(path, called).unwrap();
            }
            let mut apart = crate::lab::network(1);
            apart.icc = false;
            lab.add_network(&apart);
            let server = lab.container_on(&apart, &[publish(None, 8080, Protocol::Tcp)]);
            let client = lab.container_on(&apart, &[]);
            serve_tcp(&server.namespace, "0.0.0.0:80");
            assert!(is_unreachable(
                &client.namespace,
                &format!("{}:80", server.ip())
            ));
            ask_tcp(&client.namespace, "192.0.2.1:8080").unwrap();
            ask_tcp(&lab.outside, "192.0.2.1:8080").unwrap();
        });
    }
}

#[test]
fn hairpins_and_neighbours_work_whatever_the_bridge_calls() {
    for called in ["1", "0"] {
        machine(move |mut lab| {
            let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
            std::fs::write(path, called).unwrap();
            let server = lab.container(&[publish(None, 8080, Protocol::Tcp)]);
            let client = lab.container(&[]);
            serve_tcp(&server.namespace, "0.0.0.0:80");
            ask_tcp(&client.namespace, "192.0.2.1:8080").unwrap();
            ask_tcp(&server.namespace, "192.0.2.1:8080").unwrap();
            let direct = format!("{}:80", server.ip());
            assert_eq!(
                ask_tcp(&client.namespace, &direct).unwrap(),
                client.ip().to_string()
            );
        });
    }
}

#[test]
fn a_client_that_never_stops_sending_datagrams_finds_the_next_container() {
    machine(|mut lab| {
        let ports = [publish(None, 5353, Protocol::Udp)];
        let first = lab.container(&ports);
        serve_udp(&first.namespace, "[::]:80");
        let [four, six] = inside(&lab.outside, || {
            ["0.0.0.0:4444", "[::]:4444"].map(datagram_client)
        });
        four.connect("192.0.2.1:5353").unwrap();
        six.connect("[2001:db8::1]:5353").unwrap();
        // A datagram may be lost on a busy machine; a flow that leads nowhere
        // swallows all of them.
        let ask = |client: &std::net::UdpSocket, whom: &str| {
            let answered = (0..10).any(|_| {
                client.send(b"?").unwrap();
                client.recv(&mut [0; 64]).is_ok()
            });
            assert!(answered, "{whom}");
        };
        ask(&four, "the first, by IPv4");
        ask(&six, "the first, by IPv6");
        lab.keeper.disconnect(&[&first.endpoint.id]).unwrap();
        let second = lab.container(&ports);
        serve_udp(&second.namespace, "[::]:80");
        assert_ne!(first.ip(), second.ip());
        // The first still runs and would hear them.
        ask(&four, "the second, by IPv4");
        ask(&six, "the second, by IPv6");
    });
}

/// Of one address family, on a port of its own choice.
fn datagram_client(address: &str) -> std::net::UdpSocket {
    let family = match address.starts_with('[') {
        true => rustix::net::AddressFamily::INET6,
        false => rustix::net::AddressFamily::INET,
    };
    let kind = rustix::net::SocketType::DGRAM;
    let socket = rustix::net::socket(family, kind, None).unwrap();
    if family == rustix::net::AddressFamily::INET6 {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true).unwrap();
    }
    let address: std::net::SocketAddr = address.parse().unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    let socket = std::net::UdpSocket::from(socket);
    let patience = std::time::Duration::from_secs(1);
    socket.set_read_timeout(Some(patience)).unwrap();
    socket
}
