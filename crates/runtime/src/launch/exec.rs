//! One more process in a container that runs: enters its namespaces and its
//! cgroup, then becomes what [`Process`] says. It must not know how containers
//! are remembered.
//!
//! ```text
//! join cgroups → setns(pidfd, all that differ) → clone again → session
//!  → streams or console → as the container's first process, from its rlimits on
//! ```

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use conex_spec::runtime::{NamespaceKind, Process, Seccomp};
use conex_sys::child::{Plan, SpawnError, Step};
use rustix::io::Errno;

use super::{LaunchError, Launched, Stdio, candidates, identity, namespaces, push_stdio};
use crate::cgroup::{Cgroup, Layout};

/// A process whose namespaces are entered.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its id, for `/proc`.
    pub pid: i32,
    /// The same process.
    pub pidfd: BorrowedFd<'a>,
}

/// Everything one more process needs.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The container's first process.
    pub container: Target<'a>,
    /// What to run, complete.
    pub process: &'a Process,
    /// The container's system call filter.
    pub seccomp: Option<&'a Seccomp>,
    /// The standard streams.
    pub stdio: Stdio,
    /// The container's cgroup.
    pub cgroup: Option<&'a Cgroup>,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
}

impl Exec<'_> {
    /// Clones the process; it becomes a child of the caller, which is single-threaded.
    pub fn spawn(self) -> Result<Launched, LaunchError> {
        let process = self.process;
        let mut warnings = Vec::new();
        let mut plan = Plan::new();
        plan.extend(identity::oom_score(process, &mut warnings).map(Step::OomScoreAdjust));
        if let Some(cgroup) = self.cgroup {
            let files = cgroup.join_files().map_err(LaunchError::cgroup)?;
            plan.extend(files.into_iter().map(Step::JoinCgroup));
        }
        self.container.push_enter(!0, &mut plan)?;
        plan.push(Step::NewKeyring);
        plan.push(Step::NewSession);
        push_stdio(self.stdio, process, false, &mut plan);
        identity::push_before_start(process, &mut plan, &mut warnings)?;
        if self.preserve_fds > 0 {
            plan.push(Step::KeepDescriptors(self.preserve_fds));
        }
        identity::push_after_start(process, self.seccomp, true, &mut plan)?;
        plan.push(Step::Exec(candidates(process)?));

        let born_in = self.cgroup.and_then(Cgroup::unified_dir);
        let spawned = match plan.spawn(0, born_in) {
            // Controllers are handed on below it, so that it takes no process
            // itself: then where the first process has moved to.
            Err(SpawnError::Clone {
                source: Errno::BUSY,
                ..
            }) if born_in.is_some() => {
                let moved = unified_dir_of(self.container.pid)?;
                plan.spawn(0, Some(moved.as_fd()))?
            }
            other => other?,
        };
        Ok(Launched::new(spawned, plan, process, warnings))
    }
}

impl Target<'_> {
    /// Enters those namespaces of the given `CLONE_NEW*` kinds that are not
    /// this process's own.
    ///
    /// Errors: [`LaunchError::Vanished`] when the process has ended.
    pub(super) fn push_enter(&self, kinds: i32, plan: &mut Plan) -> Result<(), LaunchError> {
        let mut flags = 0;
        for kind in NamespaceKind::ALL {
            let flag = namespaces::clone_flag(kind);
            let file = format!("/proc/{}/ns/{}", self.pid, namespaces::file_name(kind));
            let file = Path::new(&file);
            // Kernels without a kind have no file for it.
            if kinds & flag != 0 && file.exists() && !namespaces::is_own(file, kind) {
                flags |= flag;
            }
        }
        // What was read above was about the process meant only if it lives.
        conex_sys::process::pidfd_signal(self.pidfd, 0).map_err(|_| LaunchError::Vanished)?;
        if flags == 0 {
            return Ok(());
        }
        let pidfd = self
            .pidfd
            .try_clone_to_owned()
            .map_err(|e| LaunchError::Step {
                step: "duplicate a descriptor".into(),
                source: Errno::from_io_error(&e).unwrap_or(Errno::IO),
            })?;
        plan.push(Step::EnterNamespace(pidfd, flags));
        let for_children = libc::CLONE_NEWPID | namespaces::clone_flag(NamespaceKind::Time);
        if flags & for_children != 0 {
            plan.push(Step::CloneAgain(0));
        }
        if flags & libc::CLONE_NEWUSER != 0 {
            plan.push(Step::BecomeRoot);
        }
        Ok(())
    }
}

/// The cgroup version 2 directory a process is in.
fn unified_dir_of(pid: i32) -> Result<OwnedFd, LaunchError> {
    let layout = Layout::detect().map_err(|e| LaunchError::cgroup(std::io::Error::other(e)))?;
    let file = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(file).map_err(LaunchError::cgroup)?;
    let below = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path: PathBuf = match (layout.unified(), below) {
        (Some(unified), Some(below)) => unified.mount.join(below.trim_start_matches('/')),
        _ => return Err(LaunchError::cgroup(std::io::ErrorKind::NotFound.into())),
    };
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(path);
    opened.map(OwnedFd::from).map_err(LaunchError::cgroup)
}
