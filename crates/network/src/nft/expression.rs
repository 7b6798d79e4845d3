//! The expressions of a rule: each loads a register, compares one, or acts.
//!
//! Registers are sixteen words of four bytes; a field of a concatenation
//! begins at a word. Names and numbers as in linux/netfilter/nf_tables.h.

use super::Attributes;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
/// The first of the four-byte registers.
const NFT_REG32_00: u32 = 8;
const NFT_REG_VERDICT: u32 = 0;
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
const NFT_LOOKUP_F_INV: u32 = 1;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 2;
const RTN_LOCAL: u32 = 2;
const NFT_NAT_DNAT: u32 = 1;
const NFT_PAYLOAD_CSUM_INET: u32 = 1;

/// Properties of a packet, `enum nft_meta_keys`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    InputName = 6,
    OutputName = 7,
    NetworkProtocol = 15,
    TransportProtocol = 16,
    InputKind = 26,
    OutputKind = 27,
}

/// Which header a payload is counted from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Base {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// How a packet goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// A rule's expressions in order.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    list: Attributes,
}

impl Expressions {
    /// No expression yet: every packet.
    pub(crate) fn new() -> Expressions {
        Expressions::default()
    }

    /// What was written, for `NFTA_RULE_EXPRESSIONS`.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.list.bytes
    }

    fn push(mut self, name: &str, data: impl FnOnce(&mut Attributes)) -> Expressions {
        self.list.nested(NFTA_LIST_ELEM, |element| {
            element.text(NFTA_EXPR_NAME, name);
            element.nested(NFTA_EXPR_DATA, data);
        });
        self
    }

    /// Loads a property into a register.
    pub(crate) fn meta(self, key: Key, register: u32) -> Expressions {
        self.push("meta", |data| {
            data.number(1, NFT_REG32_00 + register);
            data.number(2, key as u32);
        })
    }

    /// Loads bytes of the packet into a register.
    pub(crate) fn payload(
        self,
        base: Base,
        offset: u32,
        length: u32,
        register: u32,
    ) -> Expressions {
        self.push("payload", |data| {
            data.number(1, NFT_REG32_00 + register);
            data.number(2, base as u32);
            data.number(3, offset);
            data.number(4, length);
        })
    }

    /// Loads a constant into the first register.
    pub(crate) fn constant(self, value: &[u8]) -> Expressions {
        self.push("immediate", |data| {
            data.number(1, NFT_REG32_00);
            data.nested(2, |data| data.bytes(NFTA_DATA_VALUE, value));
        })
    }

    /// Writes two bytes of the first register into the transport header, and
    /// corrects its checksum, which is at another offset of it.
    pub(crate) fn write_port(self, offset: u32, checksum: u32) -> Expressions {
        self.push("payload", |data| {
            data.number(5, NFT_REG32_00);
            data.number(2, Base::Transport as u32);
            data.number(3, offset);
            data.number(4, 2);
            data.number(6, NFT_PAYLOAD_CSUM_INET);
            data.number(7, checksum);
        })
    }

    /// Goes on if the first register begins with these bytes.
    pub(crate) fn equal(self, value: &[u8]) -> Expressions {
        self.compare(NFT_CMP_EQ, value)
    }

    /// Goes on if it does not.
    pub(crate) fn unequal(self, value: &[u8]) -> Expressions {
        self.compare(NFT_CMP_NEQ, value)
    }

    fn compare(self, operation: u32, value: &[u8]) -> Expressions {
        self.push("cmp", |data| {
            data.number(1, NFT_REG32_00);
            data.number(2, operation);
            data.nested(3, |data| data.bytes(NFTA_DATA_VALUE, value));
        })
    }

    /// Goes on if any of these bits of the first register is set.
    fn any_of(self, bits: u32) -> Expressions {
        let masked = self.push("bitwise", |data| {
            data.number(1, NFT_REG32_00);
            data.number(2, NFT_REG32_00);
            data.number(3, 4);
            data.nested(4, |mask| mask.bytes(NFTA_DATA_VALUE, &bits.to_ne_bytes()));
            data.nested(5, |xor| xor.bytes(NFTA_DATA_VALUE, &[0; 4]));
        });
        masked.unequal(&[0; 4])
    }

    /// Goes on if the connection is in one of these states (`NF_CT_STATE_*`).
    pub(crate) fn ct_state(self, bits: u32) -> Expressions {
        self.ct(0).any_of(bits)
    }

    /// Goes on if the connection has one of these marks (`IPS_*`).
    pub(crate) fn ct_status(self, bits: u32) -> Expressions {
        self.ct(2).any_of(bits)
    }

    fn ct(self, key: u32) -> Expressions {
        self.push("ct", |data| {
            data.number(1, NFT_REG32_00);
            data.number(2, key);
        })
    }

    /// Goes on if the destination is one of the host's addresses.
    pub(crate) fn local_destination(self) -> Expressions {
        let loaded = self.push("fib", |data| {
            data.number(1, NFT_REG32_00);
            data.number(2, NFT_FIB_RESULT_ADDRTYPE);
            data.number(3, NFTA_FIB_F_DADDR);
        });
        loaded.equal(&RTN_LOCAL.to_ne_bytes())
    }

    /// Goes on if what begins at the first register is in a set.
    pub(crate) fn in_set(self, set: &str) -> Expressions {
        self.lookup(set, None, false)
    }

    /// Goes on if it is not.
    pub(crate) fn not_in_set(self, set: &str) -> Expressions {
        self.lookup(set, None, true)
    }

    /// Goes on if it is in a map, with what is found at the first register.
    pub(crate) fn map(self, set: &str) -> Expressions {
        self.lookup(set, Some(NFT_REG32_00), false)
    }

    fn lookup(self, set: &str, result: Option<u32>, inverted: bool) -> Expressions {
        self.push("lookup", |data| {
            data.text(1, set);
            data.number(2, NFT_REG32_00);
            if let Some(register) = result {
                data.number(3, register);
            }
            if inverted {
                data.number(5, NFT_LOOKUP_F_INV);
            }
        })
    }

    /// Ends with a new destination: address at the first register, port at
    /// another. `family` is `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub(crate) fn dnat(self, family: u32, port_register: u32) -> Expressions {
        self.push("nat", |data| {
            data.number(1, NFT_NAT_DNAT);
            data.number(2, family);
            data.number(3, NFT_REG32_00);
            data.number(5, NFT_REG32_00 + port_register);
        })
    }

    /// Ends with the address of the interface the packet leaves by.
    pub(crate) fn masquerade(self) -> Expressions {
        self.push("masq", |_| {})
    }

    /// Ends with a verdict.
    pub(crate) fn verdict(self, verdict: Verdict) -> Expressions {
        self.push("immediate", |data| {
            data.number(1, NFT_REG_VERDICT);
            data.nested(2, |data| {
                data.nested(NFTA_DATA_VERDICT, |data| data.number(1, verdict as u32));
            });
        })
    }
}
