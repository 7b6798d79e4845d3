//! What a hostile container cannot do: it has all rights in its own namespace.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;

use conex_network::Protocol;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrV6, SocketFlags, SocketType, ipproto,
};

use crate::lab::{Container, ask_tcp, inside, ip, is_unreachable, machine, serve_tcp};
use crate::reach::publish;

/// Sends and receives with any other address of the subnet must fail.
fn cannot_be(attacker: &Container, address: IpAddr, server: &str) {
    inside(&attacker.namespace, || {
        let (prefix, own) = match address {
            IpAddr::V4(_) => (24, attacker.ip()),
            IpAddr::V6(_) => (64, attacker.ip6()),
        };
        let flag = if address.is_ipv6() { " nodad" } else { "" };
        ip(&format!("addr del {own}/{prefix} dev eth0"));
        ip(&format!("addr add {address}/{prefix} dev eth0{flag}"));
    });
    assert!(is_unreachable(&attacker.namespace, server), "{address}");
    inside(&attacker.namespace, || {
        let (prefix, own) = match address {
            IpAddr::V4(_) => (24, attacker.ip()),
            IpAddr::V6(_) => (64, attacker.ip6()),
        };
        let flag = if address.is_ipv6() { " nodad" } else { "" };
        ip(&format!("addr del {address}/{prefix} dev eth0"));
        ip(&format!("addr add {own}/{prefix} dev eth0{flag}"));
    });
    ask_tcp(&attacker.namespace, server).unwrap();
}

#[test]
fn nobody_sends_from_the_gateways_or_a_neighbours_address() {
    machine(|mut lab| {
        let server = lab.container(&[]);
        let victim = lab.container(&[]);
        let attacker = lab.container(&[]);
        serve_tcp(&server.namespace, "[::]:80");
        let v4 = format!("{}:80", server.ip());
        let v6 = format!("[{}]:80", server.ip6());
        let free: IpAddr = "172.30.0.200".parse().unwrap();
        let gateway: IpAddr = "172.30.0.1".parse().unwrap();
        for address in [victim.ip(), gateway, free] {
            cannot_be(&attacker, address, &v4);
        }
        let gateway: IpAddr = "fd00:30::1".parse().unwrap();
        for address in [victim.ip6(), gateway] {
            cannot_be(&attacker, address, &v6);
        }
    });
}

#[test]
fn nobody_takes_over_a_neighbours_address_by_claiming_it() {
    machine(|mut lab| {
        let victim = lab.container(&[]);
        let client = lab.container(&[]);
        let attacker = lab.container(&[]);
        serve_tcp(&victim.namespace, "[::]:80");
        let v4 = format!("{}:80", victim.ip());
        let v6 = format!("[{}]:80", victim.ip6());
        for address in [&v4, &v6] {
            ask_tcp(&client.namespace, address).unwrap();
        }
        inside(&attacker.namespace, || {
            ip(&format!("addr add {}/24 dev eth0", victim.ip()));
            ip(&format!("addr add {}/64 dev eth0 nodad", victim.ip6()));
            // The kernel announces all addresses of an interface whose
            // hardware address is set.
            ip(&format!("link set eth0 address {}", attacker.endpoint.mac));
        });
        serve_tcp(&attacker.namespace, "[::]:81");
        for (family, address) in [("-4", victim.ip()), ("-6", victim.ip6())] {
            let known = inside(&client.namespace, || {
                ip(&format!("{family} neigh show {address}"))
            });
            let mac = victim.endpoint.mac.to_string();
            assert!(known.contains(&mac), "{known}");
        }
        for address in [&v4, &v6] {
            ask_tcp(&client.namespace, address).unwrap();
        }
        // Nor by the hardware address, which the bridge would learn.
        inside(&attacker.namespace, || {
            ip(&format!("link set eth0 address {}", victim.endpoint.mac));
        });
        assert!(is_unreachable(&attacker.namespace, &v4));
        for address in [&v4, &v6] {
            ask_tcp(&client.namespace, address).unwrap();
        }
    });
}

#[test]
fn nobody_is_a_router_but_the_host() {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const REDIRECT: u8 = 137;
    const ECHO: u8 = 128;
    machine(|mut lab| {
        let victim = lab.container(&[]);
        let attacker = lab.container(&[]);
        let heard = icmpv6(&victim);
        let voice = icmpv6(&attacker);
        let IpAddr::V6(to) = victim.ip6() else {
            unreachable!()
        };
        let claim = |kind: u8, target: Ipv6Addr| {
            let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            message.extend_from_slice(&target.octets());
            let to = SocketAddrV6::new(to, 0, 0, 0);
            rustix::net::sendto(&voice, &message, SendFlags::empty(), &to).unwrap();
        };
        for kind in [ROUTER_ADVERTISEMENT, NEIGHBOUR_ADVERTISEMENT, REDIRECT] {
            claim(kind, to);
        }
        claim(ECHO, to);
        // The messages come in order: what comes first is all that passed,
        // but for the kernels' own talk about each other.
        let mut buffer = [0; 128];
        loop {
            let (_, length) = rustix::net::recv(&heard, &mut buffer, RecvFlags::empty()).unwrap();
            let own_target = buffer[..length].get(8..24) == Some(&to.octets()[..]);
            match buffer[0] {
                ECHO => break,
                ROUTER_ADVERTISEMENT | REDIRECT => panic!("{} passed", buffer[0]),
                NEIGHBOUR_ADVERTISEMENT if own_target => panic!("a false claim passed"),
                _ => {}
            }
        }
    });
}

fn icmpv6(container: &Container) -> OwnedFd {
    inside(&container.namespace, || {
        rustix::net::socket_with(
            AddressFamily::INET6,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(ipproto::ICMPV6),
        )
        .unwrap()
    })
}

#[test]
fn a_released_interface_is_mute_although_somebody_keeps_its_namespace() {
    machine(|mut lab| {
        let server = lab.container(&[]);
        let gone = lab.container(&[publish(None, 8080, Protocol::Tcp)]);
        serve_tcp(&server.namespace, "[::]:80");
        let address = format!("{}:80", server.ip());
        ask_tcp(&gone.namespace, &address).unwrap();
        lab.keeper.disconnect(&[&gone.endpoint.id]).unwrap();
        assert!(is_unreachable(&gone.namespace, &address));
        assert!(is_unreachable(&lab.outside, "192.0.2.1:8080"));
    });
}
