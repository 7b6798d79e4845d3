//! What is told of a container's files: one path's looks, and what changed.

object! {
    /// Looks of one path; base64 of its JSON is the header [`PATH_STAT_HEADER`].
    #[serde(rename_all = "camelCase")]
    pub struct PathStat {
        /// Last component of the path asked for.
        pub name: String,
        /// Size in bytes.
        pub size: i64,
        /// Kind and permissions as Go's `os.FileMode` has them; see [`go_mode`].
        pub mode: u32,
        /// Last modification, RFC 3339.
        pub mtime: String,
        /// Of a symbolic link, where it leads in the end, from the container's root.
        pub link_target: String,
    }

    /// A path that a container changed.
    #[serde(rename_all = "PascalCase")]
    pub struct FilesystemChange {
        /// Absolute path.
        pub path: String,
        /// 0 modified, 1 added, 2 deleted.
        pub kind: u8,
    }
}

/// The header that carries a [`PathStat`].
pub const PATH_STAT_HEADER: &str = "X-Docker-Container-Path-Stat";

/// `os.ModeDir`.
pub const GO_DIRECTORY: u32 = 1 << 31;
/// `os.ModeSymlink`.
pub const GO_SYMLINK: u32 = 1 << 27;
/// `os.ModeDevice`.
pub const GO_DEVICE: u32 = 1 << 26;

/// Go's `os.FileMode` of a `st_mode`. Source: Go's `os/stat_linux.go`.
pub fn go_mode(st_mode: u32) -> u32 {
    let kind = match st_mode & 0o170_000 {
        0o040_000 => GO_DIRECTORY,
        0o120_000 => GO_SYMLINK,
        0o060_000 => GO_DEVICE,
        // os.ModeCharDevice comes with os.ModeDevice.
        0o020_000 => GO_DEVICE | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let set = |bit: u32, go: u32| if st_mode & bit != 0 { go } else { 0 };
    kind | st_mode & 0o777 | set(0o4000, 1 << 23) | set(0o2000, 1 << 22) | set(0o1000, 1 << 20)
}

/// Options of `PUT /containers/{id}/archive`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Directory to unpack into.
    pub path: String,
    /// Whether a directory and something else may not take each other's place.
    pub no_overwrite_dir_non_dir: bool,
    /// Whether everything belongs to the container's user instead of the archive's owners.
    pub copy_uid_gid: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_644), 420);
        assert_eq!(go_mode(0o040_755), 0x8000_01ed);
        assert_eq!(go_mode(0o120_777), 0x0800_01ff);
        assert_eq!(go_mode(0o020_666), 0x0420_01b6);
        assert_eq!(go_mode(0o041_777), 0x8010_01ff);
        assert_eq!(go_mode(0o104_711), 0x0080_01c9);
    }

    #[test]
    fn a_path_is_told_under_dockers_names() {
        let stat = PathStat {
            name: "passwd".into(),
            size: 30,
            mode: 420,
            mtime: "2026-11-22T03:40:07Z".into(),
            ..PathStat::default()
        };
        assert_eq!(
            serde_json::to_string(&stat).unwrap(),
            r#"{"name":"passwd","size":30,"mode":420,"mtime":"2026-11-22T03:40:07Z","linkTarget":""}"#
        );
        let change = FilesystemChange {
            path: "/vol".into(),
            kind: 1,
        };
        assert_eq!(
            serde_json::to_string(&change).unwrap(),
            r#"{"Path":"/vol","Kind":1}"#
        );
    }
}
