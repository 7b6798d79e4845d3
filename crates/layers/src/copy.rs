//! Copying a tree with everything it says of itself: owners, modes, times,
//! extended attributes, hard links, holes, devices. Blocks are shared where
//! the file system can share them.
//!
//! Both trees are walked with one descriptor each and a stack of names, as in
//! [`crate::tree`], so that no depth is too deep; names are never followed, not
//! even those that somebody puts in the copy while it is made.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::{attribute, tree};

/// A tree was not copied; what was made so far stays.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy {path:?}")]
pub struct Error {
    /// Relative to the top, which is empty.
    path: String,
    source: Errno,
}

/// Copies everything in the directory `from` into the empty directory `to`,
/// and what the one says of itself to the other; both opened for reading.
pub fn tree(from: OwnedFd, to: OwnedFd) -> Result<(), Error> {
    tree_noting(from, to, &mut Vec::new())
}

/// The same. `made` gets the names that were made in `to` itself, of a copy
/// that fails too: what else is there is somebody else's.
pub fn tree_noting(from: OwnedFd, to: OwnedFd, made: &mut Vec<CString>) -> Result<(), Error> {
    let top = to.try_clone().map_err(|error| Error {
        path: String::new(),
        source: Errno::from_io_error(&error).unwrap_or(Errno::MFILE),
    })?;
    let mut copy = Copy {
        top,
        made,
        linked: HashMap::new(),
        reflink: true,
        path: Vec::new(),
    };
    copy.run(from, to).map_err(|Fault { name, source }| {
        let path = [&copy.path, name.to_bytes()].concat();
        Error {
            path: String::from_utf8_lossy(&path).into_owned(),
            source,
        }
    })
}

/// Gives `to` the owner, mode, extended attributes and times of `from`; both
/// are files or directories, opened.
pub fn metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    crate::metadata::copy(from, to)
}

/// The times of a file, as they are set.
#[must_use]
pub fn times(status: &Stat) -> Timestamps {
    crate::metadata::times(status)
}

/// One directory on the way down, in both trees.
struct Level {
    source: (u64, u64),
    target: (u64, u64),
    /// Its directories still to be copied.
    left: Vec<CString>,
    /// The one being copied.
    inside: Option<CString>,
}

struct Copy<'a> {
    /// Where hard links are looked up from.
    top: OwnedFd,
    /// What was made in it.
    made: &'a mut Vec<CString>,
    /// First names of files that have several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// Whether sharing blocks has not failed yet.
    reflink: bool,
    /// Path of the current directory, each component ending with a slash.
    path: Vec<u8>,
}

/// What failed in the current directory; the directory itself has no name.
struct Fault {
    name: CString,
    source: Errno,
}

fn at(name: &CStr) -> impl Fn(Errno) -> Fault + use<> {
    let name = name.to_owned();
    move |source| Fault {
        name: name.clone(),
        source,
    }
}

