//! `POST /networks/create`: checks, subnets, record, bridge, in this order.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use conex_api::network::{CreateRequest, CreateResponse, IpamConfig};
use conex_network::{
    HostRange, Ipv4Config, Ipv6Config, Network, Pool, PoolError, Pools, host_ranges, random_ula,
};
use conex_store::lock::FileLock;
use conex_store::records::networks as records;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::default::{BRIDGE_NAME, ICC, MASQUERADE, MTU, PUBLISH_ADDRESS};
use super::{Driver, Entry, NetworkConfig, Networks, PREDEFINED, Record};
use crate::{Engine, Error, ErrorKind};

/// Subnets of all networks of this engine.
pub(super) type Subnets = Vec<IpNet>;

impl Engine {
    /// Creates a network. Errors: conflict for the name, forbidden for a
    /// subnet that is taken, invalid parameter for the rest.
    pub async fn network_create(&self, request: CreateRequest) -> Result<CreateResponse, Error> {
        let engine = Arc::clone(&self.inner);
        let _alone = engine.networks.changing.lock().await;
        let worker = Arc::clone(&engine);
        let record = tokio::task::spawn_blocking(move || {
            worker.networks.create(&worker.config.network, request)
        })
        .await
        .map_err(|e| Error::system("create network", &e))??;
        let attributes = record.attributes();
        engine
            .events
            .publish("network", "create", &record.id, attributes);
        Ok(CreateResponse {
            id: record.id,
            warning: String::new(),
        })
    }
}

impl Record {
    /// What every event of the network carries.
    pub(super) fn attributes(&self) -> BTreeMap<String, String> {
        [
            ("name".to_owned(), self.name.clone()),
            ("type".to_owned(), self.driver.name().to_owned()),
        ]
        .into()
    }
}

impl Networks {
    fn create(&self, config: &NetworkConfig, request: CreateRequest) -> Result<Record, Error> {
        check(&request)?;
        if self
            .known()
            .networks
            .values()
            .any(|e| e.record.name == request.name)
        {
            return Err(Error::conflict(format!(
                "network with name {} already exists",
                request.name
            )));
        }
        let _first = subnet_lock();
        let host = host_ranges().map_err(|e| Error::system("read the host's routes", &e))?;
        let record = self.new_record(config, request, &host)?;
        self.insert(record.clone())?;
        if let Err(error) = self.ensure(&record) {
            self.take_back(&record);
            return Err(error);
        }
        Ok(record)
    }

    /// Undoes a creation that failed half way.
    fn take_back(&self, record: &Record) {
        if let Err(error) = self
            .dismantle(record)
            .and_then(|()| self.delete(&record.id))
        {
            tracing::warn!(network = record.name, %error, "left for the next start");
        }
    }

