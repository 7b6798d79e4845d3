//! An entry of `GET /containers/json`, and the process table of `top`.

use std::collections::BTreeMap;

use super::{EndpointSettings, MountPoint};
use crate::descriptor::Descriptor;
use crate::object::is_zero;

object! {
    /// A container in a list.
    #[serde(rename_all = "PascalCase")]
    pub struct Summary {
        /// Full id.
        pub id: String,
        /// Names with their leading `/`.
        pub names: Vec<String>,
        /// The image as the user named it, or its id when that name is taken by another.
        pub image: String,
        /// Id of the image.
        #[serde(rename = "ImageID")]
        pub image_id: String,
        /// Manifest of the image, where the engine keeps one.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_manifest_descriptor: Option<Descriptor>,
        /// Command line, words with spaces quoted.
        pub command: String,
        /// Seconds since the epoch.
        pub created: i64,
        /// Exposed and published ports.
        pub ports: Vec<Port>,
        /// Bytes of the container's own layer; only when asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        /// Bytes of all layers; only when asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        /// Labels of the user.
        pub labels: BTreeMap<String, String>,
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        pub state: String,
        /// State in words (`Up 3 seconds (healthy)`).
        pub status: String,
        /// Two facts of the host configuration.
        pub host_config: SummaryHostConfig,
        /// Health, since API 1.52.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<HealthSummary>,
        /// The networks it is in.
        pub network_settings: SummaryNetworkSettings,
        /// Its mounts.
        pub mounts: Vec<MountPoint>,
    }

    /// The part of the host configuration a list shows.
    #[serde(rename_all = "PascalCase")]
    pub struct SummaryHostConfig {
        /// Network mode.
        #[serde(skip_serializing_if = "is_zero")]
        pub network_mode: String,
        /// Annotations.
        #[serde(skip_serializing_if = "is_zero")]
        pub annotations: BTreeMap<String, String>,
    }

    /// The part of the network settings a list shows.
    #[serde(rename_all = "PascalCase")]
    pub struct SummaryNetworkSettings {
        /// Endpoints by network name.
        pub networks: BTreeMap<String, EndpointSettings>,
    }

    /// Health in a list.
    #[serde(rename_all = "PascalCase")]
    pub struct HealthSummary {
        /// `none`, `starting`, `healthy` or `unhealthy`.
        pub status: String,
        /// Failures in a row.
        pub failing_streak: i64,
    }

    /// A port in a list.
    #[serde(rename_all = "PascalCase")]
    pub struct Port {
        /// Address on the host; empty when not published.
        #[serde(rename = "IP")]
        pub ip: String,
        /// Port in the container.
        pub private_port: u16,
        /// Port on the host; omitted when 0, not published.
        #[serde(skip_serializing_if = "is_zero")]
        pub public_port: u16,
        /// `tcp`, `udp` or `sctp`.
        #[serde(rename = "Type")]
        pub protocol: String,
    }

    /// Answer of `GET /containers/{id}/top`.
    #[serde(rename_all = "PascalCase")]
    pub struct Top {
        /// One row per process.
        pub processes: Vec<Vec<String>>,
        /// Titles of the columns.
        pub titles: Vec<String>,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_are_empty_and_never_null() {
        let value = serde_json::to_value(Summary::default()).unwrap();
        assert_eq!(
            value,
            json!({
                "Id": "", "Names": [], "Image": "", "ImageID": "", "Command": "", "Created": 0,
                "Ports": [], "Labels": {}, "State": "", "Status": "", "HostConfig": {},
                "NetworkSettings": {"Networks": {}}, "Mounts": []
            })
        );
    }

    #[test]
    fn an_unpublished_port_has_no_public_port() {
        let port = Port {
            private_port: 53,
            protocol: "udp".into(),
            ..Port::default()
        };
        assert_eq!(
            serde_json::to_value(&port).unwrap(),
            json!({"IP": "", "PrivatePort": 53, "Type": "udp"})
        );
    }
}
