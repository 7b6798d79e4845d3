//! From an OCI configuration to a process: turns a [`Spec`] into the flat plan
//! that the child executes, and clones it.
//!
//! ```text
//! join cgroups → enter namespaces → [maps, hooks] → session → mount namespace:
//! slave, pivot → mounts → devices → hostname, lo, sysctls → /proc read-only and
//! masked → [hooks] → root read-only → streams or console → rlimits, labels
//!  → bounding set → cwd → [wait for start] → user → seccomp, capabilities → exec
//! ```
//!
//! *Invariant*: everything that needs a host path is opened here, in the
//! parent, before the clone; after its pivot the child sees nothing of the
//! host, so no symbolic link of an image can lead there.

mod devices;
mod error;
pub mod exec;
pub mod hook;
mod identity;
mod mounts;
mod namespaces;
mod schedule;
mod sysctl;

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use conex_spec::runtime::{Hooks, NamespaceKind, Process, Spec, State, Status};
use conex_sys::child::{ExecCandidates, Failure, Init, Outcome, Plan, Spawned, Step};
use rustix::io::Errno;
use rustix::net::SocketType;

pub use error::LaunchError;
pub use mounts::{mount_options, root_from_path};

use crate::cgroup::Cgroup;

/// Where the standard streams of the process go.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors; the child keeps duplicates.
    Streams {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A terminal of the container's own devpts, whose master is sent through
    /// this socket.
    Console(OwnedFd),
    /// The caller's own streams.
    Inherit,
}

/// When the program is executed.
#[derive(Debug)]
pub enum Start {
    /// At once.
    Now,
    /// When somebody connects to this listening socket (OCI `create`/`start`).
    OnConnection(OwnedFd),
}

/// Everything a launch needs besides the configuration.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The configuration.
    pub spec: &'a Spec,
    /// The root file system as a detached mount.
    pub root: OwnedFd,
    /// The standard streams.
    pub stdio: Stdio,
    /// The container's cgroup, created and limited.
    pub cgroup: Option<&'a Cgroup>,
    /// When to execute.
    pub start: Start,
    /// An init to be process 1 beside the program: nobody in the container can
    /// write it, and it knows [`conex_sys::child::INIT_CHILD`].
    pub init: Option<OwnedFd>,
}

/// What an init is called where it runs.
const INIT: &str = "/sbin/docker-init";

/// What an OCI runtime is asked besides a [`Launch`].
#[derive(Debug, Default)]
pub struct Extras<'a> {
    /// What hooks are told; its pid and status are filled in.
    pub state: Option<&'a State>,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// The caller's session keyring stays the program's.
    pub keep_keyring: bool,
}

/// A container's first process, executing its plan.
#[derive(Debug)]
pub struct Launched {
    spawned: Spawned,
    plan: Plan,
    name: String,
    /// What was asked for and could not be had, one sentence each.
    pub warnings: Vec<String>,
}

