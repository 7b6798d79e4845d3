//! Putting volumes in their places over a root that no process has: in a mount
//! namespace made by a thread of its own, whose descriptor keeps it alive.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags};
use rustix::thread::UnshareFlags;

use super::find;

/// `MOUNT_ATTR_RDONLY` of linux/mount.h.
const READ_ONLY: u64 = 1;

/// Something of the host over a place of the container.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) source: PathBuf,
    /// The part of the source that is there, if it is not all of it.
    pub(super) beneath: Option<PathBuf>,
    pub(super) destination: PathBuf,
    pub(super) is_writable: bool,
}

/// A root with everything in its place.
#[derive(Debug)]
pub(super) struct Composed {
    pub(super) root: OwnedFd,
    /// Without it the mounts over the root would go.
    pub(super) namespace: OwnedFd,
    /// Another mount of the root, alone and attached nowhere, for a root that
    /// is written to.
    pub(super) spare: Option<OwnedFd>,
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub(super) struct Fault {
    action: &'static str,
    path: PathBuf,
    source: Errno,
}

/// Puts each of `places`, the shallow first, over the detached mount `root`;
/// where `make` says so, places that are missing are made in it.
pub(super) fn compose(root: OwnedFd, places: Vec<Place>, make: bool) -> Result<Composed, Fault> {
    // Never on a thread that does something else afterwards: it stays in the
    // new namespace to its end.
    let thread = std::thread::Builder::new()
        .name("compose-root".to_owned())
        .spawn(move || in_own_namespace(root, &places, make));
    let failed = |source| Fault {
        action: "start a thread for",
        path: "/".into(),
        source,
    };
    thread
        .map_err(|_| failed(Errno::AGAIN))?
        .join()
        .unwrap_or_else(|_| Err(failed(Errno::IO)))
}

fn in_own_namespace(root: OwnedFd, places: &[Place], make: bool) -> Result<Composed, Fault> {
    let fault = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Fault {
            action,
            path,
            source,
        }
    };
    let top = Path::new("/");
    let kinds = UnshareFlags::NEWNS.bits().cast_signed();
    conex_sys::process::unshare(kinds).map_err(fault("make a mount namespace for", top))?;
    // What the host unmounts is to be free here too.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).map_err(fault("cut the mounts off", top))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = "/proc/thread-self/ns/mnt";
    let namespace =
        rustix::fs::open(own, flags, Mode::empty()).map_err(fault("open", Path::new(own)))?;
    // Before the root covers something of the host.
    let trees = places
        .iter()
        .map(|place| tree(place).map_err(fault("clone the mount of", &place.source)))
        .collect::<Result<Vec<_>, _>>()?;
    // Any directory can carry it; /proc is known to be there.
    attach(root.as_fd(), CWD, "/proc").map_err(fault("attach the root at", Path::new("/proc")))?;
    for (place, tree) in places.iter().zip(&trees) {
        let at = &place.destination;
        let target = match find(root.as_fd(), at, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) if make => {
                make_place(root.as_fd(), at, tree.as_fd()).map_err(fault("make", at))?
            }
            result => result.map_err(fault("find", at))?,
        };
        attach(tree.as_fd(), target.as_fd(), "").map_err(fault("mount over", at))?;
    }
    let spare = match make {
        true => {
            let clone = conex_sys::mount::clone_tree(&root, c"", false);
            Some(clone.map_err(fault("clone the mount of", top))?)
        }
        false => None,
    };
    Ok(Composed {
        root,
        namespace,
        spare,
    })
}

fn tree(place: &Place) -> Result<OwnedFd, Errno> {
    let tree = match &place.beneath {
        Some(beneath) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let base = rustix::fs::open(&place.source, flags, Mode::empty())?;
            conex_sys::mount::clone_beneath(base, beneath, true)?
        }
        None => {
            let path = place.source.as_os_str().as_bytes();
            let path = CString::new(path).map_err(|_| Errno::INVAL)?;
            conex_sys::mount::clone_tree(CWD, &path, true)?
        }
    };
    let set = if place.is_writable { 0 } else { READ_ONLY };
    let private = u64::from(MountPropagationFlags::PRIVATE.bits());
    conex_sys::mount::set_attributes(tree.as_fd(), set, 0, private, true)?;
    Ok(tree)
}

fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    rustix::mount::move_mount(tree, "", at, path, flags)
}

/// Makes the place for a mount as a start would: a directory for a directory,
/// an empty file for anything else.
fn make_place(root: BorrowedFd<'_>, path: &Path, source: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let status = rustix::fs::fstat(source)?;
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    let mut parent = find(root, "/", OFlags::PATH | OFlags::DIRECTORY)?;
    let mut so_far = PathBuf::from("/");
    let names: Vec<_> = path.components().skip(1).collect();
    for (index, name) in names.iter().enumerate() {
        so_far.push(name);
        let is_last = index + 1 == names.len();
        parent = match find(root, &so_far, OFlags::PATH) {
            Err(Errno::NOENT) if is_last && !is_directory => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&parent, name.as_os_str(), flags, Mode::from_raw_mode(0o755))?;
                find(root, &so_far, OFlags::PATH)?
            }
            Err(Errno::NOENT) => {
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::mkdirat(&parent, name.as_os_str(), mode)?;
                find(root, &so_far, OFlags::PATH)?
            }
            result => result?,
        };
    }
    Ok(parent)
}
