//! Namespaces: which are made by the clone, which are entered, and the user
//! maps that a parent writes.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use conex_spec::runtime::{IdMapping, Linux, NamespaceKind, Spec};
use conex_sys::child::{ExecCandidates, Plan, Spawned, Step};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::LaunchError;

/// What the configuration asks of namespaces.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// For the clone that makes the container's first process.
    clone_flags: u64,
    /// A mount namespace of the container's own.
    pub(super) new_mount: bool,
    /// A user namespace is made, whose maps the parent writes.
    pub(super) new_user: bool,
    enter: Vec<(OwnedFd, i32)>,
    enter_user: Option<OwnedFd>,
    enter_pid: Option<OwnedFd>,
    time_offsets: Option<CString>,
    kinds: Vec<NamespaceKind>,
    new_cgroup: bool,
}

/// The `CLONE_NEW*` flag of a namespace.
pub(crate) fn clone_flag(kind: NamespaceKind) -> i32 {
    match kind {
        NamespaceKind::Mount => libc::CLONE_NEWNS,
        NamespaceKind::Pid => libc::CLONE_NEWPID,
        NamespaceKind::Network => libc::CLONE_NEWNET,
        NamespaceKind::Ipc => libc::CLONE_NEWIPC,
        NamespaceKind::Uts => libc::CLONE_NEWUTS,
        NamespaceKind::User => libc::CLONE_NEWUSER,
        NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
        NamespaceKind::Time => CLONE_NEWTIME,
    }
}

/// linux/sched.h; shares its bit with the exit signal, so clone3 only.
const CLONE_NEWTIME: i32 = 0x80;

/// The file of a namespace below /proc/PID/ns.
pub(crate) fn file_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "net",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

