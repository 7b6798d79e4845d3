//! What every storage driver must do. A driver's tests are one line,
//! `suite!(disk, open)`, and what is particular to it.
#![allow(clippy::unwrap_used)]

mod changes;
mod content;

use std::fs;
use std::io::Cursor;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use conex_archive::tar::{EntryKind, Header};
use conex_spec::digest::Digest;

use super::{Driver, Error, LayerId, Listed, MAX_LOWERS};
use crate::extract::Limits;
use crate::fixture::Archive;
use crate::overlay::{Access, OverlayOptions};
use crate::unpack::{Unpacked, unpack};
pub(crate) use changes::*;
pub(crate) use content::*;

/// Runs every test of this module on the driver that a function of the data
/// root opens, on a disk of its own each, if there is one to be had.
macro_rules! suite {
    ($disk:expr, $open:expr; $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                if let Some(disk) = $disk {
                    $crate::driver::suite::$test(&$open(disk.path()));
                }
            }
        )*
    };
    ($disk:expr, $open:expr) => {
        $crate::driver::suite::suite! { $disk, $open;
            a_layer_shows_what_was_unpacked_into_it
            a_layer_hides_and_replaces_what_is_below
            a_container_layer_takes_the_changes_and_keeps_them
            roots_look_like_their_parents
            usage_counts_files_once_and_directories_not
            layers_are_listed_until_removed
            removal_is_complete_and_may_be_repeated
            impossible_layers_are_refused_and_leave_nothing
            the_deepest_stack_allowed_works
            a_container_can_start_from_nothing
            changes_are_told_as_docker_tells_them
            changes_packed_and_unpacked_make_the_same_tree
            a_view_shows_a_container_layer_that_is_mounted
            implied_directories_look_as_they_do_below
            removed_directories_come_back_empty_and_opaque_ones_are_emptied
            attributes_links_and_holes_reach_the_container
            the_init_layer_fits_images_that_have_lack_or_disguise_its_files
            a_layer_can_be_opened_where_it_lies
            roots_pass_no_mounts_on_and_reads_of_a_copy_leave_the_parent_alone
        }
    };
}
pub(crate) use suite;

fn discard(driver: &dyn Driver, name: &str) {
    if let Some(files) = driver.discard(&id(name)).unwrap() {
        files.delete().unwrap();
    }
}

fn id(name: &str) -> LayerId {
    name.parse().unwrap()
}

fn add(driver: &dyn Driver, name: &str, parent: Option<&str>, archive: Archive) -> Unpacked {
    let layer = driver.create(&id(name), parent.map(id).as_ref()).unwrap();
    let stream = Box::new(Cursor::new(archive.finish()));
    unpack(stream, &layer, Limits::default()).unwrap()
}

/// A layer's root file system, mounted, and its path for the standard library.
struct Mounted {
    root: OwnedFd,
    path: PathBuf,
}

fn mount(driver: &dyn Driver, name: &str, access: Access) -> Mounted {
    let options = OverlayOptions {
        access,
        ..OverlayOptions::default()
    };
    let root = driver.rootfs(&id(name)).unwrap().mount(options).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    Mounted { root, path }
}

fn read(root: &Path, name: &str) -> Option<String> {
    fs::read_to_string(root.join(name)).ok()
}

fn base() -> Archive {
    Archive::new()
        .directory("./", 0o711)
        .directory("d", 0o755)
        .file("d/file", "base")
        .file("d/gone", "base")
        .file("top", "base")
}

pub(crate) fn a_layer_shows_what_was_unpacked_into_it(driver: &dyn Driver) {
    let archive = base().finish();
    let expected = Digest::of(&archive);
    let layer = driver.create(&id("base"), None).unwrap();
    let stream = Box::new(Cursor::new(archive.clone()));
    let unpacked = unpack(stream, &layer, Limits::default()).unwrap();
    layer.sync().unwrap();
    assert_eq!(unpacked.diff_id, expected);
    assert_eq!(unpacked.archive_bytes, archive.len() as u64);
    assert_eq!((unpacked.content.bytes, unpacked.content.entries), (12, 5));
    let root = mount(driver, "base", Access::ReadOnly);
    assert_eq!(read(&root.path, "d/file").unwrap(), "base");
    assert!(fs::write(root.path.join("new"), "").is_err(), "read-only");
}

pub(crate) fn a_layer_hides_and_replaces_what_is_below(driver: &dyn Driver) {
    add(driver, "base", None, base());
    let upper = Archive::new()
        .file("d/.wh.gone", "")
        .file("d/file", "upper")
        .file("d/new", "upper");
    add(driver, "upper", Some("base"), upper);
    let root = mount(driver, "upper", Access::ReadOnly);
    assert_eq!(read(&root.path, "d/file").unwrap(), "upper");
    assert_eq!(read(&root.path, "d/new").unwrap(), "upper");
    assert_eq!(read(&root.path, "d/gone"), None);
    assert_eq!(read(&root.path, "top").unwrap(), "base");
    let below = mount(driver, "base", Access::ReadOnly);
    assert_eq!(read(&below.path, "d/gone").unwrap(), "base");
}

pub(crate) fn a_container_layer_takes_the_changes_and_keeps_them(driver: &dyn Driver) {
    add(driver, "base", None, base());
    for name in ["one", "two"] {
        driver
            .create_container(&id(name), Some(&id("base")), None)
            .unwrap();
    }
    {
        let root = mount(driver, "one", Access::ReadWrite);
        fs::write(root.path.join("d/file"), "changed").unwrap();
        fs::remove_file(root.path.join("top")).unwrap();
    }
    let root = mount(driver, "one", Access::ReadWrite);
    assert_eq!(read(&root.path, "d/file").unwrap(), "changed");
    assert_eq!(read(&root.path, "top"), None);
    let other = mount(driver, "two", Access::ReadWrite);
    assert_eq!(read(&other.path, "d/file").unwrap(), "base");
}

