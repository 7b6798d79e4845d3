//! The OCI image layout: `index.json` leads to manifests, those to configs and
//! layers, all by digest below `blobs`. Source: OCI image specification,
//! image-layout.md.

use std::collections::HashMap;

use conex_spec::digest::{Digest, Hasher};
use conex_spec::image::{
    Descriptor, Document, ImageConfig, Index, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest,
    media_type,
};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;
use conex_store::records::images::ManifestRecord;

use super::Found;
use super::member::Members;
use crate::Error;
use crate::error::chain;

pub(super) const INDEX: &str = "index.json";

/// Where containerd, and so Docker, writes the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
/// Docker's builder marks manifests that are about another one.
const ATTESTATION: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");
/// Indexes in indexes.
const MAX_DEPTH: usize = 4;

/// One manifest, and the indexes that led to it.
struct Reached {
    manifest: Manifest,
    records: Vec<ManifestRecord>,
}

/// The images of the layout, each once, with all its names. Of an index that
/// is an image for several platforms, the one that is `wanted`, else the one
/// that fits this machine best.
pub(super) fn images(members: &Members, wanted: &[Platform]) -> Result<Vec<Found>, Error> {
    let mut images: Vec<(Digest, Found)> = Vec::new();
    for descriptor in &index(members)?.manifests {
        if is_attestation(descriptor) {
            continue;
        }
        let name = name_of(descriptor)?;
        for Reached { manifest, records } in reach(members, descriptor, wanted, 0)? {
            let id = manifest.config.digest.clone();
            let known = images.iter_mut().find(|(known, _)| *known == id);
            match known {
                Some((_, image)) => {
                    image.names.extend(name.clone());
                    image.manifests.extend(records);
                }
                None => {
                    let mut image = found(members, &manifest)?;
                    image.names.extend(name.clone());
                    image.manifests = records;
                    images.push((id, image));
                }
            }
        }
    }
    if images.is_empty() {
        return Err(Error::not_found(
            "the archive contains no image for this platform",
        ));
    }
    Ok(images.into_iter().map(|(_, image)| image).collect())
}

/// Manifests of a Docker archive that is a layout too, by their configs. What
/// is not right about them does not concern whoever loads the archive.
pub(super) fn manifests(members: &Members) -> HashMap<Vec<u8>, Vec<ManifestRecord>> {
    let mut found: HashMap<Vec<u8>, Vec<ManifestRecord>> = HashMap::new();
    if !members.has(INDEX) {
        return found;
    }
    let Ok(index) = index(members) else {
        return found;
    };
    for descriptor in index.manifests.iter().filter(|it| !is_attestation(it)) {
        for Reached { manifest, records } in reach(members, descriptor, &[], 0).unwrap_or_default()
        {
            if let Ok(config) = content(members, &manifest.config, MAX_CONFIG_BYTES) {
                found.entry(config).or_default().extend(records);
            }
        }
    }
    found
}

fn index(members: &Members) -> Result<Index, Error> {
    let json = members.bytes(INDEX, MAX_MANIFEST_BYTES)?;
    match Document::load(&json, Some(media_type::OCI_INDEX)) {
        Ok(Document::Index(index)) => Ok(index),
        Ok(Document::Manifest(_)) => Err(Error::invalid(format!(
            "invalid archive: {INDEX} is a manifest"
        ))),
        Err(error) => Err(Error::invalid(format!(
            "invalid archive: {INDEX}: {}",
            chain(&error)
        ))),
    }
}

fn reach(
    members: &Members,
    descriptor: &Descriptor,
    wanted: &[Platform],
    depth: usize,
) -> Result<Vec<Reached>, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("invalid archive: its indexes are too deep"));
    }
    let bytes = content(members, descriptor, MAX_MANIFEST_BYTES)?;
    let document = Document::load(&bytes, Some(&descriptor.media_type)).map_err(|error| {
        Error::invalid(format!(
            "invalid archive: {}: {}",
            descriptor.digest,
            chain(&error)
        ))
    })?;
    let record = ManifestRecord {
        digest: descriptor.digest.to_string(),
        media_type: descriptor.media_type.clone(),
        content: bytes,
    };
    match document {
        // An artifact is no image.
        Document::Manifest(manifest) if !media_type::is_config(&manifest.config.media_type) => {
            Ok(Vec::new())
        }
        Document::Manifest(manifest) => Ok(vec![Reached {
            manifest,
            records: vec![record],
        }]),
        Document::Index(index) => {
            let mut reached = Vec::new();
            for descriptor in chosen(members, &index, wanted) {
                for mut one in reach(members, descriptor, wanted, depth + 1)? {
                    one.records.push(record.clone());
                    reached.push(one);
                }
            }
            Ok(reached)
        }
    }
}

