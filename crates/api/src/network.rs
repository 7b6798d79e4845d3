//! Networks: what they are, how one is asked for, and who is on it.

use std::collections::BTreeMap;

use crate::container::EndpointSettings;
use crate::object::is_zero;

object! {
    /// A network. Elements of `GET /networks`; with its containers and its status, the answer of
    /// `GET /networks/{id}`.
    #[serde(rename_all = "PascalCase")]
    pub struct Network {
        /// Name.
        pub name: String,
        /// Full id.
        pub id: String,
        /// RFC 3339 with nanoseconds.
        pub created: String,
        /// `local`: no other scope exists here.
        pub scope: String,
        /// `bridge`, `host` or `null`.
        pub driver: String,
        /// Whether containers get IPv4 addresses.
        #[serde(rename = "EnableIPv4")]
        pub enable_ipv4: bool,
        /// Whether containers get IPv6 addresses.
        #[serde(rename = "EnableIPv6")]
        pub enable_ipv6: bool,
        /// Its pools of addresses.
        #[serde(rename = "IPAM")]
        pub ipam: Ipam,
        /// Whether it has no way out.
        pub internal: bool,
        /// Swarm only.
        pub attachable: bool,
        /// Swarm only.
        pub ingress: bool,
        /// Network this one takes its configuration from.
        pub config_from: ConfigReference,
        /// Whether it is nothing but a configuration.
        pub config_only: bool,
        /// Options of the driver.
        pub options: BTreeMap<String, String>,
        /// Labels of the user.
        pub labels: BTreeMap<String, String>,
        /// Running containers on it, by id; absent in lists.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub containers: Option<BTreeMap<String, EndpointResource>>,
        /// Addresses in use, since API 1.52; absent in lists.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub status: Option<Status>,
    }

    /// A network that another one is modelled on.
    #[serde(rename_all = "PascalCase")]
    pub struct ConfigReference {
        /// Its name.
        pub network: String,
    }

    /// How addresses are managed.
    #[serde(rename_all = "PascalCase")]
    pub struct Ipam {
        /// `default`.
        pub driver: String,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
        /// Pools, at most one per address family.
        pub config: Option<Vec<IpamConfig>>,
    }

    /// A pool of addresses.
    #[serde(rename_all = "PascalCase")]
    pub struct IpamConfig {
        /// The subnet in CIDR form; empty lets the engine choose.
        #[serde(skip_serializing_if = "is_zero")]
        pub subnet: String,
        /// The part of the subnet that addresses are taken from, in CIDR form.
        #[serde(rename = "IPRange", skip_serializing_if = "is_zero")]
        pub ip_range: String,
        /// The bridge's own address.
        #[serde(skip_serializing_if = "is_zero")]
        pub gateway: String,
        /// Addresses never given to containers, by whom they belong to.
        #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "is_zero")]
        pub auxiliary_addresses: BTreeMap<String, String>,
    }

    /// One container on a network.
    #[serde(rename_all = "PascalCase")]
    pub struct EndpointResource {
        /// Name of the container without its slash.
        pub name: String,
        /// Id of the endpoint.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// MAC address.
        pub mac_address: String,
        /// IPv4 address with its prefix.
        #[serde(rename = "IPv4Address")]
        pub ipv4_address: String,
        /// IPv6 address with its prefix.
        #[serde(rename = "IPv6Address")]
        pub ipv6_address: String,
    }

    /// What a network uses now.
    #[serde(rename_all = "PascalCase")]
    pub struct Status {
        /// Its addresses.
        #[serde(rename = "IPAM")]
        pub ipam: IpamStatus,
    }

    /// Addresses in use.
    #[serde(rename_all = "PascalCase")]
    pub struct IpamStatus {
        /// By subnet in CIDR form.
        pub subnets: BTreeMap<String, SubnetStatus>,
    }

