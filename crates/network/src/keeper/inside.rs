//! What a container's resolver has in the container's network namespace: two
//! sockets, and the rules that make them look like 127.0.0.11:53.
//!
//! ```text
//!   table ip conex-dns
//!     answers  output −300   saddr 127.0.0.11, sport <ours>: sport set 53
//!     queries  output −150   daddr 127.0.0.11, dport 53: dport set <ours>
//! ```
//!
//! Port 53 itself stays free: a container may be a name server on 0.0.0.0. The
//! ports are written into the packets and nothing is remembered of them, so the
//! namespace needs no connection tracking, whose known races lose one of two
//! queries sent at once. Connections that somebody inside has tracked are seen
//! with port 53 in both directions, since one chain is before the tracking and
//! the other behind it.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use conex_sys::process::enter_namespace;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use thiserror::Error;

use crate::nft::{Base, Chain, Expressions, Family, Hook, Key, Nft, NftError, Transaction};

/// Where containers find their resolver: Docker's address.
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const TABLE: &str = "conex-dns";
const ANSWERS: Chain = output("answers", -300);
const QUERIES: Chain = output("queries", -150);
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A burst of a thousand queries waits here; bytes as the kernel counts them.
const ROOM: usize = 2 * 1024 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Why a resolver could not be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// The namespace is not to be entered; its processes may have ended.
    #[error("enter the container's network namespace")]
    Enter(#[source] Errno),
    /// This thread cannot come back from it: it must do nothing more.
    #[error("come back from the container's network namespace")]
    Astray(#[source] Errno),
    /// The kernel gives no socket there.
    #[error("open the resolver's sockets")]
    Socket(#[from] Errno),
    /// Or its descriptor cannot be had.
    #[error("hold the container's network namespace")]
    Hold(#[source] io::Error),
    /// The rules were refused.
    #[error("set the resolver's rules: {0}")]
    Rules(#[from] NftError),
}

/// What is held of a namespace.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) namespace: OwnedFd,
    pub(super) datagrams: OwnedFd,
    pub(super) listener: OwnedFd,
}

const fn output(name: &'static str, priority: i32) -> Chain {
    Chain {
        name,
        kind: "filter",
        hook: Hook::Output,
        priority,
    }
}

/// The network namespace of the calling thread.
pub(super) fn own_namespace() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Does something in another network namespace: a descriptor of it, or of a
/// process that is in it.
pub(super) fn within<T, E: From<OpenError>>(
    namespace: BorrowedFd<'_>,
    home: BorrowedFd<'_>,
    act: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    enter_namespace(namespace, libc::CLONE_NEWNET).map_err(OpenError::Enter)?;
    let done = act();
    enter_namespace(home, libc::CLONE_NEWNET).map_err(OpenError::Astray)?;
    done
}

impl Inside {
    /// Opens the sockets and loads the rules; rules that are there already, of
    /// a netkeeper that was killed, are replaced.
    pub(super) fn open(
        namespace: BorrowedFd<'_>,
        home: BorrowedFd<'_>,
    ) -> Result<Inside, OpenError> {
        within(namespace, home, || {
            let namespace = own_namespace().map_err(OpenError::Hold)?;
            let datagrams = bound(SocketType::DGRAM)?;
            sockopt::set_socket_recv_buffer_size_force(&datagrams, ROOM)?;
            let listener = bound(SocketType::STREAM)?;
            rustix::net::listen(&listener, BACKLOG)?;
            let ports = (port_of(&datagrams)?, port_of(&listener)?);
            load(ports)?;
            Ok(Inside {
                namespace,
                datagrams,
                listener,
            })
        })
    }
}

fn bound(kind: SocketType) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(RESOLVER, 0))?;
    Ok(socket)
}

fn port_of(socket: impl AsFd) -> Result<u16, Errno> {
    let address = SocketAddrV4::try_from(rustix::net::getsockname(socket)?)?;
    Ok(address.port())
}

/// `ports` are those of the datagrams and of the connections.
///
/// Rules of a netkeeper that was killed are replaced. A namespace has none when
/// its container starts, and must not be asked to remove any: the kernel frees
/// what was removed later, and has whoever closes a socket wait for it, ten
/// milliseconds and more.
fn load(ports: (u16, u16)) -> Result<(), OpenError> {
    let nft = Nft::open()?;
    match nft.commit(rules(ports, &mut Transaction::create_table)) {
        Err(NftError::Refused { source, .. }) if source == Errno::EXIST => {
            Ok(nft.commit(rules(ports, &mut replace))?)
        }
        other => Ok(other?),
    }
}

fn replace(transaction: &mut Transaction, family: Family, table: &str) {
    transaction.add_table(family, table);
    transaction.delete_table(family, table);
    transaction.add_table(family, table);
}

fn rules(ports: (u16, u16), begin: &mut dyn FnMut(&mut Transaction, Family, &str)) -> Transaction {
    let mut transaction = Transaction::new();
    begin(&mut transaction, Family::Ipv4, TABLE);
    let dns = 53_u16;
    for (chain, address_at, port_at) in [(ANSWERS, 12, 0), (QUERIES, 16, 2)] {
        transaction.add_chain(Family::Ipv4, TABLE, &chain);
        // Where the checksum is, in each transport's header.
        for (protocol, own, checksum) in [(UDP, ports.0, 6), (TCP, ports.1, 16)] {
            let (seen, written) = match port_at {
                0 => (own, dns),
                _ => (dns, own),
            };
            let rule = Expressions::new()
                .payload(Base::Network, address_at, 4, 0)
                .equal(&RESOLVER.octets())
                .meta(Key::TransportProtocol, 0)
                .equal(&[protocol])
                .payload(Base::Transport, port_at, 2, 0)
                .equal(&seen.to_be_bytes())
                .constant(&written.to_be_bytes())
                .write_port(port_at, checksum);
            transaction.add_rule(Family::Ipv4, TABLE, chain.name, &rule);
        }
    }
    transaction
}
