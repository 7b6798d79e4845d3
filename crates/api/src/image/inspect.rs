//! The answer of `GET /images/{name}/json`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::container::{DriverData, Empty, HealthConfig, StrSlice};
use crate::descriptor::Descriptor;
use crate::object::is_zero;

object! {
    /// Everything about an image.
    #[serde(rename_all = "PascalCase")]
    pub struct Inspect {
        /// Id.
        pub id: String,
        /// `repository:tag`.
        pub repo_tags: Vec<String>,
        /// `repository@digest`.
        pub repo_digests: Vec<String>,
        /// Id of the parent; shown below API 1.52 only.
        pub parent: String,
        /// Message of its commit or import.
        #[serde(skip_serializing_if = "is_zero")]
        pub comment: String,
        /// RFC 3339 with nanoseconds.
        #[serde(skip_serializing_if = "is_zero")]
        pub created: String,
        /// Author.
        #[serde(skip_serializing_if = "is_zero")]
        pub author: String,
        /// What its containers inherit.
        pub config: Option<Config>,
        /// CPU architecture in Go's words.
        pub architecture: String,
        /// Variant of the CPU.
        #[serde(skip_serializing_if = "is_zero")]
        pub variant: String,
        /// Operating system in Go's words.
        pub os: String,
        /// Version of the operating system.
        #[serde(skip_serializing_if = "is_zero")]
        pub os_version: String,
        /// Bytes of all layers.
        pub size: i64,
        /// Storage driver and where it keeps the top layer.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub graph_driver: Option<DriverData>,
        /// Its layers.
        #[serde(rename = "RootFS")]
        pub root_fs: RootFs,
        /// What this engine adds.
        pub metadata: Metadata,
        /// The manifest or index the image is.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub descriptor: Option<Descriptor>,
        /// Manifests of the image; only when asked.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub manifests: Vec<Value>,
    }

    /// What containers inherit from an image (OCI image config with Docker's additions).
    #[serde(rename_all = "PascalCase")]
    pub struct Config {
        /// `user[:group]`.
        #[serde(skip_serializing_if = "is_zero")]
        pub user: String,
        /// Ports as `80/tcp`.
        #[serde(skip_serializing_if = "is_zero")]
        pub exposed_ports: BTreeMap<String, Empty>,
        /// `NAME=value`.
        #[serde(skip_serializing_if = "is_zero")]
        pub env: Vec<String>,
        /// Entry point.
        #[serde(skip_serializing_if = "is_zero")]
        pub entrypoint: StrSlice,
        /// Default arguments.
        #[serde(skip_serializing_if = "is_zero")]
        pub cmd: StrSlice,
        /// Mount points of anonymous volumes.
        #[serde(skip_serializing_if = "is_zero")]
        pub volumes: BTreeMap<String, Empty>,
        /// Working directory.
        #[serde(skip_serializing_if = "is_zero")]
        pub working_dir: String,
        /// Labels.
        #[serde(skip_serializing_if = "is_zero")]
        pub labels: BTreeMap<String, String>,
        /// Signal of `stop`.
        #[serde(skip_serializing_if = "is_zero")]
        pub stop_signal: String,
        /// Windows only.
        #[serde(skip_serializing_if = "is_zero")]
        pub args_escaped: bool,
        /// Health check.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<HealthConfig>,
        /// Dockerfile instructions run in an image built from this one.
        #[serde(skip_serializing_if = "is_zero")]
        pub on_build: Vec<String>,
        /// Shell of shell-form instructions.
        #[serde(skip_serializing_if = "is_zero")]
        pub shell: StrSlice,
    }

    /// The layers of an image.
    #[serde(rename_all = "PascalCase")]
    pub struct RootFs {
        /// Always `layers`.
        #[serde(rename = "Type")]
        pub kind: String,
        /// DiffIDs from the base up.
        #[serde(skip_serializing_if = "is_zero")]
        pub layers: Vec<String>,
    }

    /// What an engine knows of an image besides its content.
    #[serde(rename_all = "PascalCase")]
    pub struct Metadata {
        /// When it was last named, RFC 3339.
        #[serde(skip_serializing_if = "is_zero")]
        pub last_tag_time: String,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn an_image_config_shows_only_what_is_set() {
        let config: Config = serde_json::from_value(json!({
            "Cmd": null, "Env": ["PATH=/bin"], "Entrypoint": null, "Labels": null, "OnBuild": null,
            "User": "", "Volumes": null, "WorkingDir": "/w", "Hostname": "old"
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(&config).unwrap(),
            json!({"Env": ["PATH=/bin"], "WorkingDir": "/w"})
        );
    }
}
