//! `volume ls` and `volume inspect`.

use std::collections::BTreeMap;

use conex_api::filters::{Filters, InvalidFilter};
use conex_api::volume::{ListResponse, UsageData};
use regex::Regex;

use super::{DRIVER, Volume, Volumes};
use crate::{Engine, Error};

/// The keys `GET /volumes` accepts.
const FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];

impl Engine {
    /// Volumes by name.
    pub fn volume_list(&self, filters: &Filters) -> Result<ListResponse, Error> {
        filters.validate(&FILTERS)?;
        let dangling = filters.boolean("dangling")?;
        let names = filters
            .get("name")
            .map(|word| {
                let built = regex::RegexBuilder::new(word).size_limit(1 << 20).build();
                built.map_err(|_| InvalidFilter::Value {
                    key: "name".into(),
                    value: word.into(),
                })
            })
            .collect::<Result<Vec<Regex>, _>>()?;
        let volumes = &self.inner.volumes;
        let passes = |volume: &&std::sync::Arc<Volume>| {
            filters.exact("driver", DRIVER)
                && filters.label("label", &volume.description.labels)
                && (names.is_empty() || names.iter().any(|name| name.is_match(&volume.name)))
                && dangling.is_none_or(|wanted| volume.uses().containers.is_empty() == wanted)
        };
        let found = volumes.all();
        Ok(ListResponse {
            volumes: found
                .iter()
                .filter(passes)
                .map(|volume| volumes.describe(volume))
                .collect(),
            warnings: None,
        })
    }

    /// One volume. Errors: not found.
    pub fn volume_inspect(&self, name: &str) -> Result<conex_api::volume::Volume, Error> {
        let volumes = &self.inner.volumes;
        Ok(volumes.describe(&*volumes.get(name)?))
    }

    /// Every volume with what it takes on disk, for `system df`. Blocks.
    pub fn volume_usage(&self) -> Vec<conex_api::volume::Volume> {
        let volumes = &self.inner.volumes;
        let measured = |volume: &std::sync::Arc<Volume>| {
            let ref_count = volume.uses().containers.len();
            let mut described = volumes.describe(volume);
            described.usage_data = Some(UsageData {
                size: volume.bytes_on_disk().map_or(-1, |bytes| bytes as i64),
                ref_count: ref_count as i64,
            });
            described
        };
        volumes.all().iter().map(measured).collect()
    }
}

impl Volumes {
    /// A volume as the API shows it.
    pub(super) fn describe(&self, volume: &Volume) -> conex_api::volume::Volume {
        let some = |map: &BTreeMap<String, String>| Some(map.clone()).filter(|map| !map.is_empty());
        conex_api::volume::Volume {
            created_at: volume.description.created.clone(),
            driver: DRIVER.into(),
            labels: some(&volume.description.labels),
            mountpoint: volume.data().to_string_lossy().into_owned(),
            name: volume.name.clone(),
            options: some(&volume.description.options),
            scope: "local".into(),
            usage_data: None,
        }
    }
}
