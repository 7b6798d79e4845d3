//! Subnets for networks that nobody gave one: pure, told what is taken.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::HostRange;

/// A range of addresses that is cut into subnets of one size
/// (`default-address-pools` of daemon.json).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The whole range.
    pub base: Ipv4Net,
    /// Length of the prefix of each subnet.
    pub size: u8,
}

/// The ranges in the order they are used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools(Vec<Pool>);

/// Why a network gets no subnet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolError {
    /// A pool's size makes no sense for its base.
    #[error("invalid default address pool {base}: size {size} must be between {} and 30", base.prefix_len())]
    Size {
        /// The range.
        base: Ipv4Net,
        /// The prefix length asked for.
        size: u8,
    },
    /// No pool was given.
    #[error("no default address pools are configured")]
    None,
    /// Every subnet is taken. The text begins as Docker's and then names the
    /// first few takers.
    #[error("all predefined address pools have been fully subnetted: {0}")]
    Exhausted(String),
    /// The subnet a user named is another network's.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlaps(IpNet),
    /// The subnet a user named is in use on the host.
    #[error("subnet {subnet} overlaps with {taken}")]
    HostOverlaps {
        /// What was asked for.
        subnet: IpNet,
        /// What is in its way.
        taken: HostRange,
    },
}

/// Conflicts named in an error.
const NAMED: usize = 4;

impl Default for Pools {
    /// Docker's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in /20.
    fn default() -> Pools {
        let pool = |a, b, prefix, size| Pool {
            base: Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix),
            size,
        };
        let mut pools: Vec<Pool> = (17..32).map(|b| pool(172, b, 16, 16)).collect();
        pools.push(pool(192, 168, 16, 20));
        Pools(pools)
    }
}

impl Pools {
    /// Pools of the user's.
    pub fn new(pools: Vec<Pool>) -> Result<Pools, PoolError> {
        if pools.is_empty() {
            return Err(PoolError::None);
        }
        for Pool { base, size } in &pools {
            if *size < base.prefix_len() || *size > 30 {
                return Err(PoolError::Size {
                    base: *base,
                    size: *size,
                });
            }
        }
        Ok(Pools(pools))
    }

    /// The first subnet that overlaps neither another network nor anything
    /// the host uses.
    ///
    /// `networks` are the subnets of all networks of this engine; `host` is
    /// [`crate::host_ranges`], read at this moment.
    pub fn choose(&self, networks: &[Ipv4Net], host: &[HostRange]) -> Result<Ipv4Net, PoolError> {
        let mut conflicts: Vec<String> = Vec::new();
        for pool in &self.0 {
            let mut next = u64::from(u32::from(pool.base.network()));
            let end = u64::from(u32::from(pool.base.broadcast()));
            while next <= end {
                let start = u32::try_from(next).expect("a pool ends within the address space");
                let subnet = Ipv4Net::new_assert(Ipv4Addr::from(start), pool.size);
                let other = networks.iter().find(|net| overlaps4(net, &subnet));
                let taken = host.iter().find(|range| range.overlaps(&subnet.into()));
                let (blocker, text) = match (other, taken) {
                    (None, None) => return Ok(subnet),
                    (Some(net), _) => (*net, format!("{net} is another network")),
                    (None, Some(range)) => match range.net {
                        IpNet::V4(net) => (net, range.to_string()),
                        IpNet::V6(_) => continue,
                    },
                };
                if !conflicts.contains(&text) {
                    conflicts.push(text);
                }
                // A large blocker is passed in one step.
                let past = u64::from(u32::from(blocker.broadcast())) + 1;
                let step = 1_u64 << (32 - u32::from(pool.size));
                next = (next + step).max(past.next_multiple_of(step));
            }
        }
        let more = conflicts.len().saturating_sub(NAMED);
        conflicts.truncate(NAMED);
        let mut text = conflicts.join(", ");
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        Err(PoolError::Exhausted(text))
    }

