//! What of a layer's content must reach the layers and containers above it.

use std::fs;
use std::io::Cursor;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use conex_archive::tar::{EntryKind, Header, Timestamp};

use super::{add, base, id, mount, read};
use crate::driver::{Driver, Error};
use crate::extract::Limits;
use crate::fixture::Archive;
use crate::overlay::Access;
use crate::unpack::unpack;

pub(crate) fn implied_directories_look_as_they_do_below(driver: &dyn Driver) {
    let old = |path: &str, mode: u32| Header {
        mode,
        uid: 5,
        mtime: Timestamp {
            seconds: 1_000_000,
            nanoseconds: 7,
        },
        ..Header::new(path, EntryKind::Directory)
    };
    let archive = Archive::new()
        .entry(old("./", 0o711), b"")
        .entry(old("tmp", 0o1777), b"")
        .entry(old("opt", 0o700), b"")
        .file("opt/gone", "");
    add(driver, "base", None, archive);
    // Neither the root nor tmp nor opt has an entry of its own.
    let archive = Archive::new()
        .file("tmp/file", "x")
        .file("opt/.wh.gone", "")
        .file("new/file", "x");
    let layer = driver.create(&id("upper"), Some(&id("base"))).unwrap();
    let stream = Box::new(Cursor::new(archive.finish()));
    let unpacked = unpack(stream, &layer, Limits::default()).unwrap();
    {
        let below = mount(driver, "base", Access::ReadOnly);
        let implied = &unpacked.content.implied_dirs;
        crate::implied::adopt(below.root.as_fd(), layer.directory.as_fd(), implied).unwrap();
    }
    driver
        .create_container(&id("container"), Some(&id("upper")), None)
        .unwrap();
    for name in ["upper", "container"] {
        let root = mount(driver, name, Access::ReadOnly);
        for (path, mode) in [("tmp", 0o1777), ("opt", 0o700), ("", 0o711)] {
            let status = fs::metadata(root.path.join(path)).unwrap();
            assert_eq!(
                (status.mode() & 0o7777, status.uid()),
                (mode, 5),
                "{path} of {name}"
            );
            let time = (status.mtime(), status.mtime_nsec());
            assert_eq!(time, (1_000_000, 7), "{path} of {name}");
        }
        let status = fs::metadata(root.path.join("new")).unwrap();
        assert_eq!((status.mode() & 0o7777, status.uid()), (0o755, 0));
        assert_eq!(read(&root.path, "opt/gone"), None);
    }
}

