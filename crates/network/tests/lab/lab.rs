//! A machine in a network namespace, with an outside host on a cable.
//!
//! ```text
//!   outside ─ 192.0.2.2, 2001:db8::2
//!      │
//!   host ─── 192.0.2.1, 2001:db8::1 ─── conex0 172.30.0.1/24, fd00:30::1/64 ─── containers
//! ```
//!
//! The test's own thread is in the host's namespace; nothing of it touches the
//! machine's.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use conex_network::keeper::{Config, Options};
use conex_network::{
    Addresses, Endpoint, Ipv4Config, Ipv6Config, Keeper, Mac, Namespace, Namespaces, Network,
    Owner, PortRequest, State, bridge,
};
use conex_sys::process::{enter_namespace, unshare};

/// How long anything may take that must succeed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long is waited for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// Runs a test in a machine of its own; skips with a printed reason without
/// privilege.
pub(crate) fn machine(test: impl FnOnce(Lab) + Send + 'static) {
    machine_with(Options::default(), test);
}

pub(crate) fn machine_with(options: Options, test: impl FnOnce(Lab) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root to make network namespaces");
        return;
    }
    for program in ["ip", "nft"] {
        if Command::new(program).arg("-V").output().is_err() {
            eprintln!("skipped: {program} is not installed");
            return;
        }
    }
    let result = thread::spawn(move || {
        unshare(libc::CLONE_NEWNET).unwrap();
        test(Lab::new(options));
    })
    .join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// The machine.
pub(crate) struct Lab {
    pub(crate) owner: Owner,
    pub(crate) network: Network,
    pub(crate) keeper: Keeper,
    pub(crate) namespaces: Namespaces,
    pub(crate) outside: OwnedFd,
    pub(crate) host: OwnedFd,
    pub(crate) run_dir: tempfile::TempDir,
    pub(crate) reports: Arc<Mutex<Vec<String>>>,
    pub(crate) options: Options,
    addresses: [Addresses; 2],
    next: u32,
}

/// A container: a namespace with an interface.
pub(crate) struct Container {
    pub(crate) namespace: Namespace,
    pub(crate) endpoint: Endpoint,
}

impl Container {
    pub(crate) fn ip(&self) -> IpAddr {
        self.endpoint.ipv4.unwrap().addr().into()
    }

    pub(crate) fn ip6(&self) -> IpAddr {
        self.endpoint.ipv6.unwrap().addr().into()
    }
}

pub(crate) fn network(number: u8) -> Network {
    Network {
        id: format!("{number:064}"),
        name: format!("net{number}"),
        bridge: format!("conex{number}"),
        ipv4: Some(Ipv4Config {
            subnet: format!("172.30.{number}.0/24").parse().unwrap(),
            gateway: format!("172.30.{number}.1").parse().unwrap(),
        }),
        ipv6: Some(Ipv6Config {
            subnet: format!("fd00:30:{number}::/64").parse().unwrap(),
            gateway: format!("fd00:30:{number}::1").parse().unwrap(),
        }),
        mtu: None,
        icc: true,
        masquerade: true,
        internal: false,
    }
}

impl Lab {
    fn new(options: Options) -> Lab {
        ip("link set lo up");
        let outside = new_namespace();
        inside(&outside, || ip("link set lo up"));
        let host = own_namespace();
        ip("link add up0 type veth peer name up1");
        // ip opens the path itself, from a descriptor it inherits.
        let copy = outside.try_clone().unwrap();
        rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        ip(&format!("link set up1 netns {path}"));
        drop(copy);
        ip("addr add 192.0.2.1/24 dev up0");
        ip("addr add 2001:db8::1/64 dev up0 nodad");
        ip("link set up0 up");
        inside(&outside, || {
            ip("addr add 192.0.2.2/24 dev up1");
            ip("addr add 2001:db8::2/64 dev up1 nodad");
            ip("link set up1 up");
        });
        let owner = Owner::new("lab");
        let network = network(0);
        let run_dir = tempfile::tempdir().unwrap();
        let reports = Arc::default();
        let state = State {
            options,
            ..State::default()
        };
        let keeper = open(&owner, &run_dir, &reports, state);
        let namespaces = Namespaces::start(2).unwrap();
        let v4 = network.ipv4.unwrap();
        let v6 = network.ipv6.unwrap();
        let lab = Lab {
            owner,
            addresses: [
                Addresses::new(v4.subnet.into(), None, v4.gateway.into()),
                Addresses::new(v6.subnet.into(), None, v6.gateway.into()),
            ],
            network: network.clone(),
            keeper,
            namespaces,
            outside,
            host,
            run_dir,
            reports,
            options,
            next: 0,
        };
        lab.add_network(&network);
        lab
    }

    pub(crate) fn add_network(&self, network: &Network) {
        bridge::ensure(network, true).unwrap();
        self.keeper.put_network(network).unwrap();
    }

    /// Another handle, as a daemon that comes back has it.
    pub(crate) fn reopen(&self, state: State) -> Keeper {
        open(&self.owner, &self.run_dir, &self.reports, state)
    }

