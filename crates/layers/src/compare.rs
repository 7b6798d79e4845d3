//! Whether a layer's tree is what its archive says: kinds, owners, modes, times,
//! links, device numbers, extended attributes, removals. What is in the files
//! the archive's own digest tells, when it is made again from them
//! ([`crate::recipe`]).
//!
//! The archive is read once and each entry is looked up in the tree at once. What
//! does not agree is a suspect only: a later entry may have replaced it.
//!
//! Of trees that are whole copies ([`Whiteouts::Apply`]) removals are not looked
//! at: a name that is there may have been put there by the archive itself.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use conex_archive::tar::{self, EntryKind, Header};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::attribute;
use crate::extract::{Meaning, Whiteouts, clean, is_below, join, meaning, split};
use crate::metadata::is_overlay_attribute;

/// The first of what does not agree, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Relative to the layer's root.
    pub path: String,
    /// A clause: `its mode is 644 instead of 755`.
    pub problem: String,
}

/// Reads an uncompressed archive and compares it with the tree it was unpacked
/// into, opened for reading.
///
/// Errors: the archive cannot be read; then nothing is known.
pub fn compare(
    archive: impl Read,
    layer: OwnedFd,
    whiteouts: Whiteouts,
) -> Result<Option<Mismatch>, tar::Error> {
    let mut comparison = Comparison {
        layer,
        whiteouts,
        parent: None,
        suspects: BTreeMap::new(),
        places: HashMap::new(),
    };
    let mut archive = tar::Reader::new(archive);
    while let Some(entry) = archive.next_entry()? {
        comparison.entry(&entry.header);
    }
    archive.finish()?;
    let first = comparison.suspects.into_iter().next();
    Ok(first.map(|(path, suspect)| Mismatch {
        path: String::from_utf8_lossy(&path).into_owned(),
        problem: suspect.problem,
    }))
}

/// Where something is, whatever name led there.
type Spot = ((u64, u64), Vec<u8>);

struct Suspect {
    problem: String,
    spot: Option<Spot>,
    /// Of a hard link.
    target: Option<Vec<u8>>,
}

struct Comparison {
    layer: OwnedFd,
    whiteouts: Whiteouts,
    /// The directory of the last entry: most share it with the next.
    parent: Option<(Vec<u8>, OwnedFd, (u64, u64))>,
    suspects: BTreeMap<Vec<u8>, Suspect>,
    /// The paths of those suspects whose directory is there.
    places: HashMap<Spot, Vec<u8>>,
}

impl Comparison {
    fn entry(&mut self, header: &Header) {
        // Neither was unpacked.
        let Some(path) = clean(&header.path).filter(|path| !path.is_empty()) else {
            return;
        };
        let meaning = match self.whiteouts {
            Whiteouts::AsIs => Meaning::File,
            _ => meaning(&path),
        };
        let (at, problem) = match meaning {
            Meaning::Bookkeeping | Meaning::Invalid => return,
            Meaning::Opaque | Meaning::Removed(_) if self.whiteouts == Whiteouts::Apply => return,
            Meaning::Opaque => {
                let directory = split(&path).0.to_vec();
                let problem = self.opaque(&directory);
                (path, problem)
            }
            Meaning::Removed(name) => {
                let hidden = join(split(&path).0, name);
                let problem = self.removed(&hidden);
                (path, problem)
            }
            Meaning::File => {
                let problem = self.file(&path, header);
                self.clear(&path, header.kind != EntryKind::Directory);
                (path, problem)
            }
        };
        if let Some(problem) = problem {
            let spot = self.spot(&at);
            if let Some(spot) = &spot {
                self.places.insert(spot.clone(), at.clone());
            }
            let target = match header.kind {
                EntryKind::HardLink => clean(&header.link),
                _ => None,
            };
            let suspect = Suspect {
                problem,
                spot,
                target,
            };
            self.suspects.insert(at, suspect);
        }
    }

