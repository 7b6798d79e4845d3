//! `system df`: what images, containers and volumes take.

use std::collections::BTreeSet;

use conex_api::container::ListOptions as ContainerOptions;
use conex_api::image::ListOptions;
use conex_api::usage::{DiskUsage, Kinds, Usage};
use conex_store::records::images::LayerState;

use crate::{Engine, Error};

impl Engine {
    /// What the objects of these kinds take. Walks container layers and
    /// volumes, so it can take long; runs on a thread that may block.
    pub async fn disk_usage(&self, kinds: Kinds) -> Result<DiskUsage, Error> {
        let engine = self.clone();
        tokio::task::spawn_blocking(move || engine.measure(kinds))
            .await
            .map_err(|e| Error::system("measure disk usage", &e))?
    }

    fn measure(&self, kinds: Kinds) -> Result<DiskUsage, Error> {
        Ok(DiskUsage {
            image_usage: kinds.images.then(|| self.measure_images()).transpose()?,
            container_usage: kinds
                .containers
                .then(|| self.measure_containers())
                .transpose()?,
            volume_usage: kinds.volumes.then(|| self.measure_volumes()),
            build_cache_usage: kinds.build_cache.then(Usage::default),
        })
    }

    fn measure_images(&self) -> Result<Usage<conex_api::image::Summary>, Error> {
        let items = self.image_list(ListOptions {
            shared_size: true,
            ..ListOptions::default()
        })?;
        let users = self.containers_by_image();
        let known = self.inner.images.known();
        // Each layer once, as it lies on the disk; init layers are nobody's image.
        let mut in_use = BTreeSet::new();
        for (id, image) in &known.images {
            if users.contains_key(id) {
                in_use.extend(image.chains.iter().map(|chain| chain.as_str()));
            }
        }
        let (mut total, mut used) = (0, 0);
        for (chain, layer) in &known.layers {
            if layer.state != LayerState::Ready || chain.starts_with("init:") {
                continue;
            }
            total += layer.size_bytes;
            if in_use.contains(chain.as_str()) {
                used += layer.size_bytes;
            }
        }
        Ok(Usage {
            active_count: items.iter().filter(|i| i.containers > 0).count() as i64,
            total_count: items.len() as i64,
            reclaimable: total - used,
            total_size: total,
            items,
        })
    }

    fn measure_containers(&self) -> Result<Usage<conex_api::container::Summary>, Error> {
        let items = self.container_list(ContainerOptions {
            all: true,
            size: true,
            ..ContainerOptions::default()
        })?;
        let is_active = |state: &str| matches!(state, "running" | "paused" | "restarting");
        let size = |all: bool| -> i64 {
            let counted = items.iter().filter(|i| all || !is_active(&i.state));
            counted.filter_map(|i| i.size_rw).sum()
        };
        Ok(Usage {
            active_count: items.iter().filter(|i| is_active(&i.state)).count() as i64,
            total_count: items.len() as i64,
            reclaimable: size(false),
            total_size: size(true),
            items,
        })
    }

    fn measure_volumes(&self) -> Usage<conex_api::volume::Volume> {
        let items = self.volume_usage();
        let mut usage = Usage {
            total_count: items.len() as i64,
            ..Usage::default()
        };
        for measured in items.iter().filter_map(|v| v.usage_data.as_ref()) {
            let size = measured.size.max(0);
            usage.total_size += size;
            match measured.ref_count {
                0 => usage.reclaimable += size,
                _ => usage.active_count += 1,
            }
        }
        Usage { items, ..usage }
    }
}