pub(crate) fn removed_directories_come_back_empty_and_opaque_ones_are_emptied(driver: &dyn Driver) {
    let archive = Archive::new()
        .directory("one", 0o755)
        .file("one/old", "")
        .directory("two", 0o755)
        .file("two/old", "")
        .file("three", "file");
    add(driver, "base", None, archive);
    let archive = Archive::new().file(".wh.one", "").file(".wh.three", "");
    add(driver, "removed", Some("base"), archive);
    let archive = Archive::new()
        .directory("one", 0o700)
        .file("one/new", "")
        .file("two/.wh..wh..opq", "")
        .file("two/new", "")
        .directory("three", 0o755)
        .file("three/file", "");
    add(driver, "again", Some("removed"), archive);
    let root = mount(driver, "again", Access::ReadOnly);
    let names = |path: &str| {
        let entries = fs::read_dir(root.path.join(path)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["one", "three", "two"]);
    assert_eq!(names("one"), ["new"]);
    assert_eq!(names("two"), ["new"]);
    assert_eq!(names("three"), ["file"]);
    let removed = mount(driver, "removed", Access::ReadOnly);
    assert_eq!(fs::read_dir(&removed.path).unwrap().count(), 1);
}

pub(crate) fn attributes_links_and_holes_reach_the_container(driver: &dyn Driver) {
    let mut marked = Header::new("marked", EntryKind::Regular);
    marked.mode = 0o4755;
    marked.xattrs = vec![(b"trusted.mark".to_vec(), b"value".to_vec())];
    let archive = Archive::new()
        .entry(marked, b"content")
        .hard_link("again", "marked");
    add(driver, "base", None, archive);
    {
        // As a sparse archive entry leaves it.
        let layer = driver.content(&id("base")).unwrap();
        let path = format!("/proc/self/fd/{}/sparse", layer.as_raw_fd());
        fs::File::create(path).unwrap().set_len(64 << 20).unwrap();
    }
    add(driver, "upper", Some("base"), Archive::new().file("x", ""));
    driver
        .create_container(&id("container"), Some(&id("upper")), None)
        .unwrap();
    let root = mount(driver, "container", Access::ReadWrite);
    let status = |name: &str| fs::metadata(root.path.join(name)).unwrap();
    assert_eq!(status("marked").mode() & 0o7777, 0o4755);
    assert_eq!(status("marked").ino(), status("again").ino());
    assert_eq!(status("marked").nlink(), 2);
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(root.path.join("again"), "trusted.mark", &mut value[..]);
    assert_eq!(&value[..length.unwrap()], b"value");
    let sparse = status("sparse");
    assert_eq!((sparse.len(), sparse.blocks()), (64 << 20, 0));
}

pub(crate) fn the_init_layer_fits_images_that_have_lack_or_disguise_its_files(driver: &dyn Driver) {
    let has = Archive::new()
        .directory("etc", 0o750)
        .file("etc/hosts", "own")
        .file("etc/mtab", "a file");
    let disguises = Archive::new()
        .symlink("etc", "usr/etc")
        .directory("usr/etc", 0o755)
        .file("proc", "no directory");
    for (name, archive) in [
        ("has", has),
        ("disguises", disguises),
        ("lacks", Archive::new()),
    ] {
        add(driver, name, None, archive);
        let init = id(&format!("{name}-init"));
        {
            let layer = driver.create(&init, Some(&id(name))).unwrap();
            let view = mount(driver, name, Access::ReadOnly);
            crate::init::build(view.root.as_fd(), layer.directory.as_fd()).unwrap();
        }
        let container = id(&format!("{name}-container"));
        driver
            .create_container(&container, Some(&init), None)
            .unwrap();
        let root = mount(driver, container.as_str(), Access::ReadWrite);
        let status = |path: &str| fs::symlink_metadata(root.path.join(path)).unwrap();
        for path in ["etc", "proc", "sys", "dev/pts", "dev/shm"] {
            assert!(status(path).is_dir(), "{path} of {name}");
        }
        for path in [".dockerenv", "etc/hosts", "etc/hostname", "dev/console"] {
            assert!(status(path).is_file(), "{path} of {name}");
        }
        assert!(status("etc/mtab").is_symlink(), "{name}");
        if name == "has" {
            assert_eq!(read(&root.path, "etc/hosts").unwrap(), "own");
            assert_eq!(status("etc").mode() & 0o7777, 0o750);
        }
        // What the init layer has is not the container's doing.
        assert_eq!(driver.usage(&container).unwrap().bytes, 0, "{name}");
    }
}

pub(crate) fn a_layer_can_be_opened_where_it_lies(driver: &dyn Driver) {
    add(driver, "base", None, base());
    add(
        driver,
        "upper",
        Some("base"),
        Archive::new().file("own", "x"),
    );
    let layer = driver.content(&id("upper")).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", layer.as_raw_fd()));
    assert_eq!(read(&path, "own").unwrap(), "x");
    let whole = !driver.kind().fills_in_any_order();
    assert_eq!(read(&path, "top").is_some(), whole);
    let missing = driver.content(&id("missing"));
    assert!(matches!(missing, Err(Error::NotFound { .. })));
}

pub(crate) fn roots_pass_no_mounts_on_and_reads_of_a_copy_leave_the_parent_alone(
    driver: &dyn Driver,
) {
    add(driver, "base", None, base());
    driver
        .create_container(&id("container"), Some(&id("base")), None)
        .unwrap();
    let root = mount(driver, "container", Access::ReadWrite);
    fs::write(root.path.join("d/file"), "changed").unwrap();
    fs::write(root.path.join("new"), "new").unwrap();
    let below = mount(driver, "base", Access::ReadOnly);
    assert_eq!(read(&below.path, "d/file").unwrap(), "base");
    assert_eq!(read(&below.path, "new"), None);
    assert!(
        fs::remove_file(below.path.join("top")).is_err(),
        "read-only"
    );
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", root.root.as_raw_fd())).unwrap();
    let mount_id = info
        .lines()
        .find_map(|l| l.strip_prefix("mnt_id:"))
        .unwrap();
    // A detached mount is in nobody's table, so nothing can be its peer there.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let listed = table
        .lines()
        .any(|l| l.split(' ').next() == Some(mount_id.trim()));
    assert!(!listed, "{mount_id}");
}
