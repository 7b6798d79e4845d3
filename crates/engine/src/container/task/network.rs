//! What only the owner may do about a container's networks: connect, disconnect,
//! and leave them all at the end.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use conex_api::container::EndpointSettings;
use conex_network::{HostPort, PortRequest};
use rustix::fs::{Mode, OFlags};

use super::Task;
use crate::container::state::Change;
use crate::container::{Container, State};
use crate::engine::Inner;
use crate::network::{Driver, Plan, Record, Sandbox, addresses, port, settings};
use crate::{Error, ErrorKind};

/// Ports that a running container is to go on publishing: those it has, or
/// those it asked for.
fn ports_of(sandbox: &Sandbox, record: &super::Record) -> Result<Vec<PortRequest>, Error> {
    let bound = sandbox.ports();
    if bound.is_empty() {
        return port::wanted(&record.config, &record.host_config);
    }
    let mut all: Vec<PortRequest> = Vec::new();
    for binding in bound {
        // Both families of one request were bound together.
        let everywhere = binding.host_ip.is_unspecified();
        let request = PortRequest {
            container_port: binding.container_port,
            protocol: binding.protocol,
            host_ip: (!everywhere).then_some(binding.host_ip),
            host_port: HostPort::One(binding.host_port),
        };
        if !all.contains(&request) {
            all.push(request);
        }
    }
    Ok(all)
}

/// Tells a running container's resolver of its networks, and begins it with the
/// first that has names.
fn change_resolver(
    engine: &Inner,
    container: &Container,
    sandbox: &Sandbox,
    plan: &Plan<'_>,
    namespace: BorrowedFd<'_>,
) -> Result<(), Error> {
    let outside = engine.write_resolv(container, sandbox)?;
    match engine.networks.resolver(sandbox, &plan.asked, outside) {
        Some(resolver) => engine.networks.resolve(resolver, namespace),
        None => Ok(()),
    }
}

impl Task {
    /// Tells of every network that a container joined or left.
    pub(super) fn publish_networks(&self, action: &str, sandbox: Option<&Sandbox>) {
        for joined in sandbox.into_iter().flat_map(|s| s.networks.values()) {
            if let Ok(network) = self.engine.networks.find(&joined.network_id) {
                self.publish_network(action, &network);
            }
        }
    }

