//! What an archive describes is what lies there afterwards.

use super::*;
use conex_archive::tar::{Device, EntryKind, Header};
use std::os::unix::fs::FileTypeExt;
use std::process::{Command, Stdio};

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 1000];
    let length = rustix::fs::lgetxattr(path, name, &mut *value).unwrap();
    value.truncate(length);
    value
}

#[test]
fn metadata_of_files_arrives_whole_and_in_the_right_order() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    // cap_net_bind_service=ep, as setcap writes it.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mtime = Timestamp {
        seconds: 1_234_567_890,
        nanoseconds: 123_456_789,
    };
    let header = Header {
        mode: 0o6755,
        uid: 3_000_000,
        gid: 3_000_001,
        mtime,
        xattrs: vec![
            (b"security.capability".to_vec(), capability.to_vec()),
            (b"user.note".to_vec(), b"hello".to_vec()),
        ],
        ..Header::new("program", EntryKind::Regular)
    };
    let archive = Archive::new().entry(header, b"content");
    archive
        .unpack(temporary.path(), Whiteouts::Overlay)
        .unwrap();
    let path = temporary.path().join("program");
    let status = fs::metadata(&path).unwrap();
    assert_eq!(status.mode() & 0o7777, 0o6755);
    assert_eq!((status.uid(), status.gid()), (3_000_000, 3_000_001));
    assert_eq!(
        (status.mtime(), status.mtime_nsec()),
        (1_234_567_890, 123_456_789)
    );
    assert_eq!(attribute(&path, "security.capability"), capability);
    assert_eq!(attribute(&path, "user.note"), b"hello");
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn times_of_directories_survive_what_is_put_into_them() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let described = |path: &str, seconds| Header {
        mtime: Timestamp {
            seconds,
            nanoseconds: 5,
        },
        ..Header::new(path, EntryKind::Directory)
    };
    let archive = Archive::new()
        .entry(described("./", 50), b"")
        .entry(described("d/", 100), b"")
        .entry(described("d/sub/", 200), b"")
        .file("d/sub/file", "x")
        .file("d/.wh.other", "");
    archive
        .unpack(temporary.path(), Whiteouts::Overlay)
        .unwrap();
    for (path, seconds) in [("", 50), ("d", 100), ("d/sub", 200)] {
        let status = fs::metadata(temporary.path().join(path)).unwrap();
        assert_eq!(
            (status.mtime(), status.mtime_nsec()),
            (seconds, 5),
            "{path}"
        );
    }
}

#[test]
fn nodes_links_and_pipes_are_made() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let node = |name: &str, kind| Header {
        mode: 0o620,
        uid: 7,
        device: Device {
            major: 8,
            minor: 300,
        },
        mtime: Timestamp {
            seconds: 9,
            nanoseconds: 1,
        },
        xattrs: vec![(b"trusted.mark".to_vec(), b"1".to_vec())],
        ..Header::new(name, kind)
    };
    let link = Header {
        link: b"/anywhere/at all".to_vec(),
        ..node("soft", EntryKind::Symlink)
    };
    let archive = Archive::new()
        .entry(node("character", EntryKind::CharacterDevice), b"")
        .entry(node("block", EntryKind::BlockDevice), b"")
        .entry(node("pipe", EntryKind::Fifo), b"")
        .entry(link, b"")
        .hard_link("pipe-again", "pipe");
    archive
        .unpack(temporary.path(), Whiteouts::Overlay)
        .unwrap();
    let status = |name| fs::symlink_metadata(temporary.path().join(name)).unwrap();
    assert!(status("character").file_type().is_char_device());
    assert!(status("block").file_type().is_block_device());
    assert!(status("pipe").file_type().is_fifo());
    assert_eq!(status("block").rdev(), rustix::fs::makedev(8, 300));
    assert_eq!(status("pipe").ino(), status("pipe-again").ino());
    assert_eq!(
        fs::read_link(temporary.path().join("soft")).unwrap(),
        Path::new("/anywhere/at all")
    );
    for name in ["character", "block", "pipe", "soft"] {
        let status = status(name);
        assert_eq!(
            (status.uid(), status.mtime(), status.mtime_nsec()),
            (7, 9, 1),
            "{name}"
        );
        assert_eq!(
            attribute(&temporary.path().join(name), "trusted.mark"),
            b"1"
        );
        if name != "soft" {
            assert_eq!(status.mode() & 0o7777, 0o620);
        }
    }
}

#[test]
fn sparse_files_keep_their_holes() {
    if !privileged() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let source = fs::File::create(temporary.path().join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&source, b"island", 40 << 20).unwrap();
    source.set_len(64 << 20).unwrap();
    for format in ["--format=gnu", "--format=pax"] {
        let arguments = [
            "-cSf",
            "-",
            format,
            "-C",
            temporary.path().to_str().unwrap(),
            "sparse",
        ];
        let Ok(output) = Command::new("tar").args(arguments).output() else {
            eprintln!("skipped: no tar on this machine");
            return;
        };
        let root = tempfile::tempdir().unwrap();
        let extracted =
            crate::fixture::unpack(&output.stdout, root.path(), Whiteouts::Overlay).unwrap();
        assert_eq!(extracted.bytes, 64 << 20);
        let path = root.path().join("sparse");
        assert!(fs::metadata(&path).unwrap().blocks() < 100, "{format}");
        assert!(fs::read(&path).unwrap() == fs::read(temporary.path().join("sparse")).unwrap());
    }
}

/// One line for everything a walk can see of a tree.
fn portrait(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for name in names(root) {
        let path = root.join(&name);
        let status = fs::symlink_metadata(&path).unwrap();
        let content = if status.is_file() {
            conex_spec::digest::Digest::of(&fs::read(&path).unwrap()).to_string()
        } else if status.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else {
            String::new()
        };
        // Directories' own sizes and link counts are the file system's affair.
        let (size, links) = match status.is_dir() {
            true => (0, 0),
            false => (status.len(), status.nlink()),
        };
        lines.push(format!(
            "{name} {:o} {}:{} {}.{} {size} {links} {} {content}",
            status.mode(),
            status.uid(),
            status.gid(),
            status.mtime(),
            status.mtime_nsec(),
            status.rdev(),
        ));
    }
    lines
}

#[test]
fn real_trees_unpack_as_gnu_tar_unpacks_them() {
    if !privileged() {
        return;
    }
    // Small enough for every run; any other tree will do as well.
    let tree = "etc";
    for format in ["--format=pax", "--format=gnu"] {
        let temporary = tempfile::tempdir().unwrap();
        let archive = temporary.path().join("a.tar");
        let made = Command::new("tar")
            .args([format, "--xattrs", "-C", "/", "-cf"])
            .arg(&archive)
            .arg(tree)
            .stderr(Stdio::null())
            .status();
        let Ok(_) = made else {
            eprintln!("skipped: no tar on this machine");
            return;
        };
        let (ours, theirs) = (
            temporary.path().join("ours"),
            temporary.path().join("theirs"),
        );
        fs::create_dir(&ours).unwrap();
        fs::create_dir(&theirs).unwrap();
        let unpacked = Command::new("tar")
            .args(["--xattrs", "--numeric-owner", "-xpf"])
            .arg(&archive)
            .current_dir(&theirs)
            .status()
            .unwrap();
        assert!(unpacked.success());
        let bytes = fs::read(&archive).unwrap();
        crate::fixture::unpack(&bytes, &ours, Whiteouts::AsIs).unwrap();
        let (ours, theirs) = (portrait(&ours), portrait(&theirs));
        assert!(ours.len() > 10);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len());
    }
}
