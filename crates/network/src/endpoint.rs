//! A container's place on a network.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{Mac, Network, Owner, PortBinding};

/// An interface of one container on one network: what the engine records and
/// the netkeeper keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// 64 hexadecimal digits, the caller's.
    pub id: String,
    /// Id of its network.
    pub network: String,
    /// Bridge of its network.
    pub bridge: String,
    /// The end on the host, a port of the bridge.
    pub host_interface: String,
    /// The end in the container, `eth0` for the first.
    pub interface: String,
    /// Hardware address of the container's end.
    pub mac: Mac,
    /// Address and length of the subnet's prefix.
    pub ipv4: Option<Ipv4Net>,
    /// Address and length of the subnet's prefix.
    pub ipv6: Option<Ipv6Net>,
    /// Whether the default routes go out here.
    pub default_route: bool,
    /// Where the default routes lead, if not to the bridge: an address of the
    /// subnet for each family.
    #[serde(default)]
    pub routers: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// What it is called on its network, its container's own name first.
    /// Empty where names are not resolved.
    #[serde(default)]
    pub names: Vec<String>,
    /// What `Keeper::connect` published.
    pub ports: Vec<PortBinding>,
}

impl Endpoint {
    /// An endpoint with a fresh interface name and nothing published yet.
    ///
    /// The addresses come from the network's allocators; the hardware address
    /// is [`Mac::random`] unless the user named one.
    pub fn new(owner: &Owner, network: &Network, id: String, mac: Mac) -> Endpoint {
        Endpoint {
            id,
            network: network.id.clone(),
            bridge: network.bridge.clone(),
            host_interface: owner.interface(),
            interface: "eth0".into(),
            mac,
            ipv4: None,
            ipv6: None,
            default_route: true,
            routers: (None, None),
            names: Vec::new(),
            ports: Vec::new(),
        }
    }
}