    fn publish_network(&self, action: &str, network: &Record) {
        let attributes = [
            ("container", self.container.id()),
            ("name", network.name.as_str()),
            ("type", network.driver.name()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let events = &self.engine.events;
        events.publish("network", action, &network.id, attributes.into());
    }

    /// Gives back everything a container had of its networks.
    pub(super) async fn leave_networks(&self, sandbox: Option<Arc<Sandbox>>) {
        let Some(sandbox) = sandbox else {
            return;
        };
        let engine = Arc::clone(&self.engine);
        let released = tokio::task::spawn_blocking(move || engine.networks.release(&sandbox));
        if let Err(error) = released.await {
            tracing::error!(%error, "its networks were not given back");
        }
    }

    /// Puts the container on one more network, now and at every later start.
    pub(super) async fn connect(
        &mut self,
        word: &str,
        asked: EndpointSettings,
    ) -> Result<(), Error> {
        let network = self.engine.networks.find(word)?;
        let state = self.container.state();
        let mut all = self.changeable(&state, &network)?;
        network.check_endpoint(&asked)?;
        if self.named_like(&all, &network).is_some() {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "endpoint with name {} already exists in network {}",
                    self.container.name(),
                    network.name
                ),
            ));
        }
        all.insert(network.name.clone(), asked.clone());
        let wanted: Vec<_> = all.clone().into_iter().collect();
        let mut sandbox = state.sandbox.clone();
        if let Some(before) = state.sandbox.clone().filter(|_| state.is_running()) {
            let namespace = self.namespace(&state)?;
            let (engine, container) = (Arc::clone(&self.engine), Arc::clone(&self.container));
            let name = network.name.clone();
            let process = self.monitored.as_ref();
            let process = process.and_then(|m| m.pidfd.try_clone().ok());
            let joining = tokio::task::spawn_blocking(move || {
                let record = &container.record;
                let own_name = container.name();
                let mut plan = Plan {
                    record,
                    name: &own_name,
                    asked: vec![(name.clone(), asked)],
                    ports: ports_of(&before, record)?,
                };
                let joined = engine.networks.join(&plan, &before, namespace.as_fd())?;
                let own: Vec<_> = joined.endpoint.iter().flat_map(addresses).collect();
                let mut after = (*before).clone();
                after.networks.insert(name, joined);
                plan.asked = wanted;
                let written = engine
                    .networks
                    .choose_again(&plan, &mut after, namespace.as_fd())
                    .and_then(|()| {
                        change_resolver(&engine, &container, &after, &plan, namespace.as_fd())
                    })
                    .and_then(|()| after.save(&container.run_dir))
                    .and_then(|()| engine.change_hosts(&container, &own, &[]));
                if let Err(error) = written {
                    after
                        .networks
                        .retain(|name, _| !before.networks.contains_key(name));
                    engine.networks.part(&after);
                    return Err(error);
                }
                if let Some(process) = process {
                    engine.networks.watch(&after, process);
                }
                Ok(after)
            });
            let after = joining
                .await
                .map_err(|e| Error::system("connect the container", &e))??;
            sandbox = Some(Arc::new(after));
        }
        self.change_networks(all, sandbox).await?;
        self.publish_network("connect", &network);
        Ok(())
    }

    /// Takes the container off a network, now and for every later start.
    pub(super) async fn disconnect(&mut self, word: &str) -> Result<(), Error> {
        let network = self.engine.networks.find(word)?;
        let state = self.container.state();
        let mut all = self.changeable(&state, &network)?;
        let Some(name) = self.named_like(&all, &network) else {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "container {} is not connected to network {}",
                    self.container.id(),
                    network.name
                ),
            ));
        };
        all.remove(&name);
        let wanted: Vec<_> = all.clone().into_iter().collect();
        let mut sandbox = state.sandbox.clone();
        if let Some(before) = state.sandbox.clone().filter(|_| state.is_running()) {
            let namespace = self.namespace(&state)?;
            let (engine, container) = (Arc::clone(&self.engine), Arc::clone(&self.container));
            let leaving = tokio::task::spawn_blocking(move || {
                let mut after = (*before).clone();
                let Some(left) = after.networks.remove(&name) else {
                    return Ok(after);
                };
                let own: Vec<_> = left.endpoint.iter().flat_map(addresses).collect();
                let record = &container.record;
                let own_name = container.name();
                let plan = Plan {
                    record,
                    name: &own_name,
                    asked: wanted,
                    ports: ports_of(&before, record)?,
                };
                // Written down last: until then the next engine takes it back.
                let mut gone = Sandbox::default();
                gone.networks.insert(name, left);
                engine.networks.part(&gone);
                engine
                    .networks
                    .choose_again(&plan, &mut after, namespace.as_fd())?;
                if after.has_names() {
                    change_resolver(&engine, &container, &after, &plan, namespace.as_fd())?;
                }
                engine.change_hosts(&container, &[], &own)?;
                after.save(&container.run_dir)?;
                Ok::<_, Error>(after)
            });
            let after = leaving
                .await
                .map_err(|e| Error::system("disconnect the container", &e))??;
            sandbox = Some(Arc::new(after));
        }
        self.change_networks(all, sandbox).await?;
        self.publish_network("disconnect", &network);
        Ok(())
    }

    /// The name under which a container asked for a network.
    fn named_like(
        &self,
        all: &BTreeMap<String, EndpointSettings>,
        network: &Record,
    ) -> Option<String> {
        let is_it = |name: &&String| {
            let found = self.engine.networks.find(name);
            found.is_ok_and(|found| found.id == network.id)
        };
        all.keys().find(is_it).cloned()
    }

    /// The container's networks, if they may be changed.
    fn changeable(
        &self,
        state: &State,
        network: &Record,
    ) -> Result<BTreeMap<String, EndpointSettings>, Error> {
        let mode = self.container.record.host_config.network_mode.as_str();
        let refused = |text: &str| Err(Error::invalid(text));
        const SHARED: &str = "container sharing network namespace with another container or host \
                              cannot be connected to any other network";
        if mode.starts_with("container:") {
            return refused(SHARED);
        }
        if mode == "host" && network.driver != Driver::Host {
            return refused(SHARED);
        }
        if network.driver == Driver::Host {
            return refused(
                "container cannot be disconnected from host network or connected to host network",
            );
        }
        let all = settings::asked(&self.container.record, state);
        if all.len() == 1 && all.contains_key("none") && network.driver != Driver::Null {
            return refused(
                "container cannot be connected to multiple networks with one of the networks in \
                 private (none) mode",
            );
        }
        Ok(all)
    }

    fn namespace(&self, state: &State) -> Result<OwnedFd, Error> {
        let path = format!("/proc/{}/ns/net", state.pid);
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::system("open the container's network namespace", &e))
    }

    async fn change_networks(
        &mut self,
        endpoints: BTreeMap<String, EndpointSettings>,
        sandbox: Option<Arc<Sandbox>>,
    ) -> Result<(), Error> {
        self.fact(Change::Networks { endpoints, sandbox }).await;
        Ok(())
    }
}
