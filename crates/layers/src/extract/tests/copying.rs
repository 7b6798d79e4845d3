//! Unpacking as `cp` does.

use std::io::Cursor;
use std::os::unix::fs::symlink;

use conex_archive::tar::{EntryKind, Header};

use super::*;

fn copy(archive: Archive, root: &Path, rules: Copying) -> Result<Extracted, Error> {
    let options = Options {
        limits: Limits::default(),
        whiteouts: Whiteouts::AsIs,
    };
    Extractor::new(directory(root), options)
        .copying(rules)
        .extract(Cursor::new(archive.finish()))
}

fn into(path: &str) -> Copying {
    Copying {
        into: path.as_bytes().to_vec(),
        keep_kinds: true,
        ownership: Ownership::Unpacker,
        ..Copying::default()
    }
}

#[test]
fn links_on_the_way_lead_inside_the_root_and_not_inside_the_directory() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    fs::create_dir_all(root.join("run/lock")).unwrap();
    fs::create_dir_all(root.join("var")).unwrap();
    symlink("/run", root.join("var/run")).unwrap();
    symlink("var/run", root.join("here")).unwrap();
    copy(Archive::new().file("run/pid", "1"), root, into("var")).unwrap();
    copy(Archive::new().file("lock/x", "2"), root, into("here")).unwrap();
    assert_eq!(fs::read_to_string(root.join("run/pid")).unwrap(), "1");
    assert_eq!(fs::read_to_string(root.join("run/lock/x")).unwrap(), "2");
    let escape = copy(Archive::new().file("../x", ""), root, into("var"));
    assert!(matches!(escape, Err(Error::Outside { .. })));
}

#[test]
fn names_are_changed_with_the_links_between_them() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    let archive = || {
        Archive::new()
            .directory("old", 0o755)
            .file("old/file", "x")
            .hard_link("old/again", "old/file")
            .file("older", "y")
    };
    let renamed = |from: &str, to: &str| Copying {
        rename: Some((from.as_bytes().to_vec(), to.as_bytes().to_vec())),
        ..into("")
    };
    copy(archive(), root, renamed("old", "new")).unwrap();
    let inode = |path: &str| fs::metadata(root.join(path)).unwrap().ino();
    assert_eq!(inode("new/file"), inode("new/again"));
    assert!(root.join("older").exists());
    let top = Archive::new().directory("./", 0o700).file("./file", "x");
    copy(top, root, renamed("", "made")).unwrap();
    assert_eq!(
        fs::metadata(root.join("made")).unwrap().mode() & 0o777,
        0o700
    );
    assert!(root.join("made/file").exists());
}

#[test]
fn a_directory_and_something_else_do_not_replace_each_other() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    fs::create_dir_all(root.join("to/directory")).unwrap();
    fs::write(root.join("to/file"), "old").unwrap();
    let text = |archive| copy(archive, root, into("to")).unwrap_err().to_string();
    assert_eq!(
        text(Archive::new().file("directory", "x")),
        "cannot overwrite directory \"/to/directory\" with non-directory \"/to\""
    );
    assert_eq!(
        text(Archive::new().directory("file", 0o755)),
        "cannot overwrite non-directory \"/to/file\" with directory \"/to\""
    );
    copy(Archive::new().file("file", "new"), root, into("to")).unwrap();
    assert_eq!(fs::read_to_string(root.join("to/file")).unwrap(), "new");
    let anything = Copying {
        keep_kinds: false,
        ..into("to")
    };
    copy(Archive::new().file("directory", "x"), root, anything).unwrap();
    assert!(root.join("to/directory").is_file());
}

#[test]
fn the_top_keeps_its_looks_and_owners_are_as_asked() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    fs::create_dir(root.join("to")).unwrap();
    let before = fs::metadata(root.join("to")).unwrap().mode();
    let owned = Header {
        uid: 7,
        gid: 8,
        ..Header::new("theirs", EntryKind::Regular)
    };
    let archive = || {
        Archive::new()
            .directory("./", 0o700)
            .entry(owned.clone(), b"x")
    };
    copy(archive(), root, into("to")).unwrap();
    let status = |path: &str| fs::metadata(root.join(path)).unwrap();
    assert_eq!(status("to").mode(), before);
    let us = rustix::process::geteuid().as_raw();
    assert_eq!(status("to/theirs").uid(), us);
    if us != 0 {
        return;
    }
    for (ownership, expected) in [
        (Ownership::Archived, (7, 8)),
        (Ownership::Given { uid: 5, gid: 6 }, (5, 6)),
    ] {
        let rules = Copying {
            ownership,
            ..into("to")
        };
        copy(archive(), root, rules).unwrap();
        let status = status("to/theirs");
        assert_eq!((status.uid(), status.gid()), expected);
    }
}
