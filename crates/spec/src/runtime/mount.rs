//! `root` and `mounts`: the container's file tree. It must not know mount
//! flags; options stay the words they are in fstab(5).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::IdMapping;
use crate::absent::{empty_is_none, null_is_default};

/// The root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Root {
    /// Directory on the host, absolute or relative to the bundle.
    pub path: PathBuf,
    /// Whether it is read-only inside the container.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

/// One mount on top of the root file system, in the order they are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where in the container; a relative path counts from `/`.
    pub destination: PathBuf,
    /// File system type; ignored for bind mounts.
    #[serde(
        rename = "type",
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub kind: Option<String>,
    /// Device, file system name, or for bind mounts a path, absolute or relative to the bundle.
    #[serde(
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub source: Option<PathBuf>,
    /// Options as in fstab(5), with those of the OCI specification (`rbind`, `rro`, `idmap`, …).
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub options: Vec<String>,
    /// User id mapping of an idmapped mount.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub uid_mappings: Vec<IdMapping>,
    /// Group id mapping of an idmapped mount.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gid_mappings: Vec<IdMapping>,
}
