//! What a driver tells of a layer's changes.

use std::fs;
use std::io::Cursor;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use conex_archive::tar::{EntryKind, Header};

use super::{add, base, id, mount, read};
use crate::difference::{ChangeKind, MountPoints};
use crate::driver::Driver;
use crate::extract::Limits;
use crate::overlay::Access;
use crate::unpack::unpack;

/// A base with something to change, and a container on it that has changed it.
fn changed(driver: &dyn Driver) {
    let capable = Header {
        xattrs: vec![(b"user.note".to_vec(), b"old".to_vec())],
        ..Header::new("noted", EntryKind::Regular)
    };
    let base = base()
        .directory("gone", 0o755)
        .file("gone/file", "x")
        .directory("replaced", 0o755)
        .file("replaced/same", "x")
        .file("replaced/other", "x")
        .directory("mnt", 0o755)
        .directory("looks", 0o755)
        .directory("untouched", 0o755)
        .file("untouched/file", "x")
        .file("was-file", "x")
        .entry(capable, b"x")
        .file("linked", "x");
    add(driver, "base", None, base);
    driver
        .create_container(&id("container"), Some(&id("base")), None)
        .unwrap();
    let root = mount(driver, "container", Access::ReadWrite);
    let at = |path: &str| root.path.join(path);
    fs::write(at("d/file"), "changed").unwrap();
    fs::remove_file(at("d/gone")).unwrap();
    fs::write(at("d/new"), "new").unwrap();
    fs::remove_dir_all(at("gone")).unwrap();
    fs::remove_dir_all(at("replaced")).unwrap();
    fs::create_dir(at("replaced")).unwrap();
    fs::write(at("replaced/same"), "x").unwrap();
    fs::set_permissions(at("looks"), fs::Permissions::from_mode(0o700)).unwrap();
    // Opened for writing and left as it is: copied up, not changed.
    drop(
        fs::OpenOptions::new()
            .write(true)
            .open(at("untouched/file")),
    );
    fs::create_dir_all(at("mnt/volume")).unwrap();
    fs::create_dir_all(at("data/deep")).unwrap();
    fs::write(at("bound"), "").unwrap();
    fs::remove_file(at("was-file")).unwrap();
    fs::create_dir(at("was-file")).unwrap();
    fs::write(at("was-file/x"), "x").unwrap();
    fs::hard_link(at("linked"), at("link-of-it")).unwrap();
    rustix::fs::setxattr(
        at("noted"),
        "user.note",
        b"new",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
}

fn mount_points() -> MountPoints {
    let paths = ["/mnt/volume", "/data/deep", "/bound", "/untouched"];
    MountPoints::new(paths.iter().map(|path| path.as_bytes()))
}

pub(crate) fn changes_are_told_as_docker_tells_them(driver: &dyn Driver) {
    changed(driver);
    let difference = driver
        .rootfs(&id("container"))
        .unwrap()
        .difference()
        .unwrap();
    let told: Vec<String> = difference
        .changes(&mount_points())
        .unwrap()
        .into_iter()
        .map(|change| {
            let kind = ["C", "A", "D"][change.kind as usize];
            format!("{kind} {}", String::from_utf8(change.path).unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            "C d",
            "C d/file",
            "D d/gone",
            "A d/new",
            "D gone",
            "A link-of-it",
            "C looks",
            "C noted",
            "C replaced",
            "D replaced/other",
            "C replaced/same",
            "C was-file",
            "A was-file/x",
        ]
    );
    let all = difference.changes(&MountPoints::default()).unwrap();
    let added = |path: &str| {
        all.iter()
            .any(|c| c.path == path.as_bytes() && c.kind == ChangeKind::Added)
    };
    for path in ["mnt/volume", "data", "data/deep", "bound"] {
        assert!(added(path), "{path}");
    }
    let layer = driver.rootfs(&id("base")).unwrap().difference().unwrap();
    let all = layer.changes(&MountPoints::default()).unwrap();
    assert!(all.iter().all(|c| c.kind == ChangeKind::Added), "{all:?}");
}

/// Kind, mode, content and link count of everything, by path.
fn seen(root: &Path) -> std::collections::BTreeMap<String, String> {
    let mut all = std::collections::BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let status = fs::symlink_metadata(&path).unwrap();
            let content = match status.is_file() {
                true => fs::read_to_string(&path).unwrap(),
                false => String::new(),
            };
            let mut note = [0; 16];
            let length = rustix::fs::lgetxattr(&path, "user.note", &mut note).unwrap_or(0);
            let links = if status.is_dir() { 0 } else { status.nlink() };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let looks = (status.mode(), status.uid(), links, status.mtime_nsec());
            all.insert(name, format!("{looks:?} {content} {:?}", &note[..length]));
            if status.is_dir() {
                left.push(path);
            }
        }
    }
    all
}

pub(crate) fn changes_packed_and_unpacked_make_the_same_tree(driver: &dyn Driver) {
    changed(driver);
    let pack = || {
        let difference = driver
            .rootfs(&id("container"))
            .unwrap()
            .difference()
            .unwrap();
        let mut archive = Vec::new();
        let packed = difference
            .pack(&MountPoints::default(), &mut archive)
            .unwrap();
        assert!(packed.members > 10);
        archive
    };
    let archive = pack();
    assert!(archive == pack(), "the same bytes every time");
    let layer = driver.create(&id("committed"), Some(&id("base"))).unwrap();
    let unpacked = unpack(Box::new(Cursor::new(archive)), &layer, Limits::default()).unwrap();
    assert_eq!(
        unpacked.content.implied_dirs,
        [Vec::<u8>::new()],
        "only the root"
    );
    let was = mount(driver, "container", Access::ReadOnly);
    let is = mount(driver, "committed", Access::ReadOnly);
    assert_eq!(seen(&was.path), seen(&is.path));
}

pub(crate) fn a_view_shows_a_container_layer_that_is_mounted(driver: &dyn Driver) {
    add(driver, "base", None, base());
    driver
        .create_container(&id("container"), Some(&id("base")), None)
        .unwrap();
    let root = mount(driver, "container", Access::ReadWrite);
    fs::write(root.path.join("d/file"), "changed").unwrap();
    fs::remove_file(root.path.join("top")).unwrap();
    let view = driver.rootfs(&id("container")).unwrap().view().unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", view.as_raw_fd()));
    assert_eq!(read(&path, "d/file").unwrap(), "changed");
    assert_eq!(read(&path, "d/gone").unwrap(), "base");
    assert_eq!(read(&path, "top"), None);
    assert!(fs::write(path.join("new"), "").is_err(), "read-only");
    // And it is the container's to write on.
    fs::write(root.path.join("after"), "").unwrap();
}
