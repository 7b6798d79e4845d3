//! A blocking rtnetlink socket: several messages in one send, one wait for
//! all of them.
//!
//! The kernel works through the messages of a send in order and goes on after
//! one that fails. It answers failures always and successes only when asked,
//! so the last message alone asks: its answer is the end.

use std::os::fd::OwnedFd;

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use thiserror::Error;

/// What one read takes at most; the kernel builds dumps in pieces of 32 KiB.
const READ: usize = 64 * 1024;

/// Why the kernel did not do what a message asked.
#[derive(Debug, Error)]
pub enum LinkError {
    /// It refused.
    #[error("{what} {name}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Of which interface, address or route.
        name: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// The socket failed.
    #[error("the netlink socket failed")]
    Socket(#[from] Errno),
    /// The kernel sent what is no message.
    #[error("a netlink message of the kernel makes no sense")]
    Malformed(#[from] netlink_packet_core::DecodeError),
    /// A switch below /proc/sys could not be set.
    #[error("write {path}")]
    Sysctl {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl LinkError {
    /// The kernel's answer, if it refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            LinkError::Refused { source, .. } | LinkError::Socket(source) => Some(*source),
            LinkError::Sysctl { source, .. } => Errno::from_io_error(source),
            LinkError::Malformed(_) => None,
        }
    }
}

/// Which part of the kernel a netlink socket talks to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Family {
    /// Interfaces, addresses, routes.
    Route,
    /// nftables.
    Netfilter,
}

impl Family {
    /// rtnetlink is number zero, which is no protocol to rustix.
    fn protocol(self) -> Option<rustix::net::Protocol> {
        match self {
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        }
    }
}

/// Opens a netlink socket in the namespace of the calling thread; `groups` is
/// the mask of the multicast groups it listens to.
pub(crate) fn open(family: Family, groups: u32) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        family.protocol(),
    )?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

pub(crate) fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    let kernel = SocketAddrNetlink::new(0, 0);
    loop {
        match rustix::net::sendto(socket, bytes, SendFlags::empty(), &kernel) {
            Err(Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}

pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            other => return other.map(|(_, length)| length),
        }
    }
}

/// One question of a batch, for its error.
#[derive(Debug)]
struct Asked {
    what: &'static str,
    name: String,
    /// Answers that are as good as success.
    fine: &'static [Errno],
}

/// A connection to rtnetlink in one network namespace.
#[derive(Debug)]
pub(crate) struct Route {
    socket: OwnedFd,
    sequence: u32,
    batch: Vec<NetlinkMessage<RouteNetlinkMessage>>,
    asked: Vec<Asked>,
}

impl Route {
    /// In the namespace of the calling thread; the socket stays in it.
    pub(crate) fn open() -> Result<Route, LinkError> {
        Ok(Route {
            socket: open(Family::Route, 0)?,
            sequence: 0,
            batch: Vec::new(),
            asked: Vec::new(),
        })
    }

    /// Adds a message to the batch; `fine` are refusals that do not matter.
    pub(crate) fn push(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        (what, name): (&'static str, &str),
        fine: &'static [Errno],
    ) {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        self.batch.push(message);
        self.asked.push(Asked {
            what,
            name: name.to_owned(),
            fine,
        });
    }

    /// Sends the batch and waits until the kernel has done all of it.
    ///
    /// Errors: the first refusal; what came after it in the batch was tried.
    pub(crate) fn commit(&mut self) -> Result<(), LinkError> {
        let mut batch = std::mem::take(&mut self.batch);
        let asked = std::mem::take(&mut self.asked);
        let Some(last) = batch.last_mut() else {
            return Ok(());
        };
        last.header.flags |= NLM_F_ACK;
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for message in &mut batch {
            self.sequence = self.sequence.wrapping_add(1);
            message.header.sequence_number = self.sequence;
            append(&mut bytes, message);
        }
        send(&self.socket, &bytes)?;
        let mut refused = None;
        let end = self.sequence;
        self.read(|message| {
            let NetlinkPayload::Error(error) = &message.payload else {
                return true;
            };
            let sequence = message.header.sequence_number;
            let index = sequence.wrapping_sub(first) as usize;
            if let (Some(source), Some(asked)) = (errno(error), asked.get(index))
                && !asked.fine.contains(&source)
                && refused.is_none()
            {
                refused = Some(LinkError::Refused {
                    what: asked.what,
                    name: asked.name.clone(),
                    source,
                });
            }
            sequence != end
        })?;
        refused.map_or(Ok(()), Err)
    }

    /// Everything of a kind.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        what: &'static str,
    ) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        self.ask(message, NLM_F_DUMP, (what, ""))
    }

    /// One question with one answer.
    pub(crate) fn get(
        &mut self,
        message: RouteNetlinkMessage,
        (what, name): (&'static str, &str),
    ) -> Result<Option<RouteNetlinkMessage>, LinkError> {
        let mut answers = self.ask(message, NLM_F_ACK, (what, name))?;
        Ok(answers.pop())
    }

    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        (what, name): (&'static str, &str),
    ) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        let mut bytes = Vec::new();
        append(&mut bytes, &mut message);
        send(&self.socket, &bytes)?;
        let wanted = self.sequence;
        let mut found = Vec::new();
        let mut refused = None;
        self.read(|message| {
            if message.header.sequence_number != wanted {
                return true;
            }
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => {
                    found.push(inner);
                    true
                }
                NetlinkPayload::Error(error) => {
                    refused = errno(&error);
                    false
                }
                NetlinkPayload::Done(_) => false,
                _ => true,
            }
        })?;
        match refused {
            Some(source) => Err(LinkError::Refused {
                what,
                name: name.to_owned(),
                source,
            }),
            None => Ok(found),
        }
    }

    /// Reads messages until `more` says that none follows.
    fn read(
        &self,
        mut more: impl FnMut(NetlinkMessage<RouteNetlinkMessage>) -> bool,
    ) -> Result<(), LinkError> {
        let mut buffer = vec![0; READ];
        loop {
            let length = receive(&self.socket, &mut buffer)?;
            let mut rest = &buffer[..length];
            while rest.len() >= 16 {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)?;
                let taken = (message.header.length as usize).next_multiple_of(4);
                if !more(message) {
                    return Ok(());
                }
                rest = rest.get(taken.max(16)..).unwrap_or_default();
            }
        }
    }
}

fn append(bytes: &mut Vec<u8>, message: &mut NetlinkMessage<RouteNetlinkMessage>) {
    message.finalize();
    let start = bytes.len();
    let length = message.buffer_len();
    bytes.resize((start + length).next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..start + length]);
}

fn errno(error: &ErrorMessage) -> Option<Errno> {
    let code = error.code?.get();
    Some(Errno::from_raw_os_error(code.abs()))
}
