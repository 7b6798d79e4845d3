//! Who has which name and which address, network by network. Pure: it follows
//! the endpoints as they come and go, and is asked by the resolvers of
//! containers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::Resolver;
use crate::dns::{self, Query, Record};
use crate::{Endpoint, Network};

/// The names of one network.
#[derive(Debug, Default)]
struct Names {
    /// In lower case; an alias may be of several endpoints.
    by_name: HashMap<String, BTreeSet<String>>,
    by_address: HashMap<IpAddr, String>,
}

/// The names of all networks.
#[derive(Debug, Default)]
pub(super) struct Directory {
    networks: HashMap<String, Names>,
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let four = endpoint.ipv4.map(|net| IpAddr::V4(net.addr()));
    let six = endpoint.ipv6.map(|net| IpAddr::V6(net.addr()));
    four.into_iter().chain(six)
}

impl Directory {
    /// An endpoint more; nothing for one without names.
    pub(super) fn add(&mut self, endpoint: &Endpoint) {
        if endpoint.names.is_empty() {
            return;
        }
        let names = self.networks.entry(endpoint.network.clone()).or_default();
        for name in &endpoint.names {
            let ids = names.by_name.entry(name.to_ascii_lowercase()).or_default();
            ids.insert(endpoint.id.clone());
        }
        for address in addresses(endpoint) {
            names.by_address.insert(address, endpoint.id.clone());
        }
    }

    /// An endpoint less, as it was added.
    pub(super) fn remove(&mut self, endpoint: &Endpoint) {
        let Some(names) = self.networks.get_mut(&endpoint.network) else {
            return;
        };
        for name in &endpoint.names {
            let name = name.to_ascii_lowercase();
            if let Some(ids) = names.by_name.get_mut(&name) {
                ids.remove(&endpoint.id);
                if ids.is_empty() {
                    names.by_name.remove(&name);
                }
            }
        }
        for address in addresses(endpoint) {
            if names.by_address.get(&address) == Some(&endpoint.id) {
                names.by_address.remove(&address);
            }
        }
        if names.by_name.is_empty() {
            self.networks.remove(&endpoint.network);
        }
    }

    /// The endpoints with a name, which is in lower case.
    pub(super) fn named(&self, network: &str, name: &str) -> Option<&BTreeSet<String>> {
        self.networks.get(network)?.by_name.get(name)
    }

    /// The endpoint with an address.
    pub(super) fn at(&self, network: &str, address: IpAddr) -> Option<&str> {
        let names = self.networks.get(network)?;
        names.by_address.get(&address).map(String::as_str)
    }

    pub(super) fn clear(&mut self) {
        self.networks.clear();
    }
}

/// All there is to know about names.
pub(super) struct World<'a> {
    pub(super) directory: &'a Directory,
    pub(super) endpoints: &'a HashMap<String, Endpoint>,
    pub(super) networks: &'a BTreeMap<String, Network>,
}

