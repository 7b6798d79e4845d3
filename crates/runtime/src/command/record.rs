//! What is remembered of a container between commands, and what it is found
//! to be doing. It must not know how containers are made.
//!
//! ```text
//!                       creator dead ─────────────────────┐
//!   creating ─ process known ─► created ─ start.sock gone ─┼─► running ◄─► paused
//!                                  └─────── process dead ──┴──► stopped ◄──┘
//! ```

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use conex_spec::runtime::{OCI_VERSION, Spec, State, Status};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::{Error, Globals, bundle};
use crate::cgroup::{self, Cgroup, Layout};

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const SOCKET: &str = "start.sock";
/// More bytes than any state of ours has.
const MAX_STATE_BYTES: u64 = 1 << 20;

/// A process, told from later ones with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessRef {
    pub(super) pid: i32,
    /// In clock ticks after the boot: field 22 of /proc/PID/stat.
    start_time: u64,
}

impl ProcessRef {
    /// A process that lives; `None` if it does not.
    pub(super) fn find(pid: i32) -> Option<ProcessRef> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_time) = parse_stat(&stat)?;
        (!matches!(state, "Z" | "X")).then_some(ProcessRef { pid, start_time })
    }

    fn lives(self) -> bool {
        ProcessRef::find(self.pid) == Some(self)
    }

    /// Opens it; `None` if it has ended.
    pub(super) fn open(self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        self.lives().then_some(pidfd)
    }
}

/// State and start time of proc_pid_stat(5); the name between may hold anything.
fn parse_stat(stat: &str) -> Option<(&str, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// What state.json holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    #[serde(default)]
    pub(super) annotations: std::collections::BTreeMap<String, String>,
    /// RFC 3339.
    pub(super) created: String,
    /// User id of the creator.
    pub(super) owner: u32,
    /// Below each hierarchy's mount; `None` where none is mounted.
    pub(super) cgroup: Option<String>,
    /// Ends with the container's first process.
    pub(super) own_pids: bool,
    creator: ProcessRef,
    process: Option<ProcessRef>,
    /// Number of steps in the plan that start continues.
    #[serde(default)]
    pub(super) steps: usize,
    #[serde(default)]
    pub(super) preserve_fds: u32,
}

/// A container's directory and record.
#[derive(Debug)]
pub(super) struct Container {
    path: PathBuf,
    directory: OwnedFd,
    pub(super) record: Record,
}

/// The rule of runc: letters, digits and `_+-.`, and no way out of the root.
pub(super) fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
    let valid = !id.is_empty() && id.len() <= 255 && id.bytes().all(allowed);
    if valid && id != "." && id != ".." {
        Ok(())
    } else {
        Err(Error::Id(id.to_owned()))
    }
}

impl Container {
    /// Makes a container's directory with its configuration and a first record.
    ///
    /// Errors: [`Error::Exists`].
    pub(super) fn create(globals: &Globals, record: Record, config: &[u8]) -> Result<Self, Error> {
        check_id(&record.id)?;
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        let path = globals.root.join(&record.id);
        let mut made = builder.create(&path);
        if matches!(&made, Err(e) if e.kind() == ErrorKind::NotFound) {
            let parent = fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(&globals.root);
            parent.map_err(|e| Error::io("create", &globals.root, e))?;
            made = builder.create(&path);
        }
        match made {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(Error::Exists(record.id)),
            other => other.map_err(|e| Error::io("create", &path, e))?,
        }
        let container = Container {
            directory: open_directory(&path)?,
            path,
            record,
        };
        let filled = fs::write(container.path.join(CONFIG), config)
            .map_err(|e| Error::io("write", container.path.join(CONFIG), e))
            .and_then(|()| container.save());
        filled.inspect_err(|_| container.forget().unwrap_or(()))?;
        Ok(container)
    }

