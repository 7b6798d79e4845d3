//! What a child may be told to do. Everything in here is prepared before the
//! clone: C strings, descriptors, masks.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use crate::seccomp;

/// Capability sets as bit masks (bit n is capability n, capabilities(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilityMasks {
    /// Capabilities that stay in the bounding set.
    pub bounding: u64,
    /// The effective set after the change of user.
    pub effective: u64,
    /// The permitted set after the change of user.
    pub permitted: u64,
    /// The inheritable set.
    pub inheritable: u64,
    /// The ambient set; must be within permitted and inheritable.
    pub ambient: u64,
}

/// `struct sched_attr` of linux/sched/types.h, its first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerAttributes {
    /// Size of this struct, which tells the kernel its version.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value of the time-sharing policies.
    pub nice: i32,
    /// Priority of the realtime policies.
    pub priority: u32,
    /// Run time of the deadline policy.
    pub runtime_ns: u64,
    /// Deadline of the deadline policy.
    pub deadline_ns: u64,
    /// Period of the deadline policy.
    pub period_ns: u64,
}

impl Default for SchedulerAttributes {
    fn default() -> Self {
        SchedulerAttributes {
            size: std::mem::size_of::<Self>() as u32,
            policy: 0,
            flags: 0,
            nice: 0,
            priority: 0,
            runtime_ns: 0,
            deadline_ns: 0,
            period_ns: 0,
        }
    }
}

/// The program to execute: every path worth trying, in order.
#[derive(Debug, Clone)]
pub struct ExecCandidates {
    /// Absolute or cwd-relative paths; one when the name has a slash, one per
    /// `PATH` entry otherwise.
    pub paths: Vec<CString>,
    /// `argv`.
    pub args: Vec<CString>,
    /// `envp`.
    pub env: Vec<CString>,
}

/// A program that stays process 1 beside the one that is asked for.
#[derive(Debug)]
pub struct Init {
    /// The program, which nobody in the container can write.
    pub program: OwnedFd,
    /// `argv`.
    pub args: Vec<CString>,
    /// `envp`, behind [`INIT_CHILD`].
    pub env: Vec<CString>,
}

/// The variable that tells an init which process it is there for.
pub const INIT_CHILD: &str = "CONEX_INIT_CHILD";

/// How many file systems can be prepared at a time.
pub const PREPARED: usize = 4;

