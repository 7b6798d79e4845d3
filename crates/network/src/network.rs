//! What a bridge network is.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::Mac;
use crate::owner::hash;

/// IPv4 on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4Config {
    /// The addresses of the network.
    pub subnet: Ipv4Net,
    /// The bridge's own address.
    pub gateway: Ipv4Addr,
}

/// IPv6 on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Config {
    /// The addresses of the network.
    pub subnet: Ipv6Net,
    /// The bridge's own address.
    pub gateway: Ipv6Addr,
}

/// A bridge network: what the engine records and the netkeeper keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What its containers may put behind the names of their neighbours; empty
    /// where names are not resolved.
    #[serde(default)]
    pub name: String,
    /// Name of the bridge: at most 15 bytes, `conex0` for the default network.
    pub bridge: String,
    /// IPv4, unless the network has none.
    pub ipv4: Option<Ipv4Config>,
    /// IPv6, if the network has it.
    pub ipv6: Option<Ipv6Config>,
    /// MTU of the bridge and of every interface on it; 1500 unless said.
    pub mtu: Option<u32>,
    /// Containers of the network reach each other
    /// (`com.docker.network.bridge.enable_icc`).
    pub icc: bool,
    /// What leaves the host takes the host's address
    /// (`com.docker.network.bridge.enable_ip_masquerade`).
    pub masquerade: bool,
    /// Nothing leaves or enters the network (`--internal`).
    pub internal: bool,
}

/// The MTU where nobody says otherwise.
pub(crate) const DEFAULT_MTU: u32 = 1500;

impl Network {
    /// The bridge's name when nobody chose one: `br-` and twelve digits of the id.
    pub fn bridge_name(id: &str) -> String {
        format!("br-{}", id.get(..12).unwrap_or(id))
    }

    /// The bridge's hardware address: always the same, so that containers that
    /// know it need not ask, even if the bridge is made anew.
    pub fn mac(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = hash(&self.id).to_be_bytes();
        Mac([(a | 0x02) & !0x01, b, c, d, e, f])
    }

    /// The MTU in force.
    pub fn mtu(&self) -> u32 {
        self.mtu.unwrap_or(DEFAULT_MTU)
    }
}
