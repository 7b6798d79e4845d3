//! What a container does with its volumes: takes them when it is made, mounts
//! them while it runs, and lets go of them when it is removed.

use std::path::{Path, PathBuf};

use conex_api::container::MountPoint;

use super::Record;
use crate::engine::Inner;
use crate::{Error, volume};

impl Record {
    /// Its volumes, once for each place.
    fn volumes(&self) -> impl Iterator<Item = &MountPoint> {
        self.mounts.iter().filter(|point| point.kind == "volume")
    }

    pub(super) fn volume_names(&self) -> impl Iterator<Item = &str> {
        self.volumes().map(|point| point.name.as_str())
    }
}

impl Inner {
    /// Copies what the image holds at the volumes' places into volumes that
    /// are empty (COMPAT D8.3). Mounts the root only when there is such a
    /// volume. Blocks.
    pub(super) fn fill_volumes(&self, record: &Record) -> Result<(), Error> {
        // What is for one directory of a volume must not land in its top.
        let copied = |point: &&MountPoint| {
            !point.mode.split(',').any(|word| word == "nocopy")
                && record.subpath(&point.destination).is_none()
        };
        let wanted: Vec<_> = record.volumes().filter(copied).collect();
        // The content of a volume with a file system of its own shows only
        // when that is mounted.
        let mounted: Vec<_> = wanted
            .iter()
            .filter(|point| self.volumes.has_file_system(&point.name))
            .collect();
        for (done, point) in mounted.iter().enumerate() {
            if let Err(error) = self.volumes.mount(&point.name, &record.id) {
                for point in &mounted[..done] {
                    self.volumes.unmount(&point.name, &record.id);
                }
                return Err(error);
            }
        }
        let filled = self.fill_empty(record, &wanted);
        for point in mounted {
            self.volumes.unmount(&point.name, &record.id);
        }
        filled
    }

    fn fill_empty(&self, record: &Record, wanted: &[&MountPoint]) -> Result<(), Error> {
        let is_empty = |point: &&&MountPoint| {
            std::fs::read_dir(&point.source).is_ok_and(|mut entries| entries.next().is_none())
        };
        let empty: Vec<_> = wanted.iter().filter(is_empty).collect();
        if empty.is_empty() {
            return Ok(());
        }
        let root = self.mount_root(record, conex_layers::overlay::Access::ReadOnly)?;
        for point in empty {
            let at = Path::new(&point.destination);
            self.volumes
                .fill(&point.name, std::os::fd::AsFd::as_fd(&root), at)?;
        }
        Ok(())
    }

    /// Makes the volumes' content available to a container that starts. On an
    /// error none is. Blocks.
    pub(super) fn mount_volumes(&self, record: &Record) -> Result<(), Error> {
        for point in record.volumes() {
            if let Err(error) = self.volumes.mount(&point.name, &record.id) {
                self.unmount_volumes(record);
                return Err(error);
            }
            self.volumes.publish_mount(&point.name, &record.id, point);
        }
        Ok(())
    }

    /// Undoes [`Inner::mount_volumes`]. Blocks, if [`Inner::has_slow_volumes`].
    pub(super) fn unmount_volumes(&self, record: &Record) {
        for name in record.volume_names() {
            if self.volumes.unmount(name, &record.id) {
                self.volumes.publish_unmount(name, &record.id);
            }
        }
    }

    /// Whether taking its volumes away is more than counting.
    pub(super) fn has_slow_volumes(&self, record: &Record) -> bool {
        let mut names = record.volume_names();
        names.any(|name| self.volumes.has_file_system(name))
    }

    /// Lets go of the volumes of a container that is no more, or never was:
    /// anonymous ones that nobody else has go with it if `with_anonymous`. What
    /// is returned is to be deleted. Blocks for a rename each.
    pub(super) fn release_volumes(&self, record: &Record, with_anonymous: bool) -> Vec<PathBuf> {
        let gone = match with_anonymous {
            true => self
                .volumes
                .take_out_anonymous(&record.id, &record.anonymous_volumes),
            false => Vec::new(),
        };
        self.volumes.release(&record.id, record.volume_names());
        gone
    }

    /// The same, deleted at once.
    pub(super) fn drop_volumes(&self, record: &Record) {
        volume::delete(&self.release_volumes(record, true));
    }
}
