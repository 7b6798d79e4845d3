//! Giving a container its place on networks: at its start, and while it runs.
//!
//! ```text
//!   addresses taken ► ports held, rules in force ► interfaces
//!        └──────────────── any failure gives all of it back ──────┘
//! ```

use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use conex_api::container::EndpointSettings;
use conex_network::{Endpoint, KeeperError, Mac, NamespaceError, Network, PortRequest};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;

use super::{Driver, Entry, Joined, Networks, Place, Record, Sandbox, settings};
use crate::error::chain;
use crate::{Error, ErrorKind, container};

/// What a container asks for.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The container.
    pub(crate) record: &'a container::Record,
    /// Its name.
    pub(crate) name: &'a str,
    /// Networks by the name asked for; the one of its mode first.
    pub(crate) asked: Vec<(String, EndpointSettings)>,
    /// Ports to publish.
    pub(crate) ports: Vec<PortRequest>,
}

/// What a container was given. Dropped before it is [kept](Attached::keep),
/// everything is given back.
#[derive(Debug)]
pub(crate) struct Attached<'a> {
    networks: &'a Networks,
    pub(crate) sandbox: Sandbox,
    /// A namespace of its own, unless its networks have no interfaces.
    pub(crate) namespace: Option<OwnedFd>,
    kept: bool,
}

impl Attached<'_> {
    /// The container runs: what it has is its own.
    pub(crate) fn keep(mut self) -> Sandbox {
        self.kept = true;
        std::mem::take(&mut self.sandbox)
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.networks.release(&self.sandbox);
        }
    }
}

