//! A transaction, and the socket that carries it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use thiserror::Error;

use super::{Attributes, Chain, DataType, Element, Expressions, Family, IFNAME, Set};
use crate::netlink;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 2;
const NF_ACCEPT: u32 = 1;
const NFT_SET_MAP: u32 = 0x8;
/// Bits per part in nft's number of a concatenated type.
const TYPE_BITS: u32 = 6;
/// libnftnl's note that keys are in the host's byte order, without which nft
/// lists names backwards: kind 0, four bytes, `BYTEORDER_HOST_ENDIAN`.
const HOST_BYTE_ORDER: [u8; 6] = {
    let order = 1_u32.to_ne_bytes();
    [0, 4, order[0], order[1], order[2], order[3]]
};
/// Bytes of elements in one message; an attribute ends at 65535.
const MAX_ELEMENTS: usize = 48 * 1024;

/// Why the kernel did not take a transaction.
#[derive(Debug, Error)]
pub(crate) enum NftError {
    /// It refused one message, and so all of them.
    #[error("nftables refused message {index} of the transaction")]
    Refused {
        /// Which message, counted from 0; none is the transaction itself.
        index: i64,
        /// The kernel's answer.
        source: Errno,
    },
    /// The socket failed.
    #[error("the nftables socket failed")]
    Socket(#[from] Errno),
}

/// Messages that come into force together.
#[derive(Debug)]
pub(crate) struct Transaction {
    bytes: Vec<u8>,
    messages: u32,
    /// Where the last message begins.
    last: usize,
    sets: u32,
}

impl Transaction {
    pub(crate) fn new() -> Transaction {
        let mut transaction = Transaction {
            bytes: Vec::new(),
            messages: 0,
            last: 0,
            sets: 0,
        };
        transaction.frame(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
        transaction
    }

    /// Number of messages, without the frame.
    pub(crate) fn messages(&self) -> u32 {
        self.messages - 1
    }

    /// Bytes so far.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn frame(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) {
        self.last = self.bytes.len();
        let length = u32::try_from(20 + body.len()).expect("messages are cut to 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        // The sequence number is the message's place.
        self.bytes.extend_from_slice(&self.messages.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        self.bytes.extend_from_slice(body);
        self.messages += 1;
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        write: impl FnOnce(&mut Attributes),
    ) {
        let mut body = Attributes::default();
        write(&mut body);
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        self.frame(kind, flags, family as u8, 0, &body.bytes);
    }

    /// A table, if it is not there.
    pub(crate) fn add_table(&mut self, family: Family, table: &str) {
        self.table(NLM_F_CREATE, family, table);
    }

    /// A table that must not be there.
    pub(crate) fn create_table(&mut self, family: Family, table: &str) {
        self.table(NLM_F_CREATE | NLM_F_EXCL, family, table);
    }

    fn table(&mut self, flags: u16, family: Family, table: &str) {
        self.message(NFT_MSG_NEWTABLE, flags, family, |m| {
            m.text(1, table);
            m.number(2, 0);
        });
    }

    /// Removes a table with all it has.
    pub(crate) fn delete_table(&mut self, family: Family, table: &str) {
        self.message(NFT_MSG_DELTABLE, 0, family, |m| m.text(1, table));
    }

    /// A base chain that lets pass what no rule decides.
    pub(crate) fn add_chain(&mut self, family: Family, table: &str, chain: &Chain) {
        self.message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, family, |m| {
            m.text(1, table);
            m.text(3, chain.name);
            m.nested(4, |hook| {
                hook.number(1, chain.hook as u32);
                hook.bytes(2, &chain.priority.to_be_bytes());
            });
            m.number(5, NF_ACCEPT);
            m.text(7, chain.kind);
        });
    }

    /// A rule at the end of a chain.
    pub(crate) fn add_rule(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
        rule: &Expressions,
    ) {
        self.message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, family, |m| {
            m.text(1, table);
            m.text(2, chain);
            m.nested(4, |list| list.bytes.extend_from_slice(rule.encoded()));
        });
    }

    /// A set or a map. Without a size, so that it grows as a hash table does.
    pub(crate) fn add_set(&mut self, family: Family, table: &str, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        self.message(NFT_MSG_NEWSET, NLM_F_CREATE, family, |m| {
            m.text(1, table);
            m.text(2, set.name);
            m.number(3, if set.data.is_empty() { 0 } else { NFT_SET_MAP });
            m.number(4, type_number(set.key));
            m.number(5, type_bytes(set.key));
            if !set.data.is_empty() {
                m.number(6, type_number(set.data));
                m.number(7, type_bytes(set.data));
            }
            m.number(10, id);
            if let [one] = set.key
                && one.number == IFNAME.number
            {
                m.bytes(13, &HOST_BYTE_ORDER);
            }
        });
    }