pub(crate) fn roots_look_like_their_parents(driver: &dyn Driver) {
    let root = Header {
        mode: 0o1750,
        uid: 12,
        gid: 34,
        ..Header::new("./", EntryKind::Directory)
    };
    add(driver, "base", None, Archive::new().entry(root, b""));
    add(driver, "middle", Some("base"), Archive::new().file("x", ""));
    driver
        .create_container(&id("container"), Some(&id("middle")), None)
        .unwrap();
    for (name, access) in [
        ("middle", Access::ReadOnly),
        ("container", Access::ReadWrite),
    ] {
        let root = mount(driver, name, access);
        let status = fs::metadata(&root.path).unwrap();
        assert_eq!(
            (status.mode() & 0o7777, status.uid(), status.gid()),
            (0o1750, 12, 34),
            "{name}"
        );
    }
}

pub(crate) fn usage_counts_files_once_and_directories_not(driver: &dyn Driver) {
    let archive = Archive::new()
        .directory("d", 0o755)
        .file("d/file", &"x".repeat(5000))
        .hard_link("d/again", "d/file")
        .symlink("link", "target")
        .file("empty", "");
    add(driver, "base", None, archive);
    let usage = driver.usage(&id("base")).unwrap();
    assert_eq!((usage.bytes, usage.inodes), (5006, 4));
    driver
        .create_container(&id("container"), Some(&id("base")), None)
        .unwrap();
    let fresh = driver.usage(&id("container")).unwrap();
    {
        let root = mount(driver, "container", Access::ReadWrite);
        fs::write(root.path.join("new"), "12345").unwrap();
    }
    let used = driver.usage(&id("container")).unwrap();
    assert_eq!(used.bytes - fresh.bytes, 5);
    let missing = driver.usage(&id("missing"));
    assert!(matches!(missing, Err(Error::NotFound { .. })));
}

pub(crate) fn layers_are_listed_until_removed(driver: &dyn Driver) {
    add(driver, "base", None, base());
    driver
        .create_container(&id("container"), Some(&id("base")), None)
        .unwrap();
    let listed = |name: &str, is_container| Listed {
        id: id(name),
        is_container,
    };
    let mut layers = driver.list().unwrap();
    layers.sort();
    assert_eq!(layers, [listed("base", false), listed("container", true)]);
    discard(driver, "container");
    assert_eq!(driver.list().unwrap(), [listed("base", false)]);
}

pub(crate) fn removal_is_complete_and_may_be_repeated(driver: &dyn Driver) {
    add(driver, "base", None, base());
    let before = driver.rootfs(&id("base"));
    assert!(before.is_ok());
    for _ in 0..2 {
        discard(driver, "base");
        assert!(matches!(
            driver.rootfs(&id("base")),
            Err(Error::NotFound { .. })
        ));
    }
    add(driver, "base", None, Archive::new().file("other", ""));
    let root = mount(driver, "base", Access::ReadOnly);
    assert_eq!(
        read(&root.path, "top"),
        None,
        "nothing of the first is left"
    );
}

pub(crate) fn impossible_layers_are_refused_and_leave_nothing(driver: &dyn Driver) {
    add(driver, "base", None, base());
    driver
        .create_container(&id("container"), Some(&id("base")), None)
        .unwrap();
    let again = driver.create(&id("base"), None);
    assert!(matches!(again, Err(Error::Exists { .. })));
    let orphan = driver.create(&id("orphan"), Some(&id("missing")));
    assert!(matches!(orphan, Err(Error::NotFound { id: parent }) if parent == id("missing")));
    let above = driver.create(&id("above"), Some(&id("container")));
    assert!(matches!(above, Err(Error::NotReadOnly { .. })));
    assert_eq!(driver.list().unwrap().len(), 2);
    let root = mount(driver, "base", Access::ReadOnly);
    assert_eq!(read(&root.path, "top").unwrap(), "base");
}

pub(crate) fn the_deepest_stack_allowed_works(driver: &dyn Driver) {
    let mut parent: Option<String> = None;
    for index in 0..MAX_LOWERS {
        let name = format!("layer-{index}");
        let archive = Archive::new().file(&format!("file-{index}"), "");
        add(driver, &name, parent.as_deref(), archive);
        parent = Some(name);
    }
    let parent = id(&parent.unwrap());
    driver
        .create_container(&id("container"), Some(&parent), None)
        .unwrap();
    let root = mount(driver, "container", Access::ReadWrite);
    assert!(read(&root.path, "file-0").is_some());
    fs::set_permissions(root.path.join("file-0"), fs::Permissions::from_mode(0o600)).unwrap();
    driver.create(&id("one-more"), Some(&parent)).unwrap();
    let error = driver
        .create(&id("too-many"), Some(&id("one-more")))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "max depth exceeded: layer too-many would stand on more than 128 layers"
    );
}

pub(crate) fn a_container_can_start_from_nothing(driver: &dyn Driver) {
    driver
        .create_container(&id("container"), None, None)
        .unwrap();
    let root = mount(driver, "container", Access::ReadWrite);
    fs::write(root.path.join("new"), "x").unwrap();
    assert_eq!(fs::read_dir(&root.path).unwrap().count(), 1);
}