    fn new_record(
        &self,
        config: &NetworkConfig,
        request: CreateRequest,
        host: &[HostRange],
    ) -> Result<Record, Error> {
        let mut record = Record::plain(&request.name, Driver::Bridge);
        record.enable_ipv4 = request.enable_ipv4.unwrap_or(true);
        record.enable_ipv6 = request.enable_ipv6.unwrap_or(false);
        record.internal = request.internal;
        record.attachable = request.attachable;
        record.labels = request.labels.unwrap_or_default();
        record.options = config
            .default_options
            .get("bridge")
            .cloned()
            .unwrap_or_default();
        record.options.extend(request.options.unwrap_or_default());
        let ipam = request.ipam.unwrap_or_default();
        record.ipam_options = ipam.options.filter(|options| !options.is_empty());
        let subnets = self.subnets(&record.id);
        let mut pools = Vec::new();
        let mut both = (None, None);
        for pool in ipam.config.unwrap_or_default() {
            let pool = resolve(&pool, config, &subnets, host)?;
            match pool.subnet {
                IpNet::V4(_) if both.0.is_some() || !record.enable_ipv4 => {}
                IpNet::V6(_) if both.1.is_some() || !record.enable_ipv6 => {}
                IpNet::V4(_) => both.0 = Some(pool),
                IpNet::V6(_) => both.1 = Some(pool),
            }
        }
        let is_own = |pool: &Option<Resolved>| {
            pool.as_ref()
                .is_some_and(|pool| !pool.asked.subnet.is_empty())
        };
        record.own_ipv4 = is_own(&both.0);
        record.own_ipv6 = is_own(&both.1);
        if record.enable_ipv4 && both.0.is_none() {
            let subnet = IpNet::V4(choose_ipv4(config, &subnets, host)?);
            both.0 = Some(Resolved::new(subnet, IpamConfig::default()));
        }
        if record.enable_ipv6 && both.1.is_none() {
            let subnet = IpNet::V6(choose_ipv6(config));
            both.1 = Some(Resolved::new(subnet, IpamConfig::default()));
        }
        let (four, six) = both;
        let ipv4 = four.as_ref().and_then(Resolved::ipv4);
        let ipv6 = six.as_ref().and_then(Resolved::ipv6);
        pools.extend([four, six].into_iter().flatten().map(Resolved::shown));
        record.pools = pools;
        let option = |name: &str| record.options.get(name).map(String::as_str);
        let switch = |name: &str| match option(name) {
            None | Some("") => Ok(true),
            Some(text) => boolean(text)
                .ok_or_else(|| Error::invalid(format!("invalid value for {name}: {text:?}"))),
        };
        let mtu = match option(MTU) {
            None | Some("") => config.mtu,
            Some(text) => text
                .parse()
                .ok()
                .filter(|mtu| (68..=65535).contains(mtu))
                .ok_or_else(|| Error::invalid(format!("invalid MTU: {text}")))?,
        };
        record.publish_address = match option(PUBLISH_ADDRESS) {
            None | Some("") => config.publish_address,
            Some(text) => Some(super::port::address(text)?).filter(|a| !a.is_unspecified()),
        };
        record.bridge = Some(Network {
            bridge: self.bridge_name(option(BRIDGE_NAME), &record.id)?,
            id: record.id.clone(),
            name: record.name.clone(),
            ipv4,
            ipv6,
            mtu: Some(mtu),
            icc: switch(ICC)?,
            masquerade: switch(MASQUERADE)?,
            internal: record.internal,
        });
        Ok(record)
    }

    fn bridge_name(&self, asked: Option<&str>, id: &str) -> Result<String, Error> {
        let Some(name) = asked.filter(|name| !name.is_empty()) else {
            return Ok(Network::bridge_name(id));
        };
        let is_valid = name.len() <= 15
            && !matches!(name, "." | "..")
            && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
        if !is_valid {
            return Err(Error::invalid(format!("invalid bridge name: {name}")));
        }
        let taken = self.known().networks.values().any(|entry| {
            let bridge = entry.record.bridge.as_ref();
            bridge.is_some_and(|bridge| bridge.bridge == name)
        });
        if taken || Path::new("/sys/class/net").join(name).exists() {
            return Err(Error::conflict(format!(
                "bridge {name} already exists on this host"
            )));
        }
        Ok(name.to_owned())
    }

    /// Subnets of all networks but one.
    pub(super) fn subnets(&self, but: &str) -> Subnets {
        let known = self.known();
        let others = known.networks.values().filter(|e| e.record.id != but);
        others.flat_map(|e| e.record.subnets()).collect()
    }

    /// Saves a network, then knows it. Blocks.
    pub(super) fn insert(&self, record: Record) -> Result<(), Error> {
        let row = record.row();
        self.db
            .run(move |db| records::insert(db, &row))
            .map_err(|e| Error::system("save the network", &e))?;
        let id = record.id.clone();
        let entry = Entry::new(Arc::new(record));
        self.known().networks.insert(id, entry);
        Ok(())
    }

