//! The image configuration: what a container of the image is made with, its
//! layers and how they came to be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ImageError, MAX_CONFIG_BYTES};
use crate::absent::{empty_is_none, null_is_default, zero_is_none};
use crate::digest::{self, Digest};
use crate::platform::Platform;

/// An image configuration; the digest of its bytes is the image's id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub created: Option<String>,
    /// Who made it.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub author: Option<String>,
    /// Processor architecture, as Go's `GOARCH`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub variant: Option<String>,
    /// Operating system, as Go's `GOOS`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Version of the operating system; of meaning on Windows.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Features the operating system must have; of meaning on Windows.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// What a container is made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ContainerConfig>,
    /// The layers.
    pub rootfs: RootFs,
    /// How the image came to be, first step first.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
    /// Docker: the container that was committed.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub container: Option<String>,
    /// Docker: the configuration of that container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_config: Option<ContainerConfig>,
    /// Docker: the version that made it.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub docker_version: Option<String>,
    /// Docker: id of the image it was made from.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub parent: Option<String>,
    /// Docker: message of the commit.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub comment: Option<String>,
}

impl ImageConfig {
    /// Reads and checks an image configuration.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn load(json: &[u8]) -> Result<Self, ImageError> {
        let image: Self = super::parse("image configuration", json, MAX_CONFIG_BYTES)?;
        if image.rootfs.kind != RootFs::LAYERS {
            return Err(ImageError::RootFs {
                kind: image.rootfs.kind,
            });
        }
        Ok(image)
    }

    /// What the image runs on, normalised.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
        .normalized()
    }
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always [`RootFs::LAYERS`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl RootFs {
    /// The one type there is.
    pub const LAYERS: &'static str = "layers";

    /// The chain id of every layer with those below it, lowest first.
    #[must_use]
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chain = Vec::with_capacity(self.diff_ids.len());
        for diff_id in &self.diff_ids {
            chain.push(digest::chain_id(chain.last(), diff_id));
        }
        chain
    }
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: Self::LAYERS.to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

/// One step of how an image came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub author: Option<String>,
    /// Message of the commit.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

/// What a container of the image is made with, unless its user says otherwise.
///
/// The members only a container has (`Hostname`, `Tty`, …), which Docker once wrote here too, are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `user`, `uid`, `user:group` or `uid:gid`, looked up in the image; empty is root.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Ports it listens on, as `80/tcp`.
    #[serde(with = "keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// Environment as `NAME=value`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// What is executed, before the arguments.
    #[serde(
        deserialize_with = "text_or_list",
        skip_serializing_if = "Option::is_none"
    )]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, or without an entrypoint what is executed.
    #[serde(
        deserialize_with = "text_or_list",
        skip_serializing_if = "Option::is_none"
    )]
    pub cmd: Option<Vec<String>>,
    /// Paths that are volumes.
    #[serde(with = "keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Working directory.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Anything, by name.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to stop, by name or number.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub stop_signal: Option<String>,
    /// How many seconds it has then.
    #[serde(rename = "StopTimeout", skip_serializing_if = "Option::is_none")]
    pub stop_timeout_seconds: Option<i64>,
    /// Whether the command line is escaped already; of meaning on Windows.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// How its health is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds from this image.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// The shell of instructions in shell form.
    #[serde(
        deserialize_with = "text_or_list",
        skip_serializing_if = "Option::is_none"
    )]
    pub shell: Option<Vec<String>>,
}

/// How the health of a container is asked for; what is `None` is inherited or Docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", argument…]` or `["CMD-SHELL", command]`; empty inherits.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Time between two tests.
    #[serde(
        rename = "Interval",
        deserialize_with = "zero_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub interval_ns: Option<i64>,
    /// Time after which a test has failed.
    #[serde(
        rename = "Timeout",
        deserialize_with = "zero_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout_ns: Option<i64>,
    /// Time at first in which failures do not count.
    #[serde(
        rename = "StartPeriod",
        deserialize_with = "zero_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_period_ns: Option<i64>,
    /// Time between two tests in the start period.
    #[serde(
        rename = "StartInterval",
        deserialize_with = "zero_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_interval_ns: Option<i64>,
    /// How many failures in a row make it unhealthy.
    #[serde(
        deserialize_with = "zero_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub retries: Option<i64>,
}

/// Reads a list of texts, or one text as a list of it, as Docker once wrote commands.
fn text_or_list<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum TextOrList {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => None,
        Some(TextOrList::List(list)) => Some(list),
        Some(TextOrList::Text(text)) => Some(vec![text]),
    })
}

/// A set as Docker writes it: `{"80/tcp": {}}`.
mod keys {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::de::IgnoredAny;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Nothing {}

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, Nothing {})))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map: Option<BTreeMap<String, IgnoredAny>> = Option::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}
