//! The addresses of one subnet: who has which is the engine's to remember,
//! what is free is known here. Pure.
//!
//! A bitmap in chunks that exist only where an address is taken, and a cursor:
//! the next address is the one after the last given out, so that one just
//! freed rests as long as the subnet allows.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;

/// Addresses in one chunk: 64 words of 64 bits.
const CHUNK: u128 = 4096;

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Every address of the subnet, or of the range to choose from, is taken.
    #[error(
        "no available {} addresses on this network's address pools: {subnet}",
        family(subnet)
    )]
    Exhausted {
        /// The subnet.
        subnet: IpNet,
    },
    /// Somebody has it. The text is Docker's.
    #[error("Address already in use")]
    Taken(IpAddr),
    /// It is not an address of the subnet for a container.
    #[error("no configured subnet contains IP address {0}")]
    Outside(IpAddr),
}

fn family(subnet: &IpNet) -> &'static str {
    match subnet {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

#[derive(Debug, Clone)]
struct Chunk {
    words: [u64; 64],
    taken: u32,
}

/// Which addresses of a subnet are taken.
#[derive(Debug, Clone)]
pub struct Addresses {
    subnet: IpNet,
    /// First and last offset within the subnet that may be given out.
    first: u128,
    last: u128,
    /// Where the search begins.
    cursor: u128,
    chunks: HashMap<u128, Box<Chunk>>,
}

impl Addresses {
    /// All addresses of a subnet free but those nobody may have: the
    /// network's own, its broadcast address and the gateway.
    ///
    /// `range` is the part [`Addresses::allocate`] chooses from (`--ip-range`).
    pub fn new(subnet: IpNet, range: Option<IpNet>, gateway: IpAddr) -> Addresses {
        let subnet = subnet.trunc();
        let host_bits = subnet.max_prefix_len() - subnet.prefix_len();
        let size = 1_u128.checked_shl(host_bits.into()).unwrap_or(u128::MAX);
        // A /31 and a /32 have no address to spare (RFC 3021).
        let (mut first, mut last) = match (subnet, host_bits) {
            (_, 0 | 1) => (0, size - 1),
            (IpNet::V4(_), _) => (1, size - 2),
            // The first is the routers' anycast address (RFC 4291, 2.6.1).
            (IpNet::V6(_), _) => (1, size - 1),
        };
        if let Some(range) = range.map(|range| range.trunc())
            && let Some(start) = offset(&subnet, range.addr())
            && let Some(end) = offset(&subnet, range.broadcast())
        {
            first = first.max(start);
            last = last.min(end);
        }
        let mut addresses = Addresses {
            subnet,
            first,
            last,
            cursor: first,
            chunks: HashMap::new(),
        };
        if let Some(own) = offset(&subnet, gateway) {
            addresses.set(own);
        }
        addresses
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Gives out the next free address; constant time, amortised.
    pub fn allocate(&mut self) -> Result<IpAddr, AddressError> {
        let found = self
            .free_in(self.cursor, self.last)
            .or_else(|| self.free_in(self.first, self.cursor.saturating_sub(1)))
            .ok_or(AddressError::Exhausted {
                subnet: self.subnet,
            })?;
        self.set(found);
        self.cursor = if found >= self.last {
            self.first
        } else {
            found + 1
        };
        Ok(self.address(found))
    }

    /// Gives out a certain address (`--ip`), and marks at a restore what
    /// containers have already.
    pub fn take(&mut self, address: IpAddr) -> Result<(), AddressError> {
        let offset = offset(&self.subnet, address).ok_or(AddressError::Outside(address))?;
        let is_network = offset == 0 && self.subnet.prefix_len() + 1 < self.subnet.max_prefix_len();
        let is_broadcast = matches!(self.subnet, IpNet::V4(net) if net.prefix_len() < 31
            && IpAddr::V4(net.broadcast()) == address);
        if is_network || is_broadcast {
            return Err(AddressError::Outside(address));
        }
        if self.is_set(offset) {
            return Err(AddressError::Taken(address));
        }
        self.set(offset);
        // Whoever had it may be remembered by neighbours: the search goes on
        // behind it, after a restart too.
        if (self.first..self.last).contains(&offset) && offset >= self.cursor {
            self.cursor = offset + 1;
        }
        Ok(())
    }

    /// Takes an address back. One that is not taken is no error.
    pub fn release(&mut self, address: IpAddr) {
        let Some(offset) = offset(&self.subnet, address) else {
            return;
        };
        let key = offset / CHUNK;
        if let Some(chunk) = self.chunks.get_mut(&key) {
            let (word, bit) = place(offset);
            if chunk.words[word] & bit != 0 {
                chunk.words[word] &= !bit;
                chunk.taken -= 1;
            }
            if chunk.taken == 0 {
                self.chunks.remove(&key);
            }
        }
    }

    fn free_in(&self, from: u128, to: u128) -> Option<u128> {
        let mut at = from.max(self.first);
        while at <= to {
            let Some(chunk) = self.chunks.get(&(at / CHUNK)) else {
                return Some(at);
            };
            if u128::from(chunk.taken) == CHUNK {
                at = (at / CHUNK + 1) * CHUNK;
                continue;
            }
            let (word, bit) = place(at);
            // Bits below `at` count as taken.
            let taken = chunk.words[word] | (bit - 1);
            if taken != u64::MAX {
                let free = (at & !63) + u128::from(taken.trailing_ones());
                return (free <= to).then_some(free);
            }
            at = (at & !63) + 64;
        }
        None
    }

    fn is_set(&self, offset: u128) -> bool {
        let (word, bit) = place(offset);
        self.chunks
            .get(&(offset / CHUNK))
            .is_some_and(|chunk| chunk.words[word] & bit != 0)
    }

    fn set(&mut self, offset: u128) {
        let chunk = self.chunks.entry(offset / CHUNK).or_insert_with(|| {
            Box::new(Chunk {
                words: [0; 64],
                taken: 0,
            })
        });
        let (word, bit) = place(offset);
        if chunk.words[word] & bit == 0 {
            chunk.words[word] |= bit;
            chunk.taken += 1;
        }
    }

    fn address(&self, offset: u128) -> IpAddr {
        match self.subnet {
            IpNet::V4(net) => {
                let offset = u32::try_from(offset).expect("an offset lies within the subnet");
                Ipv4Addr::from(u32::from(net.network()) + offset).into()
            }
            IpNet::V6(net) => Ipv6Addr::from(u128::from(net.network()) + offset).into(),
        }
    }
}

/// Word and bit of an offset within its chunk.
fn place(offset: u128) -> (usize, u64) {
    let within = (offset % CHUNK) as usize;
    (within / 64, 1 << (within % 64))
}

fn offset(subnet: &IpNet, address: IpAddr) -> Option<u128> {
    match (subnet, address) {
        (IpNet::V4(net), IpAddr::V4(address)) => net
            .contains(&address)
            .then(|| u128::from(u32::from(address) - u32::from(net.network()))),
        (IpNet::V6(net), IpAddr::V6(address)) => net
            .contains(&address)
            .then(|| u128::from(address) - u128::from(net.network())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn addresses(subnet: &str) -> Addresses {
        let subnet: IpNet = subnet.parse().unwrap();
        let gateway = subnet.hosts().next().unwrap();
        Addresses::new(subnet, None, gateway)
    }

    #[test]
    fn the_first_container_follows_the_gateway() {
        let mut four = addresses("172.17.0.0/16");
        assert_eq!(four.allocate().unwrap().to_string(), "172.17.0.2");
        let mut six = Addresses::new(
            "fd00:1::/64".parse().unwrap(),
            None,
            "fd00:1::1".parse().unwrap(),
        );
        assert_eq!(six.allocate().unwrap().to_string(), "fd00:1::2");
    }

    #[test]
    fn a_freed_address_rests_until_all_others_were_used() {
        let mut pool = addresses("10.0.0.0/28");
        let first = pool.allocate().unwrap();
        for _ in 0..12 {
            pool.release(first);
            assert_ne!(pool.allocate().unwrap(), first);
        }
        assert_eq!(pool.allocate().unwrap(), first);
    }

    #[test]
    fn all_addresses_are_given_out_once_and_then_none() {
        let mut pool = addresses("10.1.0.0/19");
        let all: HashSet<IpAddr> = (0..8189).map(|_| pool.allocate().unwrap()).collect();
        assert_eq!(all.len(), 8189);
        assert!(matches!(
            pool.allocate(),
            Err(AddressError::Exhausted { .. })
        ));
        let one = "10.1.7.7".parse().unwrap();
        assert!(all.contains(&one));
        pool.release(one);
        assert_eq!(pool.allocate().unwrap(), one);
    }

    #[test]
    fn a_range_bounds_the_choice_but_not_the_static_addresses() {
        let mut pool = Addresses::new(
            "10.2.0.0/16".parse().unwrap(),
            Some("10.2.5.0/30".parse().unwrap()),
            "10.2.0.1".parse().unwrap(),
        );
        pool.take("10.2.9.9".parse().unwrap()).unwrap();
        let given: Vec<String> = (0..4)
            .map(|_| pool.allocate().unwrap().to_string())
            .collect();
        assert_eq!(given, ["10.2.5.0", "10.2.5.1", "10.2.5.2", "10.2.5.3"]);
        pool.allocate().unwrap_err();
    }

    #[test]
    fn a_static_address_is_taken_once_and_only_within_the_subnet() {
        let mut pool = addresses("10.3.0.0/24");
        let five: IpAddr = "10.3.0.5".parse().unwrap();
        pool.take(five).unwrap();
        assert_eq!(
            pool.take(five).unwrap_err().to_string(),
            "Address already in use"
        );
        for outside in ["10.3.1.1", "10.3.0.0", "10.3.0.255", "fd00::1"] {
            let error = pool.take(outside.parse().unwrap()).unwrap_err();
            assert!(matches!(error, AddressError::Outside(_)), "{outside}");
        }
        assert!(matches!(
            pool.take("10.3.0.1".parse().unwrap()),
            Err(AddressError::Taken(_))
        ));
        pool.release(five);
        pool.take(five).unwrap();
    }

    #[test]
    fn the_smallest_subnets_work() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mut pair = Addresses::new(net("10.0.0.0/31"), None, "10.0.0.0".parse().unwrap());
        assert_eq!(pair.allocate().unwrap().to_string(), "10.0.0.1");
        pair.allocate().unwrap_err();
        let mut one = Addresses::new(net("10.0.0.1/32"), None, "10.0.0.1".parse().unwrap());
        one.allocate().unwrap_err();
    }

    proptest! {
        #[test]
        fn no_address_is_ever_given_out_twice(steps in proptest::collection::vec(0u8..4, 1..400)) {
            let mut pool = addresses("10.4.0.0/26");
            let mut held: Vec<IpAddr> = Vec::new();
            for step in steps {
                if step == 0 && !held.is_empty() {
                    pool.release(held.remove(0));
                } else if let Ok(address) = pool.allocate() {
                    prop_assert!(!held.contains(&address));
                    held.push(address);
                } else {
                    prop_assert_eq!(held.len(), 61);
                }
            }
        }
    }
}