impl Launch<'_> {
    /// Clones the container's first process.
    ///
    /// The caller is single-threaded (a monitor or `conex runtime`).
    /// Errors: [`LaunchError::Unsupported`] for hooks, which need [`Launch::spawn_with`].
    pub fn spawn(self) -> Result<Launched, LaunchError> {
        self.spawn_with(&Extras::default())
    }

    /// As [`Launch::spawn`], running the hooks of the creation on the way.
    ///
    /// On an error nothing is left of the process.
    pub fn spawn_with(self, extras: &Extras<'_>) -> Result<Launched, LaunchError> {
        let mut warnings = Vec::new();
        let spec = self.spec;
        let process = spec.process.as_ref().ok_or(LaunchError::NoProcess)?;
        refuse_unsupported(spec)?;
        let hooks = CreateHooks::of(spec, extras)?;
        let mut namespaces = namespaces::resolve(spec)?;
        let mut plan = Plan::new();

        let oom_score = identity::oom_score(process, &mut warnings);
        if !namespaces.new_user {
            plan.extend(oom_score.map(Step::OomScoreAdjust));
        }
        if let Some(cgroup) = self.cgroup {
            let files = cgroup.join_files().map_err(LaunchError::cgroup)?;
            plan.extend(files.into_iter().map(Step::JoinCgroup));
        }
        let own_users = namespaces.has_user();
        let clone_flags = namespaces.push_steps(&mut plan);
        if namespaces.new_user || hooks.is_some_and(CreateHooks::early) {
            plan.push(Step::AwaitParent);
        }
        if namespaces.new_user {
            plan.push(Step::BecomeRoot);
        }
        if !extras.keep_keyring {
            plan.push(Step::NewKeyring);
        }
        plan.push(Step::NewSession);
        namespaces.push_cgroup_namespace(&mut plan);
        plan.push(Step::Propagation(
            libc::MS_REC as u32 | libc::MS_SLAVE as u32,
        ));
        mounts::push_root(
            spec,
            self.root,
            self.cgroup,
            own_users,
            &mut plan,
            &mut warnings,
        )?;
        devices::push(spec, own_users, &mut plan)?;
        plan.push(Step::KeepNull);
        push_names(spec, &namespaces, &mut plan)?;
        sysctl::push(spec, &mut plan)?;
        let linux = spec.linux.as_ref();
        for path in linux.iter().flat_map(|l| &l.readonly_paths) {
            plan.push(Step::ReadOnlyPath(c_path(path)?));
        }
        for path in linux.iter().flat_map(|l| &l.masked_paths) {
            plan.push(Step::Mask(c_path(path)?));
        }
        let mut root_socket = None;
        if let Some(hooks) = hooks.filter(|hooks| hooks.late()) {
            let pair = conex_sys::socket::pair(SocketType::SEQPACKET);
            let (ours, theirs) = pair.map_err(LaunchError::hook_socket)?;
            let copies = hooks.hooks.create_container.len();
            plan.push(Step::SendRoot {
                socket: theirs,
                copies,
            });
            plan.push(Step::AwaitParent);
            root_socket = Some(ours);
        }
        mounts::push_cwd(process, &mut plan)?;
        if spec.root.as_ref().is_some_and(|r| r.readonly) {
            mounts::push_read_only_root(&mut plan);
        }
        push_stdio(self.stdio, process, true, &mut plan);
        identity::push_before_start(process, &mut plan, &mut warnings)?;
        schedule::push_personality(spec, &mut plan)?;
        if let Start::OnConnection(listener) = self.start {
            // Callers want to know when they create it.
            plan.push(Step::FindProgram(candidates(process)?));
            plan.push(Step::AwaitStart(listener));
        }
        push_after_start(spec, process, extras.preserve_fds, self.init, &mut plan)?;

        let born_in = self.cgroup.and_then(Cgroup::unified_dir);
        let spawned = plan.spawn(clone_flags, born_in)?;
        let mut launched = Launched::new(spawned, plan, process, warnings);
        let accompanied = (|| {
            if namespaces.new_user {
                launched.expect_waiting()?;
                let linux = linux.into_iter();
                for linux in linux {
                    namespaces::map_users(
                        &linux.uid_mappings,
                        &linux.gid_mappings,
                        &launched.spawned,
                    )?;
                }
                if let Some(score) = oom_score {
                    write_oom_score(launched.pid(), score)?;
                }
            }
            let Some(hooks) = hooks else {
                return if namespaces.new_user {
                    Ok(launched.spawned.release()?)
                } else {
                    Ok(())
                };
            };
            if hooks.early() && !namespaces.new_user {
                launched.expect_waiting()?;
            }
            hooks.run_early(&launched)?;
            if namespaces.new_user || hooks.early() {
                launched.spawned.release()?;
            }
            if let Some(socket) = root_socket {
                launched.expect_waiting()?;
                hooks.run_late(&launched, socket, spec)?;
                launched.spawned.release()?;
            }
            Ok(())
        })();
        match accompanied {
            Ok(()) => Ok(launched),
            Err(error) => {
                discard(launched.spawned);
                Err(error)
            }
        }
    }
}

/// What `start` sets off.
fn push_after_start(
    spec: &Spec,
    process: &Process,
    preserve_fds: u32,
    init: Option<OwnedFd>,
    plan: &mut Plan,
) -> Result<(), LaunchError> {
    if preserve_fds > 0 {
        plan.push(Step::KeepDescriptors(preserve_fds));
    }
    let seccomp = spec.linux.as_ref().and_then(|l| l.seccomp.as_ref());
    identity::push_after_start(process, seccomp, true, plan)?;
    let program = candidates(process)?;
    if let Some(init) = init {
        let name = [c_string(INIT)?, c_string("--")?];
        plan.push(Step::UnderInit(Init {
            program: init,
            args: name.into_iter().chain(program.args.clone()).collect(),
            env: program.env.clone(),
        }));
    }
    plan.push(Step::Exec(program));
    Ok(())
}