/// One thing the child does.
#[derive(Debug)]
pub enum Step {
    /// Writes `0` to an open cgroup v1 `tasks` file: joins without the RCU
    /// wait that `cgroup.procs` costs.
    JoinCgroup(OwnedFd),
    /// Enters the namespace behind a descriptor (setns(2)), of the given
    /// `CLONE_NEW*` kind.
    EnterNamespace(OwnedFd, i32),
    /// Leaves namespaces for new ones (unshare(2)): a cgroup namespace, whose
    /// root is the cgroup its maker is in at that moment.
    Unshare(i32),
    /// Tells the parent so ([`crate::child::Outcome::Waiting`]) and blocks until
    /// it releases the child ([`crate::child::Spawned::release`]).
    AwaitParent,
    /// Becomes user 0 of its user namespace.
    BecomeRoot,
    /// Clones a sibling with `CLONE_NEW*` flags, which goes on with the next
    /// step while this process ends: so a pid or time namespace entered before
    /// holds, and namespaces belong to a user namespace entered before.
    CloneAgain(u64),
    /// Sets the clocks of a time namespace just made: lines of clock name,
    /// seconds and nanoseconds (time_namespaces(7)).
    TimeOffsets(CString),
    /// Leaves the session keyring for an empty one (keyctl(2)).
    NewKeyring,
    /// Starts a session (setsid(2)).
    NewSession,
    /// Changes the propagation of everything below `/` (`MS_SLAVE`, …).
    Propagation(u32),
    /// Changes the propagation of the mount at a path.
    PropagationAt {
        /// Absolute path of a mount.
        path: CString,
        /// `MS_SHARED`, …, with `MS_REC`.
        flags: u64,
    },
    /// Makes a detached mount the root: attaches it, pivots, drops the old one.
    PivotTo(OwnedFd),
    /// Makes a directory and its missing parents, mode 0755. Prefixes are
    /// shortest first, the last one is the directory itself.
    MakeDirs(Vec<CString>),
    /// Sends detached copies of everything mounted so far through a socket.
    SendRoot {
        /// Carries one descriptor a message (`SCM_RIGHTS`).
        socket: OwnedFd,
        /// How many: a copy can be attached once.
        copies: usize,
    },
    /// Makes an empty file, and its missing parents, unless something exists
    /// there. Prefixes as with [`Step::MakeDirs`].
    MakeFile(Vec<CString>),
    /// Makes a symbolic link `path` → `target`; one that exists stays.
    Symlink {
        /// What the link says.
        target: CString,
        /// Where it is made.
        path: CString,
    },
    /// Makes a device node and sets its mode and owner exactly.
    Device {
        /// Absolute path.
        path: CString,
        /// `S_IFCHR`/`S_IFBLK`/`S_IFIFO` and permission bits.
        mode: u32,
        /// Encoded device number.
        device: u64,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Mounts a new file system instance.
    Mount {
        /// File system type, as fsopen(2) takes it.
        filesystem: CString,
        /// Parameters; without a value they are flags.
        parameters: Vec<(CString, Option<CString>)>,
        /// `MOUNT_ATTR_*`.
        attributes: u32,
        /// Absolute path inside the root.
        target: CString,
        /// Refuse when the target's path holds a symbolic link.
        no_symlinks: bool,
    },
    /// Makes a file system instance for [`Step::AttachPrepared`]: in a user
    /// namespace, procfs and sysfs are to be had only where one can be seen.
    Prepare {
        /// Which one, below [`PREPARED`].
        slot: usize,
        /// As with [`Step::Mount`].
        filesystem: CString,
        /// As with [`Step::Mount`].
        parameters: Vec<(CString, Option<CString>)>,
        /// `MOUNT_ATTR_*`.
        attributes: u32,
    },
    /// Mounts what [`Step::Prepare`] made; the target's path holds no symbolic link.
    AttachPrepared {
        /// Which one.
        slot: usize,
        /// Absolute path inside the root.
        target: CString,
    },
    /// Attaches a detached mount tree that the parent opened.
    Attach {
        /// From `open_tree(OPEN_TREE_CLONE)`.
        tree: OwnedFd,
        /// Absolute path inside the root.
        target: CString,
    },
    /// Opens `/dev/null`, proves that it is the null device and keeps it as
    /// the source of [`Step::Mask`].
    KeepNull,
    /// Hides a path below the container's own `/proc` or `/sys`: `/dev/null`
    /// over a file, an empty read-only tmpfs over a directory. A path that is
    /// not there is left out.
    Mask(CString),
    /// Makes a path read-only by a bind mount of itself; absent is fine.
    ReadOnlyPath(CString),
    /// Changes attributes of the mount at a path (mount_setattr(2)).
    SetAttributes {
        /// Absolute path of a mount.
        path: CString,
        /// `MOUNT_ATTR_*` to set.
        set: u64,
        /// `MOUNT_ATTR_*` to clear.
        clear: u64,
        /// Also everything mounted below.
        recursive: bool,
    },
    /// Writes a value below the container's own `/proc/sys`.
    Sysctl {
        /// Path relative to `/proc/sys`, with slashes.
        path: CString,
        /// What is written.
        value: CString,
    },
    /// Sets the host name of the UTS namespace.
    Hostname(CString),
    /// Sets the NIS domain name of the UTS namespace.
    DomainName(CString),
    /// Brings the interface `lo` up.
    LoopbackUp,
    /// Opens a terminal of the container's own devpts, sends its master
    /// through the socket, mounts it on `/dev/console` and makes it standard
    /// input, output and error.
    Console {
        /// Receives the master (`SCM_RIGHTS`).
        socket: OwnedFd,
        /// Rows and columns, when known.
        size: Option<(u16, u16)>,
        /// Whether `/dev/console` is mounted (not in an exec'd process).
        mount: bool,
    },
    /// Puts a descriptor at 0, 1 or 2.
    Stdio(OwnedFd, i32),
    /// Gives the open standard streams to a user, so that `/dev/stdout` can be
    /// opened by it.
    OwnStdio(u32),
    /// setrlimit(2).
    Rlimit {
        /// `RLIMIT_*`.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// Writes `/proc/self/oom_score_adj`; before the root changes.
    OomScoreAdjust(i32),
    /// umask(2).
    Umask(u32),
    /// Sets supplementary groups, group and user, keeping capabilities for the
    /// step that sets them.
    Identity {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
        /// setgroups(2) is forbidden in some user namespaces.
        set_groups: bool,
    },
    /// Drops from the bounding set; before the change of user.
    BoundingSet(u64),
    /// Sets the process's capability sets; after the change of user.
    Capabilities(CapabilityMasks),
    /// prctl(PR_SET_NO_NEW_PRIVS).
    NoNewPrivileges,
    /// Installs a seccomp filter with the given flags.
    Seccomp(seccomp::Program, u32),
    /// Asks AppArmor for a profile at exec.
    AppArmor(CString),
    /// Asks SELinux for a label at exec.
    SelinuxLabel(CString),
    /// Sets the execution domain (personality(2)).
    Personality(u64),
    /// Sets class and level of input and output (ioprio_set(2)), encoded.
    IoPriority(i32),
    /// Sets the scheduling policy (sched_setattr(2)).
    Scheduler(SchedulerAttributes),
    /// Lets so many descriptors from 3 on survive the exec.
    KeepDescriptors(u32),
    /// chdir(2), without magic links. Where access is refused,
    /// [`Step::RetryChdir`] decides: a user may be let in where root is not.
    Chdir(CString),
    /// [`Step::Chdir`] again, if it was refused.
    RetryChdir(CString),
    /// Forks: this process becomes the init, with every signal blocked, and the
    /// next step, which executes the program, is the child's. That leads a
    /// process group of its own, in the foreground of the terminal if there is
    /// one.
    UnderInit(Init),
    /// Fails as [`Step::Exec`] would, as far as that shows without executing;
    /// arguments and environment do not matter.
    FindProgram(ExecCandidates),
    /// Tells the parent that everything but the start is done and waits for a
    /// connection on a listening socket; failures from here on travel over
    /// that connection.
    AwaitStart(OwnedFd),
    /// Executes the program.
    Exec(ExecCandidates),
}

impl Step {
    /// What the step does, for an error message: "mount proc to /proc".
    pub fn describe(&self) -> String {
        let text = |c: &CStr| c.to_string_lossy().into_owned();
        match self {
            Step::JoinCgroup(_) => "join the cgroup".into(),
            Step::EnterNamespace(_, kind) => format!("enter a namespace of kind {kind:#x}"),
            Step::Unshare(kind) => format!("make a namespace of kind {kind:#x}"),
            Step::AwaitParent => "wait for the parent".into(),
            Step::BecomeRoot => "become root of the user namespace".into(),
            Step::CloneAgain(flags) => format!("clone with flags {flags:#x}"),
            Step::TimeOffsets(_) => "set the clocks of the time namespace".into(),
            Step::NewKeyring => "make a session keyring".into(),
            Step::SendRoot { .. } => "hand out the root".into(),
            Step::NewSession => "start a session".into(),
            Step::Propagation(_) => "set the propagation of the root mount".into(),
            Step::PropagationAt { path, .. } => format!("set the propagation of {}", text(path)),
            Step::PivotTo(_) => "pivot to the container's root".into(),
            Step::MakeDirs(p) => {
                format!(
                    "make directory {}",
                    p.last().map(|c| text(c)).unwrap_or_default()
                )
            }
            Step::MakeFile(p) => {
                format!(
                    "make file {}",
                    p.last().map(|c| text(c)).unwrap_or_default()
                )
            }
            Step::Symlink { path, .. } => format!("make symbolic link {}", text(path)),
            Step::Device { path, .. } => format!("make device node {}", text(path)),
            Step::Mount {
                filesystem, target, ..
            } => {
                format!("mount {} to {}", text(filesystem), text(target))
            }
            Step::Prepare { filesystem, .. } => format!("make a {} to mount", text(filesystem)),
            Step::AttachPrepared { target, .. } | Step::Attach { target, .. } => {
                format!("mount at {}", text(target))
            }
            Step::KeepNull => "verify /dev/null".into(),
            Step::Mask(p) => format!("mask {}", text(p)),
            Step::ReadOnlyPath(p) => format!("make {} read-only", text(p)),
            Step::SetAttributes { path, .. } => format!("set mount attributes of {}", text(path)),
            Step::Sysctl { path, value } => {
                format!(
                    "write sysctl {} = {}",
                    text(path).replace('/', "."),
                    text(value)
                )
            }
            Step::Hostname(_) => "set the host name".into(),
            Step::DomainName(_) => "set the domain name".into(),
            Step::LoopbackUp => "bring lo up".into(),
            Step::Console { .. } => "open the container's console".into(),
            Step::Stdio(_, n) => format!("set up standard stream {n}"),
            Step::OwnStdio(_) => "give the standard streams to the user".into(),
            Step::Rlimit { resource, .. } => format!("set rlimit {resource}"),
            Step::OomScoreAdjust(n) => format!("set oom_score_adj to {n}"),
            Step::Umask(_) => "set umask".into(),
            Step::Identity { uid, gid, .. } => format!("become user {uid}, group {gid}"),
            Step::BoundingSet(_) => "drop capabilities from the bounding set".into(),
            Step::Capabilities(_) => "set capabilities".into(),
            Step::NoNewPrivileges => "set no_new_privs".into(),
            Step::Seccomp(..) => "install the seccomp filter".into(),
            Step::AppArmor(p) => format!("apply AppArmor profile {}", text(p)),
            Step::SelinuxLabel(p) => format!("apply SELinux label {}", text(p)),
            Step::Personality(domain) => format!("set personality {domain:#x}"),
            Step::IoPriority(_) => "set the I/O priority".into(),
            Step::Scheduler(_) => "set the scheduling policy".into(),
            Step::KeepDescriptors(n) => format!("keep {n} descriptors"),
            Step::Chdir(p) | Step::RetryChdir(p) => format!("chdir to cwd {:?}", text(p)),
            Step::UnderInit(_) => "start the init process".into(),
            Step::FindProgram(_) => "find the program".into(),
            Step::AwaitStart(_) => "wait for start".into(),
            Step::Exec(e) => {
                format!(
                    "exec {:?}",
                    e.args.first().map(|c| text(c)).unwrap_or_default()
                )
            }
        }
    }
}

/// Why an exec failed, finer than its errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// The errno says it all.
    Errno = 0,
    /// No candidate exists.
    NotFound = 1,
    /// The program exists, its interpreter does not.
    InterpreterMissing = 2,
    /// The path is a directory.
    IsDirectory = 3,
}

/// How a child failed: 12 bytes on the error pipe, native byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Index into the plan.
    pub step: usize,
    /// The system's errno.
    pub errno: rustix::io::Errno,
    /// Detail of a failed exec.
    pub reason: Reason,
}

