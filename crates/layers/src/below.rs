//! Hard links whose target is in a lower layer.
//!
//! A layer's archive may link to a file that only a layer below has. Unpacked
//! alone, the layer has nothing to link to, so [`crate::extract`] leaves such
//! links for when the layers below are there. A file cannot be linked across
//! two directories of an overlay; it is copied up, as the overlay itself does
//! when somebody links it: the layer gets the target, and the link to it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::extract::LinkBelow;
use crate::{implied, metadata, tree};

/// A link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target is in no layer, or something failed on the way.
    #[error("cannot link {path:?} to {target:?} of the layers below")]
    Link {
        /// The link.
        path: String,
        /// Its target.
        target: String,
        /// Why not.
        source: Errno,
    },
    /// The directories around the target have no metadata to take over.
    #[error(transparent)]
    Implied(#[from] implied::Error),
}

/// Makes the links in `layer`. `below` is the merged root of the layers
/// beneath. Both are opened for reading.
pub fn link(
    below: BorrowedFd<'_>,
    layer: BorrowedFd<'_>,
    links: &[LinkBelow],
) -> Result<(), Error> {
    for link in links {
        let failed = |source| Error::Link {
            path: String::from_utf8_lossy(&link.path).into_owned(),
            target: String::from_utf8_lossy(&link.target).into_owned(),
            source,
        };
        let (parent, name) = split(&link.path);
        let parent = tree::open_directory_in(layer, parent).map_err(failed)?;
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            // A later entry of the archive has the name.
            Ok(_) => continue,
            Err(error) => return Err(failed(error)),
        }
        // An earlier link may have brought the target up.
        if link_within(layer, &link.target, parent.as_fd(), name).map_err(failed)? {
            continue;
        }
        copy_up(below, &link.target, parent.as_fd(), name).map_err(failed)?;
        let made = directories(layer, &link.target).map_err(failed)?;
        implied::adopt(below, layer, &made)?;
        let (target_parent, target_name) = split(&link.target);
        let target_parent = tree::open_directory_in(layer, target_parent).map_err(failed)?;
        let flags = AtFlags::empty();
        match rustix::fs::linkat(&parent, name, &target_parent, target_name, flags) {
            // The layer has removed the target: the link alone lives on.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        // Both directories have changed, which nobody below has seen.
        implied::adopt(below, layer, &made)?;
    }
    Ok(())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b".", path),
    }
}

/// Links to a target in the layer itself; `false` if it has none.
fn link_within(
    layer: BorrowedFd<'_>,
    target: &[u8],
    parent: BorrowedFd<'_>,
    name: &[u8],
) -> Result<bool, Errno> {
    let (target_parent, target_name) = split(target);
    let directory = match tree::open_directory_in(layer, target_parent) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        directory => directory?,
    };
    let status = match rustix::fs::statat(&directory, target_name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        status => status?,
    };
    // The mark of a removal is nothing to link to.
    let kind = FileType::from_raw_mode(status.st_mode);
    if kind == FileType::CharacterDevice && status.st_rdev == 0 {
        return Ok(false);
    }
    rustix::fs::linkat(&directory, target_name, parent, name, AtFlags::empty())?;
    Ok(true)
}

/// Copies what the layers below have as the target, with all its metadata.
fn copy_up(
    below: BorrowedFd<'_>,
    target: &[u8],
    parent: BorrowedFd<'_>,
    name: &[u8],
) -> Result<(), Errno> {
    let (target_parent, target_name) = split(target);
    let directory = tree::open_directory_in(below, target_parent)?;
    let status = rustix::fs::statat(&directory, target_name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let mut from = File::from(rustix::fs::openat(
                &directory,
                target_name,
                flags,
                Mode::empty(),
            )?);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let to = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
            let mut to = File::from(to);
            std::io::copy(&mut from, &mut to)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            metadata::copy(from.as_fd(), to.as_fd())
        }
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(&directory, target_name, Vec::new())?;
            rustix::fs::symlinkat(&text, parent, name)?;
            let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)
        }
        // Directories cannot be linked, and nobody links nodes.
        _ => Err(Errno::PERM),
    }
}

/// Makes the directories above a path that the layer lacks, and tells which.
fn directories(layer: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let mut made = Vec::new();
    let mut parent: OwnedFd = tree::open_directory(layer, c".")?;
    let slashes = (0..path.len()).filter(|index| path[*index] == b'/');
    for end in slashes {
        let prefix = &path[..end];
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::openat2(layer, prefix, flags, Mode::empty(), resolve);
        parent = match open() {
            Err(Errno::NOENT) => {
                let (_, name) = split(prefix);
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                made.push(prefix.to_vec());
                open()?
            }
            opened => opened?,
        };
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::extract::Whiteouts;
    use crate::fixture::{Archive, directory, privileged};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_link_to_a_lower_layer_brings_its_target_up() {
        if !privileged() {
            return;
        }
        let (below, layer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = below.path().join("usr/bin/tool");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "content").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4711)).unwrap();
        let usr = fs::Permissions::from_mode(0o700);
        fs::set_permissions(below.path().join("usr"), usr).unwrap();
        std::os::unix::fs::symlink("somewhere", below.path().join("way")).unwrap();
        let unpacked = Archive::new()
            .hard_link("etc/one", "usr/bin/tool")
            .hard_link("two", "etc/one")
            .hard_link("also", "way")
            .hard_link("taken", "usr/bin/tool")
            .file("taken", "mine")
            .file(".wh.way", "")
            .unpack(layer.path(), Whiteouts::Overlay)
            .unwrap();
        assert_eq!(unpacked.links_below.len(), 4);
        let (from, to) = (directory(below.path()), directory(layer.path()));
        link(from.as_fd(), to.as_fd(), &unpacked.links_below).unwrap();
        let status = |path: &str| fs::symlink_metadata(layer.path().join(path)).unwrap();
        let inode = status("usr/bin/tool").ino();
        for path in ["etc/one", "two"] {
            assert_eq!(status(path).ino(), inode, "{path}");
        }
        assert_eq!(status("two").mode() & 0o7777, 0o4711);
        assert_eq!(status("usr").mode() & 0o7777, 0o700);
        assert_eq!(fs::read(layer.path().join("two")).unwrap(), b"content");
        assert_eq!(fs::read(layer.path().join("taken")).unwrap(), b"mine");
        let text = fs::read_link(layer.path().join("also")).unwrap();
        assert_eq!(text.to_str(), Some("somewhere"));
        assert!(status("way").file_type() != status("also").file_type());

        let nowhere = [LinkBelow {
            path: b"x".to_vec(),
            target: b"nosuch".to_vec(),
        }];
        let error = link(from.as_fd(), to.as_fd(), &nowhere).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot link \"x\" to \"nosuch\" of the layers below"
        );
    }
}
