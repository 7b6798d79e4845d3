//! The manifest of a push: the one the image came with, or one of what the registry has of its layers. Pure.

use conex_spec::digest::Digest;
use conex_spec::image::{Descriptor, Document, Manifest, media_type};
use conex_store::records::images::ManifestRecord;

use super::compression::Compression;
use crate::Error;
use crate::image::Image;

/// The image's own manifest.
pub(super) struct Kept {
    pub(super) manifest: Manifest,
    record: ManifestRecord,
}

/// The manifest an image came with, or was sent with, whose layers all are in a form.
pub(super) fn kept(
    image: &Image,
    documents: Vec<ManifestRecord>,
    form: Option<Compression>,
) -> Option<Kept> {
    let suits = |blob: &Descriptor| form.is_none_or(|form| form.is_that_of(&blob.media_type));
    documents.into_iter().find_map(|record| {
        let document = Document::load(&record.content, Some(&record.media_type)).ok()?;
        match document {
            Document::Manifest(manifest)
                if manifest.config.digest == image.id
                    && manifest.layers.len() == image.config.rootfs.diff_ids.len()
                    && manifest.layers.iter().all(suits) =>
            {
                Some(Kept { manifest, record })
            }
            _ => None,
        }
    })
}

/// The image's own manifest if the registry has every blob of it, else one of what it has.
pub(super) fn manifest(
    image: &Image,
    config: &[u8],
    kept: Option<Kept>,
    layers: Vec<Descriptor>,
) -> Result<ManifestRecord, Error> {
    if let Some(kept) = kept {
        let mut own = kept.manifest.layers.iter().zip(&layers);
        if own.all(|(own, sent)| own.digest == sent.digest) {
            return Ok(kept.record);
        }
    }
    let docker = layers
        .iter()
        .all(|layer| !layer.media_type.starts_with("application/vnd.oci."));
    let (own, of_config) = match docker {
        true => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
        false => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
    };
    let oci_name = |layer: Descriptor| match layer.media_type.as_str() {
        media_type::DOCKER_LAYER_GZIP if !docker => Descriptor {
            media_type: media_type::OCI_LAYER_GZIP.to_owned(),
            ..layer
        },
        _ => layer,
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(own.to_owned()),
        artifact_type: None,
        config: Descriptor::new(of_config, image.id.clone(), config.len() as u64),
        layers: layers.into_iter().map(oci_name).collect(),
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let content = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| Error::system("write the manifest", &e))?;
    Ok(ManifestRecord {
        digest: Digest::of(&content).to_string(),
        media_type: own.to_owned(),
        content,
    })
}