/// What a failure after the start means, told by the connection that started a
/// container of another process. `steps` is [`Launched::steps`] of then.
pub fn start_failure(
    spec: &Spec,
    steps: usize,
    preserve_fds: u32,
    failure: Failure,
) -> LaunchError {
    let Some(process) = &spec.process else {
        return LaunchError::NoProcess;
    };
    let mut tail = Plan::new();
    if let Err(error) = push_after_start(spec, process, preserve_fds, None, &mut tail) {
        return error;
    }
    let step = (failure.step + tail.steps().len())
        .checked_sub(steps)
        .and_then(|index| tail.steps().get(index));
    LaunchError::from_failure(
        step,
        failure,
        process.args.first().map_or("", String::as_str),
    )
}

/// The hooks between clone and `created`, and what they are told.
#[derive(Debug, Clone, Copy)]
struct CreateHooks<'a> {
    hooks: &'a Hooks,
    state: &'a State,
}

impl<'a> CreateHooks<'a> {
    fn of(spec: &'a Spec, extras: &Extras<'a>) -> Result<Option<Self>, LaunchError> {
        match (&spec.hooks, extras.state) {
            (None, _) => Ok(None),
            (Some(hooks), _) if hooks.is_empty() => Ok(None),
            (Some(hooks), Some(state)) => Ok(Some(CreateHooks { hooks, state })),
            (Some(_), None) => Err(LaunchError::Unsupported(
                "hooks are not supported here".into(),
            )),
        }
    }

    fn early(self) -> bool {
        !self.hooks.prestart.is_empty() || !self.hooks.create_runtime.is_empty()
    }

    fn late(self) -> bool {
        !self.hooks.create_container.is_empty()
    }

    fn state(self, launched: &Launched) -> State {
        State {
            pid: Some(launched.pid()),
            status: Status::Creating,
            ..self.state.clone()
        }
    }

    fn run_early(self, launched: &Launched) -> Result<(), LaunchError> {
        if !self.early() {
            return Ok(());
        }
        let state = self.state(launched);
        let host = hook::Place::Host;
        hook::run("prestart", &self.hooks.prestart, &state, &host)?;
        hook::run("createRuntime", &self.hooks.create_runtime, &state, &host)
    }

    fn run_late(
        self,
        launched: &Launched,
        socket: OwnedFd,
        spec: &Spec,
    ) -> Result<(), LaunchError> {
        let mut trees = Vec::new();
        for _ in &self.hooks.create_container {
            let received = conex_sys::socket::receive(socket.as_fd(), &mut [0; 1]);
            trees.append(&mut received.map_err(LaunchError::hook_socket)?.1);
        }
        let place = hook::Place::WithRoot {
            container: exec::Target {
                pid: launched.pid(),
                pidfd: launched.pidfd(),
            },
            trees: trees.into(),
            at: spec.root.as_ref().map_or(Path::new("/"), |root| &root.path),
        };
        hook::run(
            "createContainer",
            &self.hooks.create_container,
            &self.state(launched),
            &place,
        )
    }
}

fn refuse_unsupported(spec: &Spec) -> Result<(), LaunchError> {
    match &spec.linux {
        Some(linux) if linux.intel_rdt.is_some() => Err(LaunchError::Unsupported(
            "linux.intelRdt is not supported".into(),
        )),
        _ => Ok(()),
    }
}

fn write_oom_score(pid: i32, score: i32) -> Result<(), LaunchError> {
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()).map_err(|e| {
        LaunchError::Step {
            step: format!("set oom_score_adj to {score}"),
            source: Errno::from_io_error(&e).unwrap_or(Errno::IO),
        }
    })
}

/// Ends and reaps a process that must not go on.
fn discard(spawned: Spawned) {
    // It may have ended by itself.
    conex_sys::process::pidfd_signal(spawned.pidfd.as_fd(), libc::SIGKILL).ok();
    conex_sys::child::wait(spawned.pidfd.as_fd()).ok();
}

impl Launched {
    fn new(spawned: Spawned, plan: Plan, process: &Process, warnings: Vec<String>) -> Launched {
        let name = process.args.first().cloned().unwrap_or_default();
        Launched {
            spawned,
            plan,
            name,
            warnings,
        }
    }

