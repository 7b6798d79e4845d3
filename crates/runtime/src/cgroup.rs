//! A container's cgroups: one directory in every hierarchy of the machine, under
//! one path, whatever the versions mounted. It must not know containers.
//!
//! ```text
//!  Layout::detect ──► Cgroup::create(path, resources)
//!      /sys/fs/cgroup/memory/<path>     version 1: limits; joined by a task that
//!      /sys/fs/cgroup/pids/<path>       writes "0" to each `tasks` (join_files)
//!      …
//!      /sys/fs/cgroup/unified/<path>    version 2: born into it (unified_dir);
//!                                       freeze, kill, populated
//! ```

mod cpu;
mod cpuset;
pub mod devices;
mod file;
mod freezer;
mod hugetlb;
mod io;
mod layout;
mod memory;
mod network;
mod pids;
mod rdma;
pub mod usage;
mod v1;
mod v2;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use conex_spec::runtime::Resources;
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;

use self::file::{Dir, Place};
use self::freezer::Freezer;
pub use self::layout::{Hierarchy, Layout, Mode, Unified};

/// How long a removal waits for the last process to end.
const REMOVAL_BOUND: Duration = Duration::from_secs(2);

/// Why a cgroup cannot be had as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No hierarchy of either version is mounted.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// The path is a hierarchy's root, or leads out of it.
    #[error("{0:?} is not a path of a container's cgroup")]
    InvalidPath(String),
    /// Processes are in it already.
    #[error("cgroup {0} is not empty")]
    Occupied(PathBuf),
    /// It is in no hierarchy.
    #[error("there is no cgroup {0:?}")]
    NotFound(String),
    /// A directory cannot be made.
    #[error("create cgroup {path}")]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A directory cannot be removed.
    #[error("remove cgroup {path}")]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why; `EBUSY` where a process is left in it.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file does not take a value.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A process cannot be killed.
    #[error("kill process {pid}")]
    Kill {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is asked for contradicts itself or cannot be in any kernel.
    #[error("{0}")]
    Invalid(String),
    /// More memory is in use than the new limit.
    #[error("unable to set memory limit to {limit_bytes} (current usage: {usage_bytes})")]
    MemoryInUse {
        /// The limit asked for.
        limit_bytes: i64,
        /// What is in use.
        usage_bytes: u64,
    },
    /// Device rules cannot be enforced.
    #[error("device access cannot be limited: no devices controller and no version 2 hierarchy")]
    NoDeviceController,
    /// The device program is refused.
    #[error("{action} the device program")]
    DeviceProgram {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: Errno,
    },
    /// Some task did not stop in time.
    #[error("cgroup {0} does not freeze")]
    NotFrozen(PathBuf),
}

/// A container's directories, one a hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    mode: Mode,
    legacy: Vec<(Hierarchy, PathBuf)>,
    unified: Option<UnifiedDir>,
}

#[derive(Debug)]
struct UnifiedDir {
    path: PathBuf,
    controllers: Vec<String>,
    fd: OwnedFd,
}

impl Cgroup {
    /// Makes a cgroup in every hierarchy and applies limits.
    ///
    /// The path is relative to each hierarchy's mount, as `/conex/<id>`. What
    /// the kernel cannot do is returned as warnings in Docker's words, except
    /// device rules, without which nothing is made. Errors: [`Error::Occupied`]
    /// where processes are in it; an empty one that is left over is taken.
    pub fn create(
        layout: &Layout,
        path: &str,
        resources: &Resources,
    ) -> Result<(Self, Vec<String>), Error> {
        let mut made = Vec::new();
        let created = Self::make(layout, path, resources, &mut made).and_then(|cgroup| {
            let warnings = cgroup.update(resources)?;
            Ok((cgroup, warnings))
        });
        if created.is_err() {
            for dir in made.iter().rev() {
                // What went wrong before is what counts.
                fs::remove_dir(dir).ok();
            }
        }
        created
    }

