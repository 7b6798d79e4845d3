//! Names of an archive to places in the tree: cleaning them, reaching their
//! parent directories, making the ones that are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timestamps};
use rustix::io::Errno;

use super::Whiteouts;
use crate::{metadata, tree};

/// A name with `.`, `..`, doubled and outer slashes taken out; the root is
/// empty. `None` when it leads above the root. Resolved as text like Docker
/// does: in an absolute name `..` stops at the root, in a relative one it is an
/// escape.
pub(crate) fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let absolute = path.starts_with(b"/");
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if components.pop().is_none() && !absolute {
                    return None;
                }
            }
            name => components.push(name),
        }
    }
    Some(components.join(&b'/'))
}

/// Directory and last component of a cleaned name that is not the root.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Whether `path` is below `directory`.
pub(crate) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| directory.is_empty() || rest.starts_with(b"/"))
}

/// The tree that is being filled. Paths are cleaned ones.
#[derive(Debug)]
pub(super) struct Place {
    root: OwnedFd,
    /// Whether whiteouts are devices here and directories can be opaque.
    overlay: bool,
    /// Archives go directory by directory, so the last parent is mostly the
    /// next one too.
    last: Option<(Vec<u8>, OwnedFd)>,
    implied: BTreeSet<Vec<u8>>,
    root_described: bool,
    /// Times of directories that were there before and get something put into
    /// them or taken out, in a layer that began as a copy of its parent.
    found: Option<BTreeMap<Vec<u8>, Timestamps>>,
}

impl Place {
    pub(super) fn new(root: OwnedFd, whiteouts: Whiteouts) -> Self {
        Self {
            root,
            overlay: whiteouts == Whiteouts::Overlay,
            found: (whiteouts == Whiteouts::Apply).then(BTreeMap::new),
            last: None,
            implied: BTreeSet::new(),
            root_described: false,
        }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Notes that the archive itself describes this directory.
    pub(super) fn described(&mut self, path: &[u8]) {
        self.implied.remove(path);
        self.root_described |= path.is_empty();
    }

    pub(super) fn implied_directories(&mut self) -> Vec<Vec<u8>> {
        if !self.root_described {
            self.implied.insert(Vec::new());
        }
        std::mem::take(&mut self.implied).into_iter().collect()
    }

    /// A descriptor of the directory (`O_PATH`), made with the ones above it
    /// where missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        if path.is_empty() {
            self.note(path)?;
            return Ok(self.root.as_fd());
        }
        let known = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !known {
            let opened = match self.existing(path) {
                Err(Errno::NOENT | Errno::NOTDIR) => self.make(path)?,
                result => {
                    let opened = result?;
                    self.note(path)?;
                    opened
                }
            };
            self.last = Some((path.to_vec(), opened));
        }
        let (_, directory) = self.last.as_ref().expect("set above");
        Ok(directory.as_fd())
    }

    /// Keeps a directory's times before something changes them.
    fn note(&mut self, path: &[u8]) -> Result<(), Errno> {
        if self.found.as_ref().is_none_or(|f| f.contains_key(path)) || self.implied.contains(path) {
            return Ok(());
        }
        let times = metadata::times(&rustix::fs::fstat(self.existing(path)?)?);
        if let Some(found) = &mut self.found {
            found.insert(path.to_vec(), times);
        }
        Ok(())
    }

    /// Gives directories that were there before their times back: what the
    /// archive says of one comes after this.
    pub(super) fn restore_times(&mut self) -> Result<(), Errno> {
        for (path, times) in self.found.take().unwrap_or_default() {
            let directory = match self.existing(&path) {
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                result => tree::open_directory(result?, c".")?,
            };
            rustix::fs::futimens(directory, &times)?;
        }
        Ok(())
    }

    /// The directory if it is there, through symbolic links inside the root.
    pub(super) fn existing(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Some rename or mount on the machine crossed a "..".
                Err(Errno::AGAIN) if tries < 64 => tries += 1,
                result => return result,
            }
        }
    }

    /// Makes a directory and the ones above it that are missing.
    fn make(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let ends = (0..path.len())
            .filter(|index| path[*index] == b'/')
            .chain([path.len()]);
        let mut parent = self.existing(b"")?;
        for end in ends {
            let prefix = &path[..end];
            let (_, name) = split(prefix);
            parent = match self.existing(prefix) {
                Ok(directory) => {
                    self.note(prefix)?;
                    directory
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    make_directory(parent.as_fd(), name, self.overlay)?;
                    let made = self.existing(prefix)?;
                    set_mode(parent.as_fd(), name, 0o755)?;
                    self.implied.insert(prefix.to_vec());
                    made
                }
                Err(error) => return Err(error),
            };
        }
        Ok(parent)
    }

    /// Removes whatever is at that name, and forgets what was known below.
    pub(super) fn clear(&mut self, parent: &[u8], name: &[u8]) -> Result<(), Errno> {
        let directory = self.existing(parent)?;
        self.note(parent)?;
        self.forget(parent, name);
        tree::remove(directory.as_fd(), name)
    }

    fn forget(&mut self, parent: &[u8], name: &[u8]) {
        // A symbolic link that led to a known directory may be what goes.
        self.last = None;
        let path = join(parent, name);
        self.implied
            .retain(|implied| *implied != path && !is_below(implied, &path));
    }
}

pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        name.to_vec()
    } else {
        [parent, b"/", name].concat()
    }
}

/// Makes a directory. In an overlay layer it may take the place of a whiteout
/// and is then opaque, since what it hid must stay hidden. `EEXIST` for
/// anything else in its place.
pub(super) fn make_directory(
    parent: BorrowedFd<'_>,
    name: &[u8],
    overlay: bool,
) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) if overlay && is_whiteout(parent, name)? => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            set_opaque(tree::open_directory(parent, name)?.as_fd())
        }
        result => result,
    }
}

pub(super) fn kind(parent: BorrowedFd<'_>, name: &[u8]) -> Result<FileType, Errno> {
    let status = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(status.st_mode))
}

fn is_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let status = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let device = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice;
    Ok(device && status.st_rdev == 0)
}

/// Hides what lower layers have in the directory, opened for reading.
pub(super) fn set_opaque(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fsetxattr(
        directory,
        "trusted.overlay.opaque",
        b"y",
        rustix::fs::XattrFlags::empty(),
    )
}

/// Sets the mode of a directory just made, which the umask had cut.
fn set_mode(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<(), Errno> {
    let directory = tree::open_directory(parent, name)?;
    rustix::fs::fchmod(directory, Mode::from_raw_mode(mode))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_cleaned_as_docker_cleans_them() {
        for (name, clean_name) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/a", "a"),
            ("a/../b", "b"),
            ("a/..", ""),
            ("/../../a", "a"),
            (".", ""),
            ("", ""),
            ("/", ""),
            ("..a/...", "..a/..."),
        ] {
            let cleaned = clean(name.as_bytes()).unwrap();
            assert_eq!(cleaned, clean_name.as_bytes(), "{name}");
        }
        for name in ["..", "../a", "a/../..", "a/../../b", "./.."] {
            assert_eq!(clean(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn being_below_is_by_components() {
        assert!(is_below(b"a/b", b"a"));
        assert!(is_below(b"a", b""));
        assert!(!is_below(b"ab", b"a"));
        assert!(!is_below(b"a", b"a"));
    }
}