impl Networks {
    /// Gives a container that starts its place on all its networks. Blocks.
    ///
    /// Errors, all after `failed to set up container networking: `: not found
    /// for a network, forbidden for an address, system for a port that is
    /// taken and for the rest.
    pub(crate) fn attach(&self, plan: &Plan<'_>) -> Result<Attached<'_>, Error> {
        self.try_attach(plan).map_err(|error| {
            Error::new(
                error.kind(),
                format!("failed to set up container networking: {error}"),
            )
        })
    }

    fn try_attach(&self, plan: &Plan<'_>) -> Result<Attached<'_>, Error> {
        let mut attached = Attached {
            networks: self,
            sandbox: Sandbox {
                id: crate::id::generate(),
                ..Sandbox::default()
            },
            namespace: None,
            kept: false,
        };
        let mut records = Vec::new();
        for (name, asked) in &plan.asked {
            let interface = attached.sandbox.free_interface();
            let (record, joined) = self.reserve(plan, name, asked, interface)?;
            attached.sandbox.networks.insert(name.clone(), joined);
            records.push(record);
        }
        let has_own = records.iter().any(|r| r.driver == Driver::Bridge) || records.is_empty();
        if !has_own {
            return Ok(attached);
        }
        let gateway = self.choose_gateway(plan, &records);
        for (at, (name, _)) in plan.asked.iter().enumerate() {
            let joined = attached.sandbox.networks.get_mut(name);
            let Some(endpoint) = joined.and_then(|joined| joined.endpoint.as_mut()) else {
                continue;
            };
            endpoint.default_route = gateway == Some(at);
            let ports = match gateway == Some(at) {
                true => on_network(&records[at], &plan.ports),
                false => Vec::new(),
            };
            self.publish(plan.name, endpoint, &ports)?;
        }
        let wanted = with_networks(&attached.sandbox, &plan.asked, &records);
        let wanted: Vec<(&Network, &Endpoint)> = wanted.iter().map(|(n, e)| (n, *e)).collect();
        let made = match self.namespaces.connect(&wanted) {
            Err(error) if is_bridge_missing(&error) => {
                for record in &records {
                    self.ensure(record)?;
                }
                self.namespaces.connect(&wanted)
            }
            other => other,
        };
        attached.namespace = Some(made.map_err(|e| unmade(&e))?.into_fd());
        Ok(attached)
    }

    /// Puts a container that runs on one more network. What it is given is to
    /// be put into its sandbox; on an error nothing is left. Blocks.
    pub(crate) fn join(
        &self,
        plan: &Plan<'_>,
        sandbox: &Sandbox,
        namespace: BorrowedFd<'_>,
    ) -> Result<Joined, Error> {
        let [(name, asked)] = plan.asked.as_slice() else {
            return Err(Error::invalid("one network at a time"));
        };
        let (record, mut joined) = self.reserve(plan, name, asked, sandbox.free_interface())?;
        let result = match &mut joined.endpoint {
            None => Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "container cannot be connected to {} network while it runs",
                    record.driver.name()
                ),
            )),
            Some(endpoint) => self.join_as(plan, namespace, &record, endpoint),
        };
        if let Err(error) = result {
            let mut given = Sandbox::default();
            given.networks.insert(name.clone(), joined);
            self.release(&given);
            return Err(error);
        }
        Ok(joined)
    }

    fn join_as(
        &self,
        plan: &Plan<'_>,
        namespace: BorrowedFd<'_>,
        record: &Record,
        endpoint: &mut Endpoint,
    ) -> Result<(), Error> {
        endpoint.default_route = false;
        self.publish(plan.name, endpoint, &[])?;
        let network = record.bridge.as_ref();
        let network = network.expect("an endpoint with an interface is on a bridge");
        let made = match self.namespaces.join(namespace, network, endpoint) {
            Err(error) if is_bridge_missing(&error) => {
                self.ensure(record)?;
                self.namespaces.join(namespace, network, endpoint)
            }
            other => other,
        };
        made.map_err(|e| unmade(&e))
    }

    /// Chooses anew where a running container's default routes lead and its
    /// ports are published, after it was connected or disconnected. `ports`
    /// are what is to be published there. Blocks.
    pub(crate) fn choose_again(
        &self,
        plan: &Plan<'_>,
        sandbox: &mut Sandbox,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let mut records = Vec::new();
        for (name, _) in &plan.asked {
            records.push(self.find(name)?);
        }
        let chosen = self.choose_gateway(plan, &records);
        let chosen_name = chosen.map(|at| plan.asked[at].0.clone());
        let is_default = |joined: &Joined| {
            let endpoint = joined.endpoint.as_ref();
            endpoint.is_some_and(|endpoint| endpoint.default_route)
        };
        let current = sandbox
            .networks
            .iter()
            .find(|(_, joined)| is_default(joined));
        let current = current.map(|(name, _)| name.clone());
        if current == chosen_name {
            return Ok(());
        }
        let mut move_ports = |name: &str, default: bool, ports: &[PortRequest]| {
            let joined = sandbox.networks.get_mut(name);
            let Some(endpoint) = joined.and_then(|joined| joined.endpoint.as_mut()) else {
                return Ok(None);
            };
            endpoint.default_route = default;
            if !endpoint.names.is_empty() {
                // It may have been renamed since.
                let asked = plan.asked.iter().find(|(asked, _)| asked == name);
                let asked = asked.map(|(_, settings)| settings);
                endpoint.names = settings::names(plan.name, plan.record, asked);
            }
            self.publish(plan.name, endpoint, ports)?;
            Ok::<_, Error>(Some(endpoint.clone()))
        };
        if let Some(name) = current {
            move_ports(&name, false, &[])?;
        }
        let Some(at) = chosen else {
            return Ok(());
        };
        let ports = on_network(&records[at], &plan.ports);
        let moved = move_ports(&plan.asked[at].0, true, &ports)?;
        if let (Some(endpoint), Some(network)) = (moved, &records[at].bridge) {
            self.namespaces
                .route(namespace, network, &endpoint)
                .map_err(|e| unmade(&e))?;
        }
        Ok(())
    }

    /// The endpoint that default routes lead to and ports are published on:
    /// of the networks with a way out the one with the highest priority, of
    /// these the first by name (COMPAT D9.9).
    fn choose_gateway(&self, plan: &Plan<'_>, records: &[Arc<Record>]) -> Option<usize> {
        plan.asked
            .iter()
            .zip(records)
            .enumerate()
            .filter(|(_, (_, record))| record.driver == Driver::Bridge && !record.internal)
            .min_by_key(|(_, ((name, asked), _))| (-asked.gw_priority, name.clone()))
            .map(|(at, _)| at)
    }

    /// Has the netkeeper hold the ports and let the endpoint's traffic pass.
    fn publish(
        &self,
        container: &str,
        endpoint: &mut Endpoint,
        ports: &[PortRequest],
    ) -> Result<(), Error> {
        self.keeper().connect(endpoint, ports).map_err(|error| {
            let text = match &error {
                KeeperError::Port(error) => format!(
                    "driver failed programming external connectivity on endpoint {container} \
                     ({}): {error}",
                    endpoint.id
                ),
                error => format!("set up the endpoint {container}: {}", chain(error)),
            };
            Error::new(ErrorKind::System, text)
        })
    }

    /// Takes addresses on a network and notes that the container is on it.
    fn reserve(
        &self,
        plan: &Plan<'_>,
        name: &str,
        asked: &EndpointSettings,
        interface: String,
    ) -> Result<(Arc<Record>, Joined), Error> {
        let mut known = self.known();
        let record = known.find(name)?;
        let entry = known
            .networks
            .get_mut(&record.id)
            .filter(|entry| !entry.removing)
            .ok_or_else(|| Error::not_found(format!("network {name} not found")))?;
        let endpoint_id = crate::id::generate();
        let endpoint = match &record.bridge {
            None => None,
            Some(network) => {
                let mac = match asked.mac_address.as_str() {
                    "" => Mac::random(),
                    text => text
                        .parse()
                        .map_err(|e: conex_network::MacError| Error::invalid(e.to_string()))?,
                };
                let mut endpoint = Endpoint::new(&self.owner, network, endpoint_id.clone(), mac);
                endpoint.interface = interface;
                endpoint.routers = (record.route_ipv4, record.route_ipv6);
                if !record.is_default() {
                    endpoint.names = settings::names(plan.name, plan.record, Some(asked));
                }
                take_addresses(entry, asked, &mut endpoint)?;
                Some(endpoint)
            }
        };
        let place = Place {
            container: plan.record.id.clone(),
            endpoint: endpoint.clone(),
        };
        entry.endpoints.insert(endpoint_id.clone(), place);
        let joined = Joined {
            network_id: record.id.clone(),
            endpoint_id,
            endpoint,
        };
        Ok((record, joined))
    }
}