    fn make(
        layout: &Layout,
        path: &str,
        resources: &Resources,
        made: &mut Vec<PathBuf>,
    ) -> Result<Self, Error> {
        let mode = layout.mode();
        let mut legacy = Vec::with_capacity(layout.legacy.len());
        for hierarchy in &layout.legacy {
            let dir = layout::below(&hierarchy.mount, path)?;
            make_dir(&dir, made)?;
            if hierarchy.has("cpuset") {
                cpuset::inherit(&hierarchy.mount, &dir)?;
            }
            legacy.push((hierarchy.clone(), dir));
        }
        let unified = match &layout.unified {
            None => None,
            Some(unified) => {
                let dir = layout::below(&unified.mount, path)?;
                make_dir(&dir, made)?;
                let wanted = mode == Mode::Unified
                    || !resources.hugepage_limits.is_empty()
                    || !resources.unified.is_empty();
                if wanted {
                    v2::hand_down(&unified.mount, &dir, &unified.controllers)?;
                }
                Some(UnifiedDir::open(dir, unified)?)
            }
        };
        Ok(Self {
            mode,
            legacy,
            unified,
        })
    }

    /// Finds a cgroup that exists, in those hierarchies that have it.
    pub fn open(layout: &Layout, path: &str) -> Result<Self, Error> {
        let mut legacy = Vec::with_capacity(layout.legacy.len());
        for hierarchy in &layout.legacy {
            let dir = layout::below(&hierarchy.mount, path)?;
            if dir.is_dir() {
                legacy.push((hierarchy.clone(), dir));
            }
        }
        let unified = match &layout.unified {
            Some(unified) => {
                let dir = layout::below(&unified.mount, path)?;
                if dir.is_dir() {
                    Some(UnifiedDir::open(dir, unified)?)
                } else {
                    None
                }
            }
            None => None,
        };
        if legacy.is_empty() && unified.is_none() {
            return Err(Error::NotFound(path.to_owned()));
        }
        Ok(Self {
            mode: layout.mode(),
            legacy,
            unified,
        })
    }

    /// Which versions it is in.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Applies limits; what is absent stays as it is. Returns warnings as [`Cgroup::create`].
    pub fn update(&self, resources: &Resources) -> Result<Vec<String>, Error> {
        let mut warnings = Vec::new();
        let out = &mut warnings;
        cpuset::apply(self.place("cpuset"), resources, out)?;
        memory::apply(self.place("memory"), resources, out)?;
        cpu::apply(self.place("cpu"), resources, out)?;
        pids::apply(self.place("pids"), resources, out)?;
        let io = match self.place("blkio") {
            Place::Missing => self.place("io"),
            place => place,
        };
        io::apply(io, resources, out)?;
        hugetlb::apply(self.place("hugetlb"), resources, out)?;
        rdma::apply(self.place("rdma"), resources, out)?;
        let (class, priority) = (self.place("net_cls"), self.place("net_prio"));
        network::apply(class, priority, resources, out)?;
        devices::apply(self.place("devices"), self.unified_dir(), resources)?;
        self.write_unified(resources)?;
        Ok(warnings)
    }

    /// Files the first process, while it has one thread, writes "0" to, to be in version 1.
    ///
    /// None where there is version 2 only, which it is born into ([`Cgroup::unified_dir`]).
    pub fn join_files(&self) -> std::io::Result<Vec<OwnedFd>> {
        self.legacy
            .iter()
            .map(|(_, dir)| {
                let file = OpenOptions::new().write(true).open(dir.join("tasks"))?;
                Ok(file.into())
            })
            .collect()
    }