impl Copy<'_> {
    fn run(&mut self, mut from: OwnedFd, mut to: OwnedFd) -> Result<(), Fault> {
        let mut stack = vec![self.level(&from, &to)?];
        while let Some(level) = stack.last_mut() {
            if let Some(name) = level.left.pop() {
                let failed = at(&name);
                let source = tree::open_directory(&from, &*name).map_err(&failed)?;
                rustix::fs::mkdirat(&to, &*name, Mode::RWXU).map_err(&failed)?;
                self.note(&name);
                let target = tree::open_directory(&to, &*name).map_err(&failed)?;
                self.path.extend_from_slice(name.to_bytes());
                self.path.push(b'/');
                let below = self.level(&source, &target)?;
                level.inside = Some(name);
                stack.push(below);
                (from, to) = (source, target);
                continue;
            }
            // Last of a directory: making something in it changes its times.
            metadata(from.as_fd(), to.as_fd()).map_err(at(c""))?;
            stack.pop();
            let Some(above) = stack.last_mut() else {
                break;
            };
            let name = above
                .inside
                .take()
                .expect("a level above another knows which");
            let failed = at(&name);
            from = up(&from, above.source).map_err(&failed)?;
            to = up(&to, above.target).map_err(&failed)?;
            self.path.truncate(self.path.len() - name.count_bytes() - 1);
        }
        Ok(())
    }

    /// Copies what in a directory is no directory, and says what is one.
    fn level(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<Level, Fault> {
        let identity = |directory: &OwnedFd| {
            rustix::fs::fstat(directory).map(|status| (status.st_dev, status.st_ino))
        };
        let failed = at(c"");
        let mut level = Level {
            source: identity(from).map_err(&failed)?,
            target: identity(to).map_err(&failed)?,
            left: Vec::new(),
            inside: None,
        };
        let mut names = Vec::new();
        tree::for_each(from.as_fd(), &mut |name, kind| {
            match kind {
                FileType::Directory => level.left.push(name.to_owned()),
                _ => names.push(name.to_owned()),
            }
            Ok(())
        })
        .map_err(failed)?;
        for name in names {
            let copied = self.entry(from.as_fd(), to.as_fd(), &name);
            // Of another error it is not known whether it came to something.
            if copied != Err(Errno::EXIST) {
                self.note(&name);
            }
            copied.map_err(|source| Fault { name, source })?;
        }
        Ok(level)
    }

    fn note(&mut self, name: &CStr) {
        if self.path.is_empty() {
            self.made.push(name.to_owned());
        }
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Errno> {
        let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if status.st_nlink > 1 {
            let identity = (status.st_dev, status.st_ino);
            if let Some(first) = self.linked.get(&identity) {
                match self.link(first, to, name) {
                    // Too far down to be named: a file of its own, then.
                    Err(Errno::NAMETOOLONG) => {}
                    result => return result,
                }
            } else {
                let path = [&self.path, name.to_bytes()].concat();
                self.linked.insert(identity, path);
            }
        }
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => self.file(from, to, name),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&target, to, name)?;
                by_name(from, to, name, &status)
            }
            kind => {
                let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
                rustix::fs::mknodat(to, name, kind, mode, status.st_rdev)?;
                by_name(from, to, name, &status)
            }
        }
    }

    /// Another name for a file of the copy. Every directory on the way was made
    /// by it; what is a link by now is not followed.
    fn link(&self, first: &[u8], to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let Some(slash) = first.iter().rposition(|byte| *byte == b'/') else {
            return rustix::fs::linkat(&self.top, first, to, name, AtFlags::empty());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let parent =
            rustix::fs::openat2(&self.top, &first[..slash], flags, Mode::empty(), resolve)?;
        rustix::fs::linkat(&parent, &first[slash + 1..], to, name, AtFlags::empty())
    }

    fn file(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        // Without waiting, should a fifo have taken the file's place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
        let status = rustix::fs::fstat(&source)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Errno::STALE);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
        self.content(&source, &target, &status)?;
        metadata(source.as_fd(), target.as_fd())
    }

    fn content(&mut self, source: &OwnedFd, target: &OwnedFd, status: &Stat) -> Result<(), Errno> {
        let size = u64::try_from(status.st_size).unwrap_or(0);
        if size == 0 {
            return Ok(());
        }
        if self.reflink {
            match rustix::fs::ioctl_ficlone(target, source) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL) => {
                    self.reflink = false;
                }
                Err(error) => return Err(error),
            }
        }
        // Holes stay holes: only what is data is copied, to its place.
        rustix::fs::ftruncate(target, size)?;
        let mut offset = 0;
        while offset < size {
            let data = match rustix::fs::seek(source, SeekFrom::Data(offset)) {
                Ok(data) => data,
                // Nothing but a hole from here on.
                Err(Errno::NXIO) => return Ok(()),
                Err(error) => return Err(error),
            };
            let hole = rustix::fs::seek(source, SeekFrom::Hole(data))?;
            copy_range(source, target, data, hole)?;
            offset = hole;
        }
        Ok(())
    }
}

fn up(directory: &OwnedFd, expected: (u64, u64)) -> Result<OwnedFd, Errno> {
    let above = tree::open_directory(directory, "..")?;
    let status = rustix::fs::fstat(&above)?;
    if (status.st_dev, status.st_ino) == expected {
        Ok(above)
    } else {
        Err(Errno::STALE)
    }
}

