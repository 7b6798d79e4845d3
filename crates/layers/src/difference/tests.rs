//! Comparing two trees by hand; what a driver gives is in its suite.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::fixture::{directory, privileged};
use rustix::fs::{Mode, XattrFlags};
use std::fs;
use std::path::Path;

fn difference(layer: &Path, below: Option<&Path>, holds: Holds) -> Difference {
    Difference {
        layer: directory(layer),
        below: below.map(directory),
        holds,
    }
}

fn told(difference: &Difference) -> Vec<String> {
    let changes = difference.changes(&MountPoints::default()).unwrap();
    changes
        .into_iter()
        .map(|c| format!("{:?} {}", c.kind, String::from_utf8_lossy(&c.path)))
        .collect()
}

#[test]
fn whole_trees_are_compared() {
    let (layer, below) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for root in [&layer, &below] {
        fs::create_dir_all(root.path().join("same/deep")).unwrap();
        fs::write(root.path().join("same/deep/file"), "x").unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
    }
    let then = std::time::SystemTime::UNIX_EPOCH;
    for root in [&layer, &below] {
        for path in ["same/deep/file", "file"] {
            let file = fs::File::options().write(true).open(root.path().join(path));
            file.unwrap().set_modified(then).unwrap();
        }
    }
    fs::create_dir(below.path().join("gone")).unwrap();
    fs::write(below.path().join("gone/file"), "x").unwrap();
    fs::create_dir_all(layer.path().join("new/deep/er")).unwrap();
    fs::write(layer.path().join("same/zz"), "x").unwrap();
    fs::write(layer.path().join("file"), "y").unwrap();
    let both = difference(layer.path(), Some(below.path()), Holds::Everything);
    let expected = [
        "Modified file",
        "Deleted gone",
        "Added new",
        "Added new/deep",
        "Added new/deep/er",
        "Modified same",
        "Added same/zz",
    ];
    assert_eq!(told(&both), expected);
    assert_eq!(told(&both), expected, "it may be asked again");
    assert!(!both.is_empty(&MountPoints::default()).unwrap());
    let none = difference(layer.path(), Some(layer.path()), Holds::Everything);
    assert!(none.is_empty(&MountPoints::default()).unwrap());
}

#[test]
fn a_change_far_down_shows_the_way_to_it() {
    let (layer, below) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let depth = 2000;
    let mut ends = [&layer, &below].map(|root| directory(root.path()));
    for current in &mut ends {
        for _ in 0..depth {
            rustix::fs::mkdirat(&*current, "d", Mode::RWXU).unwrap();
            *current = tree::open_directory(&*current, "d").unwrap();
        }
    }
    let both = difference(layer.path(), Some(below.path()), Holds::Everything);
    assert!(told(&both).is_empty());
    rustix::fs::mkdirat(&ends[0], "new", Mode::RWXU).unwrap();
    let changes = both.changes(&MountPoints::default()).unwrap();
    assert_eq!(changes.len(), depth + 1);
    assert_eq!(changes[depth].kind, ChangeKind::Added);
    drop(ends);
    for root in [layer, below] {
        let parent = directory(root.path().parent().unwrap());
        let name = root.path().file_name().unwrap().to_owned();
        use std::os::fd::AsFd;
        use std::os::unix::ffi::OsStrExt;
        tree::remove(parent.as_fd(), name.as_bytes()).unwrap();
    }
}

#[test]
fn what_refers_to_another_place_below_is_refused() {
    if !privileged() {
        return;
    }
    let (layer, below) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(layer.path().join("moved")).unwrap();
    let set = |path: &str, name: &str| {
        let path = layer.path().join(path);
        rustix::fs::setxattr(path, name, b"/was", XattrFlags::empty()).unwrap();
    };
    set("moved", "trusted.overlay.redirect");
    let refused = |text: &str| {
        let both = difference(layer.path(), Some(below.path()), Holds::Changes);
        let error = both.changes(&MountPoints::default()).unwrap_err();
        assert_eq!(error.to_string(), text);
    };
    refused("\"moved\" of the layer refers to another place below it");
    fs::remove_dir(layer.path().join("moved")).unwrap();
    let file = fs::File::create(layer.path().join("looks-only")).unwrap();
    file.set_len(100).unwrap();
    set("looks-only", "trusted.overlay.metacopy");
    refused("\"looks-only\" of the layer refers to another place below it");
}

#[test]
fn mount_points_and_what_leads_only_to_them_are_known() {
    let points = MountPoints::new([&b"/a/b"[..], b"/a-c/", b"//x//y/z"]);
    for path in ["a", "a/b", "a-c", "x", "x/y", "x/y/z"] {
        assert!(points.lead_through(path.as_bytes()), "{path}");
    }
    for path in ["a/b/c", "a-", "x/y/z/0", "b"] {
        assert!(!points.lead_through(path.as_bytes()), "{path}");
    }
    assert!(points.contains(b"x/y/z") && !points.contains(b"x/y"));
}
