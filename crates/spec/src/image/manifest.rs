//! Manifests, indexes and the descriptors they are made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ImageError, MAX_MANIFEST_BYTES, media_type};
use crate::absent::{empty_is_none, null_is_default};
use crate::digest::Digest;
use crate::platform::Platform;

/// Points at content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// Where else the content is.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
    /// Anything, by name.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, in base64.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub data: Option<String>,
    /// What the content runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What an artifact is, if the content is one.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with what every one has.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size_bytes: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size_bytes,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u64,
    /// What it says it is.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub media_type: Option<String>,
    /// What an artifact is, if it is one.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
    /// The image's configuration, whose digest is the image's id.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// Another manifest this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Anything, by name.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// See [`ImageError`]; an index is one.
    pub fn load(json: &[u8]) -> Result<Self, ImageError> {
        match Document::load(json, None)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(index) => Err(ImageError::MediaType {
                what: "manifest",
                media_type: index
                    .media_type
                    .unwrap_or_else(|| media_type::OCI_INDEX.to_owned()),
            }),
        }
    }
}

/// Manifests to choose from, usually one for each platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u64,
    /// What it says it is.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub media_type: Option<String>,
    /// What an artifact is, if it is one.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
    /// The manifests (and further indexes).
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// A manifest this index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Anything, by name.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// Reads and checks an index.
    ///
    /// # Errors
    /// See [`ImageError`]; a manifest is one.
    pub fn load(json: &[u8]) -> Result<Self, ImageError> {
        match Document::load(json, None)? {
            Document::Index(index) => Ok(index),
            Document::Manifest(manifest) => Err(ImageError::MediaType {
                what: "index",
                media_type: manifest
                    .media_type
                    .unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned()),
            }),
        }
    }

    /// The entry that does best on a platform; the first of equals.
    ///
    /// Entries without a platform, attestations (`unknown/unknown`) and what is neither a manifest nor an index never
    /// do.
    #[must_use]
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        self.images()
            .filter_map(|entry| Some((platform.rank(entry.platform.as_ref()?)?, entry)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
    }

    /// The first entry that does not say what it runs on: its config does.
    #[must_use]
    pub fn unlabelled(&self) -> Option<&Descriptor> {
        self.images().find(|entry| entry.platform.is_none())
    }

    fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|entry| {
            let name = entry.media_type.as_str();
            name.is_empty() || media_type::is_manifest(name) || media_type::is_index(name)
        })
    }
}

/// What a registry may answer to a tag.
// One at a time, and moved once: a box would save nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images to choose from.
    Index(Index),
}

/// What tells the kinds of documents apart, and nothing else.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    schema_version: u64,
    #[serde(default, deserialize_with = "empty_is_none")]
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads and checks a manifest or an index.
    ///
    /// `media_type` is what its sender calls it (`Content-Type`, without parameters); names
    /// that are no manifest's (`application/json`) are passed over.
    ///
    /// # Errors
    /// See [`ImageError`]. What could be taken for both is refused (CVE-2021-41190).
    pub fn load(json: &[u8], media_type: Option<&str>) -> Result<Self, ImageError> {
        let kind: Kind = super::parse("manifest", json, MAX_MANIFEST_BYTES)?;
        if kind.schema_version != 2 {
            return Err(ImageError::SchemaVersion {
                version: kind.schema_version,
            });
        }
        let looks_like_manifest = kind.config.is_some() || kind.layers.is_some();
        if looks_like_manifest && kind.manifests.is_some() {
            return Err(ImageError::Ambiguous);
        }
        // An index may have no entries and then, from some writers, no list of them.
        let is_index = kind.manifests.is_some()
            || (!looks_like_manifest
                && kind.media_type.as_deref().is_some_and(media_type::is_index));
        if !is_index && !looks_like_manifest {
            return Err(ImageError::Unrecognised);
        }
        let what = if is_index { "index" } else { "manifest" };
        for name in [kind.media_type.as_deref(), media_type]
            .into_iter()
            .flatten()
        {
            let other_kind = if is_index {
                media_type::is_manifest(name)
            } else {
                media_type::is_index(name)
            };
            if other_kind {
                return Err(ImageError::MediaType {
                    what,
                    media_type: name.to_owned(),
                });
            }
        }
        Ok(if is_index {
            Self::Index(super::parse(what, json, MAX_MANIFEST_BYTES)?)
        } else {
            Self::Manifest(super::parse(what, json, MAX_MANIFEST_BYTES)?)
        })
    }
}