    /// What earlier entries said of this place no longer counts, nor, if this is
    /// no directory, what they said of anything below.
    fn clear(&mut self, path: &[u8], with_content: bool) {
        if self.suspects.is_empty() {
            return;
        }
        let mut gone: Vec<Vec<u8>> = Vec::new();
        if let Some(spot) = self.spot(path) {
            gone.extend(self.places.get(&spot).cloned());
        }
        gone.push(path.to_vec());
        let linked = self.suspects.iter();
        let linked = linked.filter(|(_, it)| it.target.as_deref() == Some(path));
        gone.extend(linked.map(|(path, _)| path.clone()));
        if with_content {
            let below = self.suspects.range(path.to_vec()..).map(|(path, _)| path);
            let below = below.take_while(|other| other.starts_with(path));
            gone.extend(below.filter(|other| is_below(other, path)).cloned());
        }
        for path in gone {
            if let Some(Suspect {
                spot: Some(spot), ..
            }) = self.suspects.remove(&path)
            {
                self.places.remove(&spot);
            }
        }
    }

    fn spot(&mut self, path: &[u8]) -> Option<Spot> {
        let (parent, name) = split(path);
        let (_, identity) = self.directory(parent).ok()?;
        Some((identity, name.to_vec()))
    }

    fn directory(&mut self, path: &[u8]) -> Result<(BorrowedFd<'_>, (u64, u64)), Errno> {
        if self.parent.as_ref().is_none_or(|(known, ..)| known != path) {
            let wanted = if path.is_empty() { b"." } else { path };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let opened = rustix::fs::openat2(&self.layer, wanted, flags, Mode::empty(), resolve)?;
            let status = rustix::fs::fstat(&opened)?;
            let identity = (status.st_dev, status.st_ino);
            self.parent = Some((path.to_vec(), opened, identity));
        }
        let (_, opened, identity) = self.parent.as_ref().expect("it was just put there");
        Ok((opened.as_fd(), *identity))
    }

    fn status(&mut self, path: &[u8]) -> Result<Stat, Errno> {
        let (parent, name) = split(path);
        let (parent, _) = self.directory(parent)?;
        rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn opaque(&mut self, directory: &[u8]) -> Option<String> {
        let marked = self
            .directory(directory)
            .and_then(|(opened, _)| attribute::has_named(opened, c".", OPAQUE));
        match marked {
            Ok(true) => None,
            Ok(false) => Some("its directory shows what lies below again".into()),
            Err(error) => Some(unseen(error)),
        }
    }

    fn removed(&mut self, hidden: &[u8]) -> Option<String> {
        let status = match self.status(hidden) {
            Ok(status) => status,
            Err(Errno::NOENT) => return Some("what it removes shows again".into()),
            Err(error) => return Some(unseen(error)),
        };
        // What the archive has at the name itself hides what is below as well; a directory says so.
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => self.opaque(hidden),
            _ => None,
        }
    }

    fn file(&mut self, path: &[u8], header: &Header) -> Option<String> {
        let status = match self.status(path) {
            Ok(status) => status,
            Err(error) => return Some(unseen(error)),
        };
        let kind = FileType::from_raw_mode(status.st_mode);
        if header.kind == EntryKind::HardLink {
            return self.hard_link(header, &status);
        }
        let wanted = match header.kind {
            EntryKind::Regular => FileType::RegularFile,
            EntryKind::Directory => FileType::Directory,
            EntryKind::Symlink => FileType::Symlink,
            EntryKind::CharacterDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            EntryKind::Fifo => FileType::Fifo,
            EntryKind::HardLink | EntryKind::Other(_) => return None,
        };
        if kind != wanted {
            return Some(format!("it is a {kind:?} instead of a {wanted:?}"));
        }
        let differs = |what: &str, is: &dyn std::fmt::Display, was: &dyn std::fmt::Display| {
            Some(format!("its {what} is {is} instead of {was}"))
        };
        let owner = (u64::from(status.st_uid), u64::from(status.st_gid));
        if owner != (header.uid, header.gid) {
            let shown = |(uid, gid): (u64, u64)| format!("{uid}:{gid}");
            let was = shown((header.uid, header.gid));
            return differs("owner", &shown(owner), &was);
        }
        let mode = status.st_mode & 0o7777;
        if kind != FileType::Symlink && mode != header.mode {
            let shown = |mode: u32| format!("{mode:o}");
            return differs("mode", &shown(mode), &shown(header.mode));
        }
        let size = u64::try_from(status.st_size).unwrap_or(0);
        if kind == FileType::RegularFile && size != header.size {
            return differs("size", &size, &header.size);
        }
        let device = rustix::fs::makedev(header.device.major, header.device.minor);
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        if is_device && status.st_rdev != device {
            return Some("its device numbers are others".into());
        }
        // File systems keep what they can: not every century, not all of them nanoseconds.
        let (seconds, nanoseconds) = (status.st_mtime, status.st_mtime_nsec);
        let is_kept = (0..1 << 31).contains(&header.mtime.seconds);
        let other = seconds != header.mtime.seconds
            || (nanoseconds != 0 && nanoseconds != u64::from(header.mtime.nanoseconds));
        if is_kept && other {
            return differs("time", &seconds, &header.mtime.seconds);
        }
        self.content(path, header, kind)
    }