    /// Saves what became of a network. Nobody is on it yet. Blocks.
    pub(super) fn replace(&self, record: Record) -> Result<(), Error> {
        let row = record.row();
        self.db
            .run(move |db| records::update_config(db, &row.id, &row.config))
            .map_err(|e| Error::system("save the network", &e))?;
        let id = record.id.clone();
        let entry = Entry::new(Arc::new(record));
        self.known().networks.insert(id, entry);
        Ok(())
    }

    /// Forgets a network. Blocks.
    pub(super) fn delete(&self, id: &str) -> Result<(), Error> {
        let row = id.to_owned();
        self.db
            .run(move |db| records::delete(db, &row))
            .map_err(|e| Error::system("remove the network's record", &e))?;
        self.known().networks.remove(id);
        Ok(())
    }
}

/// What can be said without knowing other networks.
fn check(request: &CreateRequest) -> Result<(), Error> {
    let name = request.name.as_str();
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid network name: name is empty"));
    }
    if name.contains('/') || name != name.trim() || name.contains(char::is_control) {
        return Err(Error::invalid(format!("invalid network name: {name:?}")));
    }
    if PREDEFINED.contains(&name) || name == "default" || name.starts_with("container:") {
        return Err(Error::new(
            ErrorKind::Forbidden,
            format!("operation is not permitted on predefined {name} network "),
        ));
    }
    if !matches!(request.scope.as_str(), "" | "local") {
        return Err(Error::not_implemented(format!(
            "network scope {:?} is not supported: there is no swarm",
            request.scope
        )));
    }
    if request.ingress || request.config_only || request.config_from.is_some() {
        return Err(Error::not_implemented(
            "ingress and config-only networks are not supported",
        ));
    }
    match request.driver.as_str() {
        "" | "bridge" | "default" => {}
        "host" | "null" => {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "only one instance of \"{}\" network is allowed",
                    request.driver
                ),
            ));
        }
        driver => {
            return Err(Error::not_found(format!(
                "could not find plugin {driver} in v1 plugin registry: plugin not found"
            )));
        }
    }
    let ipam = request.ipam.as_ref();
    if let Some(driver) = ipam.map(|ipam| ipam.driver.as_str())
        && !matches!(driver, "" | "default")
    {
        return Err(Error::not_found(format!(
            "could not find plugin {driver} in v1 plugin registry: plugin not found"
        )));
    }
    if request.enable_ipv4 == Some(false) && request.enable_ipv6 != Some(true) {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
    }
    Ok(())
}

/// One pool with everything filled in.
struct Resolved {
    subnet: IpNet,
    gateway: IpAddr,
    asked: IpamConfig,
}

impl Resolved {
    fn new(subnet: IpNet, asked: IpamConfig) -> Resolved {
        Resolved {
            gateway: first_address(subnet),
            subnet,
            asked,
        }
    }

    fn ipv4(&self) -> Option<Ipv4Config> {
        match (self.subnet, self.gateway) {
            (IpNet::V4(subnet), IpAddr::V4(gateway)) => Some(Ipv4Config { subnet, gateway }),
            _ => None,
        }
    }

    fn ipv6(&self) -> Option<Ipv6Config> {
        match (self.subnet, self.gateway) {
            (IpNet::V6(subnet), IpAddr::V6(gateway)) => Some(Ipv6Config { subnet, gateway }),
            _ => None,
        }
    }

    fn shown(self) -> IpamConfig {
        IpamConfig {
            subnet: self.subnet.to_string(),
            gateway: self.gateway.to_string(),
            ..self.asked
        }
    }
}

