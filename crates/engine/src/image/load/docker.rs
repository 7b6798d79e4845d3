//! The Docker archive: `manifest.json` names configs, layers and tags. Source:
//! Docker's image specification v1.2, "Combined Image JSON + Filesystem
//! Changeset Format".

use conex_spec::image::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use conex_spec::reference::Reference;
use serde::Deserialize;

use super::member::Members;
use super::{Found, oci};
use crate::Error;

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of the archive, in its order.
pub(super) fn images(members: &Members) -> Result<Vec<Found>, Error> {
    let json = members.bytes(MANIFEST, MAX_MANIFEST_BYTES)?;
    let items: Option<Vec<Item>> = serde_json::from_slice(&json).map_err(|error| {
        Error::invalid(format!(
            "invalid archive: failed to decode {MANIFEST}: {error}"
        ))
    })?;
    let Some(items) = items else {
        return Err(Error::invalid(
            "invalid manifest, manifest cannot be null (but can be [])",
        ));
    };
    let mut manifests = oci::manifests(members);
    items
        .into_iter()
        .map(|item| {
            let config = members.bytes(&item.config, MAX_CONFIG_BYTES)?;
            let layers = item.layers.unwrap_or_default();
            Ok(Found {
                layers: layers
                    .iter()
                    .map(|name| members.blob(name, None))
                    .collect::<Result<_, _>>()?,
                names: item
                    .repo_tags
                    .unwrap_or_default()
                    .iter()
                    .map(|tag| name(tag))
                    .collect::<Result<_, _>>()?,
                manifests: manifests.remove(&config).unwrap_or_default(),
                config,
            })
        })
        .collect()
}

fn name(text: &str) -> Result<Reference, Error> {
    let name = Reference::parse(text).map_err(|e| Error::invalid(e.to_string()))?;
    match (name.tag(), name.digest()) {
        (Some(_), None) => Ok(name),
        _ => Err(Error::invalid(format!("invalid tag {text:?}"))),
    }
}
