//! A path as a client writes it: what it names, and whether a link at its end
//! is followed. Go's `path.Clean` and moby's rules for a trailing `/` and `/.`.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use crate::container::files::find;
use crate::container::mount;

/// Most links that are followed to tell where one leads; the kernel's is 40.
const MAX_LINKS: usize = 40;

/// A path that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Absolute, without `.`, `..` and doubled slashes.
    path: Vec<u8>,
    /// Whether it ended in `/` or `/.`: then it is a directory, and a link to
    /// one is followed.
    pub(super) is_directory: bool,
    /// Whether it ended in `.`.
    is_content: bool,
}

impl Wanted {
    pub(super) fn new(path: &str) -> Self {
        let is_content = path == "." || path.ends_with("/.");
        let is_directory = is_content || path.ends_with('/');
        Self {
            path: mount::clean(path).into_bytes(),
            is_directory,
            is_content,
        }
    }

    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// What it is called in an archive: Go's `filepath.Base`.
    pub(super) fn name(&self) -> &[u8] {
        match (self.is_content, self.split().1) {
            (true, _) => b".",
            (false, b"") => b"/",
            (false, name) => name,
        }
    }

    /// Its directory and its last component.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        let at = self.path.iter().rposition(|byte| *byte == b'/');
        let at = at.expect("a cleaned path is absolute");
        let (parent, name) = (&self.path[..at], &self.path[at + 1..]);
        (if parent.is_empty() { b"/" } else { parent }, name)
    }
}

/// Where a link leads in the end, as a path from the root: as far as things
/// exist by what they are, from there on by the text.
pub(super) fn target(root: BorrowedFd<'_>, link: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut done: Vec<Vec<u8>> = Vec::new();
    let components = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/');
        parts.rev().map(<[u8]>::to_vec).collect()
    };
    let mut left = components(link);
    let mut links = 0;
    while let Some(name) = left.pop() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => {}
        }
        let parent = [b"/", done.join(&b'/').as_slice()].concat();
        let text = find(root, &*parent, OFlags::PATH | OFlags::DIRECTORY).and_then(|parent| {
            let status = rustix::fs::statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(status.st_mode) {
                FileType::Symlink => rustix::fs::readlinkat(&parent, &*name, Vec::new()).map(Some),
                _ => Ok(None),
            }
        });
        match text {
            Ok(Some(text)) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let text = text.into_bytes();
                if text.starts_with(b"/") {
                    done.clear();
                }
                left.extend(components(&text));
            }
            Ok(None) | Err(Errno::NOENT | Errno::NOTDIR) => done.push(name),
            Err(error) => return Err(error),
        }
    }
    Ok([b"/", done.join(&b'/').as_slice()].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_end_of_a_path_says_what_is_meant() {
        for (text, path, name, is_directory) in [
            ("/etc/passwd", "/etc/passwd", "passwd", false),
            ("etc//x/../passwd", "/etc/passwd", "passwd", false),
            ("/etc/", "/etc", "etc", true),
            ("/etc/.", "/etc", ".", true),
            ("/", "/", "/", true),
            ("/.", "/", ".", true),
            (".", "/", ".", true),
            ("../..", "/", "/", false),
        ] {
            let wanted = Wanted::new(text);
            assert_eq!(wanted.path(), path.as_bytes(), "{text}");
            assert_eq!(wanted.name(), name.as_bytes(), "{text}");
            assert_eq!(wanted.is_directory, is_directory, "{text}");
        }
        assert_eq!(Wanted::new("/a/b").split(), (&b"/a"[..], &b"b"[..]));
        assert_eq!(Wanted::new("/a").split(), (&b"/"[..], &b"a"[..]));
    }

    #[test]
    fn a_link_is_followed_to_its_end_inside_the_root() {
        let temporary = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(temporary.path()).unwrap();
        let at = |path: &str| temporary.path().join(path);
        std::fs::create_dir_all(at("a/b")).unwrap();
        symlink("/a/b", at("absolute")).unwrap();
        symlink("../../../a", at("a/b/up")).unwrap();
        symlink("absolute/up/b", at("chain")).unwrap();
        symlink("nowhere/../else", at("dangling")).unwrap();
        symlink("turning", at("turning")).unwrap();
        let told = |path: &str| {
            target(root.as_fd(), path.as_bytes()).map(|path| String::from_utf8(path).unwrap())
        };
        assert_eq!(told("/absolute").unwrap(), "/a/b");
        assert_eq!(told("/a/b/up").unwrap(), "/a");
        assert_eq!(told("/chain").unwrap(), "/a/b");
        assert_eq!(told("/dangling").unwrap(), "/else");
        assert_eq!(told("/turning"), Err(Errno::LOOP));
    }
}