/// Checks a pool that was asked for, in Docker's words.
fn resolve(
    asked: &IpamConfig,
    config: &NetworkConfig,
    subnets: &Subnets,
    host: &[HostRange],
) -> Result<Resolved, Error> {
    let invalid = |what: String| Error::invalid(format!("invalid network config:\n{what}"));
    if asked.subnet.is_empty() {
        if !asked.ip_range.is_empty() || !asked.gateway.is_empty() {
            return Err(invalid(
                "invalid subnet : a gateway or ip-range needs its subnet".into(),
            ));
        }
        let subnet = IpNet::V4(choose_ipv4(config, subnets, host)?);
        return Ok(Resolved::new(subnet, asked.clone()));
    }
    let subnet: IpNet = asked.subnet.parse().map_err(|_| {
        invalid(format!(
            "invalid subnet {}: invalid CIDR block notation",
            asked.subnet
        ))
    })?;
    if subnet != subnet.trunc() {
        return Err(invalid(format!(
            "invalid subnet {subnet}: it should be {}",
            subnet.trunc()
        )));
    }
    let max = if matches!(subnet, IpNet::V4(_)) {
        30
    } else {
        126
    };
    if subnet.prefix_len() > max {
        return Err(invalid(format!(
            "invalid subnet {subnet}: it holds no container beside its gateway"
        )));
    }
    if !asked.ip_range.is_empty() {
        let range: Option<IpNet> = asked.ip_range.parse().ok();
        let inside = |range: &IpNet| range.trunc() == *range && subnet.contains(range);
        if !range.as_ref().is_some_and(inside) {
            return Err(invalid(format!(
                "invalid ip-range {}: parent subnet {subnet} doesn't contain ip-range",
                asked.ip_range
            )));
        }
    }
    let mut resolved = Resolved::new(subnet, asked.clone());
    if !asked.gateway.is_empty() {
        // Some clients write the gateway with its prefix.
        let bare = asked.gateway.split('/').next().unwrap_or_default();
        let gateway = bare.parse().ok().filter(|g: &IpAddr| subnet.contains(g));
        resolved.gateway = gateway.ok_or_else(|| {
            invalid(format!(
                "invalid gateway {}: parent subnet {subnet} doesn't contain this address",
                asked.gateway
            ))
        })?;
    }
    for (name, text) in &asked.auxiliary_addresses {
        if !text.parse().is_ok_and(|a: IpAddr| subnet.contains(&a)) {
            return Err(invalid(format!(
                "invalid auxiliary address {name}: parent subnet {subnet} doesn't contain {text}"
            )));
        }
    }
    Pools::check(subnet, subnets, host).map_err(|e| refused(&e))?;
    Ok(resolved)
}

/// Docker's status for a subnet that cannot be had.
fn refused(error: &PoolError) -> Error {
    let kind = match error {
        PoolError::Size { .. } | PoolError::None => ErrorKind::InvalidParameter,
        _ => ErrorKind::Forbidden,
    };
    Error::new(kind, error.to_string())
}

/// A free subnet of the engine's pools.
pub(super) fn choose_ipv4(
    config: &NetworkConfig,
    subnets: &Subnets,
    host: &[HostRange],
) -> Result<Ipv4Net, Error> {
    let own: Vec<Pool> = config
        .address_pools
        .iter()
        .filter_map(|(base, size)| match base {
            IpNet::V4(base) => Some(Pool {
                base: *base,
                size: *size,
            }),
            IpNet::V6(_) => None,
        })
        .collect();
    let pools = match own.is_empty() {
        true => Pools::default(),
        false => Pools::new(own).map_err(|e| refused(&e))?,
    };
    let taken: Vec<Ipv4Net> = subnets
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        })
        .collect();
    pools.choose(&taken, host).map_err(|e| refused(&e))
}

/// A random subnet of the engine's IPv6 pool, or of the unique local
/// addresses: nobody else is expected to have it.
pub(super) fn choose_ipv6(config: &NetworkConfig) -> Ipv6Net {
    let pool = config
        .address_pools
        .iter()
        .find_map(|(base, size)| match base {
            IpNet::V6(base) => Some((*base, *size)),
            IpNet::V4(_) => None,
        });
    let random = random_ula();
    let Some((base, size)) = pool else {
        return random;
    };
    // The random part of the one is put into the room of the other.
    let room = u128::from(size - base.prefix_len());
    let word = (u128::from(random.addr()) >> 64) & ((1_u128 << room.min(56)) - 1);
    let shift = 128 - u32::from(size);
    let bits = word.checked_shl(shift).unwrap_or(0);
    let network = u128::from(base.network()) | bits;
    Ipv6Net::new(Ipv6Addr::from(network), size).map_or(random, |net| net.trunc())
}