impl Failure {
    pub(super) const SIZE: usize = 12;

    pub(super) fn encode(step: usize, errno: i32, reason: Reason) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..4].copy_from_slice(&(step as u32).to_ne_bytes());
        out[4..8].copy_from_slice(&errno.to_ne_bytes());
        out[8..].copy_from_slice(&(reason as u32).to_ne_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8; Self::SIZE]) -> Failure {
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let reason = match u32::from_ne_bytes(word(8)) {
            1 => Reason::NotFound,
            2 => Reason::InterpreterMissing,
            3 => Reason::IsDirectory,
            _ => Reason::Errno,
        };
        Failure {
            step: u32::from_ne_bytes(word(0)) as usize,
            errno: rustix::io::Errno::from_raw_os_error(i32::from_ne_bytes(word(4))),
            reason,
        }
    }
}

/// An ordered list of steps; the last one is [`Step::Exec`].
#[derive(Debug, Default)]
pub struct Plan {
    pub(super) steps: Vec<Step>,
}

impl Plan {
    /// An empty plan.
    pub fn new() -> Plan {
        Plan::default()
    }

    /// Adds a step at the end.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Adds all steps of another plan at the end.
    pub fn append(&mut self, other: Plan) {
        self.steps.extend(other.steps);
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step a failure names.
    pub fn failed_step(&self, failure: &Failure) -> Option<&Step> {
        self.steps.get(failure.step)
    }
}

impl IntoIterator for Plan {
    type Item = Step;
    type IntoIter = std::vec::IntoIter<Step>;

    fn into_iter(self) -> Self::IntoIter {
        self.steps.into_iter()
    }
}

impl Extend<Step> for Plan {
    fn extend<I: IntoIterator<Item = Step>>(&mut self, steps: I) {
        self.steps.extend(steps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_pipe() {
        let bytes = Failure::encode(7, 13, Reason::IsDirectory);
        let back = Failure::decode(&bytes);
        assert_eq!(back.step, 7);
        assert_eq!(back.errno, rustix::io::Errno::ACCESS);
        assert_eq!(back.reason, Reason::IsDirectory);
    }

    #[test]
    fn a_step_says_what_it_does() {
        let step = Step::Sysctl {
            path: c"net/core/somaxconn".into(),
            value: c"10".into(),
        };
        assert_eq!(step.describe(), "write sysctl net.core.somaxconn = 10");
    }
}
