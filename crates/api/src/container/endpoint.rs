//! A container's side of its networks: endpoints and published ports.

use std::collections::BTreeMap;

use crate::object::is_zero;

/// Published ports by `port/protocol`; `null` for a port that is exposed and not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

object! {
    /// The networks a new container joins, by name or id.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworkingConfig {
        /// Endpoint settings by network.
        pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
    }

    /// One end of a published port.
    #[serde(rename_all = "PascalCase")]
    pub struct PortBinding {
        /// Address on the host; empty is every address.
        pub host_ip: String,
        /// Port or range on the host; empty picks a free one.
        pub host_port: String,
    }

    /// A container's endpoint in one network, as asked for and as it is.
    #[serde(rename_all = "PascalCase")]
    pub struct EndpointSettings {
        /// Static addresses asked for.
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointIpamConfig>,
        /// Legacy links, `container:alias`.
        pub links: Option<Vec<String>>,
        /// Extra names in this network.
        pub aliases: Option<Vec<String>>,
        /// Options of the network driver for this endpoint.
        pub driver_opts: Option<BTreeMap<String, String>>,
        /// The endpoint with the highest one gives the default route.
        pub gw_priority: i64,
        /// Id of the network.
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        /// Id of this endpoint; empty while not running.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// IPv4 gateway.
        pub gateway: String,
        /// IPv4 address without its prefix.
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        /// MAC address, asked for or given.
        pub mac_address: String,
        /// Length of the IPv4 prefix.
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: i64,
        /// IPv6 gateway.
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        /// Global IPv6 address without its prefix.
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        /// Length of the IPv6 prefix.
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: i64,
        /// Every name the network's DNS answers for this endpoint; `null` on the default bridge.
        #[serde(rename = "DNSNames")]
        pub dns_names: Option<Vec<String>>,
    }

    /// Static addresses of an endpoint.
    #[serde(rename_all = "PascalCase")]
    pub struct EndpointIpamConfig {
        /// IPv4 address.
        #[serde(rename = "IPv4Address", skip_serializing_if = "is_zero")]
        pub ipv4_address: String,
        /// IPv6 address.
        #[serde(rename = "IPv6Address", skip_serializing_if = "is_zero")]
        pub ipv6_address: String,
        /// Link-local addresses.
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "is_zero")]
        pub link_local_ips: Vec<String>,
    }
}
