//! Mounts: as asked for in `HostConfig.Mounts` and as inspect reports them.

use std::collections::BTreeMap;

use crate::object::is_zero;

object! {
    /// A mount asked for with `--mount`.
    #[serde(rename_all = "PascalCase")]
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
        #[serde(rename = "Type", skip_serializing_if = "is_zero")]
        pub kind: String,
        /// Host path, volume name or image; empty for tmpfs and anonymous volumes.
        #[serde(skip_serializing_if = "is_zero")]
        pub source: String,
        /// Absolute path in the container.
        #[serde(skip_serializing_if = "is_zero")]
        pub target: String,
        /// Whether the mount is read-only.
        #[serde(skip_serializing_if = "is_zero")]
        pub read_only: bool,
        /// `default`, `consistent`, `cached` or `delegated`; without effect on Linux.
        #[serde(skip_serializing_if = "is_zero")]
        pub consistency: String,
        /// Options of a bind mount.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind_options: Option<BindOptions>,
        /// Options of a volume.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_options: Option<VolumeOptions>,
        /// Options of an image mount.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_options: Option<ImageOptions>,
        /// Options of a tmpfs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs_options: Option<TmpfsOptions>,
    }

    /// Options of a bind mount.
    #[serde(rename_all = "PascalCase")]
    pub struct BindOptions {
        /// `[r]private`, `[r]shared` or `[r]slave`.
        #[serde(skip_serializing_if = "is_zero")]
        pub propagation: String,
        /// Whether mounts below the source stay out.
        #[serde(skip_serializing_if = "is_zero")]
        pub non_recursive: bool,
        /// Whether a missing source is created.
        #[serde(skip_serializing_if = "is_zero")]
        pub create_mountpoint: bool,
        /// Whether only the top mount is read-only.
        #[serde(skip_serializing_if = "is_zero")]
        pub read_only_non_recursive: bool,
        /// Whether it is an error if the whole tree cannot be made read-only.
        #[serde(skip_serializing_if = "is_zero")]
        pub read_only_force_recursive: bool,
    }

    /// Options of a volume mount.
    #[serde(rename_all = "PascalCase")]
    pub struct VolumeOptions {
        /// Whether the image's files are not copied into an empty volume.
        #[serde(skip_serializing_if = "is_zero")]
        pub no_copy: bool,
        /// Labels of a volume created by this.
        #[serde(skip_serializing_if = "is_zero")]
        pub labels: BTreeMap<String, String>,
        /// Directory of the volume to mount.
        #[serde(skip_serializing_if = "is_zero")]
        pub subpath: String,
        /// Driver of a volume created by this.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub driver_config: Option<DriverConfig>,
    }

    /// Driver of a volume with its options.
    #[serde(rename_all = "PascalCase")]
    pub struct DriverConfig {
        /// Name of the driver.
        #[serde(skip_serializing_if = "is_zero")]
        pub name: String,
        /// Options of the driver.
        #[serde(skip_serializing_if = "is_zero")]
        pub options: BTreeMap<String, String>,
    }

    /// Options of an image mount.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageOptions {
        /// Directory of the image to mount.
        #[serde(skip_serializing_if = "is_zero")]
        pub subpath: String,
    }

    /// Options of a tmpfs.
    #[serde(rename_all = "PascalCase")]
    pub struct TmpfsOptions {
        /// Size in bytes; 0 is the kernel's default, half of the memory.
        #[serde(skip_serializing_if = "is_zero")]
        pub size_bytes: i64,
        /// Mode bits as a plain number; 0 is 1777.
        #[serde(skip_serializing_if = "is_zero")]
        pub mode: u32,
        /// Flags `[name]` and pairs `[name, value]`.
        #[serde(skip_serializing_if = "is_zero")]
        pub options: Vec<Vec<String>>,
    }

    /// A mount as inspect and list report it.
    #[serde(rename_all = "PascalCase")]
    pub struct MountPoint {
        /// `bind`, `volume`, `tmpfs` or `image`.
        #[serde(rename = "Type", skip_serializing_if = "is_zero")]
        pub kind: String,
        /// Name of the volume.
        #[serde(skip_serializing_if = "is_zero")]
        pub name: String,
        /// Path on the host.
        pub source: String,
        /// Path in the container.
        pub destination: String,
        /// Driver of the volume.
        #[serde(skip_serializing_if = "is_zero")]
        pub driver: String,
        /// Mode words as given (`ro`, `z`, ...).
        pub mode: String,
        /// Whether it is writable.
        #[serde(rename = "RW")]
        pub rw: bool,
        /// Propagation; empty for volumes.
        pub propagation: String,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bind_has_no_name_and_no_driver() {
        let bind = MountPoint {
            kind: "bind".into(),
            source: "/src".into(),
            destination: "/data".into(),
            mode: "ro".into(),
            propagation: "rprivate".into(),
            ..MountPoint::default()
        };
        assert_eq!(
            serde_json::to_value(&bind).unwrap(),
            json!({"Type": "bind", "Source": "/src", "Destination": "/data", "Mode": "ro", "RW": false,
                   "Propagation": "rprivate"})
        );
    }

    #[test]
    fn a_mount_shows_only_what_was_asked() {
        let sent = json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1_048_576, "Options": [["noexec"]]}});
        let mount: Mount = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(serde_json::to_value(&mount).unwrap(), sent);
    }
}
