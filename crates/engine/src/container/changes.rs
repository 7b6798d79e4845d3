//! `diff`: what a container changed against its image.

use std::sync::Arc;

use conex_api::container::FilesystemChange;
use conex_layers::difference::{Difference, MountPoints};

use super::Record;
use crate::engine::Inner;
use crate::{Engine, Error};

impl Engine {
    /// Every path a container added, modified or deleted, sorted.
    pub async fn container_changes(&self, name: &str) -> Result<Vec<FilesystemChange>, Error> {
        let container = self.inner.find(name)?;
        let engine = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            let record = &container.record;
            let changes = engine
                .difference(record)?
                .changes(&mount_points(record))
                .map_err(|e| Error::system("compare the container with its image", &e))?;
            let told = changes.into_iter().map(|change| FilesystemChange {
                path: format!("/{}", String::from_utf8_lossy(&change.path)),
                kind: change.kind as u8,
            });
            Ok(told.collect())
        })
        .await
        .map_err(|e| Error::system("compare the container with its image", &e))?
    }
}

impl Inner {
    /// A container's layer beside its image. Blocks.
    pub(super) fn difference(&self, record: &Record) -> Result<Difference, Error> {
        let failed = |e: &dyn std::error::Error| Error::system("open the container's layer", e);
        let rootfs = self.driver.rootfs(&Inner::layer_id(&record.id));
        let rootfs = rootfs.map_err(|e| failed(&e))?;
        rootfs.difference().map_err(|e| failed(&e))
    }
}

/// Where mounts lie in a container: their places are the engine's, not changes
/// (COMPAT D8.11).
pub(super) fn mount_points(record: &Record) -> MountPoints {
    let mounts = record.mounts.iter().map(|m| m.destination.as_bytes());
    let tmpfs = record.host_config.tmpfs.keys().map(String::as_bytes);
    MountPoints::new(mounts.chain(tmpfs))
}
