//! A container's files as its processes see them, volumes and binds included,
//! as a descriptor that path walks start from.
//!
//! ```text
//! running      /proc/<pid>/root: the container's own mounts, no namespace entered
//! at rest      a mount of its layers; where it has volumes, in a mount namespace of nobody,
//!              made by a thread that ends, with the volumes put in their places
//! ```
//!
//! The root of one at rest that is written to is mounted once, however many
//! write to it, and a start that comes meanwhile takes the same mount: two
//! mounts of one writable layer would not see each other's changes. The mount
//! is kept for a start: of one that never ran until then, of the last few that
//! have ended. Letting it go writes out the file system it lies on, which is no
//! copy's business to wait for.
//!
//! Everything ends with its last descriptor, so a killed engine leaves nothing.

mod compose;

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use conex_layers::overlay::OverlayOptions;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::state::Phase;
use super::{Container, Record, mount};
use crate::engine::Inner;
use crate::{Error, ErrorKind};
use compose::Place;

/// How many containers that have ended keep the mount of their root.
const KEPT: usize = 32;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What is wanted of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// A container's files, for as long as this lives.
#[derive(Debug)]
pub(super) struct Files {
    root: Root,
    /// Kernel file systems of a running container, which are no files of its:
    /// by device and inode of their roots.
    pub(super) kernels: HashSet<(u64, u64)>,
}

#[derive(Debug)]
enum Root {
    /// A mount or a process's root, for this user alone.
    Own(OwnedFd),
    /// In a mount namespace, which lives as long as its descriptor.
    Composed(compose::Composed),
    /// Shared with others, maybe with a start.
    Shared(Arc<Prepared>),
}

/// The writable root of a container at rest.
#[derive(Debug)]
pub(crate) struct Prepared {
    root: OwnedFd,
    /// With volumes in their places: the namespace they are in, and another
    /// mount of the root alone for the start.
    namespace: Option<(OwnedFd, Mutex<Option<OwnedFd>>)>,
}

/// Who has the writable root of a container at rest.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    slot: Mutex<Slot>,
    started: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    used: Weak<Prepared>,
    /// For a start.
    kept: Option<Arc<Prepared>>,
    /// A start is on its way: whoever wants to write waits for its outcome.
    starting: bool,
}

impl Shared {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the mount go that waits for a start. Blocks, for the unmounting.
    pub(super) fn release(&self) {
        let kept = self.slot().kept.take();
        // Not under the lock.
        drop(kept);
    }
}

/// Containers that have ended and keep the mount of their root, the longest
/// first.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<VecDeque<Weak<Container>>>);

impl Kept {
    /// Adds one; gives back the one that is to let go instead.
    fn add(&self, container: &Arc<Container>) -> Option<Arc<Container>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(container)));
        kept.push_back(Arc::downgrade(container));
        let is_full = kept.len() > KEPT;
        is_full.then(|| kept.pop_front())??.upgrade()
    }
}

/// A start on its way, from before its root is mounted until its outcome shows
/// in the state.
pub(super) struct Starting(Arc<Container>);

impl Starting {
    pub(super) fn new(container: &Arc<Container>) -> Self {
        container.shared.slot().starting = true;
        Self(Arc::clone(container))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.shared.slot().starting = false;
        self.0.shared.started.notify_all();
    }
}

impl Files {
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        match &self.root {
            Root::Own(root) => root.as_fd(),
            Root::Composed(composed) => composed.root.as_fd(),
            Root::Shared(prepared) => prepared.root.as_fd(),
        }
    }
}

impl Inner {
    /// The files of a container, running or not. Blocks.
    ///
    /// Errors: conflict when it is being removed.
    pub(super) fn files(
        &self,
        container: &Arc<Container>,
        purpose: Purpose,
    ) -> Result<Files, Error> {
        loop {
            let state = container.state();
            if state.is_leaving() {
                return Err(Error::conflict(format!(
                    "container {} is marked for removal: its files cannot be reached",
                    container.id()
                )));
            }
            if state.is_running()
                && let Some(files) = live(&container.record, state.pid)?
            {
                return Ok(files);
            }
            let mut root = match purpose {
                Purpose::Read => self.root_to_read(container)?,
                Purpose::Write => None,
            };
            if root.is_none() {
                root = self.root_to_write(container)?.map(Root::Shared);
            }
            if let Some(root) = root {
                let kernels = HashSet::new();
                return Ok(Files { root, kernels });
            }
        }
    }

