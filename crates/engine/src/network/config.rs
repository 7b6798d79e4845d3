//! The engine's settings of networks: the default bridge, pools of addresses,
//! publishing and name servers, as dockerd's flags have them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Settings of networks.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// What the default bridge is.
    pub bridge: DefaultBridge,
    /// The default bridge's own IPv4 address, with its subnet (`--bip`).
    pub bridge_ipv4: Option<Ipv4Net>,
    /// The default bridge's own IPv6 address, with its subnet (`--bip6`).
    pub bridge_ipv6: Option<Ipv6Net>,
    /// The part of the default bridge's subnet that containers get addresses
    /// from (`--fixed-cidr`).
    pub fixed_ipv4: Option<Ipv4Net>,
    /// The same of IPv6 (`--fixed-cidr-v6`).
    pub fixed_ipv6: Option<Ipv6Net>,
    /// Where the default bridge's containers send what leaves their subnet,
    /// if that is not the bridge (`--default-gateway`).
    pub gateway_ipv4: Option<Ipv4Addr>,
    /// The same of IPv6 (`--default-gateway-v6`).
    pub gateway_ipv6: Option<Ipv6Addr>,
    /// MTU of the default bridge, in bytes.
    pub mtu: u32,
    /// Whether containers of the default bridge reach each other (`--icc`).
    pub inter_container: bool,
    /// Whether the default bridge has IPv6 (`--ipv6`).
    pub ipv6: bool,
    /// Where ports are published that name no address; `None` is every address
    /// (`--ip`).
    pub publish_address: Option<IpAddr>,
    /// Published ports are reached only as far as the host's own firewall lets
    /// connections to the host pass (`--respect-host-firewall`).
    pub respect_host_firewall: bool,
    /// Pools that subnets are cut from: the pool and the length of a subnet's
    /// prefix. Empty: Docker's.
    pub address_pools: Vec<(IpNet, u8)>,
    /// Whether the engine has firewall rules for IPv4 (`--iptables`): without,
    /// nothing is translated, hidden or kept apart, and published ports are
    /// passed on by a process.
    pub ipv4_rules: bool,
    /// The same of IPv6 (`--ip6tables`).
    pub ipv6_rules: bool,
    /// Published ports are reached from outside by the container's own address
    /// too (`--allow-direct-routing`).
    pub direct_routing: bool,
    /// Whether addresses of the default bridge are hidden behind the host's
    /// (`--ip-masq`).
    pub masquerade: bool,
    /// Name servers of containers that ask for none (`--dns`).
    pub dns: Vec<String>,
    /// Search domains of containers that ask for none (`--dns-search`).
    pub dns_search: Vec<String>,
    /// Resolver options of containers that ask for none (`--dns-opt`).
    pub dns_options: Vec<String>,
    /// What `host-gateway` stands for; empty: the default bridge's addresses.
    pub host_gateway: Vec<IpAddr>,
    /// Options of new networks, by driver (`--default-network-opt`).
    pub default_options: BTreeMap<String, BTreeMap<String, String>>,
}

/// What the default bridge is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DefaultBridge {
    /// The engine's own, made by it.
    #[default]
    Own,
    /// A bridge of the host's that the engine uses as it finds it.
    Existing(String),
    /// There is no default bridge: containers that name no network have none.
    Disabled,
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            bridge: DefaultBridge::Own,
            bridge_ipv4: None,
            bridge_ipv6: None,
            fixed_ipv4: None,
            fixed_ipv6: None,
            gateway_ipv4: None,
            gateway_ipv6: None,
            mtu: 1500,
            inter_container: true,
            ipv6: false,
            publish_address: None,
            respect_host_firewall: false,
            address_pools: Vec::new(),
            ipv4_rules: true,
            ipv6_rules: true,
            direct_routing: false,
            masquerade: true,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            host_gateway: Vec::new(),
            default_options: BTreeMap::new(),
        }
    }
}
