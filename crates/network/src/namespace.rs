//! Network namespaces of containers: made ahead by a thread of their own,
//! filled by whoever starts a container.
//!
//! ```text
//!   thread "netns":  unshare ► lo up, switches ► prepared ─┐   (a few, always)
//!   thread "unlink": interfaces that may be left ► removed  │
//!   connect():  take one ◄─────────────────────────────────┘
//!               host socket:       veth pair, peer inside ► bridge, up ► neighbour
//!               namespace's socket: eth0 up, addresses, routes, neighbour
//! ```
//!
//! A namespace lives by its descriptor and its processes. Whatever goes wrong
//! before a container is in it, closing the descriptor gives everything back,
//! also when this process is killed.

mod connect;
mod maker;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;

use thiserror::Error;

pub use connect::Gone;
pub(crate) use connect::interfaces;
use maker::Maker;

use crate::netlink::{LinkError, Route};
use crate::{Endpoint, Network, Owner};

/// Why a namespace could not be made or filled.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// The kernel makes no more of them, or the thread that does has ended.
    #[error("create a network namespace")]
    Create(#[source] std::io::Error),
    /// An interface, address or route could not be set.
    #[error("failed to set up the interface")]
    Link(#[from] LinkError),
    /// A bridge takes 1023 ports. The text ends as Docker's.
    #[error("adding interface {interface} to bridge {bridge} failed: exchange full")]
    BridgeFull {
        /// The host's end.
        interface: String,
        /// The bridge.
        bridge: String,
    },
}

/// A network namespace, held by its descriptor.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Namespace {
    /// The descriptor, of `/proc/<thread>/ns/net`.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

/// A namespace nobody is in, with loopback up.
#[derive(Debug)]
struct Prepared {
    fd: OwnedFd,
    /// Opened inside.
    route: Route,
    /// The number the next interface inside will get: known as long as nobody
    /// else made or removed one.
    next_index: Option<u32>,
}

/// Makes namespaces and puts containers' interfaces into them.
///
/// Must be started in the host's network namespace; its methods may be called
/// from any thread that is in it.
#[derive(Debug)]
pub struct Namespaces {
    maker: Maker,
    unlink: mpsc::Sender<Vec<String>>,
}

impl Namespaces {
    /// Starts the threads. `ready` namespaces are kept prepared, so that up to
    /// that many starts at once do not wait for one to be made.
    pub fn start(ready: usize) -> std::io::Result<Namespaces> {
        let (unlink, names) = mpsc::channel();
        std::thread::Builder::new()
            .name("unlink".into())
            .spawn(move || connect::unlink(&names))?;
        Ok(Namespaces {
            maker: Maker::start(ready)?,
            unlink,
        })
    }

    /// A namespace with an interface for each endpoint: up, with its
    /// addresses, the default routes where the endpoint says so, and its
    /// neighbours told (gratuitous ARP, unsolicited neighbour advertisement).
    ///
    /// Call it after [`crate::Keeper::connect`]: until then the firewall takes
    /// nothing from the interface. The bridges must exist.
    pub fn connect(&self, wanted: &[(&Network, &Endpoint)]) -> Result<Namespace, NamespaceError> {
        let mut prepared = self.maker.take().map_err(NamespaceError::Create)?;
        let filled = wanted
            .iter()
            .try_for_each(|(network, endpoint)| connect::fill(&mut prepared, network, endpoint));
        self.maker.refill();
        filled.map(|()| Namespace(prepared.fd))
    }

    /// Adds an interface to a container that runs (`network connect`).
    pub fn join(
        &self,
        namespace: BorrowedFd<'_>,
        network: &Network,
        endpoint: &Endpoint,
    ) -> Result<(), NamespaceError> {
        let fd = namespace
            .try_clone_to_owned()
            .map_err(NamespaceError::Create)?;
        let mut inside = self.maker.enter(fd).map_err(NamespaceError::Create)?;
        connect::fill(&mut inside, network, endpoint)
    }

    /// Takes an interface out of a container that runs, and waits until it is
    /// gone: its name is free again, in the container too. One that is not
    /// there is no error.
    pub fn part(&self, gone: &[Gone<'_>]) -> Result<(), LinkError> {
        let names: Vec<String> = gone.iter().map(|g| g.host_interface.to_owned()).collect();
        connect::remove(&names)?;
        connect::forget_neighbours(gone)
    }

    /// Has the default routes of a container that runs lead through an
    /// endpoint it has already, in the place of those there are.
    pub fn route(
        &self,
        namespace: BorrowedFd<'_>,
        network: &Network,
        endpoint: &Endpoint,
    ) -> Result<(), NamespaceError> {
        let fd = namespace
            .try_clone_to_owned()
            .map_err(NamespaceError::Create)?;
        let mut inside = self.maker.enter(fd).map_err(NamespaceError::Create)?;
        connect::route(&mut inside, network, endpoint)
    }

    /// Lets go of what the kernel still has of endpoints: the host's
    /// neighbour entries at once, the interfaces behind the caller's back,
    /// since removing one takes the kernel tens of milliseconds.
    ///
    /// An interface is usually gone with its namespace already; one whose
    /// namespace somebody else holds is not.
    pub fn forget(&self, gone: &[Gone<'_>]) -> Result<(), LinkError> {
        let names = gone.iter().map(|g| g.host_interface.to_owned()).collect();
        // The thread ends only with this handle.
        let _never = self.unlink.send(names).is_err();
        connect::forget_neighbours(gone)
    }

    /// Removes every interface of the engine's that is none of `known`: what
    /// an engine left that was killed.
    pub fn sweep(
        &self,
        owner: &Owner,
        known: &std::collections::HashSet<&str>,
    ) -> Result<(), LinkError> {
        let mut names = interfaces(&owner.prefix)?;
        names.retain(|name| !known.contains(name.as_str()));
        if !names.is_empty() {
            let _never = self.unlink.send(names).is_err();
        }
        Ok(())
    }
}
