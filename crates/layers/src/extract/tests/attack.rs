//! Archives that try to reach what is not theirs. Each test has an `outside`
//! directory beside the root, with a victim in it.

use super::*;
use conex_archive::tar::{EntryKind, Header};
use std::os::fd::AsFd;

struct Arena {
    temporary: tempfile::TempDir,
}

impl Arena {
    fn new() -> Option<Self> {
        if !privileged() {
            return None;
        }
        let temporary = tempfile::tempdir().unwrap();
        for name in ["root", "outside"] {
            fs::create_dir(temporary.path().join(name)).unwrap();
        }
        fs::write(temporary.path().join("outside/victim"), "untouched").unwrap();
        Some(Self { temporary })
    }

    fn root(&self) -> PathBuf {
        self.temporary.path().join("root")
    }

    /// A path to the outside, absolute on the real machine.
    fn outside(&self) -> String {
        self.temporary
            .path()
            .join("outside")
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn unpack(&self, archive: Archive) -> Result<Extracted, Error> {
        let result = archive.unpack(&self.root(), Whiteouts::Overlay);
        let left = names(self.temporary.path().join("outside").as_path());
        assert_eq!(left, ["victim"], "the outside changed");
        let victim = self.temporary.path().join("outside/victim");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        let status = fs::metadata(victim).unwrap();
        assert_eq!((status.nlink(), status.mode() & 0o7777), (1, 0o644));
        result
    }
}

#[test]
fn names_that_climb_out_are_refused_by_name() {
    let Some(arena) = Arena::new() else { return };
    for name in ["../outside/new", "a/../../outside/new", "..", "./../x"] {
        let error = arena.unpack(Archive::new().file(name, "x")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("invalid entry {name:?} in the archive: it is outside of the root directory")
        );
    }
    assert!(names(&arena.root()).is_empty());
}

#[test]
fn absolute_names_stay_inside() {
    let Some(arena) = Arena::new() else { return };
    arena
        .unpack(Archive::new().file("/../etc/passwd", "mine"))
        .unwrap();
    assert_eq!(names(&arena.root()), ["etc", "etc/passwd"]);
}

#[test]
fn a_symlink_to_the_outside_is_stored_and_not_followed_by_what_comes_after() {
    let Some(arena) = Arena::new() else { return };
    let outside = arena.outside();
    for target in [outside.as_str(), "../outside", "../../../../../.."] {
        let archive = Archive::new().symlink("link", target).file("link/new", "x");
        // Leads to a place of the root, or to none there.
        drop(arena.unpack(archive));
        assert_eq!(
            fs::read_link(arena.root().join("link")).unwrap(),
            Path::new(target)
        );
    }
    let archive = Archive::new()
        .symlink("d", "/proc/self/root")
        .file("d/etc/new", "x");
    drop(arena.unpack(archive));
    assert!(!Path::new("/etc/new").exists());
}

#[test]
fn a_symlink_inside_the_root_leads_to_its_place() {
    let Some(arena) = Arena::new() else { return };
    let archive = Archive::new()
        .directory("usr/lib", 0o755)
        .symlink("lib", "/usr/lib")
        .file("lib/so", "x");
    arena.unpack(archive).unwrap();
    assert!(arena.root().join("usr/lib/so").exists());
}

#[test]
fn every_kind_replaces_a_symlink_instead_of_following_it() {
    let Some(arena) = Arena::new() else { return };
    let victim = format!("{}/victim", arena.outside());
    for kind in [
        EntryKind::Regular,
        EntryKind::Directory,
        EntryKind::Symlink,
        EntryKind::HardLink,
        EntryKind::Fifo,
        EntryKind::CharacterDevice,
    ] {
        let header = Header {
            mode: 0o777,
            link: b"other".to_vec(),
            xattrs: vec![(b"trusted.mark".to_vec(), b"1".to_vec())],
            ..Header::new("link", kind)
        };
        let archive = Archive::new()
            .file("other", "x")
            .symlink("link", &victim)
            .entry(header, b"");
        arena.unpack(archive).unwrap();
        let now = fs::symlink_metadata(arena.root().join("link")).unwrap();
        let replaced = match kind {
            EntryKind::Symlink => {
                fs::read_link(arena.root().join("link")).unwrap() == Path::new("other")
            }
            _ => !now.file_type().is_symlink(),
        };
        assert!(replaced, "{kind:?}");
        fs::remove_dir_all(arena.root()).unwrap();
        fs::create_dir(arena.root()).unwrap();
    }
}

#[test]
fn hard_links_to_the_outside_are_refused_or_stay_inside() {
    let Some(arena) = Arena::new() else { return };
    let error = arena
        .unpack(Archive::new().hard_link("link", "../outside/victim"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid hard link \"link\" -> \"../outside/victim\" in the archive: \
         it is outside of the root directory"
    );
    let victim = format!("{}/victim", arena.outside());
    // It may be a file of a lower layer, which is looked up in that layer.
    let unpacked = arena
        .unpack(Archive::new().hard_link("link", &victim))
        .unwrap();
    assert_eq!(unpacked.links_below[0].target, &victim.as_bytes()[1..]);
    let through = Archive::new()
        .symlink("way", &arena.outside())
        .hard_link("link", "way/victim");
    let unpacked = arena.unpack(through).unwrap();
    assert_eq!(unpacked.links_below[0].target, b"way/victim");
    let layer = crate::fixture::directory(&arena.root());
    let error = crate::below::link(layer.as_fd(), layer.as_fd(), &unpacked.links_below);
    assert!(error.is_err());
    assert!(!arena.root().join("link").exists());
    // A link to a symbolic link is one more name of the symbolic link.
    let twice = Archive::new()
        .symlink("soft", &victim)
        .hard_link("hard", "soft")
        .file("hard", "written");
    arena.unpack(twice).unwrap();
    assert_eq!(
        fs::read_to_string(arena.root().join("hard")).unwrap(),
        "written"
    );
}

#[test]
fn replacing_a_directory_by_a_symlink_does_not_leave_a_way_out() {
    let Some(arena) = Arena::new() else { return };
    let archive = Archive::new()
        .directory("d", 0o755)
        .file("d/first", "x")
        .symlink("d", &arena.outside())
        .file("d/second", "x");
    assert!(arena.unpack(archive).is_err());
    let whiteout = Archive::new()
        .symlink("e", &arena.outside())
        .file("e/.wh.victim", "");
    assert!(arena.unpack(whiteout).is_err());
}

#[test]
fn removal_in_place_stays_inside_too() {
    let Some(arena) = Arena::new() else { return };
    let outside = arena.outside();
    for archive in [
        Archive::new()
            .symlink("way", &outside)
            .file("way/.wh.victim", ""),
        Archive::new()
            .symlink("up", "../outside")
            .file("up/.wh..wh..opq", ""),
        Archive::new().symlink("way", &outside).file(".wh.way", ""),
    ] {
        drop(archive.unpack(&arena.root(), Whiteouts::Apply));
        assert_eq!(names(Path::new(&outside)), ["victim"]);
    }
}

#[test]
fn a_layer_cannot_bring_marks_of_the_union_file_system() {
    let Some(arena) = Arena::new() else { return };
    let header = Header {
        xattrs: vec![
            (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
            (b"trusted.overlay.redirect".to_vec(), b"/secret".to_vec()),
            (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
        ],
        ..Header::new("d", EntryKind::Directory)
    };
    arena.unpack(Archive::new().entry(header, b"")).unwrap();
    let mut list = vec![0; 1000];
    let length = rustix::fs::listxattr(arena.root().join("d"), &mut *list).unwrap();
    assert_eq!(length, 0);
}

#[test]
fn files_where_directories_are_needed_and_odd_roots_are_errors() {
    let Some(arena) = Arena::new() else { return };
    assert!(
        arena
            .unpack(Archive::new().file("f", "").file("f/x", ""))
            .is_err()
    );
    assert!(arena.unpack(Archive::new().file(".", "")).is_err());
    assert!(arena.unpack(Archive::new().symlink("/", "x")).is_err());
    assert!(arena.unpack(Archive::new().hard_link("l", "/")).is_err());
    let header = Header {
        uid: u64::from(u32::MAX),
        ..Header::new("x", EntryKind::Regular)
    };
    let error = arena.unpack(Archive::new().entry(header, b"")).unwrap_err();
    assert!(matches!(
        error,
        Error::Owner {
            id: 4_294_967_295,
            ..
        }
    ));
}

/// What a container can do while something is copied into it: names change
/// between a directory, a file and links to the outside.
#[test]
fn a_tree_that_changes_under_the_copy_leads_nowhere_else() {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some(arena) = Arena::new() else { return };
    let (root, outside) = (
        arena.temporary.path().join("root"),
        arena.temporary.path().join("outside"),
    );
    let looks = |path: &Path| {
        let status = fs::symlink_metadata(path).unwrap();
        (status.mode(), status.uid(), status.mtime(), status.ino())
    };
    let before = [looks(&outside), looks(&outside.join("victim"))];
    let owned = |path: &str, kind| Header {
        mode: 0o4777,
        uid: 4321,
        ..Header::new(path, kind)
    };
    let archive = Archive::new()
        .entry(owned("x", EntryKind::Directory), b"")
        .entry(owned("x/victim", EntryKind::Fifo), b"")
        .entry(owned("victim", EntryKind::Fifo), b"")
        .entry(owned("x/new", EntryKind::Regular), b"new")
        .entry(owned("x/victim", EntryKind::Regular), b"changed")
        .finish();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (x, victim) = (root.join("x"), root.join("victim"));
            // Whatever the copy is at, each step may fail.
            while !done.load(Ordering::Relaxed) {
                drop(fs::remove_dir_all(&x).or_else(|_| fs::remove_file(&x)));
                drop(symlink(&outside, &x));
                drop(fs::remove_file(&victim));
                drop(symlink(outside.join("victim"), &victim));
                drop(fs::remove_file(&x));
                drop(symlink("../outside", &x));
                drop(fs::remove_file(&x));
                drop(fs::create_dir(&x));
            }
        });
        let end = std::time::Instant::now() + std::time::Duration::from_millis(1500);
        while std::time::Instant::now() < end {
            let options = Options {
                limits: Limits::default(),
                whiteouts: Whiteouts::AsIs,
            };
            // What the container spoils for itself is an error, no more.
            drop(
                Extractor::new(directory(&root), options)
                    .copying(Copying::default())
                    .extract(&*archive),
            );
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(before, [looks(&outside), looks(&outside.join("victim"))]);
    assert_eq!(fs::read(outside.join("victim")).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}
