//! The init layer over images that have, lack or disguise what it makes.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::fixture::{directory, privileged};
use crate::overlay::{OverlayOptions, OverlayRecipe};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Builds the init layer of an image directory; gives the layer and a merged
/// mount of both.
struct Built {
    temporary: tempfile::TempDir,
    _mount: OwnedFd,
    merged: PathBuf,
}

fn built(prepare: impl Fn(&Path)) -> Built {
    let temporary = tempfile::tempdir().unwrap();
    let (image, out) = (temporary.path().join("image"), temporary.path().join("out"));
    fs::create_dir(&image).unwrap();
    fs::create_dir(&out).unwrap();
    prepare(&image);
    build(directory(&image).as_fd(), directory(&out).as_fd()).unwrap();
    let recipe = OverlayRecipe {
        lowers: vec![out, image],
        writable: None,
    };
    let mount = recipe.mount(OverlayOptions::default()).unwrap();
    let merged = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    Built {
        temporary,
        _mount: mount,
        merged,
    }
}

impl Built {
    fn out(&self, path: &str) -> Option<fs::Metadata> {
        fs::symlink_metadata(self.temporary.path().join("out").join(path)).ok()
    }
}

#[test]
fn an_empty_image_gets_everything() {
    if !privileged() {
        return;
    }
    let built = built(|_| {});
    let files = [
        ".dockerenv",
        "dev/console",
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
    ];
    for path in files {
        let status = fs::symlink_metadata(built.merged.join(path)).unwrap();
        assert!(status.is_file(), "{path}");
        assert_eq!((status.len(), status.mode() & 0o7777), (0, 0o755), "{path}");
    }
    for path in ["dev/pts", "dev/shm", "proc", "sys", "etc", "dev"] {
        let status = fs::symlink_metadata(built.merged.join(path)).unwrap();
        assert!(status.is_dir(), "{path}");
        assert_eq!(status.mode() & 0o7777, 0o755, "{path}");
    }
    let target = fs::read_link(built.merged.join("etc/mtab")).unwrap();
    assert_eq!(target, Path::new("/proc/mounts"));
}

#[test]
fn directories_of_the_image_look_the_same_through_the_init_layer() {
    if !privileged() {
        return;
    }
    let built = built(|image| {
        for (path, mode, owner) in [("etc", 0o2750, 41), ("dev", 0o700, 42), ("", 0o711, 43)] {
            let path = image.join(path);
            fs::create_dir_all(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(owner), Some(owner)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let name = "trusted.mark";
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&path, name, b"1", flags).unwrap();
        }
    });
    for path in ["etc", "dev", ""] {
        let image = fs::metadata(built.temporary.path().join("image").join(path)).unwrap();
        let merged = fs::metadata(built.merged.join(path)).unwrap();
        assert!(built.out(path).is_some());
        let seen = |status: &fs::Metadata| {
            (
                status.mode(),
                status.uid(),
                status.gid(),
                status.mtime(),
                status.mtime_nsec(),
            )
        };
        assert_eq!(seen(&image), seen(&merged), "{path}");
        let mut value = [0; 8];
        let out = built.temporary.path().join("out").join(path);
        assert_eq!(
            rustix::fs::getxattr(&out, "trusted.mark", &mut value),
            Ok(1)
        );
    }
}

#[test]
fn what_the_image_has_is_not_repeated() {
    if !privileged() {
        return;
    }
    let built = built(|image| {
        for path in ["dev/pts", "dev/shm", "etc", "proc", "sys"] {
            fs::create_dir_all(image.join(path)).unwrap();
        }
        for path in [
            ".dockerenv",
            "dev/console",
            "etc/hostname",
            "etc/hosts",
            "etc/resolv.conf",
        ] {
            fs::write(image.join(path), "image").unwrap();
        }
        symlink("/proc/mounts", image.join("etc/mtab")).unwrap();
    });
    let out = fs::read_dir(built.temporary.path().join("out")).unwrap();
    assert_eq!(out.count(), 0);
    assert_eq!(
        fs::read_to_string(built.merged.join("etc/hosts")).unwrap(),
        "image"
    );
}

#[test]
fn links_of_the_image_are_covered_and_never_followed() {
    if !privileged() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let built = built(|image| {
        fs::create_dir_all(image.join("etc")).unwrap();
        symlink(
            "/run/systemd/resolve/stub-resolv.conf",
            image.join("etc/resolv.conf"),
        )
        .unwrap();
        symlink("../proc/self/mounts", image.join("etc/mtab")).unwrap();
        symlink(outside.path(), image.join("dev")).unwrap();
        symlink("run/shm", image.join("proc")).unwrap();
    });
    assert!(built.out("etc/resolv.conf").unwrap().is_file());
    assert!(built.out("dev/pts").unwrap().is_dir());
    assert!(built.out("proc").unwrap().is_dir());
    let target = fs::read_link(built.merged.join("etc/mtab")).unwrap();
    assert_eq!(target, Path::new("/proc/mounts"));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
