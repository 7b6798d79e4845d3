//! Connections the kernel remembers, forgotten where they would mislead.
//!
//! A client that sends datagrams from one port for ever keeps its translation
//! alive: it would go on talking to the address of a container that is gone,
//! although the port leads to another by now.
//!
//! Source: linux/netfilter/nfnetlink_conntrack.h,
//! net/netfilter/nf_conntrack_netlink.c (`CTA_FILTER` since Linux 5.8).

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::netlink::{self, Family};
use crate::nft::{Attributes, Notice};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_NEW: u16 = 0;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_F_IP_SRC: u32 = 1 << 0;
const CTA_FILTER_F_PROTO_NUM: u32 = 1 << 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const UDP: u8 = 17;

/// Forgets every flow of datagrams that leads to an address.
pub(crate) fn forget_datagrams(address: IpAddr) -> Result<(), Errno> {
    let socket = netlink::open(Family::Netfilter, 0)?;
    let found = flows_to(&socket, address)?;
    if found.is_empty() {
        return Ok(());
    }
    let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    for (number, attributes) in (1..=count).zip(&found) {
        // The last alone is answered if all goes well; one that ended in
        // between is no failure.
        let flags = if number == count { NLM_F_ACK } else { 0 };
        append(
            &mut bytes,
            IPCTNL_MSG_CT_DELETE,
            flags,
            (address, number),
            attributes,
        );
    }
    rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, bytes.len() + 4096)?;
    netlink::send(&socket, &bytes)?;
    read(&socket, |notice| notice.sequence != count)
}

/// What identifies each flow, as attributes to send back.
fn flows_to(socket: &OwnedFd, address: IpAddr) -> Result<Vec<Vec<u8>>, Errno> {
    let mut wanted = Attributes::default();
    wanted.nested(CTA_TUPLE_REPLY, |tuple| {
        // Answers come from the container: source of the reply.
        tuple.nested(1, |ip| match address {
            IpAddr::V4(four) => ip.bytes(1, &four.octets()),
            IpAddr::V6(six) => ip.bytes(3, &six.octets()),
        });
        tuple.nested(2, |protocol| protocol.bytes(1, &[UDP]));
    });
    // Kernels compare IPv6 addresses the wrong way round here: those are
    // compared below.
    let mask = match address {
        IpAddr::V4(_) => CTA_FILTER_F_IP_SRC | CTA_FILTER_F_PROTO_NUM,
        IpAddr::V6(_) => CTA_FILTER_F_PROTO_NUM,
    };
    wanted.nested(CTA_FILTER, |filter| {
        filter.bytes(1, &0_u32.to_ne_bytes());
        filter.bytes(2, &mask.to_ne_bytes());
    });
    let mut bytes = Vec::new();
    let request = (address, 0);
    append(
        &mut bytes,
        IPCTNL_MSG_CT_GET,
        NLM_F_DUMP,
        request,
        &wanted.bytes,
    );
    netlink::send(socket, &bytes)?;
    let mut found = Vec::new();
    let mut refused = None;
    read(socket, |notice| {
        match notice.kind {
            NLMSG_DONE => return false,
            NLMSG_ERROR => {
                let code = notice.body.first_chunk().copied();
                refused = code.map(|code| Errno::from_raw_os_error(-i32::from_ne_bytes(code)));
                return false;
            }
            kind if kind == NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW => {
                let flow = notice.body.get(4..).unwrap_or_default();
                if reply_source(flow) == Some(address) {
                    found.push(identity(flow));
                }
            }
            _ => {}
        }
        true
    })?;
    refused.map_or(Ok(found), Err)
}

/// The original tuple and the number of a flow, out of its attributes.
fn identity(flow: &[u8]) -> Vec<u8> {
    attributes(flow)
        .filter(|(kind, _)| matches!(*kind, CTA_TUPLE_ORIG | CTA_ID))
        .flat_map(|(_, whole)| whole.iter().copied())
        .collect()
}

/// Where a flow's answers come from.
fn reply_source(flow: &[u8]) -> Option<IpAddr> {
    let inner = |list, wanted| {
        let (_, whole) = attributes(list).find(|(kind, _)| *kind == wanted)?;
        whole.get(4..)
    };
    let ip = inner(inner(flow, CTA_TUPLE_REPLY)?, 1)?;
    let four = inner(ip, 1).and_then(|bytes| bytes.first_chunk::<4>());
    let six = inner(ip, 3).and_then(|bytes| bytes.first_chunk::<16>());
    four.map(|bytes| IpAddr::from(*bytes))
        .or_else(|| six.map(|bytes| IpAddr::from(*bytes)))
}

/// Kind and bytes, head and padding included, of each attribute.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let whole = rest.get(..length.max(4).next_multiple_of(4))?;
        rest = &rest[whole.len()..];
        Some((kind, whole))
    })
}

fn append(
    bytes: &mut Vec<u8>,
    message: u16,
    flags: u16,
    (address, sequence): (IpAddr, u32),
    attributes: &[u8],
) {
    let family = match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    let length = u32::try_from(20 + attributes.len()).expect("a flow's identity is short");
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&(NFNL_SUBSYS_CTNETLINK << 8 | message).to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[u8::try_from(family).unwrap_or(0), 0, 0, 0]);
    bytes.extend_from_slice(attributes);
}

/// Reads messages until `more` says that none follows.
fn read(socket: &OwnedFd, mut more: impl FnMut(&Notice<'_>) -> bool) -> Result<(), Errno> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = netlink::receive(socket, &mut buffer)?;
        let mut rest = &buffer[..length];
        while let Some(notice) = Notice::parse(&mut rest) {
            if !more(&notice) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_identify_nothing_and_end() {
        for bytes in [&[][..], &[0; 64], &[255; 64]] {
            assert_eq!(identity(bytes), Vec::<u8>::new());
            assert_eq!(reply_source(bytes), None);
        }
        // A number, and something else behind it.
        let mut bytes = vec![8, 0, 12, 0, 1, 2, 3, 4];
        bytes.extend_from_slice(&[8, 0, 3, 0, 9, 9, 9, 9]);
        if cfg!(target_endian = "little") {
            assert_eq!(identity(&bytes), bytes[..8]);
        }
    }
}