/// The address a bridge gets when nobody says.
pub(super) fn first_address(subnet: IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(net) => Ipv4Addr::from(u32::from(net.network()).wrapping_add(1)).into(),
        IpNet::V6(net) => first_address_v6(net).into(),
    }
}

pub(super) fn first_address_v6(subnet: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(subnet.network()).wrapping_add(1))
}

/// Engines of one machine choose their subnets one after the other. Without
/// the file there is a chance that two choose the same, no more.
pub(super) fn subnet_lock() -> Option<FileLock> {
    FileLock::acquire(Path::new("/run/conex-subnets.lock")).ok()
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolved(pool: serde_json::Value) -> Result<(String, String), String> {
        let pool: IpamConfig = serde_json::from_value(pool).unwrap();
        let taken = vec!["10.77.0.0/24".parse().unwrap()];
        resolve(&pool, &NetworkConfig::default(), &taken, &[])
            .map(|r| (r.subnet.to_string(), r.gateway.to_string()))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_pool_is_completed_and_its_mistakes_are_named() {
        use serde_json::json;
        let ok = |pool| resolved(pool).unwrap();
        assert_eq!(
            ok(json!({"Subnet": "10.9.0.0/24"})),
            ("10.9.0.0/24".into(), "10.9.0.1".into())
        );
        assert_eq!(
            ok(json!({"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.254/24"})).1,
            "10.9.0.254"
        );
        assert_eq!(ok(json!({})).1, "172.17.0.1");
        for (pool, text) in [
            (json!({"Subnet": "10.9.0.1/24"}), "it should be 10.9.0.0/24"),
            (json!({"Subnet": "10.9.0"}), "invalid CIDR block notation"),
            (
                json!({"Subnet": "10.9.0.0/24", "Gateway": "10.8.0.1"}),
                "doesn't contain this address",
            ),
            (
                json!({"Subnet": "10.9.0.0/24", "IPRange": "10.9.0.0/16"}),
                "doesn't contain ip-range",
            ),
            (json!({"Subnet": "10.9.0.0/31"}), "holds no container"),
            (
                json!({"Subnet": "10.77.0.0/25"}),
                "invalid pool request: Pool overlaps with other one on this address space",
            ),
        ] {
            let error = resolved(pool).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn names_of_the_engine_are_nobodys() {
        for name in ["bridge", "host", "none", "default", "", " x", "a/b"] {
            let request = CreateRequest {
                name: name.into(),
                ..CreateRequest::default()
            };
            assert!(check(&request).is_err(), "{name:?}");
        }
        let request = |driver: &str| CreateRequest {
            name: "n".into(),
            driver: driver.into(),
            ..CreateRequest::default()
        };
        assert!(check(&request("")).is_ok() && check(&request("bridge")).is_ok());
        assert_eq!(
            check(&request("weave")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            check(&request("host")).unwrap_err().kind(),
            ErrorKind::Forbidden
        );
    }

    #[test]
    fn ipv6_subnets_come_from_the_pool() {
        let mut config = NetworkConfig::default();
        assert_eq!(choose_ipv6(&config).prefix_len(), 64);
        let base: Ipv6Net = "2001:db8:7::/48".parse().unwrap();
        config.address_pools = vec![(base.into(), 64)];
        let net = choose_ipv6(&config);
        assert!(base.contains(&net) && net.prefix_len() == 64, "{net}");
        config.address_pools = vec![(base.into(), 48)];
        assert_eq!(choose_ipv6(&config), base);
    }
}