    /// What a symbolic link leads to, and extended attributes.
    fn content(&mut self, path: &[u8], header: &Header, kind: FileType) -> Option<String> {
        let (parent, name) = split(path);
        let name = CString::new(name).ok()?;
        let (parent, _) = self.directory(parent).ok()?;
        if kind == FileType::Symlink {
            match rustix::fs::readlinkat(parent, &*name, Vec::new()) {
                Ok(target) if target.as_bytes() == header.link => {}
                Ok(_) => return Some("it leads somewhere else".into()),
                Err(error) => return Some(unseen(error)),
            }
        }
        if header.xattrs.is_empty() {
            return None;
        }
        let there = match attribute::of_named(parent, &name) {
            Ok(there) => there,
            Err(error) => return Some(unseen(error)),
        };
        let may_have_user = matches!(kind, FileType::RegularFile | FileType::Directory);
        for (attribute, value) in &header.xattrs {
            let is_left_out = is_overlay_attribute(attribute)
                || attribute == b"security.selinux"
                || (attribute.starts_with(b"user.") && !may_have_user);
            if is_left_out || there.iter().any(|it| (&it.0, &it.1) == (attribute, value)) {
                continue;
            }
            let shown = String::from_utf8_lossy(attribute);
            if there.iter().any(|(name, _)| name == attribute) {
                return Some(format!("its attribute {shown} is another"));
            }
            // One that the file system has no place for was never there.
            if attribute::may_have(parent, &name, attribute) {
                return Some(format!("its attribute {shown} is gone"));
            }
        }
        None
    }

    /// One more name of a file. The layer may have removed the other since.
    fn hard_link(&mut self, header: &Header, status: &Stat) -> Option<String> {
        let other = self.status(&clean(&header.link)?).ok()?;
        let is_removal = FileType::from_raw_mode(other.st_mode) == FileType::CharacterDevice
            && other.st_rdev == 0;
        let is_same = (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino);
        (!is_same && !is_removal).then(|| {
            let target = String::from_utf8_lossy(&header.link);
            format!("it is no link to {target} any more")
        })
    }
}

/// The overlay file system's mark of a directory that hides what is below.
const OPAQUE: &CStr = c"trusted.overlay.opaque";