    /// Process id in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.spawned.pid
    }

    /// How many steps its plan has, for [`start_failure`].
    pub fn steps(&self) -> usize {
        self.plan.steps().len()
    }

    /// Refers to the container's first process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.spawned.pidfd.as_fd()
    }

    /// Takes the pidfd out.
    pub fn into_pidfd(self) -> OwnedFd {
        self.spawned.pidfd
    }

    /// Waits until the program runs, or until everything but the start is done
    /// when the start waits for a connection.
    ///
    /// Errors: the step that failed. The process is then a zombie to reap.
    pub fn settle(&mut self) -> Result<(), LaunchError> {
        let outcome = self.spawned.outcome()?;
        self.judge(outcome)
    }

    /// Waits for the end of the process and reaps it: its exit code, or 128 +
    /// the signal that killed it.
    pub fn wait(&self) -> Result<i32, LaunchError> {
        conex_sys::child::wait(self.pidfd()).map_err(|source| LaunchError::Step {
            step: "wait for the process".into(),
            source,
        })
    }

    /// Waits for a [`Step::AwaitParent`].
    fn expect_waiting(&mut self) -> Result<(), LaunchError> {
        match self.spawned.outcome()? {
            Outcome::Waiting => Ok(()),
            other => self.judge(other).and(Err(LaunchError::Vanished)),
        }
    }

    fn judge(&self, outcome: Outcome) -> Result<(), LaunchError> {
        match outcome {
            Outcome::Running | Outcome::Created => Ok(()),
            // Every release has been given.
            Outcome::Waiting | Outcome::Vanished => Err(LaunchError::Vanished),
            Outcome::Failed(failure) => Err(LaunchError::from_failure(
                self.plan.failed_step(&failure),
                failure,
                &self.name,
            )),
        }
    }
}

fn push_names(
    spec: &Spec,
    namespaces: &namespaces::Namespaces,
    plan: &mut Plan,
) -> Result<(), LaunchError> {
    let own = |kind| namespaces.is_new(kind);
    if own(NamespaceKind::Uts) {
        if let Some(name) = &spec.hostname {
            plan.push(Step::Hostname(c_string(name)?));
        }
        if let Some(name) = &spec.domainname {
            plan.push(Step::DomainName(c_string(name)?));
        }
    }
    if own(NamespaceKind::Network) {
        plan.push(Step::LoopbackUp);
    }
    Ok(())
}

pub(crate) fn push_stdio(stdio: Stdio, process: &Process, mount_console: bool, plan: &mut Plan) {
    match stdio {
        Stdio::Inherit => {}
        Stdio::Streams {
            stdin,
            stdout,
            stderr,
        } => {
            for (at, fd) in [stdin, stdout, stderr].into_iter().enumerate() {
                plan.push(Step::Stdio(fd, at as i32));
            }
        }
        Stdio::Console(socket) => {
            let size = process.console_size.map(|s| {
                let cells = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
                (cells(s.height), cells(s.width))
            });
            plan.push(Step::Console {
                socket,
                size,
                mount: mount_console,
            });
        }
    }
}

/// Every path that `execvp` would try for the process's program.
pub(crate) fn candidates(process: &Process) -> Result<ExecCandidates, LaunchError> {
    const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let name = process.args.first().ok_or(LaunchError::NoProcess)?;
    let paths = if name.contains('/') {
        vec![c_string(name)?]
    } else if name.is_empty() {
        // Searched for, and never found.
        vec![c_string(name)?; 2]
    } else {
        let path = process
            .env
            .iter()
            .rev()
            .find_map(|e| e.strip_prefix("PATH="));
        let mut paths = Vec::new();
        for dir in path.unwrap_or(DEFAULT_PATH).split(':') {
            let dir = if dir.is_empty() { "." } else { dir };
            paths.push(c_string(&format!("{dir}/{name}"))?);
        }
        // One entry still means "searched": repeat it so that the child tells
        // a search from a path.
        if let [only] = paths.as_slice() {
            paths.push(only.clone());
        }
        paths
    };
    let strings = |list: &[String]| list.iter().map(|s| c_string(s)).collect::<Result<_, _>>();
    Ok(ExecCandidates {
        paths,
        args: strings(&process.args)?,
        env: strings(&process.env)?,
    })
}

pub(crate) fn c_string(text: &str) -> Result<CString, LaunchError> {
    c_bytes(text.as_bytes())
}

pub(crate) fn c_path(path: &Path) -> Result<CString, LaunchError> {
    c_bytes(path.as_os_str().as_bytes())
}

fn c_bytes(bytes: &[u8]) -> Result<CString, LaunchError> {
    CString::new(bytes).map_err(|_| LaunchError::NulByte {
        text: OsStr::from_bytes(bytes).to_string_lossy().into_owned(),
    })
}
