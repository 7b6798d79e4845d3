//! What others do to our tables and interfaces, told by the kernel.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::Parseable;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use rustix::io::Errno;

use crate::netlink::{self, Family, LinkError};
use crate::nft::Notice;

/// `NFNLGRP_NFTABLES`, as a mask.
const NFTABLES_GROUP: u32 = 1 << (7 - 1);
/// `RTNLGRP_LINK`, as a mask.
const LINK_GROUP: u32 = 1;
/// Room for the notices of somebody who loads a large ruleset.
const ROOM: usize = 1024 * 1024;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// Removals: of a table, chain, rule, set, element.
const REMOVALS: [u16; 5] = [2, 5, 8, 11, 14];
const RTM_DELLINK: u16 = 17;

fn open(family: Family, groups: u32) -> Result<OwnedFd, Errno> {
    let socket = netlink::open(family, groups)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Hears of changes to nftables.
#[derive(Debug)]
pub(super) struct Rules {
    socket: OwnedFd,
    table: String,
    /// Netlink's name of the socket that makes our own changes.
    own: u32,
}

impl AsFd for Rules {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Rules {
    pub(super) fn open(table: &str, own: u32) -> Result<Rules, Errno> {
        Ok(Rules {
            socket: open(Family::Netfilter, NFTABLES_GROUP)?,
            table: table.to_owned(),
            own,
        })
    }

    /// Reads what there is; whether somebody else removed something of ours,
    /// or too much happened to say.
    pub(super) fn were_removed(&self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let mut removed = false;
        loop {
            match netlink::receive(&self.socket, &mut buffer) {
                Ok(length) => {
                    let mut rest = &buffer[..length];
                    while let Some(notice) = Notice::parse(&mut rest) {
                        removed |= self.is_removal(&notice);
                    }
                }
                Err(Errno::NOBUFS) => removed = true,
                Err(_) => return removed,
            }
        }
    }

    fn is_removal(&self, notice: &Notice<'_>) -> bool {
        let (subsystem, message) = (notice.kind >> 8, notice.kind & 0xff);
        subsystem == NFNL_SUBSYS_NFTABLES
            && REMOVALS.contains(&message)
            && notice.port != self.own
            && table_of(notice.body) == Some(self.table.as_bytes())
    }
}

/// The table a notice is about: the first attribute behind `nfgenmsg`.
fn table_of(body: &[u8]) -> Option<&[u8]> {
    let attribute = body.get(4..)?;
    let head: &[u8; 4] = attribute.first_chunk()?;
    let length = u16::from_ne_bytes([head[0], head[1]]) as usize;
    let kind = u16::from_ne_bytes([head[2], head[3]]);
    let text = attribute.get(4..length)?;
    (kind == 1).then(|| text.strip_suffix(&[0]).unwrap_or(text))
}

/// Hears of interfaces that go, while there is no daemon to say so.
#[derive(Debug)]
pub(super) struct Interfaces {
    socket: OwnedFd,
}

impl AsFd for Interfaces {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Interfaces {
    pub(super) fn open() -> Result<Interfaces, Errno> {
        Ok(Interfaces {
            socket: open(Family::Route, LINK_GROUP)?,
        })
    }

    /// The names that went since; none when too much happened to say.
    pub(super) fn gone(&self) -> Option<HashSet<String>> {
        let mut buffer = [0; 16 * 1024];
        let mut names = HashSet::new();
        loop {
            match netlink::receive(&self.socket, &mut buffer) {
                Ok(length) => {
                    let mut rest = &buffer[..length];
                    while let Some(notice) = Notice::parse(&mut rest) {
                        names.extend(removed_interface(&notice));
                    }
                }
                Err(Errno::NOBUFS) => return None,
                Err(_) => return Some(names),
            }
        }
    }

    /// The names of all the host has whose names begin so.
    pub(super) fn present(prefix: &str) -> Result<HashSet<String>, LinkError> {
        Ok(crate::namespace::interfaces(prefix)?.into_iter().collect())
    }
}

fn removed_interface(notice: &Notice<'_>) -> Option<String> {
    // Of the bridge's family, an interface only leaves its bridge.
    if notice.kind != RTM_DELLINK || notice.body.first() != Some(&0) {
        return None;
    }
    let link = LinkMessage::parse(notice.body).ok()?;
    link.attributes.into_iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_its_table_or_nothing() {
        let mut body = vec![1, 0, 0, 0];
        body.extend_from_slice(&9_u16.to_ne_bytes());
        body.extend_from_slice(&1_u16.to_ne_bytes());
        body.extend_from_slice(b"mine\0\0\0\0");
        assert_eq!(table_of(&body), Some(&b"mine"[..]));
        for length in 0..body.len() - 3 {
            assert_eq!(table_of(&body[..length]), None, "{length}");
        }
        body[4] = 2;
        assert_eq!(table_of(&body), None);
    }
}
