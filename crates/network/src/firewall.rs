//! What the engine's two nftables tables hold, and how they change.
//!
//! ```text
//!  table inet conex-<id>                         table bridge conex-<id>
//!    prerouting −300  guard    127/8 only on lo    prerouting −300  source
//!    prerouting −100  publish  ─┐ port maps          frames of our interfaces only with
//!    output     −100  local    ─┘                    the addresses we gave them
//!    forward       0  forward  who may reach whom
//!    postrouting 100  source   masquerade, hairpin
//! ```
//!
//! Rules are there once, whatever there is of networks, containers and ports:
//! those are elements of sets and maps. A packet passes a constant number of
//! rules, and publishing a port costs one element, the first as the last.
//!
//! No table, chain or rule of anybody else is touched: an `accept` here ends
//! our chain only, and the host's own rules still have their say.

mod elements;
mod tables;
#[cfg(test)]
mod tests;

use rustix::io::Errno;
use thiserror::Error;

use crate::keeper::{Options, State};
use crate::nft::{Element, Family, Nft, NftError, Transaction};
use crate::{Endpoint, Network, Owner};

/// Why the rules are not in force.
#[derive(Debug, Error)]
#[error("{what}: {source}")]
pub(crate) struct FirewallError {
    what: &'static str,
    source: NftError,
}

/// Elements to add or to remove, each with its place.
pub(crate) type Elements = Vec<(Family, &'static str, Element)>;

/// The engine's tables in the kernel.
#[derive(Debug)]
pub(crate) struct Firewall {
    nft: Nft,
    owner: Owner,
    options: Options,
}

impl Firewall {
    /// In the network namespace of the calling thread. Changes nothing.
    pub(crate) fn open(owner: Owner) -> Result<Firewall, Errno> {
        Ok(Firewall {
            nft: Nft::open()?,
            owner,
            options: Options::default(),
        })
    }

    /// Netlink's name of our socket: notices with another one tell of
    /// somebody else's changes.
    pub(crate) fn port(&self) -> u32 {
        self.nft.port()
    }

    /// Makes the tables what a state says, whatever they were, at one moment.
    pub(crate) fn replace(&mut self, state: &State) -> Result<(), FirewallError> {
        self.options = state.options;
        let transaction = whole(&self.owner, state);
        self.commit("load the rules", transaction)
    }

    /// Removes the tables.
    pub(crate) fn remove(&self) -> Result<(), FirewallError> {
        let mut transaction = Transaction::new();
        clear(&mut transaction, &self.owner);
        self.commit("remove the rules", transaction)
    }

    /// A network more.
    pub(crate) fn add_network(&self, network: &Network) -> Result<(), FirewallError> {
        let elements = elements::of_network(network);
        self.commit("add a network", self.adding(elements))
    }

    /// A network less.
    pub(crate) fn remove_network(&self, network: &Network) -> Result<(), FirewallError> {
        let elements = elements::of_network(network);
        self.commit("remove a network", self.removing(elements))
    }

    /// An endpoint more, with its published ports.
    pub(crate) fn add_endpoint(&self, endpoint: &Endpoint) -> Result<(), FirewallError> {
        let elements = elements::of_endpoint(endpoint, self.options);
        self.commit("add an endpoint", self.adding(elements))
    }

    /// Endpoints less.
    pub(crate) fn remove_endpoints(&self, endpoints: &[Endpoint]) -> Result<(), FirewallError> {
        let of = |endpoint| elements::of_endpoint(endpoint, self.options);
        let elements = endpoints.iter().flat_map(of).collect();
        self.commit("remove endpoints", self.removing(elements))
    }

    fn adding(&self, elements: Elements) -> Transaction {
        let mut transaction = Transaction::new();
        for (family, set, elements) in self.in_force(elements) {
            transaction.add_elements(family, &self.owner.table, set, &elements);
        }
        transaction
    }

    fn removing(&self, elements: Elements) -> Transaction {
        let mut transaction = Transaction::new();
        for (family, set, elements) in self.in_force(elements) {
            transaction.delete_elements(family, &self.owner.table, set, &elements);
        }
        transaction
    }

    /// Nothing where there are no tables.
    fn in_force(&self, elements: Elements) -> Vec<(Family, &'static str, Vec<Element>)> {
        match has_tables(self.options) {
            true => grouped(elements),
            false => Vec::new(),
        }
    }

    fn commit(&self, what: &'static str, transaction: Transaction) -> Result<(), FirewallError> {
        self.nft
            .commit(transaction)
            .map_err(|source| FirewallError { what, source })
    }
}

/// The transaction that makes everything anew.
pub(crate) fn whole(owner: &Owner, state: &State) -> Transaction {
    let mut transaction = Transaction::new();
    clear(&mut transaction, owner);
    if !has_tables(state.options) {
        return transaction;
    }
    tables::add(&mut transaction, owner, state.options);
    let networks = state.networks.iter().flat_map(elements::of_network);
    let of = |endpoint| elements::of_endpoint(endpoint, state.options);
    let endpoints = state.endpoints.iter().flat_map(of);
    for (family, set, elements) in grouped(networks.chain(endpoints).collect()) {
        transaction.add_elements(family, &owner.table, set, &elements);
    }
    transaction
}

/// An engine without rules for either protocol has no tables.
fn has_tables(options: Options) -> bool {
    options.rules.ipv4 || options.rules.ipv6
}

/// Removes what may not be there: it is made first.
fn clear(transaction: &mut Transaction, owner: &Owner) {
    for family in [Family::Inet, Family::Bridge] {
        transaction.add_table(family, &owner.table);
        transaction.delete_table(family, &owner.table);
    }
}

/// Elements of one set together, so that each set is one message.
fn grouped(elements: Elements) -> Vec<(Family, &'static str, Vec<Element>)> {
    let mut groups: Vec<(Family, &'static str, Vec<Element>)> = Vec::new();
    for (family, set, element) in elements {
        match groups
            .iter_mut()
            .find(|(f, name, _)| (*f, *name) == (family, set))
        {
            Some((_, _, group)) => group.push(element),
            None => groups.push((family, set, vec![element])),
        }
    }
    groups
}