    /// `None` when there is no place for one of the volumes, which has to be
    /// made first.
    fn root_to_read(&self, container: &Arc<Container>) -> Result<Option<Root>, Error> {
        let record = &container.record;
        let view = self.view_of(record)?;
        let places = places(container);
        if places.is_empty() {
            return Ok(Some(Root::Own(view)));
        }
        let missing = places
            .iter()
            .any(|place| find(view.as_fd(), &place.destination, OFlags::PATH).is_err());
        if missing {
            return Ok(None);
        }
        let composed = self.composed(record, view, places, false)?;
        Ok(Some(Root::Composed(composed)))
    }

    /// Volumes that are file systems of their own are mounted for the moment:
    /// what is put in its place stays.
    fn composed(
        &self,
        record: &Record,
        root: OwnedFd,
        places: Vec<Place>,
        make: bool,
    ) -> Result<compose::Composed, Error> {
        let user = format!("files-{}", record.id);
        let mut mounted = Vec::new();
        let mut result = Ok(());
        for name in record.volume_names() {
            result = self.volumes.mount(name, &user);
            if result.is_err() {
                break;
            }
            mounted.push(name);
        }
        let composed = result.and_then(|()| {
            compose::compose(root, places, make)
                .map_err(|e| Error::system("put the container's volumes in their places", &e))
        });
        for name in mounted {
            self.volumes.unmount(name, &user);
        }
        composed
    }

    /// `None` when the container has been started meanwhile.
    fn root_to_write(&self, container: &Arc<Container>) -> Result<Option<Arc<Prepared>>, Error> {
        let mut slot = container.shared.slot();
        if slot.starting {
            let started = &container.shared.started;
            while slot.starting {
                slot = started.wait(slot).unwrap_or_else(PoisonError::into_inner);
            }
            return Ok(None);
        }
        if let Some(prepared) = slot.used.upgrade() {
            return Ok(Some(prepared));
        }
        let record = &container.record;
        mount::prepare(&record.mounts)?;
        let failed = |e: &dyn std::error::Error| Error::system("mount the container's root", e);
        let rootfs = self.driver.rootfs(&Inner::layer_id(&record.id));
        let rootfs = rootfs.map_err(|e| failed(&e))?;
        // Synced at its end even for a throw-away container: what was volatile
        // once cannot be mounted by the next engine.
        let root = rootfs
            .mount(OverlayOptions::default())
            .map_err(|e| failed(&e))?;
        let places = places(container);
        let prepared = if places.is_empty() {
            Prepared {
                root,
                namespace: None,
            }
        } else {
            let composed = self.composed(record, root, places, true)?;
            Prepared {
                root: composed.root,
                namespace: Some((composed.namespace, Mutex::new(composed.spare))),
            }
        };
        let prepared = Arc::new(prepared);
        slot.used = Arc::downgrade(&prepared);
        slot.kept = Some(Arc::clone(&prepared));
        drop(slot);
        if container.state().phase != Phase::Created
            && let Some(oldest) = self.kept_roots.add(container)
        {
            // Behind the answer: see above.
            tokio::task::spawn_blocking(move || oldest.shared.release());
        }
        Ok(Some(prepared))
    }

    /// All of a container's layers, read-only and without its volumes. Blocks.
    pub(super) fn view_of(&self, record: &Record) -> Result<OwnedFd, Error> {
        let failed = |e: &dyn std::error::Error| Error::system("mount the container's root", e);
        let rootfs = self.driver.rootfs(&Inner::layer_id(&record.id));
        let rootfs = rootfs.map_err(|e| failed(&e))?;
        rootfs.view().map_err(|e| failed(&e))
    }

    /// The root for a start, if somebody has it mounted already. Blocks.
    pub(super) fn shared_root(&self, container: &Container) -> Result<Option<OwnedFd>, Error> {
        let (kept, used) = {
            let mut slot = container.shared.slot();
            (slot.kept.take(), slot.used.upgrade())
        };
        let Some(prepared) = kept.or(used) else {
            return Ok(None);
        };
        match &prepared.namespace {
            Some((_, spare)) => Ok(spare.lock().unwrap_or_else(PoisonError::into_inner).take()),
            None => rustix::io::fcntl_dupfd_cloexec(&prepared.root, 0)
                .map(Some)
                .map_err(|e| Error::system("share the container's root", &e)),
        }
    }
}