    /// The version 2 directory, for `CLONE_INTO_CGROUP`.
    pub fn unified_dir(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|unified| unified.fd.as_fd())
    }

    /// Every directory with the name its hierarchy has under /sys/fs/cgroup.
    ///
    /// `unified` for version 2 beside version 1, and an empty name for version 2 alone.
    pub fn hierarchies(&self) -> Vec<(String, PathBuf)> {
        let legacy = self
            .legacy
            .iter()
            .map(|(hierarchy, dir)| (hierarchy.name.clone(), dir.clone()));
        let name = match self.mode {
            Mode::Unified => "",
            Mode::Hybrid | Mode::Legacy => "unified",
        };
        let unified = self
            .unified
            .iter()
            .map(|unified| (name.to_owned(), unified.path.clone()));
        legacy.chain(unified).collect()
    }

    /// Stops every process; [`Error::NotFrozen`] where one could not be stopped in time.
    pub fn freeze(&self) -> Result<(), Error> {
        self.freezer().ok_or(Error::NotMounted)?.freeze()
    }

    /// Lets stopped processes go on.
    pub fn thaw(&self) -> Result<(), Error> {
        self.freezer().ok_or(Error::NotMounted)?.thaw()
    }

    /// Whether processes are stopped or being stopped.
    pub fn frozen(&self) -> Result<bool, Error> {
        self.freezer().map_or(Ok(false), |freezer| freezer.frozen())
    }

    /// Kills every process, the frozen too. Does not wait for their end.
    pub fn kill(&self) -> Result<(), Error> {
        if let Some(unified) = &self.unified
            && v2::kill(Dir(&unified.path))?
        {
            // Somebody else may have frozen it in version 1, where it would not die.
            return match self.place("freezer") {
                Place::V1(dir) => Freezer::V1(dir).thaw(),
                _ => Ok(()),
            };
        }
        match self.members() {
            Some(dir) => v1::kill(dir, self.freezer().as_ref()),
            None => Ok(()),
        }
    }

    /// The processes in it and below it, those of other pid namespaces left out.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        self.members()
            .map_or_else(|| Ok(Vec::new()), |dir| dir.pids())
    }

    /// Whether any process is in it or below it.
    pub fn is_populated(&self) -> Result<bool, Error> {
        match &self.unified {
            Some(unified) => {
                let populated = Dir(&unified.path).keyed("cgroup.events", "populated")?;
                Ok(populated != Some(0))
            }
            None => Ok(!self.pids()?.is_empty()),
        }
    }

    /// How many processes the out-of-memory killer has ended.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        memory::oom_kills(self.place("memory"))
    }

    /// A descriptor that tells when the out-of-memory killer strikes, and for what to wait on it;
    /// before each wait it is read to its end. `None` where nothing tells.
    pub fn oom_events(&self) -> std::io::Result<Option<(OwnedFd, PollFlags)>> {
        memory::oom_events(self.place("memory"))
    }

    /// Removes it from every hierarchy, with what is below it.
    ///
    /// Waits two seconds at most for processes that are ending; goes on after a
    /// failure and returns the first.
    pub fn remove(self) -> Result<(), Error> {
        let mut first = None;
        let mut waited = false;
        let dirs = self.hierarchies();
        for (_, dir) in dirs.iter().rev() {
            let mut result = remove_tree(dir);
            if let Err(Error::Remove { source, .. }) = &result
                && source.raw_os_error() == Some(Errno::BUSY.raw_os_error())
                && !waited
            {
                waited = true;
                // Without an answer the second try tells.
                self.wait_empty().ok();
                result = remove_tree(dir);
            }
            if let Err(error) = result {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn wait_empty(&self) -> Result<bool, Error> {
        match (&self.unified, self.members()) {
            (Some(unified), _) => v2::wait_event(Dir(&unified.path), "populated", 0, REMOVAL_BOUND),
            (None, Some(dir)) => v1::wait_empty(dir, REMOVAL_BOUND),
            (None, None) => Ok(true),
        }
    }

    /// Where a controller's files are.
    fn place(&self, controller: &str) -> Place<'_> {
        let legacy = self
            .legacy
            .iter()
            .find(|(hierarchy, _)| hierarchy.has(controller));
        if let Some((_, dir)) = legacy {
            return Place::V1(Dir(dir));
        }
        match &self.unified {
            Some(unified) if unified.controllers.iter().any(|name| name == controller) => {
                Place::V2(Dir(&unified.path))
            }
            _ => Place::Missing,
        }
    }

    /// The directory whose list of processes counts.
    fn members(&self) -> Option<Dir<'_>> {
        if let Some(unified) = &self.unified {
            return Some(Dir(&unified.path));
        }
        let dir = match (self.place("freezer"), self.legacy.first()) {
            (Place::V1(dir), _) => dir,
            (_, Some((_, dir))) => Dir(dir),
            (_, None) => return None,
        };
        Some(dir)
    }

    fn freezer(&self) -> Option<Freezer<'_>> {
        // cgroup.freeze is no controller: it is there since Linux 5.2, also beside version 1.
        if let Some(unified) = &self.unified
            && Dir(&unified.path).exists("cgroup.freeze")
        {
            return Some(Freezer::V2(Dir(&unified.path)));
        }
        match self.place("freezer") {
            Place::V1(dir) => Some(Freezer::V1(dir)),
            _ => None,
        }
    }

    fn write_unified(&self, resources: &Resources) -> Result<(), Error> {
        if resources.unified.is_empty() {
            return Ok(());
        }
        let Some(unified) = &self.unified else {
            return Err(Error::Invalid(
                "unified resources cannot be set: there is no version 2 hierarchy".to_owned(),
            ));
        };
        for (file, value) in &resources.unified {
            if file.contains('/') || !file.contains('.') {
                return Err(Error::Invalid(format!("{file:?} is no cgroup file")));
            }
            // Several lines are several writes, as with `io.max`.
            for line in value.lines() {
                Dir(&unified.path).write(file, line)?;
            }
        }
        Ok(())
    }
}