    /// Finds a container by its id.
    ///
    /// Errors: [`Error::NotFound`].
    pub(super) fn open(globals: &Globals, id: &str) -> Result<Self, Error> {
        check_id(id)?;
        let path = globals.root.join(id);
        let file = path.join(STATE);
        let bytes = match bundle::read(&file, MAX_STATE_BYTES) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Err(Error::NotFound(id.to_owned()));
            }
            other => other?,
        };
        let record =
            serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: file, source })?;
        Ok(Container {
            directory: open_directory(&path)?,
            path,
            record,
        })
    }

    /// Writes the record: the old or the new one is there at any moment.
    pub(super) fn save(&self) -> Result<(), Error> {
        let json = serde_json::to_vec(&self.record).map_err(Error::encode)?;
        write_atomically(&self.path.join(STATE), &json, 0o600)
    }

    /// Remembers the container's first process.
    pub(super) fn set_process(&mut self, pid: i32) {
        self.record.process = ProcessRef::find(pid);
    }

    /// The configuration it was created with.
    pub(super) fn spec(&self) -> Result<Spec, Error> {
        bundle::load(&self.path.join(CONFIG)).map(|(spec, _)| spec)
    }

    /// The container's first process; `None` once it has ended.
    pub(super) fn process(&self) -> Option<(i32, OwnedFd)> {
        let process = self.record.process?;
        Some((process.pid, process.open()?))
    }

    /// What the container is doing.
    pub(super) fn status(&self) -> Result<Status, Error> {
        let Some(process) = self.record.process else {
            let creating = self.record.creator.lives();
            return Ok(if creating {
                Status::Creating
            } else {
                Status::Stopped
            });
        };
        if !process.lives() {
            return Ok(Status::Stopped);
        }
        if self
            .cgroup()?
            .is_some_and(|cgroup| cgroup.frozen().unwrap_or(false))
        {
            return Ok(Status::Paused);
        }
        let waits = self.path.join(SOCKET).exists();
        Ok(if waits {
            Status::Created
        } else {
            Status::Running
        })
    }

    /// What hooks and callers are told.
    pub(super) fn state(&self, status: Status) -> State {
        let pid = self.record.process.map(|process| process.pid);
        State {
            oci_version: OCI_VERSION.to_owned(),
            id: self.record.id.clone(),
            status,
            pid: pid.filter(|_| status != Status::Stopped),
            bundle: self.record.bundle.clone(),
            annotations: self.record.annotations.clone(),
        }
    }

    /// Its cgroup, as far as it is still there.
    pub(super) fn cgroup(&self) -> Result<Option<Cgroup>, Error> {
        let Some(path) = &self.record.cgroup else {
            return Ok(None);
        };
        match Layout::detect().and_then(|layout| Cgroup::open(&layout, path)) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(cgroup::Error::NotFound(_) | cgroup::Error::NotMounted) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Listens for the start.
    pub(super) fn listen(&self) -> Result<OwnedFd, Error> {
        let failed = |e: Errno| Error::io("listen on", self.path.join(SOCKET), e);
        let socket = stream_socket().map_err(failed)?;
        rustix::net::bind(&socket, &self.address()).map_err(failed)?;
        rustix::net::listen(&socket, 1).map_err(failed)?;
        Ok(socket)
    }

    /// Connects to the process that waits for its start, once: a second caller
    /// finds nobody waiting.
    pub(super) fn connect(&self) -> Result<OwnedFd, Errno> {
        let socket = stream_socket()?;
        rustix::net::connect(&socket, &self.address())?;
        // Whoever asks from here on hears that it runs.
        fs::remove_file(self.path.join(SOCKET)).ok();
        Ok(socket)
    }

    /// Through the directory's descriptor, as an address holds 108 bytes only.
    fn address(&self) -> SocketAddrUnix {
        let path = format!("/proc/self/fd/{}/{SOCKET}", self.directory.as_raw_fd());
        SocketAddrUnix::new(path).expect("a descriptor's path is short")
    }

    /// Removes the directory.
    pub(super) fn forget(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", &self.path, e)),
            _ => Ok(()),
        }
    }
}

impl Record {
    /// The record of a container that this process is making.
    pub(super) fn new(id: &str, bundle: PathBuf, spec: &Spec) -> Record {
        use conex_spec::runtime::NamespaceKind::Pid as PidNamespace;
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let linux = spec.linux.as_ref();
        let root = spec.root.as_ref().map(|root| root.path.as_path());
        Record {
            id: id.to_owned(),
            rootfs: bundle.join(root.unwrap_or(Path::new(""))),
            bundle,
            annotations: spec.annotations.clone(),
            created: jiff::Timestamp::now().to_string(),
            owner: rustix::process::geteuid().as_raw(),
            cgroup: None,
            own_pids: linux
                .and_then(|l| l.namespace(PidNamespace))
                .is_some_and(|n| n.path.is_none()),
            creator: ProcessRef::find(own).unwrap_or(ProcessRef {
                pid: own,
                start_time: 0,
            }),
            process: None,
            steps: 0,
            preserve_fds: 0,
        }
    }
}

/// The ids of all containers, sorted.
pub(super) fn ids(globals: &Globals) -> Result<Vec<String>, Error> {
    let failed = |e| Error::io("list", &globals.root, e);
    let entries = match fs::read_dir(&globals.root) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        ids.extend(
            name.to_str()
                .filter(|id| check_id(id).is_ok())
                .map(str::to_owned),
        );
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Writes beside the file and renames: readers never see half of it.
pub(super) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    let beside = path.with_file_name(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|e| Error::io("write", path, e))
}

fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e))
}

fn stream_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Connects to a listening socket, wherever it is.
pub(super) fn connect_to(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |e: Errno| Error::io("connect to", path, e);
    let directory = open_directory(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name);
    let socket = stream_socket().map_err(failed)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(&short).map_err(failed)?).map_err(failed)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_cannot_hide_the_start_time() {
        let fields = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(parse_stat(&format!("7 (a b) {fields}")), Some(("S", 4242)));
        assert_eq!(
            parse_stat(&format!("7 () Z 1) {fields}")),
            Some(("S", 4242))
        );
        assert_eq!(parse_stat("7 (x) S 1"), None);
    }

    #[test]
    fn a_process_is_told_from_its_successor() {
        let own = ProcessRef::find(std::process::id() as i32).unwrap();
        assert!(own.lives() && own.open().is_some());
        let other = ProcessRef {
            start_time: own.start_time + 1,
            ..own
        };
        assert!(!other.lives() && other.open().is_none());
    }

    #[test]
    fn an_id_is_no_path() {
        for id in ["", ".", "..", "a/b", "a\n", "ä", &"x".repeat(256)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        check_id("Ab_9.+-").unwrap();
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        write_atomically(&path, b"1", 0o644).unwrap();
        write_atomically(&path, b"22", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"22");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
