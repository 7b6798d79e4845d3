//! A netkeeper in a thread, and a daemon that dies without a word.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::Duration;

use conex_sys::socket;
use rustix::net::SocketType;

use super::link::Link;
use super::process::{ProcessError, serve};
use super::protocol::{Answer, Request, State};
use crate::fixture::{isolated, loopback_up, output};
use crate::{Endpoint, HostPort, Mac, Network, Owner, PortRequest, Protocol};

const PATIENCE: Duration = Duration::from_secs(10);

fn ask(link: &Link, request: &Request) -> Answer {
    link.send(request, &[]).unwrap();
    link.receive().unwrap().0
}

fn start(dir: &std::path::Path) -> (Link, JoinHandle<Result<(), ProcessError>>) {
    let listener = socket::listen_at(dir, "netkeeper.sock").unwrap();
    let (ours, theirs) = socket::pair(SocketType::SEQPACKET).unwrap();
    socket::set_patience(&ours, PATIENCE).unwrap();
    let running = std::thread::spawn(move || serve(theirs));
    let link = Link::new(ours);
    let owner = Owner::new("test");
    link.send(&Request::Start { owner }, &[listener.as_fd()])
        .unwrap();
    let hello = link.receive::<Answer>().unwrap().0;
    assert!(matches!(hello, Answer::Hello { version: 2, .. }));
    (link, running)
}

fn come_back(dir: &std::path::Path) -> Link {
    let link = Link::new(socket::connect_at(dir, "netkeeper.sock", PATIENCE).unwrap());
    let hello = link.receive::<Answer>().unwrap().0;
    assert!(matches!(hello, Answer::Hello { .. }));
    link
}

fn network() -> Network {
    Network {
        id: "1".repeat(64),
        name: String::new(),
        bridge: "conex0".into(),
        ipv4: None,
        ipv6: None,
        mtu: None,
        icc: true,
        masquerade: true,
        internal: false,
    }
}

/// With an interface, as a container that runs has one.
fn endpoint(link: &Link, name: &str, port: u16) -> Endpoint {
    let owner = Owner::new("test");
    let mut endpoint = Endpoint::new(&owner, &network(), name.into(), Mac::random());
    endpoint.ipv4 = Some("172.17.0.9/16".parse().unwrap());
    let interface = endpoint.host_interface.clone();
    output(
        "ip",
        &[
            "link", "add", &interface, "type", "veth", "peer", "name", name,
        ],
    );
    let ports = vec![PortRequest {
        container_port: 80,
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port: HostPort::One(port),
    }];
    let request = Request::Connect {
        endpoint: Box::new(endpoint.clone()),
        ports,
    };
    let Answer::Connected(bindings) = ask(link, &request) else {
        panic!("not connected");
    };
    endpoint.ports = bindings;
    endpoint
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("0.0.0.0", port)).is_ok()
}

#[test]
fn a_dead_daemon_costs_no_port_and_its_successor_decides() {
    isolated(&["ip"], || {
        loopback_up();
        let dir = tempfile::tempdir().unwrap();
        let (link, running) = start(dir.path());
        assert!(matches!(
            ask(&link, &Request::Replace(State::default())),
            Answer::Replaced(_)
        ));
        assert!(matches!(
            ask(&link, &Request::PutNetwork(network())),
            Answer::Done
        ));
        let kept = endpoint(&link, "kept", 8080);
        let stale = endpoint(&link, "stale", 8081);
        let gone = endpoint(&link, "gone", 8082);
        drop(link);
        // Nobody is there, and a container ends.
        output("ip", &["link", "del", &gone.host_interface]);
        assert!(!is_free(8080) && !is_free(8081));
        let link = come_back(dir.path());
        assert!(is_free(8082));
        let state = State {
            networks: vec![network()],
            endpoints: vec![kept.clone()],
            ..State::default()
        };
        let Answer::Replaced(lost) = ask(&link, &Request::Replace(state)) else {
            panic!("not replaced");
        };
        assert_eq!(lost, []);
        assert!(!is_free(8080) && is_free(8081));
        drop(link);
        for one in [stale, kept] {
            output("ip", &["link", "del", &one.host_interface]);
        }
        running.join().unwrap().unwrap();
        assert!(is_free(8080));
    });
}

#[test]
fn a_port_that_was_taken_meanwhile_is_told_as_lost() {
    isolated(&["ip"], || {
        loopback_up();
        let dir = tempfile::tempdir().unwrap();
        let (link, running) = start(dir.path());
        ask(&link, &Request::PutNetwork(network()));
        let endpoint = endpoint(&link, "one", 8080);
        ask(&link, &Request::Replace(State::default()));
        let thief = TcpListener::bind("0.0.0.0:8080").unwrap();
        let state = State {
            networks: vec![network()],
            endpoints: vec![endpoint],
            ..State::default()
        };
        let Answer::Replaced(lost) = ask(&link, &Request::Replace(state)) else {
            panic!("not replaced");
        };
        assert_eq!(lost.len(), 1);
        assert_eq!(
            lost[0].error.to_string(),
            "failed to bind host port 0.0.0.0:8080/tcp: address already in use"
        );
        drop(thief);
        ask(&link, &Request::Disconnect(vec!["one".into()]));
        drop(link);
        running.join().unwrap().unwrap();
    });
}

#[test]
fn whoever_speaks_another_language_is_cut_off_and_does_no_harm() {
    isolated(&["ip"], || {
        loopback_up();
        let dir = tempfile::tempdir().unwrap();
        let (link, running) = start(dir.path());
        ask(&link, &Request::PutNetwork(network()));
        let _one = endpoint(&link, "one", 8080);
        socket::send(link.as_fd(), b"{\"Sneeze\":1}", &[]).unwrap();
        link.receive::<Answer>().unwrap_err();
        let link = come_back(dir.path());
        assert!(!is_free(8080));
        ask(
            &link,
            &Request::Disconnect(vec!["one".into(), "nobody".into()]),
        );
        drop(link);
        running.join().unwrap().unwrap();
    });
}