fn copy_range(source: &OwnedFd, target: &OwnedFd, start: u64, end: u64) -> Result<(), Errno> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let left = usize::try_from(end - from).unwrap_or(usize::MAX);
        let wanted = left.min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), wanted) {
            // The file became shorter under the copy.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL) => {
                return copy_by_hand(source, target, from, end);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn copy_by_hand(source: &OwnedFd, target: &OwnedFd, start: u64, end: u64) -> Result<(), Errno> {
    use std::os::unix::fs::FileExt;
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let source = File::from(source.try_clone().map_err(errno)?);
    let target = File::from(target.try_clone().map_err(errno)?);
    let mut buffer = vec![0; 128 * 1024];
    let mut offset = start;
    while offset < end {
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let read = source
            .read_at(&mut buffer[..wanted], offset)
            .map_err(errno)?;
        if read == 0 {
            break;
        }
        target
            .write_all_at(&buffer[..read], offset)
            .map_err(errno)?;
        offset += read as u64;
    }
    Ok(())
}

/// Owner, mode, attributes and times of what must not be opened. It was made
/// just now under this name, so there is no link to follow.
fn by_name(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    status: &Stat,
) -> Result<(), Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), flags)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    for (attribute, value) in attribute::of_named(from, name)? {
        match attribute::set_named(to, name, &attribute, &value) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::fs::utimensat(to, name, &times(status), flags)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixture::{directory, privileged};
    use rustix::fs::XattrFlags;
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn copied(from: &Path) -> tempfile::TempDir {
        let to = tempfile::tempdir_in(from.parent().unwrap()).unwrap();
        super::tree(directory(from), directory(to.path())).unwrap();
        to
    }

    #[test]
    fn a_copy_has_everything_the_tree_has() {
        if !privileged() {
            return;
        }
        let from = tempfile::tempdir().unwrap();
        let path = |name: &str| from.path().join(name);
        fs::create_dir_all(path("a/b/empty")).unwrap();
        fs::write(path("a/file"), "content").unwrap();
        fs::hard_link(path("a/file"), path("a/b/again")).unwrap();
        fs::set_permissions(path("a/file"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("../nowhere", path("a/link")).unwrap();
        std::os::unix::fs::lchown(path("a/link"), Some(7), Some(8)).unwrap();
        let device = rustix::fs::makedev(1, 3);
        let root = directory(from.path());
        let kind = FileType::CharacterDevice;
        rustix::fs::mknodat(&root, "null", kind, Mode::from_raw_mode(0o666), device).unwrap();
        rustix::fs::mknodat(&root, "pipe", FileType::Fifo, Mode::RUSR, 0).unwrap();
        let set = |path: &Path, name: &str, value: &[u8]| {
            rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
        };
        set(&path("a/file"), "trusted.of-file", b"x");
        set(&path("a"), "trusted.of-directory", b"y");
        set(&path("a/link"), "trusted.of-link", b"z");
        set(&path("a/b"), "trusted.overlay.opaque", b"y");
        fs::set_permissions(path("a/b"), fs::Permissions::from_mode(0o1777)).unwrap();
        let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        fs::File::open(path("a/b")).unwrap().set_times(old).unwrap();
        fs::File::open(path("a/file"))
            .unwrap()
            .set_times(old)
            .unwrap();

        let to = copied(from.path());
        let status = |name: &str| fs::symlink_metadata(to.path().join(name)).unwrap();
        for name in ["a", "a/b", "a/b/empty", "a/file", "a/link", "null", "pipe"] {
            let (one, other) = (fs::symlink_metadata(path(name)).unwrap(), status(name));
            assert_eq!(
                (
                    one.mode(),
                    one.uid(),
                    one.gid(),
                    one.rdev(),
                    one.mtime_nsec()
                ),
                (
                    other.mode(),
                    other.uid(),
                    other.gid(),
                    other.rdev(),
                    other.mtime_nsec()
                ),
                "{name}"
            );
            assert_eq!(one.mtime(), other.mtime(), "{name}");
        }
        assert_eq!(status("a/file").ino(), status("a/b/again").ino());
        assert_eq!(fs::read(to.path().join("a/b/again")).unwrap(), b"content");
        let get = |name: &str, attribute: &str| {
            let mut value = [0u8; 16];
            rustix::fs::lgetxattr(to.path().join(name), attribute, &mut value[..])
                .map(|length| value[..length].to_vec())
        };
        assert_eq!(get("a/file", "trusted.of-file").unwrap(), b"x");
        assert_eq!(get("a", "trusted.of-directory").unwrap(), b"y");
        assert_eq!(get("a/link", "trusted.of-link").unwrap(), b"z");
        assert!(
            get("a/b", "trusted.overlay.opaque").is_err(),
            "a mark of overlays is no content"
        );
    }

    #[test]
    fn a_failed_copy_says_where_and_what_it_made() {
        let from = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            fs::write(from.path().join(name), name).unwrap();
        }
        fs::create_dir(from.path().join("sub")).unwrap();
        fs::write(from.path().join("sub/file"), "").unwrap();
        let to = tempfile::tempdir().unwrap();
        // Somebody else was quicker.
        fs::create_dir(to.path().join("sub")).unwrap();
        let mut made = Vec::new();
        let failed =
            tree_noting(directory(from.path()), directory(to.path()), &mut made).unwrap_err();
        assert_eq!((failed.path.as_str(), failed.source), ("sub", Errno::EXIST));
        made.sort();
        assert_eq!(made, [c"one".to_owned(), c"two".to_owned()]);
    }

    #[test]
    fn hard_links_do_not_go_through_a_link_that_somebody_put_there() {
        let temp = tempfile::tempdir().unwrap();
        let (host, target) = (temp.path().join("host"), temp.path().join("target"));
        fs::create_dir_all(&host).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(host.join("secret"), "x").unwrap();
        symlink(&host, target.join("sub")).unwrap();
        let top = directory(&target);
        let copy = Copy {
            top: top.try_clone().unwrap(),
            made: &mut Vec::new(),
            linked: HashMap::new(),
            reflink: true,
            path: Vec::new(),
        };
        let linked = copy.link(b"sub/secret", top.as_fd(), c"stolen");
        assert_eq!(linked, Err(Errno::LOOP));
        assert!(!target.join("stolen").exists());
    }

    #[test]
    fn holes_stay_holes() {
        let from = tempfile::tempdir().unwrap();
        let file = fs::File::create(from.path().join("sparse")).unwrap();
        file.write_all_at(b"middle", 8 << 20).unwrap();
        file.set_len(64 << 20).unwrap();
        fs::File::create(from.path().join("only-a-hole"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        let to = copied(from.path());
        let copy = fs::File::open(to.path().join("sparse")).unwrap();
        let mut read = [0; 6];
        copy.read_exact_at(&mut read, 8 << 20).unwrap();
        assert_eq!(&read, b"middle");
        let status = copy.metadata().unwrap();
        assert_eq!(status.len(), 64 << 20);
        assert!(status.blocks() * 512 < 1 << 20, "{}", status.blocks());
        let hole = fs::metadata(to.path().join("only-a-hole")).unwrap();
        assert_eq!((hole.len(), hole.blocks()), (1 << 30, 0));
    }

    #[test]
    fn a_tree_deeper_than_descriptors_and_paths_allow_is_copied() {
        let base = tempfile::tempdir().unwrap();
        let root = directory(base.path());
        for name in ["from", "to"] {
            rustix::fs::mkdirat(&root, name, Mode::RWXU).unwrap();
        }
        let mut current = tree::open_directory(&root, "from").unwrap();
        let depth = 3000;
        for _ in 0..depth {
            rustix::fs::mkdirat(&current, "d", Mode::RWXU).unwrap();
            current = tree::open_directory(&current, "d").unwrap();
        }
        drop(current);
        let open = |name| tree::open_directory(&root, name).unwrap();
        super::tree(open("from"), open("to")).unwrap();
        let mut seen = 0;
        tree::walk(open("to"), &mut |_| seen += 1).unwrap();
        assert_eq!(seen, depth);
        for name in [&b"from"[..], b"to"] {
            tree::remove(root.as_fd(), name).unwrap();
        }
    }
}