/// Through the root of the container's first process; `None` when it has just
/// ended.
fn live(record: &Record, pid: i32) -> Result<Option<Files>, Error> {
    let root = match root_of(record, pid) {
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        root => root.map_err(|e| Error::system("reach the container's files", &e))?,
    };
    let kernels = kernels(record, root.as_fd());
    let root = Root::Own(root);
    Ok(Some(Files { root, kernels }))
}

/// `ESRCH` when the process is not the container's.
fn root_of(record: &Record, pid: i32) -> Result<OwnedFd, Errno> {
    let process = rustix::fs::open(format!("/proc/{pid}"), DIRECTORY, Mode::empty())?;
    // The number may be another's by now; the descriptor is one process's.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut cgroup = File::from(rustix::fs::openat(
        &process,
        "cgroup",
        flags,
        Mode::empty(),
    )?);
    let mut text = String::new();
    cgroup
        .read_to_string(&mut text)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    if !text.contains(&record.id) {
        return Err(Errno::SRCH);
    }
    rustix::fs::openat(&process, "root", DIRECTORY, Mode::empty())
}

/// `/proc`, `/sys` and `/dev`, unless the user put something else there.
fn kernels(record: &Record, root: BorrowedFd<'_>) -> HashSet<(u64, u64)> {
    let own_mount = mount_id(root);
    let is_users = |path: &str| record.mounts.iter().any(|m| m.destination == path);
    ["/proc", "/sys", "/dev"]
        .into_iter()
        .filter(|path| !is_users(path))
        .filter_map(|path| {
            let opened = find(root, path, DIRECTORY | OFlags::NOFOLLOW).ok()?;
            let status = rustix::fs::fstat(&opened).ok()?;
            let mounted = mount_id(opened.as_fd()) != own_mount;
            mounted.then_some((status.st_dev, status.st_ino))
        })
        .collect()
}

/// Which mount something lies on; `None` where the kernel does not tell.
pub(super) fn mount_id(file: BorrowedFd<'_>) -> Option<u64> {
    let status = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    Some(status.stx_mnt_id)
}

/// Opens a path below a root, its links resolved inside.
pub(super) fn find(
    root: BorrowedFd<'_>,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Some rename or mount on the machine crossed a "..".
            Err(Errno::AGAIN) if tries < 64 => tries += 1,
            result => return result,
        }
    }
}

/// What belongs over a container's root when it does not run: its volumes and
/// binds, and the files that the engine wrote for its last run.
fn places(container: &Container) -> Vec<Place> {
    let record = &container.record;
    let mut places: Vec<Place> = record
        .mounts
        .iter()
        .filter(|m| matches!(m.kind.as_str(), "bind" | "volume"))
        .map(|m| Place {
            source: m.source.clone().into(),
            beneath: record.subpath(&m.destination).map(PathBuf::from),
            destination: m.destination.clone().into(),
            is_writable: m.rw,
        })
        .collect();
    for file in ["hosts", "hostname", "resolv.conf"] {
        let (source, destination) = (container.dir.join(file), Path::new("/etc").join(file));
        let taken = places.iter().any(|place| place.destination == destination);
        if !taken && source.exists() {
            places.push(Place {
                source,
                beneath: None,
                destination,
                is_writable: !record.host_config.readonly_rootfs,
            });
        }
    }
    places.sort_by_key(|place| place.destination.components().count());
    places
}

/// Refuses to write where the container itself could not (COMPAT D1.19).
pub(super) fn check_writable(
    record: &Record,
    root: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
) -> Result<(), Error> {
    let failed = |e: Errno| Error::system("examine the container's files", &e);
    let forbidden = |text: &str| Err(Error::new(ErrorKind::Forbidden, text));
    let on_root = mount_id(root) == mount_id(directory);
    if on_root && record.host_config.readonly_rootfs {
        return forbidden("container rootfs is marked read-only");
    }
    let status = rustix::fs::fstatvfs(directory).map_err(failed)?;
    if status
        .f_flag
        .contains(rustix::fs::StatVfsMountFlags::RDONLY)
    {
        return forbidden("mounted volume is marked read-only");
    }
    Ok(())
}
