//! Directories that an archive implies without describing them.
//!
//! A layer whose archive holds `tmp/file` but no `tmp` gets a `tmp` of mode
//! 0755 when it is unpacked alone, and over the image it would mask the real
//! one's 1777. Unpacking records such directories; once the layers below are
//! there, [`adopt`] gives them the look that the image has at that place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::metadata;

/// A directory's metadata could not be taken over.
#[derive(Debug, thiserror::Error)]
#[error("cannot give the directory {path:?} the metadata it has in the layers below")]
pub struct Error {
    /// The directory inside the layer.
    path: String,
    source: Errno,
}

/// Gives each of `directories` in `layer` the owner, mode, attributes and times
/// that it has in `below`, the merged root of the layers beneath. What is no
/// directory below keeps what it has.
///
/// `directories` as [`crate::extract::Extracted::implied_dirs`] lists them; the
/// empty path is the root. Symbolic links on the way lead to places of the same
/// root, as they did when the layer was unpacked.
pub fn adopt(
    below: BorrowedFd<'_>,
    layer: BorrowedFd<'_>,
    directories: &[Vec<u8>],
) -> Result<(), Error> {
    // Deepest first, so that no directory's time is touched after it was set.
    let mut directories: Vec<&[u8]> = directories.iter().map(Vec::as_slice).collect();
    directories.sort_unstable_by(|one, other| other.cmp(one));
    for path in directories {
        let failed = |source| Error {
            path: String::from_utf8_lossy(path).into_owned(),
            source,
        };
        let (Some(from), Some(to)) = (
            open(below, path).map_err(failed)?,
            open(layer, path).map_err(failed)?,
        ) else {
            continue;
        };
        metadata::copy(from.as_fd(), to.as_fd()).map_err(failed)?;
    }
    Ok(())
}

/// The directory, if it is there and is one.
fn open(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    let opened = rustix::fs::openat2(
        root,
        if path.is_empty() { b"." } else { path },
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    );
    match opened {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::open_directory;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn implied_directories_look_as_they_do_below_and_new_ones_stay() {
        let below = tempfile::tempdir().unwrap();
        let layer = tempfile::tempdir().unwrap();
        fs::create_dir_all(below.path().join("tmp/deep")).unwrap();
        let mode = |mode| fs::Permissions::from_mode(mode);
        fs::set_permissions(below.path().join("tmp"), mode(0o1777)).unwrap();
        fs::set_permissions(below.path(), mode(0o711)).unwrap();
        fs::create_dir_all(layer.path().join("tmp/deep")).unwrap();
        fs::create_dir_all(layer.path().join("new")).unwrap();
        let directories = [&b""[..], b"tmp", b"tmp/deep", b"new"].map(<[u8]>::to_vec);
        adopt(
            open_directory(rustix::fs::CWD, below.path())
                .unwrap()
                .as_fd(),
            open_directory(rustix::fs::CWD, layer.path())
                .unwrap()
                .as_fd(),
            &directories,
        )
        .unwrap();
        let status = |root: &tempfile::TempDir, path| fs::metadata(root.path().join(path)).unwrap();
        assert_eq!(status(&layer, "tmp").mode() & 0o7777, 0o1777);
        assert_eq!(status(&layer, "").mode() & 0o7777, 0o711);
        assert_eq!(status(&layer, "new").mode() & 0o7777, 0o755);
        for path in ["", "tmp", "tmp/deep"] {
            let (one, other) = (status(&below, path), status(&layer, path));
            assert_eq!(
                (one.mtime(), one.mtime_nsec()),
                (other.mtime(), other.mtime_nsec()),
                "{path}"
            );
        }
    }
}
