//! Whiteouts seen through real mounts, implied directories and limits.
#![allow(clippy::unwrap_used)]

mod attack;
mod copying;
mod fidelity;

use super::*;
use crate::fixture::{Archive, directory, privileged};
use crate::overlay::{OverlayOptions, OverlayRecipe};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names below a root, sorted.
fn names(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            let path = entry.path();
            names.push(
                path.strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    names.sort();
    names
}

/// Unpacks layers bottom first, and shows what a mount of them all has.
fn merged(layers: Vec<Archive>) -> Vec<String> {
    let temporary = tempfile::tempdir().unwrap();
    let mut lowers: Vec<PathBuf> = Vec::new();
    for (index, layer) in layers.into_iter().enumerate() {
        let root = temporary.path().join(index.to_string());
        fs::create_dir(&root).unwrap();
        layer.unpack(&root, Whiteouts::Overlay).unwrap();
        lowers.insert(0, root);
    }
    let recipe = OverlayRecipe {
        lowers,
        writable: None,
    };
    let mount = recipe.mount(OverlayOptions::default()).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount));
    names(Path::new(&path))
}

/// Unpacks layers bottom first over each other.
fn applied(layers: Vec<Archive>) -> Vec<String> {
    let temporary = tempfile::tempdir().unwrap();
    for layer in layers {
        layer.unpack(temporary.path(), Whiteouts::Apply).unwrap();
    }
    names(temporary.path())
}

fn base() -> Archive {
    Archive::new()
        .directory("d", 0o755)
        .file("d/one", "1")
        .file("d/two", "2")
        .directory("d/sub", 0o755)
        .file("d/sub/deep", "3")
        .file("top", "4")
}

type Show = fn(Vec<Archive>) -> Vec<String>;

#[test]
fn a_whiteout_hides_a_lower_file_or_directory() {
    if !privileged() {
        return;
    }
    for show in [merged as Show, applied] {
        let upper = Archive::new().file("d/.wh.sub", "").file(".wh.top", "");
        assert_eq!(show(vec![base(), upper]), ["d", "d/one", "d/two"]);
    }
}

#[test]
fn an_opaque_directory_shows_only_its_own_content_in_either_order() {
    if !privileged() {
        return;
    }
    for show in [merged as Show, applied] {
        let first = Archive::new()
            .file("d/.wh..wh..opq", "")
            .file("d/sub/new", "");
        let last = Archive::new()
            .file("d/sub/new", "")
            .file("d/.wh..wh..opq", "");
        for upper in [first, last] {
            assert_eq!(
                show(vec![base(), upper]),
                ["d", "d/sub", "d/sub/new", "top"]
            );
        }
    }
}

#[test]
fn a_whiteout_spares_what_its_own_layer_put_there() {
    if !privileged() {
        return;
    }
    for show in [merged as Show, applied] {
        let before = Archive::new()
            .file("d/.wh.sub", "")
            .directory("d/sub", 0o755)
            .file("d/sub/new", "")
            .file("d/.wh.one", "")
            .file("d/one", "again");
        let after = Archive::new()
            .directory("d/sub", 0o755)
            .file("d/sub/new", "")
            .file("d/.wh.sub", "")
            .file("d/one", "again")
            .file("d/.wh.one", "");
        let implied = Archive::new()
            .file("d/.wh.sub", "")
            .file("d/sub/new", "")
            .file("d/one", "");
        for upper in [before, after, implied] {
            let expected = ["d", "d/one", "d/sub", "d/sub/new", "d/two", "top"];
            assert_eq!(show(vec![base(), upper]), expected);
        }
    }
}

#[test]
fn a_lower_directory_can_become_a_file_and_the_reverse() {
    if !privileged() {
        return;
    }
    for show in [merged as Show, applied] {
        let upper = Archive::new()
            .file("d", "now a file")
            .directory("top", 0o755)
            .file("top/in", "");
        assert_eq!(show(vec![base(), upper]), ["d", "top", "top/in"]);
    }
}