impl World<'_> {
    /// What a container's resolver says of itself. None for what it does not
    /// know: somebody else may. A name that is known has no records but its
    /// addresses, and none of those where it has none of that family.
    pub(super) fn find(&self, resolver: &Resolver, query: &Query) -> Option<Vec<Record>> {
        let name = query.name.as_deref().filter(|name| !name.is_empty())?;
        if !query.is_internet() {
            return None;
        }
        if query.kind == dns::PTR {
            return Some(vec![Record::Name(
                self.name_of(resolver, query.address()?)?,
            )]);
        }
        let is_wanted = |address: &IpAddr| match query.kind {
            dns::A => address.is_ipv4(),
            dns::AAAA => address.is_ipv6(),
            _ => false,
        };
        // `db` on any network of the container, `db` on the network `net`.
        let dots = name.rmatch_indices('.');
        let parts = dots.map(|(at, _)| (&name[..at], Some(&name[at + 1..])));
        std::iter::once((name, None))
            .chain(parts)
            .find_map(|(name, network)| self.addresses(resolver, name, network, is_wanted))
            .map(|all| all.into_iter().map(Record::Address).collect())
    }

    /// The networks of a container, in the order they are asked.
    fn networks<'b>(&'b self, resolver: &'b Resolver) -> impl Iterator<Item = &'b Network> {
        let endpoints = resolver.endpoints.iter();
        let endpoints = endpoints.filter_map(|id| self.endpoints.get(id));
        endpoints.filter_map(|endpoint| self.networks.get(&endpoint.network))
    }

    fn name_of(&self, resolver: &Resolver, address: IpAddr) -> Option<String> {
        self.networks(resolver).find_map(|network| {
            let id = self.directory.at(&network.id, address)?;
            let name = self.endpoints.get(id)?.names.first()?;
            Some(format!("{name}.{}", network.name))
        })
    }

    /// Of the first network where the name has any; nothing if it has none,
    /// none if it is not known. Names of the container's own come first.
    fn addresses(
        &self,
        resolver: &Resolver,
        name: &str,
        only: Option<&str>,
        is_wanted: impl Fn(&IpAddr) -> bool,
    ) -> Option<Vec<IpAddr>> {
        let mut known = None;
        let nicknames = resolver.nicknames.iter();
        let nicknames = nicknames.filter(|own| own.nickname.eq_ignore_ascii_case(name));
        let own = nicknames.map(|own| (Some(own.network.as_str()), own.name.to_ascii_lowercase()));
        for (on, name) in own.chain([(None, name.to_owned())]) {
            for network in self.networks(resolver) {
                if on.is_some_and(|on| on != network.id)
                    || only.is_some_and(|only| !network.name.eq_ignore_ascii_case(only))
                {
                    continue;
                }
                let Some(ids) = self.directory.named(&network.id, &name) else {
                    continue;
                };
                let all = ids.iter().filter_map(|id| self.endpoints.get(id));
                let found: Vec<IpAddr> = all.flat_map(addresses).filter(&is_wanted).collect();
                if !found.is_empty() {
                    return Some(found);
                }
                known = Some(found);
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keeper::Nickname;
    use crate::{Mac, Owner};

    fn network(name: &str) -> Network {
        Network {
            id: format!("id of {name}"),
            name: name.into(),
            bridge: name.into(),
            ipv4: None,
            ipv6: None,
            mtu: None,
            icc: true,
            masquerade: true,
            internal: false,
        }
    }

    #[derive(Default)]
    struct Town {
        directory: Directory,
        endpoints: HashMap<String, Endpoint>,
        networks: BTreeMap<String, Network>,
    }

    impl Town {
        fn endpoint(&mut self, on: &str, id: &str, address: &str, names: &[&str]) {
            let network = network(on);
            let owner = Owner::new("test");
            let mut endpoint = Endpoint::new(&owner, &network, id.into(), Mac::random());
            match address.contains(':') {
                true => endpoint.ipv6 = Some(address.parse().unwrap()),
                false => endpoint.ipv4 = Some(address.parse().unwrap()),
            }
            endpoint.names = names.iter().map(|name| (*name).into()).collect();
            self.directory.add(&endpoint);
            self.endpoints.insert(id.into(), endpoint);
            self.networks.insert(network.id.clone(), network);
        }

        fn ask(&self, resolver: &Resolver, name: &str, kind: u16) -> Option<Vec<String>> {
            let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.split('.') {
                message.push(u8::try_from(label.len()).unwrap());
                message.extend_from_slice(label.as_bytes());
            }
            message.push(0);
            message.extend_from_slice(&[0, u8::try_from(kind).unwrap(), 0, 1]);
            let world = World {
                directory: &self.directory,
                endpoints: &self.endpoints,
                networks: &self.networks,
            };
            let found = world.find(resolver, &Query::parse(&message).unwrap())?;
            let text = |record| match record {
                Record::Address(address) => address.to_string(),
                Record::Name(name) => name,
            };
            Some(found.into_iter().map(text).collect())
        }
    }

    fn resolver(endpoints: &[&str]) -> Resolver {
        Resolver {
            endpoints: endpoints.iter().map(|id| (*id).into()).collect(),
            ..Resolver::default()
        }
    }

    fn some(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(|text| (*text).into()).collect())
    }

    fn town() -> Town {
        let mut town = Town::default();
        town.endpoint("blue", "b1", "10.1.0.2/24", &["web", "www", "aaaaaaaaaaaa"]);
        town.endpoint("blue", "b2", "10.1.0.3/24", &["Db", "store"]);
        town.endpoint("blue", "b3", "10.1.0.4/24", &["db2", "store"]);
        town.endpoint("red.net", "r1", "10.2.0.2/24", &["db"]);
        town.endpoint("six", "s1", "fd00::2/64", &["db"]);
        town.endpoint("plain", "p1", "10.9.0.2/24", &[]);
        town
    }

    #[test]
    fn a_name_is_known_on_the_networks_of_the_asker_alone() {
        let town = town();
        let blue = resolver(&["b1"]);
        assert_eq!(town.ask(&blue, "db", dns::A), some(&["10.1.0.3"]));
        assert_eq!(town.ask(&blue, "DB", dns::A), some(&["10.1.0.3"]));
        assert_eq!(town.ask(&blue, "web", dns::A), some(&["10.1.0.2"]));
        assert_eq!(town.ask(&blue, "aaaaaaaaaaaa", dns::A), some(&["10.1.0.2"]));
        assert_eq!(town.ask(&blue, "nobody", dns::A), None);
        assert_eq!(
            town.ask(&resolver(&["r1"]), "db", dns::A),
            some(&["10.2.0.2"])
        );
        assert_eq!(town.ask(&resolver(&["r1"]), "web", dns::A), None);
        assert_eq!(town.ask(&resolver(&["p1"]), "db", dns::A), None);
        assert_eq!(town.ask(&resolver(&["gone"]), "db", dns::A), None);
    }

    #[test]
    fn an_alias_of_several_is_all_of_them() {
        let all = town().ask(&resolver(&["b1"]), "store", dns::A);
        assert_eq!(all, some(&["10.1.0.3", "10.1.0.4"]));
    }

    #[test]
    fn a_known_name_has_nothing_but_its_addresses() {
        let town = town();
        let blue = resolver(&["b1"]);
        for kind in [dns::AAAA, 15, 16, 65] {
            assert_eq!(town.ask(&blue, "db", kind), some(&[]), "{kind}");
        }
        // Another network of the asker may have what the first lacks.
        let both = resolver(&["b1", "s1"]);
        assert_eq!(town.ask(&both, "db", dns::AAAA), some(&["fd00::2"]));
        assert_eq!(town.ask(&both, "db", dns::A), some(&["10.1.0.3"]));
    }

    #[test]
    fn a_name_may_say_which_network_it_means() {
        let town = town();
        let both = resolver(&["b1", "r1"]);
        assert_eq!(town.ask(&both, "db", dns::A), some(&["10.1.0.3"]));
        assert_eq!(town.ask(&both, "db.red.net", dns::A), some(&["10.2.0.2"]));
        assert_eq!(town.ask(&both, "db.BLUE", dns::A), some(&["10.1.0.3"]));
        assert_eq!(town.ask(&both, "db.six", dns::A), None);
        assert_eq!(town.ask(&both, "db.example.org", dns::A), None);
    }

    #[test]
    fn a_nickname_is_known_to_its_container_alone() {
        let mut town = town();
        let mut own = resolver(&["b1"]);
        own.nicknames.push(Nickname {
            network: "id of blue".into(),
            nickname: "Data".into(),
            name: "DB".into(),
        });
        assert_eq!(town.ask(&own, "data", dns::A), some(&["10.1.0.3"]));
        assert_eq!(town.ask(&own, "data.blue", dns::A), some(&["10.1.0.3"]));
        assert_eq!(town.ask(&resolver(&["b1"]), "data", dns::A), None);
        let db = town.endpoints["b2"].clone();
        town.directory.remove(&db);
        assert_eq!(town.ask(&own, "data", dns::A), None);
        assert_eq!(town.ask(&own, "store", dns::A), some(&["10.1.0.4"]));
    }

    #[test]
    fn an_address_has_a_name_where_the_asker_is() {
        let town = town();
        let blue = resolver(&["b1"]);
        let ask = |name| town.ask(&blue, name, dns::PTR);
        assert_eq!(ask("3.0.1.10.in-addr.arpa"), some(&["Db.blue"]));
        assert_eq!(ask("2.0.2.10.in-addr.arpa"), None);
        assert_eq!(ask("db"), None);
    }

    #[test]
    fn nothing_is_left_of_endpoints_that_went() {
        let mut town = town();
        for endpoint in town.endpoints.values() {
            town.directory.remove(endpoint);
        }
        assert!(town.directory.networks.is_empty());
    }
}
