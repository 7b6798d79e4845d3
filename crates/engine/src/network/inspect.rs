//! `GET /networks/{id}`: a network, who is on it, and what it has left.

use std::collections::BTreeMap;

use conex_api::network::{EndpointResource, IpamStatus, Network, Status, SubnetStatus};
use ipnet::IpNet;

use super::{Entry, Place};
use crate::{Engine, Error};

impl Engine {
    /// Everything about a network.
    pub fn network_inspect(&self, word: &str) -> Result<Network, Error> {
        let (mut network, places, subnets) = {
            let known = self.inner.networks.known();
            let record = known.find(word)?;
            let entry = known
                .networks
                .get(&record.id)
                .ok_or_else(|| Error::not_found(format!("network {word} not found")))?;
            (record.summary(), entry.endpoints.clone(), subnets(entry))
        };
        let mut containers = BTreeMap::new();
        for (endpoint_id, place) in places {
            // It may be on its way out.
            let Ok(container) = self.inner.find(&place.container) else {
                continue;
            };
            let shown = resource(container.name().as_ref(), &endpoint_id, &place);
            containers.insert(place.container, shown);
        }
        network.containers = Some(containers);
        network.status = Some(Status {
            ipam: IpamStatus { subnets },
        });
        Ok(network)
    }
}

fn resource(name: &str, endpoint_id: &str, place: &Place) -> EndpointResource {
    let endpoint = place.endpoint.as_ref();
    let text = |net: Option<IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
    EndpointResource {
        name: name.to_owned(),
        endpoint_id: endpoint_id.to_owned(),
        mac_address: endpoint.map(|e| e.mac.to_string()).unwrap_or_default(),
        ipv4_address: text(endpoint.and_then(|e| e.ipv4).map(IpNet::V4)),
        ipv6_address: text(endpoint.and_then(|e| e.ipv6).map(IpNet::V6)),
    }
}

/// Addresses in use: containers', the gateway's, and those that are nobody's.
fn subnets(entry: &Entry) -> BTreeMap<String, SubnetStatus> {
    let mut all = BTreeMap::new();
    for subnet in entry.record.subnets() {
        let pool = entry
            .record
            .pools
            .iter()
            .find(|pool| pool.subnet == subnet.to_string());
        let host_bits = subnet.max_prefix_len() - subnet.prefix_len();
        let size = 1_u128.checked_shl(host_bits.into()).unwrap_or(u128::MAX);
        let given = entry.endpoints.values().filter(|place| {
            let endpoint = place.endpoint.as_ref();
            endpoint.is_some_and(|e| match subnet {
                IpNet::V4(_) => e.ipv4.is_some(),
                IpNet::V6(_) => e.ipv6.is_some(),
            })
        });
        // Network and broadcast address of IPv4, the anycast one of IPv6.
        let nobodys = if matches!(subnet, IpNet::V4(_)) { 2 } else { 1 };
        let auxiliary = pool.map_or(0, |pool| pool.auxiliary_addresses.len());
        let used = given.count() as u128 + 1 + nobodys + auxiliary as u128;
        let range = pool
            .and_then(|pool| pool.ip_range.parse::<IpNet>().ok())
            .map(|range| range.max_prefix_len() - range.prefix_len())
            .map(|bits| 1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX));
        let saturated = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        all.insert(
            subnet.to_string(),
            SubnetStatus {
                ips_in_use: saturated(used),
                dynamic_ips_available: saturated(range.unwrap_or(size).saturating_sub(used)),
            },
        );
    }
    all
}
