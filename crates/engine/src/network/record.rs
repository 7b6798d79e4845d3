//! What a network is: kept in `network/network.db`, never changed but for the
//! default bridge, whose settings are the engine's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use conex_api::network::{ConfigReference, Ipam, IpamConfig, Network as ApiNetwork};
use conex_network::{Addresses, Network};
use conex_store::records::networks::NetworkRecord;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::time::rfc3339;

/// What makes a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    /// A bridge of the host's.
    Bridge,
    /// The host's own network.
    Host,
    /// A namespace with loopback alone.
    Null,
}

impl Driver {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }
}

/// One network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_ns: i64,
    pub(crate) driver: Driver,
    pub(crate) enable_ipv4: bool,
    pub(crate) enable_ipv6: bool,
    pub(crate) internal: bool,
    pub(crate) attachable: bool,
    /// Options of the IPAM driver, kept to be shown.
    pub(crate) ipam_options: Option<BTreeMap<String, String>>,
    /// Its pools, subnets and gateways filled in.
    pub(crate) pools: Vec<IpamConfig>,
    /// Whether its user chose the subnets: only there may containers choose
    /// their addresses.
    #[serde(default)]
    pub(crate) own_ipv4: bool,
    #[serde(default)]
    pub(crate) own_ipv6: bool,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// What the kernel is given of it; `None` without a bridge.
    pub(crate) bridge: Option<Network>,
    /// Where its ports are published that name no address
    /// (`com.docker.network.bridge.host_binding_ipv4`).
    pub(crate) publish_address: Option<IpAddr>,
    /// Where the containers' default routes lead, if not to the bridge.
    #[serde(default)]
    pub(crate) route_ipv4: Option<std::net::Ipv4Addr>,
    #[serde(default)]
    pub(crate) route_ipv6: Option<std::net::Ipv6Addr>,
    /// The bridge is the host's: it is used as it is found, and left.
    #[serde(default)]
    pub(crate) foreign: bool,
}

impl Record {
    /// A network without a bridge.
    pub(super) fn plain(name: &str, driver: Driver) -> Record {
        Record {
            id: crate::id::generate(),
            name: name.into(),
            created_ns: crate::time::now_ns(),
            driver,
            enable_ipv4: true,
            enable_ipv6: false,
            internal: false,
            attachable: false,
            ipam_options: None,
            pools: Vec::new(),
            own_ipv4: false,
            own_ipv6: false,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            bridge: None,
            publish_address: None,
            route_ipv4: None,
            route_ipv6: None,
            foreign: false,
        }
    }

    pub(super) fn load(row: &NetworkRecord) -> Result<Record, String> {
        let mut record: Record = serde_json::from_str(&row.config).map_err(|e| e.to_string())?;
        if let Some(bridge) = &mut record.bridge {
            // Records of earlier versions do not say it.
            bridge.name.clone_from(&record.name);
        }
        if record.id != row.id || record.name != row.name {
            return Err("it is another network's record".into());
        }
        Ok(record)
    }

    pub(super) fn row(&self) -> NetworkRecord {
        NetworkRecord {
            id: self.id.clone(),
            name: self.name.clone(),
            created_ns: self.created_ns,
            config: serde_json::to_string(self).expect("a network record is plain data"),
        }
    }

    /// Whether it is the one of the mode `bridge`, which has no DNS of its own.
    pub(crate) fn is_default(&self) -> bool {
        self.name == "bridge"
    }

    /// Its subnets.
    pub(super) fn subnets(&self) -> impl Iterator<Item = IpNet> {
        let bridge = self.bridge.as_ref();
        let ipv4 = bridge.and_then(|b| b.ipv4).map(|c| IpNet::V4(c.subnet));
        let ipv6 = bridge.and_then(|b| b.ipv6).map(|c| IpNet::V6(c.subnet));
        ipv4.into_iter().chain(ipv6)
    }

    /// Its gateways: the bridge's own addresses.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let bridge = self.bridge.as_ref();
        let ipv4 = bridge.and_then(|b| b.ipv4).map(|c| IpAddr::V4(c.gateway));
        let ipv6 = bridge.and_then(|b| b.ipv6).map(|c| IpAddr::V6(c.gateway));
        ipv4.into_iter().chain(ipv6)
    }

    /// Where the default routes of its containers lead.
    pub(crate) fn container_gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.gateways().map(|own| match own {
            IpAddr::V4(_) => self.route_ipv4.map_or(own, IpAddr::V4),
            IpAddr::V6(_) => self.route_ipv6.map_or(own, IpAddr::V6),
        })
    }

    /// Its allocators, with every address taken that is nobody's to have.
    pub(super) fn addresses(&self) -> (Option<Addresses>, Option<Addresses>) {
        let mut both = (None, None);
        for (subnet, gateway) in self.subnets().zip(self.gateways()) {
            let pool = self.pools.iter().find(|pool| {
                pool.subnet
                    .parse::<IpNet>()
                    .is_ok_and(|s| s.trunc() == subnet)
            });
            let range = pool.and_then(|pool| pool.ip_range.parse().ok());
            let mut addresses = Addresses::new(subnet, range, gateway);
            let auxiliary = pool
                .into_iter()
                .flat_map(|p| p.auxiliary_addresses.values());
            for address in auxiliary.filter_map(|text| text.parse().ok()) {
                // Outside the subnet, or named twice: nobody gets it anyhow.
                let _ours = addresses.take(address).is_err();
            }
            match subnet {
                IpNet::V4(_) => both.0 = Some(addresses),
                IpNet::V6(_) => both.1 = Some(addresses),
            }
        }
        both
    }

    /// As lists show it.
    pub(super) fn summary(&self) -> ApiNetwork {
        let pools = (self.driver == Driver::Bridge).then(|| self.pools.clone());
        ApiNetwork {
            name: self.name.clone(),
            id: self.id.clone(),
            created: rfc3339(self.created_ns),
            scope: "local".into(),
            driver: self.driver.name().into(),
            enable_ipv4: self.enable_ipv4,
            enable_ipv6: self.enable_ipv6,
            ipam: Ipam {
                driver: "default".into(),
                options: self.ipam_options.clone(),
                config: pools,
            },
            internal: self.internal,
            attachable: self.attachable,
            config_from: ConfigReference::default(),
            options: self.options.clone(),
            labels: self.labels.clone(),
            ..ApiNetwork::default()
        }
    }
}
