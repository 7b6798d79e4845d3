//! The shared suite on a file system of its own, and what only this driver has.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::driver::suite;
use crate::fixture::{Loop, privileged};
use std::fs;

suite::suite!(btrfs(), |root: &Path| Btrfs::open(root).unwrap());

fn btrfs() -> Option<Loop> {
    privileged().then(|| Loop::new("btrfs", 512)).flatten()
}

fn id(name: &str) -> LayerId {
    name.parse().unwrap()
}

#[test]
fn a_layer_with_subvolumes_of_a_container_goes_too() {
    let Some(disk) = btrfs() else { return };
    let driver = Btrfs::open(disk.path()).unwrap();
    driver.create_container(&id("c"), None, None).unwrap();
    {
        let root = driver.content(&id("c")).unwrap();
        kernel::create_subvolume(root.as_fd(), "inner").unwrap();
        let inner = tree::open_directory(&root, "inner").unwrap();
        kernel::create_subvolume(inner.as_fd(), "innermost").unwrap();
    }
    fs::write(disk.path().join("btrfs/c/root/inner/file"), "x").unwrap();
    driver.discard(&id("c")).unwrap().unwrap().delete().unwrap();
    assert_eq!(fs::read_dir(disk.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(driver.list().unwrap(), []);
}

#[test]
fn a_snapshot_shares_what_it_was_made_of() {
    let Some(disk) = btrfs() else { return };
    let driver = Btrfs::open(disk.path()).unwrap();
    let layer = driver.create(&id("base"), None).unwrap();
    fs::write(disk.path().join("btrfs/base/root/large"), vec![1; 64 << 20]).unwrap();
    layer.sync().unwrap();
    let before = disk.free_bytes();
    for index in 0..10 {
        driver
            .create_container(&id(&format!("c{index}")), Some(&id("base")), None)
            .unwrap();
    }
    layer.sync().unwrap();
    let used = before.saturating_sub(disk.free_bytes());
    assert!(used < 16 << 20, "ten snapshots took {used} bytes");
}

#[test]
fn the_size_of_a_container_can_be_limited() {
    let Some(disk) = btrfs() else { return };
    let driver = Btrfs::open(disk.path()).unwrap();
    driver.create(&id("base"), None).unwrap();
    driver
        .create_container(&id("small"), Some(&id("base")), Some(16 << 20))
        .unwrap();
    driver
        .create_container(&id("free"), Some(&id("base")), None)
        .unwrap();
    let write = |name: &str| {
        let path = disk.path().join("btrfs").join(name).join("root/file");
        fs::write(path, vec![7; 32 << 20])
    };
    let error = write("small").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::DQUOT.raw_os_error()));
    write("free").unwrap();
}
