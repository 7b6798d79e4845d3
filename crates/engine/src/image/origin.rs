//! Where images and layers came from and went to: manifests, blobs, and names given by a registry.

use conex_spec::digest::Digest;
use conex_spec::reference::Reference;
use conex_store::records::blobs::{self, BlobRecord};
use conex_store::records::images::{self as records, ManifestRecord, ReferenceRecord};
use tokio::sync::oneshot;

use super::Images;
use crate::Error;
use crate::time::now_ns;

impl Images {
    /// Whether a chain's layer is complete here.
    pub(crate) fn has_layer(&self, chain: &Digest) -> bool {
        self.known().is_ready(chain.as_str())
    }

    /// Every full name of a repository with a tag, in order.
    pub(crate) fn tags_of(&self, repository: &Reference) -> Vec<Reference> {
        let known = self.known();
        let names = known.references.keys();
        let parsed = names.filter_map(|name| Reference::parse(name).ok());
        parsed
            .filter(|name| name.name() == repository.name() && name.digest().is_none())
            .collect()
    }

    /// Runs a job on the database and waits for its commit.
    async fn on_db<T: Send + 'static>(
        &self,
        doing: &str,
        job: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = oneshot::channel();
        self.db.submit(job, move |result| {
            let _caller_gone = done.send(result).is_err();
        });
        match result.await {
            Ok(result) => result.map_err(|e| Error::system(doing, &e)),
            Err(error) => Err(Error::system(doing, &error)),
        }
    }

    /// Keeps in mind which blobs layers are known as.
    pub(crate) async fn remember_blobs(&self, rows: Vec<BlobRecord>) -> Result<(), Error> {
        self.on_db("record the layers' blobs", move |db| {
            rows.iter().try_for_each(|row| blobs::put_blob(db, row))
        })
        .await
    }

    /// The blobs a layer is known as, last seen first.
    pub(crate) async fn blobs_of(&self, diff_id: &Digest) -> Result<Vec<BlobRecord>, Error> {
        let diff_id = diff_id.to_string();
        self.on_db("look up the layer's blobs", move |db| {
            blobs::blobs_of(db, &diff_id)
        })
        .await
    }

    /// The exact config of an image, and the manifests and indexes it came with.
    pub(crate) async fn documents_of(
        &self,
        id: &Digest,
    ) -> Result<(Vec<u8>, Vec<ManifestRecord>), Error> {
        let key = id.to_string();
        let found = self
            .on_db("look up the image's manifests", move |db| {
                Ok((
                    records::config_of(db, &key)?,
                    records::manifests_of(db, &key)?,
                ))
            })
            .await?;
        match found {
            (Some(config), manifests) => Ok((config, manifests)),
            (None, _) => Err(Error::no_image(id.as_str())),
        }
    }

    /// Records that a registry knows an image by this digest, and the manifest that has it.
    pub(crate) async fn name_by_digest(
        &self,
        id: &Digest,
        name: &Reference,
        manifest: ManifestRecord,
    ) -> Result<(), Error> {
        let now = now_ns();
        let row = ReferenceRecord {
            reference: name.to_string(),
            image_id: id.to_string(),
            updated_ns: now,
        };
        let (reference, image_id) = (row.reference.clone(), row.image_id.clone());
        self.on_db("record the image's digest", move |db| {
            records::put_manifest(db, &row.image_id, &manifest)?;
            records::set_reference(db, &row).map(drop)
        })
        .await?;
        let mut known = self.known_mut();
        // It may have been removed meanwhile, which the database has refused by now.
        if known.images.contains_key(&image_id) {
            known.references.insert(reference, (image_id, now));
        }
        Ok(())
    }
}
