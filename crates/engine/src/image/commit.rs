//! An image on top of another one, of what a container changed.
//!
//! The archive of the changes is packed by one thread and unpacked into the new
//! layer by another, a few pieces behind: the layer gets its identity and its
//! recipe as any other, and the changes are read once.

use std::io::{self, BufReader};
use std::sync::Arc;

use conex_layers::difference::{Difference, MountPoints};
use conex_spec::digest::Digest;
use conex_spec::image::{ContainerConfig, History, ImageConfig};
use conex_spec::reference::Reference;

use super::Image;
use super::append::Addition;
use super::record::Record;
use crate::Error;
use crate::engine::Inner;
use crate::pipe;
use crate::time::{now_ns, rfc3339};

/// What an image of a container is besides its layer.
pub(crate) struct Commit {
    /// The container's image.
    pub(crate) parent: Arc<Image>,
    pub(crate) name: Option<Reference>,
    pub(crate) config: ContainerConfig,
    pub(crate) author: String,
    pub(crate) comment: String,
    /// The container's command.
    pub(crate) created_by: String,
}

impl Inner {
    /// Makes the image and gives its id; changes of nothing make no layer.
    /// `still_there` is asked once everything is read. Blocks.
    pub(crate) fn commit_image(
        &self,
        difference: Difference,
        mount_points: MountPoints,
        commit: Commit,
        still_there: &dyn Fn() -> Result<(), Error>,
    ) -> Result<String, Error> {
        let name = commit.name.clone();
        let failed = |e: &dyn std::error::Error| Error::system("read the container's changes", e);
        let is_empty = difference.is_empty(&mount_points).map_err(|e| failed(&e))?;
        let image = if is_empty {
            still_there()?;
            self.commit_nothing(commit)?
        } else {
            self.commit_changes(&difference, &mount_points, commit, still_there)?
        };
        let id = image.id.to_string();
        if let Some(name) = name {
            self.image_event("tag", &id, &name.familiar());
        }
        Ok(id)
    }

    fn commit_nothing(&self, commit: Commit) -> Result<Arc<Image>, Error> {
        let parent = Arc::clone(&commit.parent);
        let _held = self.hold(&parent.chains);
        let names = commit.name.iter().cloned().collect();
        let config = commit.image_config(None);
        let config = serde_json::to_vec(&config).map_err(|e| Error::system("write config", &e))?;
        let made = self.record(Record {
            config,
            manifests: Vec::new(),
            names,
            parent: Some(parent.id.to_string()),
            settled: None,
        })?;
        Ok(made.image)
    }

    fn commit_changes(
        &self,
        difference: &Difference,
        mount_points: &MountPoints,
        commit: Commit,
        still_there: &dyn Fn() -> Result<(), Error>,
    ) -> Result<Arc<Image>, Error> {
        let (mut writer, reader) = pipe::pair();
        let addition = Addition {
            below: Some(Arc::clone(&commit.parent)),
            parent: Some(commit.parent.id.to_string()),
            names: commit.name.iter().cloned().collect(),
            config: Box::new(move |diff_id| commit.image_config(Some(diff_id))),
        };
        let (packed, made) = std::thread::scope(|scope| {
            let packing = scope.spawn(move || {
                let packed = difference.pack(mount_points, &mut writer);
                let told = match &packed {
                    Ok(_) => Ok(()),
                    Err(_) => Err(io::Error::other("the changes cannot be read")),
                };
                writer.finish(told);
                packed
            });
            let stream = Box::new(BufReader::with_capacity(1 << 18, reader));
            let made = self.append_if(stream, addition, still_there);
            (packing.join(), made)
        });
        let packed = packed.map_err(|_| {
            Error::new(
                crate::ErrorKind::System,
                "packing the container's changes panicked",
            )
        })?;
        match packed {
            // The reader's error tells why it went.
            Err(error) if !error.is_reader_gone() => {
                Err(Error::system("read the container's changes", &error))
            }
            _ => made.map(|made| made.image),
        }
    }
}

impl Commit {
    fn image_config(self, diff_id: Option<&Digest>) -> ImageConfig {
        let created = rfc3339(now_ns());
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let parent = &self.parent.config;
        let mut rootfs = parent.rootfs.clone();
        rootfs.diff_ids.extend(diff_id.cloned());
        let mut history = parent.history.clone();
        history.push(History {
            created: Some(created.clone()),
            created_by: given(self.created_by),
            author: given(self.author.clone()),
            comment: given(self.comment.clone()),
            empty_layer: diff_id.is_none(),
        });
        ImageConfig {
            created: Some(created),
            author: given(self.author),
            architecture: parent.architecture.clone(),
            variant: parent.variant.clone(),
            os: parent.os.clone(),
            os_version: parent.os_version.clone(),
            os_features: parent.os_features.clone(),
            config: Some(self.config),
            rootfs,
            history,
            comment: given(self.comment),
            ..ImageConfig::default()
        }
    }
}
