//! The shared suite, and what only this driver has.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::driver::suite;
use crate::fixture::{directory_of_its_own, privileged};
use std::fs;

suite::suite!(directory_of_its_own(), |root: &Path| Overlay2::open(root)
    .unwrap());

#[test]
fn opening_again_finds_the_layers_and_leaves_no_probe_behind() {
    if !privileged() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let id: LayerId = "base".parse().unwrap();
    Overlay2::open(root.path())
        .unwrap()
        .create(&id, None)
        .unwrap();
    let driver = Overlay2::open(root.path()).unwrap();
    let layers = driver.list().unwrap();
    assert!(layers.len() == 1 && layers[0].id == id && !layers[0].is_container);
    assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    let status = driver.status();
    assert_eq!(status[1], ("Supports d_type".to_owned(), "true".to_owned()));
    assert_eq!(status.len(), 5);
}

#[test]
fn a_data_root_on_an_overlay_is_refused_with_the_reason() {
    if !privileged() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = root.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let recipe = OverlayRecipe {
        lowers: vec![path("lower")],
        writable: Some(Writable {
            upper: path("upper"),
            work: path("work"),
        }),
    };
    let mount = recipe.mount(OverlayOptions::default()).unwrap();
    let inside = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount));
    let error = Overlay2::open(Path::new(&inside)).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("overlay layers cannot lie on overlayfs"),
        "{error}"
    );
}

#[test]
fn files_that_are_no_layers_are_not_listed() {
    if !privileged() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let driver = Overlay2::open(root.path()).unwrap();
    fs::write(root.path().join("overlay2/file"), "").unwrap();
    fs::create_dir(root.path().join("overlay2/lost+found")).unwrap();
    assert_eq!(driver.list().unwrap(), []);
}