    /// Elements of a set; those that are there already are left.
    pub(crate) fn add_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: &[Element],
    ) {
        self.elements(
            NFT_MSG_NEWSETELEM,
            NLM_F_CREATE,
            family,
            (table, set),
            elements,
        );
    }

    /// Removes elements; one that is not there fails the transaction.
    pub(crate) fn delete_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: &[Element],
    ) {
        self.elements(NFT_MSG_DELSETELEM, 0, family, (table, set), elements);
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        (table, set): (&str, &str),
        elements: &[Element],
    ) {
        let mut rest = elements;
        while !rest.is_empty() {
            let mut list = Attributes::default();
            while let Some((element, others)) = rest.split_first() {
                if list.bytes.len() > MAX_ELEMENTS {
                    break;
                }
                list.nested(1, |e| {
                    e.nested(1, |key| key.bytes(1, &element.key));
                    if !element.data.is_empty() {
                        e.nested(2, |data| data.bytes(1, &element.data));
                    }
                });
                rest = others;
            }
            self.message(kind, flags, family, |m| {
                m.text(1, table);
                m.text(2, set);
                m.nested(3, |elements| elements.bytes.extend_from_slice(&list.bytes));
            });
        }
    }

    /// The whole, and the sequence number whose answer is the last.
    fn finish(mut self) -> (Vec<u8>, u32) {
        let flags = self.last + 6;
        let asked = u16::from_ne_bytes([self.bytes[flags], self.bytes[flags + 1]]) | NLM_F_ACK;
        self.bytes[flags..flags + 2].copy_from_slice(&asked.to_ne_bytes());
        let end = self.messages - 1;
        self.frame(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
        (self.bytes, end)
    }
}

/// The number nft lists a type by.
fn type_number(parts: &[DataType]) -> u32 {
    parts
        .iter()
        .fold(0, |number, part| number << TYPE_BITS | part.number)
}

/// Length in registers, but for a single field, which has its own.
fn type_bytes(parts: &[DataType]) -> u32 {
    let bytes = match parts {
        [one] => one.bytes,
        many => many.iter().map(|part| part.bytes.next_multiple_of(4)).sum(),
    };
    u32::try_from(bytes).expect("keys have at most 64 bytes")
}

/// A socket to nf_tables in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Nft {
    socket: OwnedFd,
    /// Netlink's name for the socket, which the kernel's notices carry.
    port: u32,
}

impl Nft {
    pub(crate) fn open() -> Result<Nft, Errno> {
        let socket = netlink::open(netlink::Family::Netfilter, 0)?;
        let port = rustix::net::getsockname(&socket)?;
        let port = rustix::net::netlink::SocketAddrNetlink::try_from(port)?.pid();
        Ok(Nft { socket, port })
    }

    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Puts a transaction into force, or nothing of it.
    ///
    /// `EAGAIN` of a kernel that had to load a module first is handled by the
    /// kernel itself.
    pub(crate) fn commit(&self, transaction: Transaction) -> Result<(), NftError> {
        if transaction.messages() == 0 {
            return Ok(());
        }
        let (bytes, end) = transaction.finish();
        // A transaction is one datagram; its answers, one per refused message,
        // hold the message's head each.
        let room = bytes.len() + 64 * 1024;
        rustix::net::sockopt::set_socket_send_buffer_size_force(&self.socket, room)?;
        netlink::send(&self.socket, &bytes)?;
        self.await_end(end)
    }

    fn await_end(&self, end: u32) -> Result<(), NftError> {
        let mut buffer = vec![0; 16 * 1024];
        let mut refused = None;
        loop {
            let length = netlink::receive(&self.socket, &mut buffer)?;
            let mut rest = &buffer[..length];
            while let Some(message) = Notice::parse(&mut rest) {
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                let code = message
                    .body
                    .first_chunk()
                    .map_or(0, |code| i32::from_ne_bytes(*code));
                if code != 0 && refused.is_none() {
                    refused = Some(NftError::Refused {
                        index: i64::from(message.sequence) - 1,
                        source: Errno::from_raw_os_error(-code),
                    });
                }
                // An answer to the frame: nothing of the rest was looked at.
                if message.sequence == end || message.sequence == 0 {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }
}

/// One netlink message as it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notice<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    /// Whose request caused it.
    pub(crate) port: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Notice<'a> {
    /// Takes the next message off a datagram.
    pub(crate) fn parse(rest: &mut &'a [u8]) -> Option<Notice<'a>> {
        let header: &[u8; 16] = rest.first_chunk()?;
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let length = u32::from_ne_bytes(word(0)) as usize;
        let body = rest.get(16..length)?;
        *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Notice {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: u32::from_ne_bytes(word(8)),
            port: u32::from_ne_bytes(word(12)),
            body,
        })
    }
}
