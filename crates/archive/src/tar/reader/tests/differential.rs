//! What GNU tar writes is read as it was meant, and what our writer writes GNU
//! tar unpacks the same.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;

/// Runs tar; `false` (and says so) when the machine has none.
fn tar(arguments: &[&str], directory: &Path) -> bool {
    match Command::new("tar")
        .args(arguments)
        .current_dir(directory)
        .output()
    {
        Ok(output) => {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "tar {arguments:?}: {message}");
            true
        }
        Err(error) => {
            eprintln!("skipped: no tar on this machine: {error}");
            false
        }
    }
}

fn tree(root: &Path, long_names: bool) {
    fs::create_dir_all(root.join("d/sub")).unwrap();
    fs::write(root.join("d/file"), b"content\n").unwrap();
    fs::write(root.join("d/empty"), b"").unwrap();
    fs::write(root.join("d/large"), vec![b'L'; 300_000]).unwrap();
    fs::hard_link(root.join("d/file"), root.join("d/second-name")).unwrap();
    symlink("../elsewhere", root.join("d/link")).unwrap();
    let program = root.join("d/program");
    fs::write(&program, b"#!").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    if long_names {
        let long = "n".repeat(120);
        let deep = root.join("d").join(&long).join(&long);
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("leaf-ü"), b"deep").unwrap();
        symlink("t".repeat(150), root.join("d/long-link")).unwrap();
    }
}

/// Compares the members with the tree they were made from.
fn compare(members: &Members, root: &Path) {
    assert!(members.len() > 5);
    for (header, data) in members {
        let path = root.join(std::str::from_utf8(&header.path).unwrap());
        let real = fs::symlink_metadata(&path).unwrap();
        assert_eq!(header.mtime.seconds, real.mtime(), "{path:?}");
        assert_eq!(header.uid, u64::from(real.uid()));
        match header.kind {
            EntryKind::Regular => {
                assert_eq!(header.mode, real.mode() & 0o7777);
                assert!(*data == fs::read(&path).unwrap(), "{path:?}");
                assert_eq!(header.size, real.len());
            }
            EntryKind::Directory => assert!(real.is_dir()),
            EntryKind::Symlink => {
                let target = fs::read_link(&path).unwrap();
                assert_eq!(header.link, target.as_os_str().as_encoded_bytes());
            }
            EntryKind::HardLink => {
                let target = root.join(std::str::from_utf8(&header.link).unwrap());
                assert_eq!(real.ino(), fs::symlink_metadata(target).unwrap().ino());
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn every_format_gnu_tar_writes_is_read() {
    for format in ["v7", "oldgnu", "gnu", "ustar", "pax"] {
        let directory = tempfile::tempdir().unwrap();
        tree(directory.path(), !matches!(format, "v7" | "ustar"));
        if !tar(
            &["-cf", "a.tar", &format!("--format={format}"), "d"],
            directory.path(),
        ) {
            return;
        }
        let members = read_all(&fs::read(directory.path().join("a.tar")).unwrap()).unwrap();
        compare(&members, directory.path());
    }
}

#[test]
fn a_ustar_prefix_is_joined() {
    let directory = tempfile::tempdir().unwrap();
    let deep = format!("{}/{}", "p".repeat(90), "q".repeat(60));
    fs::create_dir_all(directory.path().join(&deep)).unwrap();
    if tar(&["-cf", "a.tar", "--format=ustar", &deep], directory.path()) {
        let archive = fs::read(directory.path().join("a.tar")).unwrap();
        assert_eq!(names(&archive).unwrap(), [format!("{deep}/")]);
    }
}

#[test]
fn every_sparse_format_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse");
    let mut file = File::create(&path).unwrap();
    // More than the 4 + 21 pairs of one old GNU extension block.
    for index in 0..60u64 {
        file.seek(SeekFrom::Start(index * 65_536 + 4096)).unwrap();
        file.write_all(&[b'a' + (index % 26) as u8; 5000]).unwrap();
    }
    file.set_len(60 * 65_536 + 123).unwrap();
    drop(file);
    for arguments in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let arguments = [&["-cSf", "a.tar"][..], arguments, &["sparse"]].concat();
        if !tar(&arguments, directory.path()) {
            return;
        }
        let archive = fs::read(directory.path().join("a.tar")).unwrap();
        let members = read_all(&archive).unwrap();
        let (header, data) = &members[0];
        assert_eq!(header.path, b"sparse", "{arguments:?}");
        assert!(header.sparse.as_ref().unwrap().len() >= 60);
        assert!(*data == fs::read(&path).unwrap(), "{arguments:?}");
        assert!(archive.len() < 2_000_000);
    }
}

#[test]
fn an_entirely_empty_sparse_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::create(directory.path().join("hole")).unwrap();
    file.set_len(10 << 20).unwrap();
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        if !tar(
            &["-cSf", "a.tar", "--format=pax", &version, "hole"],
            directory.path(),
        ) {
            return;
        }
        let archive = fs::read(directory.path().join("a.tar")).unwrap();
        let members = read_all(&archive).unwrap();
        assert_eq!(members[0].0.size, 10 << 20, "{version}");
        assert!(members[0].1.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn big_numbers_and_odd_times_are_read_in_gnu_and_pax() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), b"x").unwrap();
    for format in ["gnu", "pax"] {
        let format_flag = format!("--format={format}");
        let arguments = [
            "-cf",
            "a.tar",
            &format_flag,
            "--owner=o:3000000",
            "--group=g:4000000",
            "--mtime=@-12.25",
            "f",
        ];
        if !tar(&arguments, directory.path()) {
            return;
        }
        let archive = fs::read(directory.path().join("a.tar")).unwrap();
        let header = read_all(&archive).unwrap().remove(0).0;
        assert_eq!((header.uid, header.gid), (3_000_000, 4_000_000));
        assert_eq!(
            (&header.user[..], &header.group[..]),
            (&b"o"[..], &b"g"[..])
        );
        assert_eq!(header.mtime.seconds, -13);
        if format == "pax" {
            assert_eq!(header.mtime.nanoseconds, 750_000_000);
        }
    }
}