/// Addresses of both families, or none.
fn take_addresses(
    entry: &mut Entry,
    asked: &EndpointSettings,
    endpoint: &mut Endpoint,
) -> Result<(), Error> {
    let wanted = |text: Option<&String>| {
        text.filter(|text| !text.is_empty())
            .map(|text| {
                text.parse::<IpAddr>()
                    .map_err(|_| Error::invalid(format!("invalid IP address: {text}")))
            })
            .transpose()
    };
    let ipam = asked.ipam_config.as_ref();
    let static_ipv4 = wanted(ipam.map(|ipam| &ipam.ipv4_address))?;
    let static_ipv6 = wanted(ipam.map(|ipam| &ipam.ipv6_address))?;
    let forbidden =
        |e: conex_network::AddressError| Error::new(ErrorKind::Forbidden, e.to_string());
    let one = |pool: Option<&mut conex_network::Addresses>, wanted: Option<IpAddr>| match (
        pool, wanted,
    ) {
        (None, _) => Ok(None),
        (Some(pool), Some(address)) => {
            pool.take(address).map_err(forbidden)?;
            Ok(Some((address, pool.subnet())))
        }
        (Some(pool), None) => Ok(Some((pool.allocate().map_err(forbidden)?, pool.subnet()))),
    };
    let ipv4 = one(entry.ipv4.as_mut(), static_ipv4)?;
    let ipv6 = match one(entry.ipv6.as_mut(), static_ipv6) {
        Ok(ipv6) => ipv6,
        Err(error) => {
            if let (Some((address, _)), Some(pool)) = (ipv4, entry.ipv4.as_mut()) {
                pool.release(address);
            }
            return Err(error);
        }
    };
    let net = |(address, subnet): (IpAddr, IpNet)| match address {
        IpAddr::V4(address) => (Ipv4Net::new(address, subnet.prefix_len()).ok(), None),
        IpAddr::V6(address) => (None, Ipv6Net::new(address, subnet.prefix_len()).ok()),
    };
    endpoint.ipv4 = ipv4.and_then(|pair| net(pair).0);
    endpoint.ipv6 = ipv6.and_then(|pair| net(pair).1);
    Ok(())
}

/// Ports with the network's own default address where none is named.
fn on_network(record: &Record, ports: &[PortRequest]) -> Vec<PortRequest> {
    ports
        .iter()
        .map(|request| PortRequest {
            host_ip: request.host_ip.or(record.publish_address),
            ..*request
        })
        .collect()
}

/// The interfaces to make, in the order of their names.
fn with_networks<'a>(
    sandbox: &'a Sandbox,
    asked: &[(String, EndpointSettings)],
    records: &[Arc<Record>],
) -> Vec<(Network, &'a Endpoint)> {
    asked
        .iter()
        .zip(records)
        .filter_map(|((name, _), record)| {
            let endpoint = sandbox.networks.get(name)?.endpoint.as_ref()?;
            Some((record.bridge.clone()?, endpoint))
        })
        .collect()
}

fn is_bridge_missing(error: &NamespaceError) -> bool {
    matches!(error, NamespaceError::Link(error)
        if matches!(error.errno(), Some(Errno::NODEV | Errno::NXIO)))
}

fn unmade(error: &NamespaceError) -> Error {
    Error::new(
        ErrorKind::System,
        format!("failed to add interface to sandbox: {}", chain(error)),
    )
}
