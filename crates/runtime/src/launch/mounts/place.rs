//! Where a mount's destination is, when links of the image lead to something
//! that is not there: `/etc/resolv.conf` → `../run/resolv.conf` without `/run`.
//! What exists is left to the kernel.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat};
use rustix::io::Errno;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// The path a destination stands for, without dangling links.
///
/// `covered` paths are those below an earlier mount, where the image's own
/// links are out of sight. A loop of links is returned as it is, for the
/// kernel to refuse.
pub(super) fn find(root: &OwnedFd, destination: &Path, covered: impl Fn(&Path) -> bool) -> PathBuf {
    if covered(destination)
        || !matches!(open(root, destination, OFlags::empty()), Err(Errno::NOENT))
    {
        return destination.to_owned();
    }
    walk(root, destination, covered).unwrap_or_else(|| destination.to_owned())
}

fn walk(root: &OwnedFd, destination: &Path, covered: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut rest: VecDeque<OsString> = names(destination).collect();
    let mut found = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            found.pop();
            continue;
        }
        let next = found.join(&name);
        match link(root, &next).filter(|_| !covered(&next)) {
            None => found = next,
            Some(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                if target.is_absolute() {
                    found = PathBuf::from("/");
                }
                for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(name);
                }
            }
        }
    }
    Some(found)
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// What a link says; `None` for anything else.
fn link(root: &OwnedFd, path: &Path) -> Option<PathBuf> {
    let found = open(root, path, OFlags::NOFOLLOW).ok()?;
    if FileType::from_raw_mode(fstat(&found).ok()?.st_mode) != FileType::Symlink {
        return None;
    }
    let target = readlinkat(&found, c"", Vec::new()).ok()?;
    Some(OsString::from_vec(target.into_bytes()).into())
}

fn open(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, relative, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_dangling_link_stands_for_where_it_leads_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../run/x/resolv.conf", dir.path().join("etc/resolv.conf")).unwrap();
        symlink("/var/none", dir.path().join("abs")).unwrap();
        symlink("../../../../out", dir.path().join("etc/up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        symlink("/etc", dir.path().join("there")).unwrap();
        let root = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        let cases = [
            ("/etc/resolv.conf", "/run/x/resolv.conf"),
            ("/abs/below", "/var/none/below"),
            ("/etc/up", "/out"),
            ("/loop", "/loop"),
            ("/there", "/there"),
            ("/new/dir", "/new/dir"),
        ];
        for (destination, expected) in cases {
            let found = find(&root, Path::new(destination), |_| false);
            assert_eq!(found, Path::new(expected), "{destination}");
        }
        let covered = |path: &Path| path.starts_with("/abs");
        assert_eq!(
            find(&root, Path::new("/abs/x"), covered),
            Path::new("/abs/x")
        );
    }
}
