//! An entry of `GET /images/json`, and what a removal did.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::descriptor::Descriptor;
use crate::object::is_zero;

object! {
    /// An image in a list.
    #[serde(rename_all = "PascalCase")]
    pub struct Summary {
        /// Containers that use it; -1 when not counted.
        pub containers: i64,
        /// Seconds since the epoch.
        pub created: i64,
        /// Id.
        pub id: String,
        /// Labels.
        pub labels: Option<BTreeMap<String, String>>,
        /// Id of the parent; empty unless built here.
        pub parent_id: String,
        /// The manifest or index the image is.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub descriptor: Option<Descriptor>,
        /// Manifests of the image; only when asked.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub manifests: Vec<Value>,
        /// `repository@digest`.
        pub repo_digests: Vec<String>,
        /// `repository:tag`.
        pub repo_tags: Vec<String>,
        /// Bytes shared with other images; -1 when not computed.
        pub shared_size: i64,
        /// Bytes of all layers.
        pub size: i64,
    }

    /// A step of an image's history, newest first.
    #[serde(rename_all = "PascalCase")]
    pub struct HistoryItem {
        /// Message.
        pub comment: String,
        /// Seconds since the epoch.
        pub created: i64,
        /// By which instruction.
        pub created_by: String,
        /// The image this step made here, or `<missing>`.
        pub id: String,
        /// Bytes of its layer; 0 without one.
        pub size: i64,
        /// `repository:tag` of that image.
        pub tags: Option<Vec<String>>,
    }

    /// Answer of `POST /images/prune`.
    #[serde(rename_all = "PascalCase")]
    pub struct PruneReport {
        /// What was done; `null` when nothing was.
        pub images_deleted: Option<Vec<DeleteItem>>,
        /// Bytes of the layers that are gone.
        pub space_reclaimed: u64,
    }

    /// One step of a removal: a name taken off or an object gone.
    #[serde(rename_all = "PascalCase")]
    pub struct DeleteItem {
        /// Id of the image that is gone.
        #[serde(skip_serializing_if = "is_zero")]
        pub deleted: String,
        /// Name that is gone.
        #[serde(skip_serializing_if = "is_zero")]
        pub untagged: String,
    }
}

impl DeleteItem {
    /// The image `id` is gone.
    pub fn deleted(id: impl Into<String>) -> Self {
        Self {
            deleted: id.into(),
            ..Self::default()
        }
    }

    /// The name `reference` is gone.
    pub fn untagged(reference: impl Into<String>) -> Self {
        Self {
            untagged: reference.into(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_listed_image_has_dockers_members() {
        let summary = Summary {
            containers: -1,
            shared_size: -1,
            labels: Some(BTreeMap::new()),
            ..Summary::default()
        };
        assert_eq!(
            serde_json::to_value(&summary).unwrap(),
            json!({
                "Containers": -1, "Created": 0, "Id": "", "Labels": {}, "ParentId": "",
                "RepoDigests": [], "RepoTags": [], "SharedSize": -1, "Size": 0
            })
        );
    }

    #[test]
    fn a_removal_tells_one_thing_per_item() {
        let items = [
            DeleteItem::untagged("g/one:v1"),
            DeleteItem::deleted("sha256:1"),
        ];
        assert_eq!(
            serde_json::to_string(&items).unwrap(),
            r#"[{"Untagged":"g/one:v1"},{"Deleted":"sha256:1"}]"#
        );
    }
}