/// The manifests of an index to take: for each wanted platform the best, or
/// for this machine.
fn chosen<'a>(members: &Members, index: &'a Index, wanted: &[Platform]) -> Vec<&'a Descriptor> {
    let host = [Platform::host()];
    let wanted = if wanted.is_empty() { &host } else { wanted };
    let mut chosen: Vec<&Descriptor> = Vec::new();
    for wanted in wanted {
        let candidates = index.manifests.iter().filter(|it| !is_attestation(it));
        // The archive may have been saved for some platforms alone.
        let present = candidates.filter(|it| members.has(&path(&it.digest)));
        let ranked = present.filter_map(|descriptor| {
            let rank = match &descriptor.platform {
                Some(platform) => wanted.rank(platform)?,
                None => usize::MAX,
            };
            Some((rank, descriptor))
        });
        let best = ranked.min_by_key(|(rank, _)| *rank);
        if let Some((_, best)) = best
            && !chosen.iter().any(|it| it.digest == best.digest)
        {
            chosen.push(best);
        }
    }
    chosen
}

fn found(members: &Members, manifest: &Manifest) -> Result<Found, Error> {
    let config = content(members, &manifest.config, MAX_CONFIG_BYTES)?;
    let parsed = ImageConfig::load(&config).map_err(|e| Error::invalid(chain(&e)))?;
    let layers = manifest.layers.iter().enumerate().map(|(index, layer)| {
        if !media_type::is_layer(&layer.media_type) {
            return Err(Error::invalid(format!(
                "invalid archive: {} is of the type {:?}, which is no layer",
                layer.digest, layer.media_type
            )));
        }
        // A plain layer's digest is its DiffID, which is checked anyway.
        let diff_id = parsed.rootfs.diff_ids.get(index);
        let digest = Some(layer.digest.clone()).filter(|digest| Some(digest) != diff_id);
        let blob = members.blob(&path(&layer.digest), digest)?;
        check_size(layer, blob.bytes())?;
        Ok(blob)
    });
    Ok(Found {
        layers: layers.collect::<Result<_, _>>()?,
        names: Vec::new(),
        manifests: Vec::new(),
        config,
    })
}

/// A blob that is no layer, checked.
fn content(members: &Members, descriptor: &Descriptor, most: usize) -> Result<Vec<u8>, Error> {
    let bytes = members.bytes(&path(&descriptor.digest), most)?;
    check_size(descriptor, bytes.len() as u64)?;
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    hasher.update(&bytes);
    let found = hasher.finish();
    if found != descriptor.digest {
        return Err(Error::invalid(format!(
            "invalid archive: the blob {} has the digest {found}",
            descriptor.digest
        )));
    }
    Ok(bytes)
}

fn check_size(descriptor: &Descriptor, bytes: u64) -> Result<(), Error> {
    if descriptor.size_bytes == bytes {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid archive: the blob {} has {bytes} bytes instead of {}",
        descriptor.digest, descriptor.size_bytes
    )))
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    let (key, value) = ATTESTATION;
    let unknown =
        |platform: &Platform| platform.os == "unknown" && platform.architecture == "unknown";
    descriptor
        .annotations
        .get(key)
        .is_some_and(|it| it == value)
        || descriptor.platform.as_ref().is_some_and(unknown)
}

/// The name an index gives. A bare tag, which builders write too, names
/// nothing.
fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>, Error> {
    let full = descriptor.annotations.get(CONTAINERD_NAME);
    let short = descriptor.annotations.get(REFERENCE_NAME);
    let Some(text) = full.or(short.filter(|text| text.contains([':', '/']))) else {
        return Ok(None);
    };
    let name = Reference::parse(text).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(Some(name.with_default_tag()))
}