impl UnifiedDir {
    fn open(path: PathBuf, unified: &Unified) -> Result<Self, Error> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECTORY.bits().cast_signed())
            .open(&path);
        let fd = match opened {
            Ok(file) => file.into(),
            Err(source) => return Err(Error::Read { path, source }),
        };
        Ok(Self {
            path,
            controllers: unified.controllers.clone(),
            fd,
        })
    }
}

/// Makes a directory and its parents; `made` gets the directory itself if it is new.
fn make_dir(dir: &Path, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::Create {
        path: dir.to_owned(),
        source,
    };
    let mut builder = DirBuilder::new();
    builder.mode(0o755);
    let mut result = builder.create(dir);
    if matches!(&result, Err(error) if error.kind() == ErrorKind::NotFound)
        && let Some(parent) = dir.parent()
    {
        DirBuilder::new()
            .mode(0o755)
            .recursive(true)
            .create(parent)
            .map_err(failed)?;
        result = builder.create(dir);
    }
    match result {
        Ok(()) => {
            made.push(dir.to_owned());
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if Dir(dir).pids()?.is_empty() {
                Ok(())
            } else {
                Err(Error::Occupied(dir.to_owned()))
            }
        }
        Err(error) => Err(failed(error)),
    }
}

/// Removes a directory and those below it, children first.
fn remove_tree(dir: &Path) -> Result<(), Error> {
    let remove = |path: &Path| match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    // Nearly always there is nothing below.
    let Err(source) = remove(dir) else {
        return Ok(());
    };
    let mut failed = Error::Remove {
        path: dir.to_owned(),
        source,
    };
    let tree = Dir(dir).tree()?;
    if tree.len() > 1 {
        for path in tree.iter().rev() {
            match remove(path) {
                Ok(()) if path == dir => return Ok(()),
                Ok(()) => {}
                Err(source) => {
                    failed = Error::Remove {
                        path: path.clone(),
                        source,
                    };
                    break;
                }
            }
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests;
