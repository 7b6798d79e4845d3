//! Copying a directory of an image with owner, mode, times, attributes, links and
//! device nodes. It must not know images, nor what a volume is.
//!
//! *Invariant*: the source is found by `openat2(RESOLVE_IN_ROOT)` and walked by
//! descriptors without following a link, since every name in it is the image's.
//!
//! Source: moby `daemon/container_operations_unix.go` (copyExistingContents).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use crate::Error;

/// Two descriptors are open for each directory on the way down.
const MAX_DEPTH: usize = 200;

const OPEN_DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The directory of an image at a path; `None` where it has nothing.
///
/// Errors: invalid parameter where the image has a file, which no volume can
/// cover.
pub(super) fn source(
    image_root: BorrowedFd<'_>,
    path_in_image: &Path,
) -> Result<Option<OwnedFd>, Error> {
    let path = path_in_image.display();
    let relative = path_in_image.strip_prefix("/").unwrap_or(path_in_image);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(image_root, relative, flags, Mode::empty(), resolve) {
        Ok(source) => Ok(Some(source)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR) => Err(Error::invalid(format!(
            "cannot mount volume over existing file, file exists {path}"
        ))),
        Err(error) => Err(Error::system(&format!("open {path} of the image"), &error)),
    }
}

/// Copies what is in a directory, and what it says of itself, into another. On
/// an error what was copied is taken out again.
pub(super) fn into(source: &OwnedFd, target_dir: &Path) -> Result<(), Fault> {
    let (mut copy, target) = Copy::new(target_dir)?;
    copy.directory(source, &target, Path::new(""), 0)
        .inspect_err(|_| take_out(target_dir, &copy.made))
}

/// What came so far goes, so that the next container tries again; what a
/// running container put there meanwhile is its own.
fn take_out(volume_dir: &Path, made: &[CString]) {
    for name in made {
        let path = volume_dir.join(OsStr::from_bytes(name.to_bytes()));
        let removed = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "left in the volume");
        }
    }
}

/// Where in the tree it failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub(super) struct Fault {
    path: PathBuf,
    source: io::Error,
}

impl Fault {
    fn at(path: &Path) -> impl Fn(Errno) -> Fault {
        move |errno| Fault {
            path: path.to_owned(),
            source: errno.into(),
        }
    }
}

/// A copy under way.
struct Copy {
    /// The volume, from which hard links are made.
    top: OwnedFd,
    /// First names of files that have several.
    linked: HashMap<(u64, u64), PathBuf>,
    /// What was made in the volume's top directory.
    made: Vec<CString>,
}

impl Copy {
    fn new(volume_dir: &Path) -> Result<(Copy, OwnedFd), Fault> {
        let open =
            || rustix::fs::open(volume_dir, OPEN_DIR, Mode::empty()).map_err(Fault::at(volume_dir));
        Ok((
            Copy {
                top: open()?,
                linked: HashMap::new(),
                made: Vec::new(),
            },
            open()?,
        ))
    }

    /// Fills `target`, then gives it what `source` says of itself: making
    /// something in a directory changes its time.
    fn directory(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<(), Fault> {
        let failed = Fault::at(path);
        if depth > MAX_DEPTH {
            return Err(failed(Errno::LOOP));
        }
        for name in names(source).map_err(&failed)? {
            self.entry(source, target, &name, path, depth)?;
        }
        metadata(source.as_fd(), target.as_fd()).map_err(&failed)
    }

    fn entry(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &CStr,
        parent: &Path,
        depth: usize,
    ) -> Result<(), Fault> {
        let path = parent.join(OsStr::from_bytes(name.to_bytes()));
        let failed = Fault::at(&path);
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW).map_err(&failed)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let from =
                rustix::fs::openat(source, name, OPEN_DIR, Mode::empty()).map_err(&failed)?;
            rustix::fs::mkdirat(target, name, Mode::RWXU).map_err(&failed)?;
            self.note(name, depth);
            let to = rustix::fs::openat(target, name, OPEN_DIR, Mode::empty()).map_err(&failed)?;
            return self.directory(&from, &to, &path, depth + 1);
        }
        if stat.st_nlink > 1 {
            let known = self.linked.entry((stat.st_dev, stat.st_ino));
            match known {
                Entry::Occupied(first) => {
                    link(&self.top, first.get(), target, name).map_err(&failed)?;
                    self.note(name, depth);
                    return Ok(());
                }
                Entry::Vacant(first) => {
                    first.insert(path.clone());
                }
            }
        }
        match kind {
            FileType::RegularFile => copy_file(source, target, name),
            FileType::Symlink => copy_symlink(source, target, name, &stat),
            _ => copy_node(target, name, kind, &stat),
        }
        .inspect(|()| self.note(name, depth))
        .map_err(|source| Fault {
            path: path.clone(),
            source,
        })
    }

    fn note(&mut self, name: &CStr, depth: usize) {
        if depth == 0 {
            self.made.push(name.to_owned());
        }
    }
}

