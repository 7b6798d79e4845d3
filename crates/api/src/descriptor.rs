//! OCI descriptors and platforms as API answers carry them.

use std::collections::BTreeMap;

use crate::object::is_zero;

object! {
    /// What a blob is: type, digest, size (OCI image spec, descriptor).
    #[serde(rename_all = "camelCase")]
    pub struct Descriptor {
        /// Media type.
        pub media_type: String,
        /// `algorithm:hex`.
        pub digest: String,
        /// Bytes.
        pub size: i64,
        /// Other places to fetch it from.
        #[serde(skip_serializing_if = "is_zero")]
        pub urls: Vec<String>,
        /// Annotations.
        #[serde(skip_serializing_if = "is_zero")]
        pub annotations: BTreeMap<String, String>,
        /// The content itself, base64.
        #[serde(skip_serializing_if = "is_zero")]
        pub data: String,
        /// Platform of the content.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub platform: Option<Platform>,
        /// Type of the artifact.
        #[serde(skip_serializing_if = "is_zero")]
        pub artifact_type: String,
    }

    /// Where an image runs.
    pub struct Platform {
        /// CPU architecture in Go's words.
        pub architecture: String,
        /// Operating system in Go's words.
        pub os: String,
        /// Version of the operating system.
        #[serde(rename = "os.version", skip_serializing_if = "is_zero")]
        pub os_version: String,
        /// Required features of the operating system.
        #[serde(rename = "os.features", skip_serializing_if = "is_zero")]
        pub os_features: Vec<String>,
        /// Variant of the CPU.
        #[serde(skip_serializing_if = "is_zero")]
        pub variant: String,
    }
}
