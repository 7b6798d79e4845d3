//! The resolver a container finds at 127.0.0.11 if one of its networks is a
//! user's: what it is told, when it begins and when something changes. It
//! lives in the netkeeper (COMPAT D9.3).

use std::os::fd::{BorrowedFd, OwnedFd};

use conex_api::container::EndpointSettings;
use conex_network::keeper::{Nickname, Resolver, Upstream};

use super::{Joined, Networks, Sandbox, settings};
use crate::Error;
use crate::container::{self, Record};
use crate::error::chain;

impl Sandbox {
    /// Whether it is on a network where names are resolved.
    pub(crate) fn has_names(&self) -> bool {
        self.endpoints().iter().any(|e| !e.names.is_empty())
    }
}

/// Whom a container's resolver asks about what it does not know, and whether
/// the container's own file tells it to add search domains to short names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outside {
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) keeps_short_names: bool,
}

impl Networks {
    /// What a container's resolver is told; none if it needs no resolver.
    /// `asked` are its networks by the names it asked for.
    pub(crate) fn resolver(
        &self,
        sandbox: &Sandbox,
        asked: &[(String, EndpointSettings)],
        outside: Outside,
    ) -> Option<Resolver> {
        if !sandbox.has_names() {
            return None;
        }
        let mut joined: Vec<(&String, &Joined)> = sandbox.networks.iter().collect();
        // Where the default route leads comes first.
        joined
            .sort_by_key(|(_, joined)| !joined.endpoint.as_ref().is_some_and(|e| e.default_route));
        let mut resolver = Resolver {
            id: sandbox.id.clone(),
            upstreams: outside.upstreams,
            keeps_short_names: outside.keeps_short_names,
            ..Resolver::default()
        };
        for (name, joined) in joined {
            let Some(endpoint) = &joined.endpoint else {
                continue;
            };
            resolver.endpoints.push(endpoint.id.clone());
            resolver.forwards |= endpoint.default_route;
            let settings = asked.iter().find(|(asked, _)| asked == name);
            let links = settings.and_then(|(_, settings)| settings.links.as_ref());
            for link in links.into_iter().flatten() {
                // Checked when it was asked for.
                let Ok((name, nickname)) = container::link::parse(link) else {
                    continue;
                };
                resolver.nicknames.push(Nickname {
                    network: joined.network_id.clone(),
                    nickname: nickname.to_owned(),
                    name: name.to_owned(),
                });
            }
        }
        Some(resolver)
    }

    /// Opens a resolver in a container's namespace, or changes the one there.
    /// Blocks.
    pub(crate) fn resolve(
        &self,
        resolver: Resolver,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let done = self.keeper().resolve(resolver, namespace);
        done.map_err(|e| Error::system("start the container's resolver", &e))
    }

    /// Says which process a container's resolver ends with. Blocks.
    pub(crate) fn watch(&self, sandbox: &Sandbox, process: OwnedFd) {
        if sandbox.has_names()
            && let Err(error) = self.keeper().watch(&sandbox.id, process)
        {
            tracing::warn!(sandbox = sandbox.id, error = chain(&error), "its resolver");
        }
    }

    /// Has a container that runs found by another name. Blocks.
    pub(crate) fn rename(
        &self,
        name: &str,
        record: &Record,
        sandbox: &Sandbox,
        asked: &[(String, EndpointSettings)],
    ) {
        let mut all = Vec::new();
        for (on, joined) in &sandbox.networks {
            let Some(endpoint) = joined.endpoint.as_ref().filter(|e| !e.names.is_empty()) else {
                continue;
            };
            let settings = asked.iter().find(|(asked, _)| asked == on);
            let names = settings::names(name, record, settings.map(|(_, settings)| settings));
            all.push((endpoint.id.clone(), names));
        }
        if !all.is_empty()
            && let Err(error) = self.keeper().rename(all)
        {
            tracing::warn!(container = record.id, error = chain(&error), "its names");
        }
    }
}