    /// Whether a subnet the user named can be had.
    ///
    /// Only addresses and directly connected routes of the host are in the
    /// way of a subnet chosen on purpose; a wider route is not.
    pub fn check(subnet: IpNet, networks: &[IpNet], host: &[HostRange]) -> Result<(), PoolError> {
        if networks.iter().any(|net| overlaps(net, &subnet)) {
            return Err(PoolError::Overlaps(subnet));
        }
        match host
            .iter()
            .find(|range| range.connected && range.overlaps(&subnet))
        {
            Some(taken) => Err(PoolError::HostOverlaps {
                subnet,
                taken: taken.clone(),
            }),
            None => Ok(()),
        }
    }
}

fn overlaps4(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn overlaps6(a: &Ipv6Net, b: &Ipv6Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Whether two subnets share an address.
pub(crate) fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    match (a, b) {
        (IpNet::V4(a), IpNet::V4(b)) => overlaps4(a, b),
        (IpNet::V6(a), IpNet::V6(b)) => overlaps6(a, b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn host(text: &str) -> HostRange {
        HostRange {
            net: text.parse().unwrap(),
            interface: "tun0".into(),
            connected: false,
        }
    }

    #[test]
    fn the_default_pools_hold_dockers_31_networks() {
        let mut taken = Vec::new();
        while let Ok(subnet) = Pools::default().choose(&taken, &[]) {
            assert!(!taken.iter().any(|other| overlaps4(other, &subnet)));
            taken.push(subnet);
        }
        assert_eq!(taken.len(), 31);
        assert_eq!(taken[0], net("172.17.0.0/16"));
        assert_eq!(taken[15], net("192.168.0.0/20"));
    }

    #[test]
    fn what_the_host_uses_is_passed_over() {
        let vpn = [host("172.16.0.0/12"), host("192.168.1.0/24")];
        let chosen = Pools::default().choose(&[], &vpn).unwrap();
        assert_eq!(chosen, net("192.168.16.0/20"));
        let part = [host("172.17.5.1/32")];
        assert_eq!(
            Pools::default().choose(&[], &part).unwrap(),
            net("172.18.0.0/16")
        );
    }

    #[test]
    fn exhaustion_names_what_is_in_the_way() {
        let vpn = [host("172.16.0.0/12"), host("192.168.0.0/16")];
        let error = Pools::default().choose(&[], &vpn).unwrap_err().to_string();
        assert_eq!(
            error,
            "all predefined address pools have been fully subnetted: route 172.16.0.0/12 via \
             tun0, route 192.168.0.0/16 via tun0"
        );
    }

    #[test]
    fn small_subnets_of_a_large_pool_are_found_quickly() {
        let pools = Pools::new(vec![Pool {
            base: net("10.0.0.0/8"),
            size: 28,
        }])
        .unwrap();
        let half = [host("10.0.0.0/9")];
        assert_eq!(pools.choose(&[], &half).unwrap(), net("10.128.0.0/28"));
    }

    #[test]
    fn a_named_subnet_may_lie_in_a_wider_route_but_not_on_an_interface() {
        let mut range = host("10.0.0.0/8");
        let subnet = "10.9.0.0/24".parse().unwrap();
        Pools::check(subnet, &[], &[range.clone()]).unwrap();
        range.connected = true;
        let error = Pools::check(subnet, &[], &[range]).unwrap_err();
        assert!(error.to_string().contains("10.0.0.0/8"), "{error}");
        let error = Pools::check(subnet, &["10.9.0.128/25".parse().unwrap()], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid pool request: Pool overlaps with other one on this address space"
        );
    }

    #[test]
    fn pools_that_make_no_sense_are_refused() {
        for size in [7, 31, 200] {
            let base = net("10.0.0.0/8");
            Pools::new(vec![Pool { base, size }]).unwrap_err();
        }
    }
}
