//! Copying a directory of an image into a volume, by [`conex_layers::copy`]. It
//! must not know images, nor what a volume is.
//!
//! *Invariant*: the source is found by `openat2(RESOLVE_IN_ROOT)`, since every name
//! in it is the image's.
//!
//! Source: moby `daemon/container_operations_unix.go` (copyExistingContents).

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use conex_layers::{copy, tree};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::Error;

/// The directory of an image at a path; `None` where it has nothing.
///
/// Errors: invalid parameter where the image has a file, which no volume can
/// cover.
pub(super) fn source(
    image_root: BorrowedFd<'_>,
    path_in_image: &Path,
) -> Result<Option<OwnedFd>, Error> {
    let path = path_in_image.display();
    let relative = path_in_image.strip_prefix("/").unwrap_or(path_in_image);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(image_root, relative, flags, Mode::empty(), resolve) {
        Ok(source) => Ok(Some(source)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR) => Err(Error::invalid(format!(
            "cannot mount volume over existing file, file exists {path}"
        ))),
        Err(error) => Err(Error::system(&format!("open {path} of the image"), &error)),
    }
}

/// Copies what is in a directory, and what it says of itself, into another. On
/// an error what was copied is taken out again, so that the next container tries
/// again; what a running container put there meanwhile is its own.
pub(super) fn into(source: OwnedFd, target_dir: &Path) -> Result<(), Fault> {
    let target = OwnedFd::from(File::open(target_dir)?);
    let top = target.try_clone()?;
    let mut made = Vec::new();
    copy::tree_noting(source, target, &mut made).inspect_err(|_| take_out(&top, &made))?;
    Ok(())
}

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) enum Fault {
    /// The volume cannot be opened.
    Open(#[from] std::io::Error),
    Copy(#[from] copy::Error),
}

fn take_out(top: &OwnedFd, made: &[CString]) {
    for name in made {
        if let Err(error) = tree::remove(top.as_fd(), name.to_bytes()) {
            tracing::warn!(?name, %error, "left in the volume");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::PathBuf;

    use rustix::fs::FileType;

    use super::*;

    /// An image root with `/data` and a volume beside it.
    fn fixture() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let (image, volume) = (temp.path().join("image"), temp.path().join("volume"));
        fs::create_dir_all(image.join("data/sub/deeper")).unwrap();
        fs::create_dir(&volume).unwrap();
        (temp, image, volume)
    }

    fn copy(image: &Path, path: &str, volume: &Path) -> Result<(), Error> {
        let root = File::open(image).unwrap();
        match source(root.as_fd(), Path::new(path))? {
            Some(source) => into(source, volume).map_err(|fault| Error::system("copy", &fault)),
            None => Ok(()),
        }
    }

    #[test]
    fn content_arrives_with_everything_it_says_of_itself() {
        let (_temp, image, volume) = fixture();
        let data = image.join("data");
        fs::write(data.join("sub/file"), "hello").unwrap();
        fs::set_permissions(data.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(data.join("sub/file"), data.join("sub/deeper/again")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        fs::set_permissions(data.join("sub"), fs::Permissions::from_mode(0o1770)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o2701)).unwrap();
        let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::open(data.join("sub"))
            .unwrap()
            .set_modified(then)
            .unwrap();
        File::open(data.join("sub/file"))
            .unwrap()
            .set_modified(then)
            .unwrap();
        let fifo = CString::new("pipe").unwrap();
        let dir = File::open(&data).unwrap();
        rustix::fs::mknodat(&dir, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();

        copy(&image, "/data", &volume).unwrap();

        let mode = |path: &str| {
            fs::symlink_metadata(volume.join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(
            fs::read_to_string(volume.join("sub/file")).unwrap(),
            "hello"
        );
        assert_eq!(
            (mode("sub/file"), mode("sub"), mode("")),
            (0o4751, 0o1770, 0o2701)
        );
        assert_eq!(mode("pipe"), 0o400);
        let inode = |path: &str| fs::symlink_metadata(volume.join(path)).unwrap().ino();
        assert_eq!(inode("sub/file"), inode("sub/deeper/again"));
        assert_eq!(
            fs::read_link(volume.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        for path in ["sub", "sub/file"] {
            assert_eq!(
                fs::metadata(volume.join(path)).unwrap().modified().unwrap(),
                then
            );
        }
    }

    #[test]
    fn a_missing_directory_is_nothing_and_a_file_cannot_be_covered() {
        let (_temp, image, volume) = fixture();
        fs::write(image.join("data/new"), "x").unwrap();
        fs::write(image.join("file"), "x").unwrap();
        copy(&image, "/none", &volume).unwrap();
        assert_eq!(
            copy(&image, "/file", &volume).unwrap_err().to_string(),
            "cannot mount volume over existing file, file exists /file"
        );
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    }

    #[test]
    fn a_link_of_the_image_does_not_lead_out_of_it() {
        let (temp, image, volume) = fixture();
        fs::create_dir(temp.path().join("host")).unwrap();
        fs::write(temp.path().join("host/secret"), "x").unwrap();
        symlink("../../host", image.join("out")).unwrap();
        symlink(temp.path().join("host"), image.join("absolute")).unwrap();
        symlink("data", image.join("inside")).unwrap();
        fs::write(image.join("data/file"), "x").unwrap();
        copy(&image, "/out", &volume).unwrap();
        copy(&image, "/absolute", &volume).unwrap();
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
        copy(&image, "/inside", &volume).unwrap();
        assert!(volume.join("file").exists());
    }

    #[test]
    fn a_failed_copy_takes_out_only_what_it_made() {
        let (_temp, _image, volume) = fixture();
        fs::write(volume.join("copied"), "x").unwrap();
        fs::create_dir(volume.join("tree")).unwrap();
        fs::write(volume.join("theirs"), "x").unwrap();
        let top = OwnedFd::from(File::open(&volume).unwrap());
        take_out(
            &top,
            &[c"copied".to_owned(), c"tree".to_owned(), c"gone".to_owned()],
        );
        let left: Vec<_> = fs::read_dir(&volume)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["theirs"]);
    }
}
