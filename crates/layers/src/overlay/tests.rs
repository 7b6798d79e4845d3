//! Real mounts, by the mount API and by the way for older kernels.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::fixture::privileged;
use std::fs;
use std::io::{Read, Write};

/// `count` lower directories, each with `own-<n>` and a common `which`.
fn stack(root: &Path, count: usize) -> OverlayRecipe {
    let mut lowers = Vec::new();
    for index in 0..count {
        let lower = root.join(format!("lower-{index}"));
        fs::create_dir_all(&lower).unwrap();
        fs::write(lower.join(format!("own-{index}")), b"").unwrap();
        fs::write(lower.join("which"), format!("{index}")).unwrap();
        lowers.push(lower);
    }
    let writable = Writable {
        upper: root.join("upper"),
        work: root.join("work"),
    };
    fs::create_dir_all(&writable.upper).unwrap();
    fs::create_dir_all(&writable.work).unwrap();
    OverlayRecipe {
        lowers,
        writable: Some(writable),
    }
}

fn open(root: &OwnedFd, name: &str, flags: OFlags) -> Result<fs::File, Errno> {
    rustix::fs::openat(root, name, flags, Mode::RWXU).map(fs::File::from)
}

fn read(root: &OwnedFd, name: &str) -> String {
    let mut text = String::new();
    open(root, name, OFlags::RDONLY)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

fn write(root: &OwnedFd, name: &str) -> Result<(), Errno> {
    let mut file = open(root, name, OFlags::CREATE | OFlags::WRONLY)?;
    file.write_all(b"written").unwrap();
    Ok(())
}

type Mount = fn(&OverlayRecipe, OverlayOptions) -> Result<OwnedFd, Error>;
const WAYS: [Mount; 2] = [
    OverlayRecipe::mount_by_options,
    OverlayRecipe::mount_by_namespace,
];

#[test]
fn a_stack_of_128_merges_topmost_first_and_writes_to_the_upper() {
    if !privileged() {
        return;
    }
    for way in WAYS {
        let temporary = tempfile::tempdir().unwrap();
        let recipe = stack(temporary.path(), 128);
        let root = way(&recipe, OverlayOptions::default()).unwrap();
        assert_eq!(read(&root, "which"), "0");
        assert_eq!(read(&root, "own-127"), "");
        write(&root, "new").unwrap();
        drop(root);
        let upper = temporary.path().join("upper/new");
        assert_eq!(fs::read(upper).unwrap(), b"written");
    }
}

#[test]
fn nothing_appears_in_the_mount_table() {
    if !privileged() {
        return;
    }
    for way in WAYS {
        let temporary = tempfile::tempdir().unwrap();
        let recipe = stack(temporary.path(), 2);
        let root = way(&recipe, OverlayOptions::default()).unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(temporary.path().to_str().unwrap()));
        assert_eq!(read(&root, "which"), "0");
    }
}

#[test]
fn read_only_refuses_writes_with_and_without_an_upper() {
    if !privileged() {
        return;
    }
    let options = OverlayOptions {
        access: Access::ReadOnly,
        ..OverlayOptions::default()
    };
    for way in WAYS {
        let temporary = tempfile::tempdir().unwrap();
        let mut recipe = stack(temporary.path(), 2);
        let root = way(&recipe, options).unwrap();
        assert_eq!(write(&root, "new"), Err(Errno::ROFS));
        drop(root);
        recipe.writable = None;
        let root = way(&recipe, OverlayOptions::default()).unwrap();
        assert_eq!(write(&root, "new"), Err(Errno::ROFS));
        assert_eq!(read(&root, "own-1"), "");
    }
}

#[test]
fn a_volatile_upper_is_used_once_unless_it_is_forgiven() {
    if !privileged() {
        return;
    }
    let options = OverlayOptions {
        durability: Durability::Volatile,
        ..OverlayOptions::default()
    };
    for way in WAYS {
        let temporary = tempfile::tempdir().unwrap();
        let recipe = stack(temporary.path(), 1);
        drop(way(&recipe, options).unwrap());
        assert!(recipe.mount(OverlayOptions::default()).is_err());
        recipe.forgive_volatile().unwrap();
        drop(way(&recipe, options).unwrap());
    }
}

#[test]
fn paths_that_look_like_options_or_are_too_long_work() {
    if !privileged() {
        return;
    }
    let odd = [
        r"a:b,c\d",
        &"long/".repeat(60),
        r"back\:slash",
        "space and ü",
    ];
    for name in odd {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join(name);
        fs::create_dir_all(&root).unwrap();
        let mounted = stack(&root, 3).mount(OverlayOptions::default()).unwrap();
        assert_eq!(read(&mounted, "which"), "0", "{name}");
        write(&mounted, "new").unwrap();
        assert!(root.join("upper/new").exists(), "{name}");
    }
}

#[test]
fn a_missing_layer_is_named_or_explained() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let mut recipe = stack(temporary.path(), 2);
    recipe.lowers.push(temporary.path().join("gone"));
    let error = recipe.mount(OverlayOptions::default()).unwrap_err();
    let Error::Mount { source, layers, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!((source, layers), (Errno::NOENT, 3));
}

#[test]
fn a_renamed_directory_of_a_lower_is_copied_not_redirected() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let recipe = stack(temporary.path(), 1);
    fs::create_dir(temporary.path().join("lower-0/dir")).unwrap();
    let root = recipe.mount(OverlayOptions::default()).unwrap();
    let renamed = rustix::fs::renameat(&root, "dir", &root, "other");
    assert_eq!(renamed, Err(Errno::XDEV));
}