    pub(crate) fn endpoint(&mut self, network: &Network) -> Endpoint {
        self.next += 1;
        let id = format!("{:064}", self.next);
        let mut endpoint = Endpoint::new(&self.owner, network, id, Mac::random());
        let (v4, v6) = (network.ipv4, network.ipv6);
        if network.id == self.network.id {
            let [four, six] = &mut self.addresses;
            if let (Some(v4), IpAddr::V4(ip)) = (v4, four.allocate().unwrap()) {
                endpoint.ipv4 = Some(format!("{ip}/{}", v4.subnet.prefix_len()).parse().unwrap());
            }
            if let (Some(v6), IpAddr::V6(ip)) = (v6, six.allocate().unwrap()) {
                endpoint.ipv6 = Some(format!("{ip}/{}", v6.subnet.prefix_len()).parse().unwrap());
            }
        } else {
            let last = self.next + 1;
            endpoint.ipv4 = v4.map(|c| {
                let [a, b, c, _] = c.gateway.octets();
                format!("{a}.{b}.{c}.{last}/24").parse().unwrap()
            });
        }
        endpoint
    }

    /// A container on the first network.
    pub(crate) fn container(&mut self, ports: &[PortRequest]) -> Container {
        let network = self.network.clone();
        self.container_on(&network, ports)
    }

    pub(crate) fn container_on(&mut self, network: &Network, ports: &[PortRequest]) -> Container {
        let endpoint = self.endpoint(network);
        self.start(network, endpoint, ports)
    }

    pub(crate) fn start(
        &self,
        network: &Network,
        mut endpoint: Endpoint,
        ports: &[PortRequest],
    ) -> Container {
        self.keeper.connect(&mut endpoint, ports).unwrap();
        let namespace = self.namespaces.connect(&[(network, &endpoint)]).unwrap();
        Container {
            namespace,
            endpoint,
        }
    }

    pub(crate) fn state(&self, containers: &[&Container]) -> State {
        State {
            options: self.options,
            networks: vec![self.network.clone()],
            endpoints: containers.iter().map(|c| c.endpoint.clone()).collect(),
            resolvers: Vec::new(),
        }
    }

    /// Process id of the netkeeper: the one in this machine.
    pub(crate) fn keeper_pid(&self) -> Option<i32> {
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim_end() == "conex-netkeeper")
                && std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns == own)
        })
    }
}

/// Whether somebody listens on a port of the calling thread's machine. Trying
/// to bind it would be in the way of whoever is about to.
pub(crate) fn is_held(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    sockets.contains(&format!(":{port:04X} 00000000:0000 0A"))
}

fn open(
    owner: &Owner,
    run_dir: &tempfile::TempDir,
    reports: &Arc<Mutex<Vec<String>>>,
    state: State,
) -> Keeper {
    let reports = Arc::clone(reports);
    let config = Config {
        owner: owner.clone(),
        run_dir: run_dir.path().to_owned(),
        executable: File::open(example()).unwrap().into(),
        report: Box::new(move |text| reports.lock().unwrap().push(text.to_owned())),
    };
    Keeper::open(config, state, HashMap::new()).unwrap()
}

/// The netkeeper built beside this test.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/netkeeper");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

/// Runs iproute2 in the calling thread's namespace.
pub(crate) fn ip(args: &str) -> String {
    run("ip", args)
}

pub(crate) fn run(program: &str, args: &str) -> String {
    let output = Command::new(program)
        .args(args.split(' '))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn own_namespace() -> OwnedFd {
    File::open("/proc/thread-self/ns/net").unwrap().into()
}

pub(crate) fn new_namespace() -> OwnedFd {
    let made = thread::spawn(|| {
        unshare(libc::CLONE_NEWNET).unwrap();
        own_namespace()
    });
    made.join().unwrap()
}

/// Runs in a namespace and returns what came of it.
pub(crate) fn inside<T: Send>(namespace: impl AsFd, act: impl FnOnce() -> T + Send) -> T {
    let fd: BorrowedFd<'_> = namespace.as_fd();
    thread::scope(|scope| {
        let running = scope.spawn(move || {
            enter_namespace(fd, libc::CLONE_NEWNET).unwrap();
            act()
        });
        match running.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A server that tells each client its address, in a namespace, until the test
/// ends. `address` may be of either family.
pub(crate) fn serve_tcp(namespace: impl AsFd, address: &str) {
    let listener = inside(namespace, || TcpListener::bind(address).unwrap());
    thread::spawn(move || {
        while let Ok((mut client, from)) = listener.accept() {
            let _gone = write!(client, "{}", from.ip()).is_err();
        }
    });
}

/// The same over UDP.
pub(crate) fn serve_udp(namespace: impl AsFd, address: &str) {
    let socket = inside(namespace, || UdpSocket::bind(address).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _gone = socket
                .send_to(from.ip().to_string().as_bytes(), from)
                .is_err();
        }
    });
}

/// What a server says to a client in a namespace: the client's address.
pub(crate) fn ask_tcp(namespace: impl AsFd, address: &str) -> std::io::Result<String> {
    ask_tcp_for(namespace, address, PATIENCE)
}

fn ask_tcp_for(namespace: impl AsFd, address: &str, patience: Duration) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    inside(namespace, || {
        let mut client = TcpStream::connect_timeout(&address, patience)?;
        client.set_read_timeout(Some(patience))?;
        let mut text = String::new();
        client.read_to_string(&mut text)?;
        Ok(text)
    })
}

/// Whether a connection is neither accepted nor answered.
pub(crate) fn is_unreachable(namespace: impl AsFd, address: &str) -> bool {
    match ask_tcp_for(namespace, address, SILENCE) {
        // The proxy's listener accepts and then finds nobody.
        Ok(text) => text.is_empty(),
        Err(error) => matches!(
            error.kind(),
            ErrorKind::TimedOut
                | ErrorKind::WouldBlock
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
        ),
    }
}

pub(crate) fn ask_udp(namespace: impl AsFd, address: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    inside(namespace, || {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(address)?;
        socket.send(b"?")?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}