#[test]
fn gnu_tar_unpacks_what_the_writer_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "x".repeat(200), "ü".repeat(60));
    let mtime = Timestamp {
        seconds: 1_500_000_000,
        nanoseconds: 123_456_789,
    };
    let mut writer = Writer::new(File::create(directory.path().join("a.tar")).unwrap());
    let file = |name: &str, size| Header {
        size,
        mtime,
        ..Header::new(name, EntryKind::Regular)
    };
    writer.append(&file(&long, 5), &mut &b"hello"[..]).unwrap();
    writer
        .append(&file("plain", 1000), &mut &[b'p'; 1000][..])
        .unwrap();
    let link = Header {
        link: long.clone().into_bytes(),
        ..Header::new("hard", EntryKind::HardLink)
    };
    writer.append_empty(&link).unwrap();
    let link = Header {
        link: vec![b's'; 180],
        ..Header::new("soft", EntryKind::Symlink)
    };
    writer.append_empty(&link).unwrap();
    writer
        .append_empty(&Header::new("pipe", EntryKind::Fifo))
        .unwrap();
    writer
        .append_empty(&Header {
            mode: 0o1777,
            ..Header::new("dir/", EntryKind::Directory)
        })
        .unwrap();
    writer.finish().unwrap();
    if !tar(&["-xpf", "a.tar", "--no-same-owner"], directory.path()) {
        return;
    }
    let at = |name: &str| directory.path().join(name);
    assert_eq!(fs::read(at(&long)).unwrap(), b"hello");
    let real = fs::metadata(at("plain")).unwrap();
    assert_eq!(
        (real.len(), real.mtime(), real.mtime_nsec()),
        (1000, 1_500_000_000, 123_456_789)
    );
    assert_eq!(
        fs::metadata(at(&long)).unwrap().ino(),
        fs::metadata(at("hard")).unwrap().ino()
    );
    assert_eq!(fs::read_link(at("soft")).unwrap().as_os_str().len(), 180);
    assert_eq!(fs::metadata(at("dir")).unwrap().mode() & 0o7777, 0o1777);
}

#[test]
fn extended_attributes_of_gnu_tar_are_read() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), b"x").unwrap();
    let set = Command::new("python3")
        .args([
            "-c",
            "import os; os.setxattr('f', 'user.colour', b'deep\\nblue')",
        ])
        .current_dir(directory.path())
        .status();
    if !set.is_ok_and(|status| status.success()) {
        eprintln!("skipped: cannot set an extended attribute here");
        return;
    }
    if tar(
        &["-cf", "a.tar", "--format=pax", "--xattrs", "f"],
        directory.path(),
    ) {
        let archive = fs::read(directory.path().join("a.tar")).unwrap();
        let header = read_all(&archive).unwrap().remove(0).0;
        assert_eq!(
            header.xattrs,
            [(b"user.colour".to_vec(), b"deep\nblue".to_vec())]
        );
    }
}