/// Another name for a file of the volume. A container that has the volume may
/// put links in the way, which are not followed.
fn link(top: &OwnedFd, first: &Path, target: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let (parent, file) = match (first.parent(), first.file_name()) {
        (Some(parent), Some(file)) if parent != Path::new("") => (parent, file),
        _ => return rustix::fs::linkat(top, first, target, name, AtFlags::empty()),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let parent = rustix::fs::openat2(top, parent, flags, Mode::empty(), resolve)?;
    rustix::fs::linkat(&parent, file, target, name, AtFlags::empty())
}

pub(super) fn names(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn copy_file(source: &OwnedFd, target: &OwnedFd, name: &CStr) -> io::Result<()> {
    // Without waiting, should a fifo have taken the file's place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = File::from(rustix::fs::openat(source, name, flags, Mode::empty())?);
    if !from.metadata()?.is_file() {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let to = File::from(rustix::fs::openat(target, name, flags, mode)?);
    // The image is an overlay, so copy_file_range(2) would be refused file by file.
    while rustix::fs::sendfile(&to, &from, None, 1 << 30)? > 0 {}
    Ok(metadata(from.as_fd(), to.as_fd())?)
}

fn copy_symlink(source: &OwnedFd, target: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let text = rustix::fs::readlinkat(source, name, Vec::new())?;
    rustix::fs::symlinkat(&text, target, name)?;
    Ok(copy_owner_and_times(target, name, stat)?)
}

fn copy_node(target: &OwnedFd, name: &CStr, kind: FileType, stat: &Stat) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)?;
    copy_owner_and_times(target, name, stat)?;
    // The umask took its part, and a change of owner takes set-id bits.
    Ok(rustix::fs::chmodat(target, name, mode, AtFlags::empty())?)
}

fn copy_owner_and_times(target: &OwnedFd, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(
        target,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

pub(super) fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Owner first: its change takes set-id bits and file capabilities away.
pub(super) fn metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(from)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_attributes(from, to)?;
    rustix::fs::futimens(to, &times(&stat))
}

/// Attributes of the union file system and the host's labels are not content.
fn is_content(name: &[u8]) -> bool {
    const FOREIGN: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];
    !name.is_empty() && !FOREIGN.iter().any(|foreign| name.starts_with(foreign))
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    // The kernel's own bound of a list and of a value.
    const MAX_BYTES: usize = 64 * 1024;
    let len = match rustix::fs::flistxattr_query(from) {
        // Most files have none, and the question is cheap.
        Ok(0) | Err(Errno::NOTSUP) => return Ok(()),
        Ok(len) => len.min(MAX_BYTES),
        Err(error) => return Err(error),
    };
    let mut list = vec![0u8; len];
    let len = rustix::fs::flistxattr(from, &mut *list)?;
    let mut value = vec![0u8; MAX_BYTES];
    for name in list[..len]
        .split(|byte| *byte == 0)
        .filter(|name| is_content(name))
    {
        let len = match rustix::fs::fgetxattr(from, name, &mut *value) {
            Err(Errno::NODATA) => continue,
            read => read?,
        };
        match rustix::fs::fsetxattr(to, name, &value[..len], XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// An image root with `/data` and a volume beside it.
    fn fixture() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let (image, volume) = (temp.path().join("image"), temp.path().join("volume"));
        fs::create_dir_all(image.join("data/sub/deeper")).unwrap();
        fs::create_dir(&volume).unwrap();
        (temp, image, volume)
    }

    fn copy(image: &Path, path: &str, volume: &Path) -> Result<(), Error> {
        let root = File::open(image).unwrap();
        match source(root.as_fd(), Path::new(path))? {
            Some(source) => into(&source, volume).map_err(|fault| Error::system("copy", &fault)),
            None => Ok(()),
        }
    }

    #[test]
    fn content_arrives_with_everything_it_says_of_itself() {
        let (_temp, image, volume) = fixture();
        let data = image.join("data");
        fs::write(data.join("sub/file"), "hello").unwrap();
        fs::set_permissions(data.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(data.join("sub/file"), data.join("sub/deeper/again")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        fs::set_permissions(data.join("sub"), fs::Permissions::from_mode(0o1770)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o2701)).unwrap();
        let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::open(data.join("sub"))
            .unwrap()
            .set_modified(then)
            .unwrap();
        File::open(data.join("sub/file"))
            .unwrap()
            .set_modified(then)
            .unwrap();
        let fifo = CString::new("pipe").unwrap();
        let dir = File::open(&data).unwrap();
        rustix::fs::mknodat(&dir, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();

        copy(&image, "/data", &volume).unwrap();

        let mode = |path: &str| {
            fs::symlink_metadata(volume.join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(
            fs::read_to_string(volume.join("sub/file")).unwrap(),
            "hello"
        );
        assert_eq!(
            (mode("sub/file"), mode("sub"), mode("")),
            (0o4751, 0o1770, 0o2701)
        );
        assert_eq!(mode("pipe"), 0o400);
        let inode = |path: &str| fs::symlink_metadata(volume.join(path)).unwrap().ino();
        assert_eq!(inode("sub/file"), inode("sub/deeper/again"));
        assert_eq!(
            fs::read_link(volume.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        for path in ["sub", "sub/file"] {
            assert_eq!(
                fs::metadata(volume.join(path)).unwrap().modified().unwrap(),
                then
            );
        }
    }

    #[test]
    fn a_missing_directory_is_nothing_and_a_file_cannot_be_covered() {
        let (_temp, image, volume) = fixture();
        fs::write(image.join("data/new"), "x").unwrap();
        fs::write(image.join("file"), "x").unwrap();
        copy(&image, "/none", &volume).unwrap();
        assert_eq!(
            copy(&image, "/file", &volume).unwrap_err().to_string(),
            "cannot mount volume over existing file, file exists /file"
        );
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    }

    #[test]
    fn a_link_of_the_image_does_not_lead_out_of_it() {
        let (temp, image, volume) = fixture();
        fs::create_dir(temp.path().join("host")).unwrap();
        fs::write(temp.path().join("host/secret"), "x").unwrap();
        symlink("../../host", image.join("out")).unwrap();
        symlink(temp.path().join("host"), image.join("absolute")).unwrap();
        symlink("data", image.join("inside")).unwrap();
        fs::write(image.join("data/file"), "x").unwrap();
        copy(&image, "/out", &volume).unwrap();
        copy(&image, "/absolute", &volume).unwrap();
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
        copy(&image, "/inside", &volume).unwrap();
        assert!(volume.join("file").exists());
    }

    #[test]
    fn a_failed_copy_takes_out_only_what_it_made() {
        let (_temp, _image, volume) = fixture();
        fs::write(volume.join("copied"), "x").unwrap();
        fs::create_dir(volume.join("tree")).unwrap();
        fs::write(volume.join("theirs"), "x").unwrap();
        take_out(
            &volume,
            &[c"copied".to_owned(), c"tree".to_owned(), c"gone".to_owned()],
        );
        let left: Vec<_> = fs::read_dir(&volume)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["theirs"]);
    }

    #[test]
    fn hard_links_do_not_go_through_a_link_of_the_container() {
        let (temp, _image, volume) = fixture();
        fs::create_dir(temp.path().join("host")).unwrap();
        fs::write(temp.path().join("host/secret"), "x").unwrap();
        symlink(temp.path().join("host"), volume.join("sub")).unwrap();
        let top = OwnedFd::from(File::open(&volume).unwrap());
        let linked = link(&top, Path::new("sub/secret"), &top, c"stolen");
        assert_eq!(linked, Err(Errno::LOOP));
        assert!(!volume.join("stolen").exists());
    }

    #[test]
    fn a_tree_without_end_is_refused_and_nothing_is_left() {
        let (_temp, image, volume) = fixture();
        let mut deep = image.join("data");
        for _ in 0..=MAX_DEPTH {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        assert!(copy(&image, "/data", &volume).is_err());
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    }
}