#[test]
fn bookkeeping_of_aufs_is_ignored_and_nameless_whiteouts_are_refused() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let archive = Archive::new()
        .directory(".wh..wh.plnk", 0o700)
        .file(".wh..wh.plnk/12.34", "x")
        .file(".wh..wh.aufs", "");
    let extracted = archive
        .unpack(temporary.path(), Whiteouts::Overlay)
        .unwrap();
    assert_eq!(extracted.entries, 3);
    assert!(names(temporary.path()).is_empty());
    for name in [".wh.", "d/.wh..", "d/.wh..."] {
        for whiteouts in [Whiteouts::Overlay, Whiteouts::Apply] {
            let result = Archive::new()
                .file(name, "")
                .unpack(temporary.path(), whiteouts);
            assert!(matches!(result, Err(Error::Whiteout { .. })), "{name}");
        }
    }
    assert!(temporary.path().exists());
}

#[test]
fn whiteout_names_can_be_plain_files() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let archive = Archive::new().file(".wh.a", "").file("d/.wh..wh..opq", "");
    archive.unpack(temporary.path(), Whiteouts::AsIs).unwrap();
    assert_eq!(names(temporary.path()), [".wh.a", "d", "d/.wh..wh..opq"]);
}

#[test]
fn implied_directories_are_recorded_until_described() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let archive = Archive::new()
        .file("a/b/file", "")
        .file("c/file", "")
        .directory("c", 0o700)
        .file("gone/x", "")
        .file("gone", "a file now");
    let extracted = archive
        .unpack(temporary.path(), Whiteouts::Overlay)
        .unwrap();
    let implied = [&b""[..], b"a", b"a/b"].map(<[u8]>::to_vec);
    assert_eq!(extracted.implied_dirs, implied);
    let mode = |path| fs::metadata(temporary.path().join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a/b"), mode("c")), (0o755, 0o700));
    let described = Archive::new().directory("./", 0o711);
    let extracted = described
        .unpack(temporary.path(), Whiteouts::Overlay)
        .unwrap();
    assert!(extracted.implied_dirs.is_empty());
    assert_eq!(mode(""), 0o711);
}

#[test]
fn limits_end_the_work_with_a_sentence_that_names_them() {
    if !privileged() {
        return;
    }
    let archive = Archive::new()
        .file("a", &"x".repeat(5000))
        .file("b", "")
        .finish();
    let attempt = |limits| {
        let temporary = tempfile::tempdir().unwrap();
        let options = Options {
            limits,
            whiteouts: Whiteouts::Overlay,
        };
        Extractor::new(directory(temporary.path()), options)
            .extract(&archive[..])
            .map_err(|error| error.to_string())
    };
    let limits = Limits::default();
    assert_eq!(
        attempt(Limits {
            max_bytes: 4096,
            ..limits
        })
        .unwrap_err(),
        "the archive unpacks to more than the limit of 4096 bytes"
    );
    assert_eq!(
        attempt(Limits {
            max_entries: 1,
            ..limits
        })
        .unwrap_err(),
        "the archive has more than the limit of 1 entries"
    );
    assert_eq!(
        attempt(Limits {
            max_path_bytes: 0,
            ..limits
        })
        .unwrap_err(),
        "the archive entry \"a\" has a name or link longer than the limit of 0 bytes"
    );
    let max_bytes = archive.len() as u64;
    assert_eq!(
        attempt(Limits {
            max_bytes,
            ..limits
        })
        .unwrap()
        .bytes,
        5000
    );
    assert!(
        attempt(Limits {
            max_bytes: max_bytes - 1,
            ..limits
        })
        .is_err()
    );
}

#[test]
fn an_empty_stream_is_an_empty_layer_and_a_cut_one_an_error() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let extracted = crate::fixture::unpack(b"", temporary.path(), Whiteouts::Overlay).unwrap();
    assert_eq!((extracted.entries, extracted.bytes), (0, 0));
    let archive = Archive::new().file("a", "content").finish();
    let result = crate::fixture::unpack(&archive[..515], temporary.path(), Whiteouts::Overlay);
    let Err(Error::Archive(cause)) = result else {
        panic!("{result:?}");
    };
    assert!(cause.to_string().contains("\"a\""), "{cause}");
}
