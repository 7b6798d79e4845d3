//! What is packed is there again after unpacking, in the order and under the
//! names asked for.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::extract::Whiteouts;
use crate::fixture::{directory, privileged, unpack};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

fn packed(tree: &Tree, top: &Path) -> Vec<u8> {
    let mut archive = Vec::new();
    tree.pack(directory(top).as_fd(), &mut archive).unwrap();
    archive
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut reader = tar::Reader::new(archive);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.header.path.clone()).unwrap());
    }
    names
}

#[test]
fn a_tree_is_packed_in_order_under_the_name_asked_for() {
    let temporary = tempfile::tempdir().unwrap();
    let top = temporary.path();
    fs::create_dir_all(top.join("a/deep")).unwrap();
    fs::write(top.join("a/deep/file"), "x").unwrap();
    fs::write(top.join("a-b"), "x").unwrap();
    fs::create_dir(top.join("closed")).unwrap();
    fs::write(top.join("closed/hidden"), "x").unwrap();
    symlink("nowhere", top.join("link")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(top.join("socket")));
    let status = fs::metadata(top.join("closed")).unwrap();
    let mut tree = Tree::default();
    assert_eq!(
        names(&packed(&tree, top)),
        [
            "a/",
            "a/deep/",
            "a/deep/file",
            "a-b",
            "closed/",
            "closed/hidden",
            "link"
        ]
    );
    tree.closed.insert((status.dev(), status.ino()));
    tree.name = b"top".to_vec();
    tree.with_top = true;
    assert_eq!(
        names(&packed(&tree, top)),
        [
            "top/",
            "top/a/",
            "top/a/deep/",
            "top/a/deep/file",
            "top/a-b",
            "top/closed/",
            "top/link"
        ]
    );
    tree.name = b"/".to_vec();
    assert_eq!(names(&packed(&tree, top))[..3], ["/", "/a/", "/a/deep/"]);
}

#[test]
fn what_is_packed_comes_back_the_same() {
    if !privileged() {
        return;
    }
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let top = from.path();
    fs::write(top.join("file"), "content").unwrap();
    fs::hard_link(top.join("file"), top.join("other-name")).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.write_all_at(b"middle", 3 << 20).unwrap();
    sparse.write_all_at(b"end", (5 << 20) - 3).unwrap();
    let device = rustix::fs::makedev(1, 3);
    let base = directory(top);
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(&base, "null", FileType::CharacterDevice, mode, device).unwrap();
    rustix::fs::mknodat(&base, "pipe", FileType::Fifo, mode, 0).unwrap();
    std::os::unix::fs::chown(top.join("null"), Some(3_000_000), Some(7)).unwrap();
    let long = "n".repeat(255);
    fs::create_dir(top.join(&long)).unwrap();
    fs::write(top.join(&long).join("ünïcode"), "x").unwrap();
    let archive = packed(&Tree::default(), top);
    unpack(&archive, to.path(), Whiteouts::AsIs).unwrap();
    let status = |path: &str| {
        let [one, two] = [top, to.path()].map(|root| {
            let s = fs::symlink_metadata(root.join(path)).unwrap();
            (
                s.mode(),
                s.uid(),
                s.gid(),
                s.rdev(),
                s.nlink(),
                s.mtime(),
                s.mtime_nsec(),
                s.len(),
            )
        });
        assert_eq!(one, two, "{path}");
    };
    for path in [
        "file",
        "other-name",
        "sparse",
        "null",
        "pipe",
        &format!("{long}/ünïcode"),
    ] {
        status(path);
    }
    let read = |root: &Path| fs::read(root.join("sparse")).unwrap();
    assert!(read(top) == read(to.path()));
}

#[test]
fn holes_are_zeros_and_a_file_cut_short_is_filled_up() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("file");
    let file = File::create(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(b"abc", 512 << 10).unwrap();
    let opened = File::open(&path).unwrap();
    let status = rustix::fs::fstat(&opened).unwrap();
    let mut all = Vec::new();
    Content::new(opened, &status)
        .take(1 << 20)
        .read_to_end(&mut all)
        .unwrap();
    assert!(all == fs::read(&path).unwrap());
    let status = rustix::fs::fstat(&file).unwrap();
    let opened = File::open(&path).unwrap();
    file.set_len(10).unwrap();
    let mut all = Vec::new();
    Content::new(opened, &status)
        .take(1 << 20)
        .read_to_end(&mut all)
        .unwrap();
    assert_eq!(all, vec![0; 1 << 20]);
}