fn unseen(error: Errno) -> String {
    match error {
        Errno::NOENT | Errno::NOTDIR => "it is missing".into(),
        error => format!("it cannot be examined: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixture::{Archive, directory, privileged, unpack};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::Path;

    fn archive() -> Vec<u8> {
        let with_attribute = |name: &str, attribute: &str| Header {
            xattrs: vec![(attribute.as_bytes().to_vec(), b"value".to_vec())],
            ..Header::new(name, EntryKind::Regular)
        };
        let device = Header {
            device: tar::Device { major: 1, minor: 3 },
            ..Header::new("null", EntryKind::CharacterDevice)
        };
        Archive::new()
            .directory("./", 0o755)
            .directory("dir/", 0o1770)
            .file("dir/file", "content")
            .hard_link("dir/again", "dir/file")
            .symlink("link", "dir")
            // By another name, and once more.
            .file("link/aliased", "old")
            .file("dir/aliased", "older")
            .entry(with_attribute("marked", "trusted.mark"), b"x")
            .entry(device, b"")
            .entry(Header::new("pipe", EntryKind::Fifo), b"")
            .directory("hiding/", 0o755)
            .file("hiding/.wh..wh..opq", "")
            .file("hiding/shown", "x")
            .file(".wh.removed", "")
            // Replaced within the archive: what counts is the last word.
            .directory("replaced/", 0o700)
            .file("replaced/inside", "x")
            .symlink("replaced", "dir")
            .file("target", "first")
            .hard_link("linked", "target")
            .file("target", "second")
            .finish()
    }

    fn compared(root: &Path, whiteouts: Whiteouts) -> Option<Mismatch> {
        compare(&*archive(), directory(root), whiteouts).unwrap()
    }

    #[test]
    fn a_tree_as_it_was_unpacked_agrees() {
        if !privileged() {
            return;
        }
        for whiteouts in [Whiteouts::Overlay, Whiteouts::Apply] {
            let root = tempfile::tempdir().unwrap();
            unpack(&archive(), root.path(), whiteouts).unwrap();
            assert_eq!(compared(root.path(), whiteouts), None);
        }
    }

    #[test]
    fn whatever_is_changed_is_found_and_named() {
        if !privileged() {
            return;
        }
        type Damage = fn(&Path);
        let damages: [(&str, &str, Damage); 13] = [
            ("dir", "its mode is 755 instead of 1770", |root| {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(root.join("dir"), mode).unwrap();
            }),
            ("dir/file", "its owner is 7:0 instead of 0:0", |root| {
                chown(root.join("dir/file"), Some(7), None).unwrap();
            }),
            ("dir/again", "it is no link to dir/file any more", |root| {
                let times = fs::metadata(root.join("dir")).unwrap().modified().unwrap();
                fs::remove_file(root.join("dir/again")).unwrap();
                fs::write(root.join("dir/again"), "content").unwrap();
                let dir = fs::File::open(root.join("dir")).unwrap();
                dir.set_modified(times).unwrap();
            }),
            ("link", "it leads somewhere else", |root| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("hiding", root.join("link")).unwrap();
                let (at, zero) = (rustix::fs::CWD, crate::metadata::times(&status_of(root)));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(at, root.join("link"), &zero, flags).unwrap();
            }),
            ("marked", "its attribute trusted.mark is gone", |root| {
                rustix::fs::lremovexattr(root.join("marked"), "trusted.mark").unwrap();
            }),
            ("marked", "its attribute trusted.mark is another", |root| {
                let flags = rustix::fs::XattrFlags::empty();
                let path = root.join("marked");
                rustix::fs::lsetxattr(path, "trusted.mark", b"other", flags).unwrap();
            }),
            ("null", "it is missing", |root| {
                fs::remove_file(root.join("null")).unwrap();
            }),
            ("pipe", "it is a RegularFile instead of a Fifo", |root| {
                fs::remove_file(root.join("pipe")).unwrap();
                fs::write(root.join("pipe"), "").unwrap();
            }),
            ("dir/aliased", "its size is 9 instead of 5", |root| {
                fs::write(root.join("dir/aliased"), "too large").unwrap();
            }),
            ("hiding/shown", "its time is", |root| {
                let file = fs::File::open(root.join("hiding/shown")).unwrap();
                file.set_modified(std::time::SystemTime::now()).unwrap();
            }),
            (
                "hiding/.wh..wh..opq",
                "its directory shows what lies below again",
                |root| {
                    rustix::fs::lremovexattr(root.join("hiding"), OPAQUE).unwrap();
                },
            ),
            (".wh.removed", "what it removes shows again", |root| {
                fs::remove_file(root.join("removed")).unwrap();
            }),
            (
                "replaced",
                "it is a Directory instead of a Symlink",
                |root| {
                    fs::remove_file(root.join("replaced")).unwrap();
                    fs::create_dir(root.join("replaced")).unwrap();
                },
            ),
        ];
        for (path, problem, damage) in damages {
            let root = tempfile::tempdir().unwrap();
            unpack(&archive(), root.path(), Whiteouts::Overlay).unwrap();
            damage(root.path());
            let found = compared(root.path(), Whiteouts::Overlay).expect(problem);
            assert_eq!(found.path, path, "{found:?}");
            assert!(found.problem.starts_with(problem), "{found:?}");
        }
    }

    /// Of something with the archive's time.
    fn status_of(root: &Path) -> Stat {
        rustix::fs::stat(root.join("dir/file")).unwrap()
    }
}
