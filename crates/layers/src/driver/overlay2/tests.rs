//! The shared suite, and what only this driver has.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::driver::suite;
use crate::fixture::privileged;
use std::fs;

suite::suite!(|root: &Path| Overlay2::open(root).unwrap());

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
    assert_eq!(driver.list().unwrap(), [id]);
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
fn damaged_chains_are_told_from_missing_layers() {
    for (text, problem) in [
        (&b"abc"[..], "its last line is cut"),
        (b"../x\n", "a line is not a layer name"),
        (b"a\n\nb\n", "a line is not a layer name"),
        (b"\xff\n", "it is not text"),
    ] {
        assert_eq!(parse_chain(text).unwrap_err(), problem);
    }
    let many = "a\n".repeat(MAX_LOWERS + 1);
    assert_eq!(
        parse_chain(many.as_bytes()).unwrap_err(),
        "it has too many layers"
    );
    assert!(parse_chain(&vec![b'a'; LOWER_BYTES + 1]).is_err());
    assert_eq!(parse_chain(b"").unwrap(), []);
    let longest = format!("{}\n", "a".repeat(128)).repeat(MAX_LOWERS);
    assert_eq!(parse_chain(longest.as_bytes()).unwrap().len(), MAX_LOWERS);
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
