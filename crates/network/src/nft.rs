//! nf_tables over netlink: an encoder of exactly what our tables need, and the
//! transaction that puts it into the kernel.
//!
//! ```text
//!   BATCH_BEGIN │ NEWTABLE │ NEWSET … │ NEWCHAIN … │ NEWRULE … │ NEWSETELEM … │ BATCH_END
//!               └────────────── all of it in force at one moment, or nothing ──────────┘
//!   message: nlmsghdr (16) │ nfgenmsg: family, version, 0 (4) │ attributes
//!   attribute: length (2), kind (2), value, padded to 4; numbers big-endian
//! ```
//!
//! Source: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c. It must
//! not know what the rules are for.

mod attribute;
mod expression;
mod transaction;

pub(crate) use attribute::Attributes;
pub(crate) use expression::{Base, Expressions, Key, Verdict};
pub(crate) use transaction::{Nft, NftError, Notice, Transaction};

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4 alone.
    Ipv4 = 2,
    /// Frames on bridges.
    Bridge = 7,
}

/// Where a base chain is called from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A base chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// One part of a set's key or data: nft's number for it, for whoever lists the
/// rules, and its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataType {
    pub(crate) number: u32,
    pub(crate) bytes: usize,
}

pub(crate) const IPV4: DataType = DataType {
    number: 7,
    bytes: 4,
};
pub(crate) const IPV6: DataType = DataType {
    number: 8,
    bytes: 16,
};
pub(crate) const ETHER: DataType = DataType {
    number: 9,
    bytes: 6,
};
pub(crate) const PROTO: DataType = DataType {
    number: 12,
    bytes: 1,
};
pub(crate) const SERVICE: DataType = DataType {
    number: 13,
    bytes: 2,
};
pub(crate) const IFNAME: DataType = DataType {
    number: 41,
    bytes: 16,
};

/// A set, or a map if it has data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [DataType],
    pub(crate) data: &'static [DataType],
}

/// An element of a set: fields padded to words, as registers hold them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

/// Appends a field of a concatenation: padded to 32-bit registers.
pub(crate) fn field(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// An interface's name as a field.
pub(crate) fn interface_field(bytes: &mut Vec<u8>, name: &str) {
    let mut padded = [0; 16];
    let length = name.len().min(15);
    padded[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes.extend_from_slice(&padded);
}