/// Whether a namespace file is of the namespace this process is in.
pub(crate) fn is_own(file: &std::path::Path, kind: NamespaceKind) -> bool {
    let own = format!("/proc/self/ns/{}", file_name(kind));
    match (std::fs::metadata(file), std::fs::metadata(own)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

pub(super) fn resolve(spec: &Spec) -> Result<Namespaces, LaunchError> {
    let mut out = Namespaces {
        clone_flags: 0,
        new_mount: false,
        new_user: false,
        enter: Vec::new(),
        enter_user: None,
        enter_pid: None,
        time_offsets: None,
        kinds: Vec::new(),
        new_cgroup: false,
    };
    let Some(linux) = &spec.linux else {
        return Ok(out);
    };
    for namespace in &linux.namespaces {
        let kind = namespace.kind;
        let Some(path) = &namespace.path else {
            out.kinds.push(kind);
            match kind {
                NamespaceKind::Cgroup => out.new_cgroup = true,
                NamespaceKind::Time if !linux.time_offsets.is_empty() => {}
                _ => out.clone_flags |= clone_flag(kind) as u64,
            }
            continue;
        };
        let open = || {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(
                |source| LaunchError::Namespace {
                    path: path.clone(),
                    source,
                },
            )
        };
        match kind {
            NamespaceKind::Mount => {
                return Err(LaunchError::Unsupported(
                    "a mount namespace given by path cannot hold a new container's root".into(),
                ));
            }
            // Entering the one this process is in is an error to the kernel.
            NamespaceKind::User if is_own(path, kind) => {}
            NamespaceKind::User => out.enter_user = Some(open()?),
            NamespaceKind::Pid => out.enter_pid = Some(open()?),
            _ => out.enter.push((open()?, clone_flag(kind))),
        }
    }
    out.new_mount = out.is_new(NamespaceKind::Mount);
    out.new_user = out.is_new(NamespaceKind::User);
    if !out.new_mount {
        return Err(LaunchError::Unsupported(
            "a container without a mount namespace of its own is not supported".into(),
        ));
    }
    if out.new_user && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty()) {
        return Err(LaunchError::Unsupported(
            "a new user namespace needs uidMappings and gidMappings".into(),
        ));
    }
    if out.is_new(NamespaceKind::Time) {
        out.time_offsets = time_offsets(linux)?;
    }
    Ok(out)
}

fn time_offsets(linux: &Linux) -> Result<Option<CString>, LaunchError> {
    if linux.time_offsets.is_empty() {
        return Ok(None);
    }
    let line = |(clock, offset): (&String, &conex_spec::runtime::TimeOffset)| {
        format!("{clock} {} {}\n", offset.secs, offset.nanosecs)
    };
    let lines: String = linux.time_offsets.iter().map(line).collect();
    super::c_string(&lines).map(Some)
}

impl Namespaces {
    pub(super) fn is_new(&self, kind: NamespaceKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// A user namespace of the container's own, made or entered.
    pub(super) fn has_user(&self) -> bool {
        self.new_user || self.enter_user.is_some()
    }

    /// Pushes what enters namespaces and returns the flags for the clone.
    ///
    /// A process of its own does the entering where a second clone must follow
    /// it: to be in a pid or time namespace, and to make namespaces that a user
    /// namespace owns. Others are entered before the user namespace, which
    /// would take the right to.
    pub(super) fn push_steps(&mut self, plan: &mut Plan) -> u64 {
        let again = self.enter_pid.is_some()
            || self.enter_user.is_some()
            || self.time_offsets.is_some()
            || (self.new_user && !self.enter.is_empty());
        plan.extend(
            self.enter
                .drain(..)
                .map(|(fd, kind)| Step::EnterNamespace(fd, kind)),
        );
        if !again {
            return self.clone_flags;
        }
        if let Some(pid) = self.enter_pid.take() {
            plan.push(Step::EnterNamespace(pid, libc::CLONE_NEWPID));
        }
        if let Some(offsets) = self.time_offsets.take() {
            plan.push(Step::Unshare(CLONE_NEWTIME));
            plan.push(Step::TimeOffsets(offsets));
        }
        if let Some(user) = self.enter_user.take() {
            plan.push(Step::EnterNamespace(user, libc::CLONE_NEWUSER));
            plan.push(Step::BecomeRoot);
        }
        plan.push(Step::CloneAgain(self.clone_flags));
        0
    }

    /// After the cgroup is joined: its root is where its maker stands.
    pub(super) fn push_cgroup_namespace(&self, plan: &mut Plan) {
        if self.new_cgroup {
            plan.push(Step::Unshare(libc::CLONE_NEWCGROUP));
        }
    }
}

/// Writes the user and group maps of a process that waits for it.
pub(super) fn map_users(
    uids: &[IdMapping],
    gids: &[IdMapping],
    spawned: &Spawned,
) -> Result<(), LaunchError> {
    for (file, mappings) in [("uid_map", uids), ("gid_map", gids)] {
        let line = |m: &IdMapping| format!("{} {} {}\n", m.container_id, m.host_id, m.size);
        let text: String = mappings.iter().map(line).collect();
        std::fs::write(format!("/proc/{}/{file}", spawned.pid), text).map_err(|e| {
            LaunchError::Step {
                step: format!("write {file}"),
                source: Errno::from_io_error(&e).unwrap_or(Errno::IO),
            }
        })?;
    }
    Ok(())
}

/// A user namespace with maps and nobody in it, for an idmapped mount.
pub(super) fn mapped_users(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd, LaunchError> {
    let mut plan = Plan::new();
    plan.push(Step::AwaitParent);
    // Never reached: the process is not released.
    plan.push(Step::Exec(ExecCandidates {
        paths: vec![],
        args: vec![],
        env: vec![],
    }));
    let spawned = plan.spawn(libc::CLONE_NEWUSER as u64, None)?;
    let made = map_users(uids, gids, &spawned).and_then(|()| {
        let path = PathBuf::from(format!("/proc/{}/ns/user", spawned.pid));
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| LaunchError::Namespace { path, source })
    });
    super::discard(spawned);
    made
}