    /// Addresses of one subnet.
    pub struct SubnetStatus {
        /// Taken or reserved; saturates.
        #[serde(rename = "IPsInUse")]
        pub ips_in_use: u64,
        /// Left to be given; saturates.
        #[serde(rename = "DynamicIPsAvailable")]
        pub dynamic_ips_available: u64,
    }

    /// Body of `POST /networks/create`.
    #[serde(rename_all = "PascalCase")]
    pub struct CreateRequest {
        /// Name.
        pub name: String,
        /// Empty is `bridge`.
        pub driver: String,
        /// Empty or `local`.
        pub scope: String,
        /// `None` is true.
        #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
        pub enable_ipv4: Option<bool>,
        /// `None` is false.
        #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
        pub enable_ipv6: Option<bool>,
        /// Pools asked for.
        #[serde(rename = "IPAM")]
        pub ipam: Option<Ipam>,
        /// Whether it has no way out.
        pub internal: bool,
        /// Swarm only.
        pub attachable: bool,
        /// Swarm only.
        pub ingress: bool,
        /// Whether it is nothing but a configuration.
        pub config_only: bool,
        /// Network whose configuration it takes.
        pub config_from: Option<ConfigReference>,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
        /// Labels.
        pub labels: Option<BTreeMap<String, String>>,
    }

    /// Answer of `POST /networks/create`.
    #[serde(rename_all = "PascalCase")]
    pub struct CreateResponse {
        /// Full id.
        pub id: String,
        /// What was done otherwise than asked; empty if nothing.
        pub warning: String,
    }

    /// Body of `POST /networks/{id}/connect`.
    #[serde(rename_all = "PascalCase")]
    pub struct ConnectRequest {
        /// Name or id of the container.
        pub container: String,
        /// How it is connected.
        pub endpoint_config: Option<EndpointSettings>,
    }

    /// Body of `POST /networks/{id}/disconnect`.
    #[serde(rename_all = "PascalCase")]
    pub struct DisconnectRequest {
        /// Name or id of the container.
        pub container: String,
        /// Whether a container that is gone is taken off all the same.
        pub force: bool,
    }

    /// Answer of `POST /networks/prune`.
    #[serde(rename_all = "PascalCase")]
    pub struct PruneResponse {
        /// Names of what was removed; `null` if nothing.
        pub networks_deleted: Option<Vec<String>>,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_network_of_a_list_has_dockers_members_in_dockers_order() {
        let network = Network {
            name: "none".into(),
            driver: "null".into(),
            enable_ipv4: true,
            ipam: Ipam {
                driver: "default".into(),
                ..Ipam::default()
            },
            ..Network::default()
        };
        let expected = r#"{"Name":"none","Id":"","Created":"","Scope":"","Driver":"null",
            "EnableIPv4":true,"EnableIPv6":false,"IPAM":{"Driver":"default","Options":null,
            "Config":null},"Internal":false,"Attachable":false,"Ingress":false,
            "ConfigFrom":{"Network":""},"ConfigOnly":false,"Options":{},"Labels":{}}"#;
        assert_eq!(
            serde_json::to_string(&network).unwrap(),
            expected.split_whitespace().collect::<String>()
        );
    }

    #[test]
    fn a_request_may_leave_everything_but_the_name_out() {
        let request: CreateRequest = serde_json::from_value(json!({
            "Name": "gnet", "CheckDuplicate": true, "EnableIPv6": null, "IPAM": null
        }))
        .unwrap();
        assert_eq!(request.name, "gnet");
        assert_eq!((request.enable_ipv6, request.ipam), (None, None));
        let pool: IpamConfig = serde_json::from_value(json!({
            "Subnet": "10.77.0.0/24", "AuxiliaryAddresses": {"router": "10.77.0.9"}
        }))
        .unwrap();
        assert_eq!(pool.auxiliary_addresses["router"], "10.77.0.9");
        assert_eq!(
            serde_json::to_value(&pool).unwrap(),
            json!({"Subnet": "10.77.0.0/24", "AuxiliaryAddresses": {"router": "10.77.0.9"}})
        );
    }
}
