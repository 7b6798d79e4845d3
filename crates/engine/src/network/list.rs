//! `GET /networks`: filtered, the newest first as Docker has no order.

use std::collections::BTreeSet;

use conex_api::filters::{Filters, InvalidFilter};
use conex_api::network::Network;

use super::{PREDEFINED, Record};
use crate::{Engine, Error};

/// moby `daemon/network/filter.go`.
const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

impl Engine {
    /// Networks that pass the filters.
    pub fn network_list(&self, filters: &Filters) -> Result<Vec<Network>, Error> {
        filters.validate(&FILTERS)?;
        check_kinds(filters)?;
        let dangling = filters.boolean("dangling")?;
        let used = self.used_networks();
        let passes = |record: &Record| {
            let one_of = |key: &str, test: &dyn Fn(&str) -> bool| {
                !filters.contains(key) || filters.get(key).any(test)
            };
            let predefined = PREDEFINED.contains(&record.name.as_str());
            one_of("driver", &|d| d == record.driver.name())
                && one_of("id", &|id| record.id.contains(id))
                && one_of("name", &|name| record.name.contains(name))
                && one_of("scope", &|scope| scope == "local")
                && one_of("type", &|kind| (kind == "builtin") == predefined)
                && filters.label("label", &record.labels)
                && dangling.is_none_or(|wanted| !predefined && wanted != used.contains(&record.id))
        };
        let records = self.inner.networks.records();
        Ok(records
            .iter()
            .rev()
            .filter(|record| passes(record))
            .map(|record| record.summary())
            .collect())
    }

    /// Ids of the networks that some container asked for, running or not.
    pub(super) fn used_networks(&self) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        for container in self.inner.table().iter() {
            let state = container.state();
            words.extend(super::settings::asked(&container.record, &state).into_keys());
        }
        words
            .iter()
            .filter_map(|word| Some(self.inner.networks.find(word).ok()?.id.clone()))
            .collect()
    }
}

fn check_kinds(filters: &Filters) -> Result<(), Error> {
    for kind in filters.get("type") {
        if !matches!(kind, "builtin" | "custom") {
            return Err(InvalidFilter::Because {
                key: "type".into(),
                value: kind.into(),
                reason: format!("invalid filter: 'type'='{kind}'"),
            }
            .into());
        }
    }
    Ok(())
}
