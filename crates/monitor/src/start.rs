//! From the start request to a running program.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use conex_logs::json_file::Writer;
use conex_runtime::cgroup::{Cgroup, Layout};
use conex_runtime::launch::{Launch, Launched, Start};
use conex_spec::runtime::{NamespaceKind, Spec};
use conex_sys::process;

use rustix::event::PollFlags;

use crate::exit::now_ns;
use crate::protocol::{self, LogFile, StartFailure, StartRequest, Started};
use crate::session::{self, Session, Wiring};

/// A container that runs, and everything the monitor holds for it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) hello: Started,
    pub(crate) pidfd: OwnedFd,
    pub(crate) signals: OwnedFd,
    pub(crate) listener: OwnedFd,
    pub(crate) session: Session,
    pub(crate) log: Option<Writer>,
    pub(crate) cgroup: Option<Cgroup>,
    /// Tells of the out-of-memory killer, where memory is limited.
    pub(crate) oom: Option<(OwnedFd, PollFlags)>,
    /// Keeps the root's file system mounted past the exit report: its
    /// unmounting may sync a whole disk.
    pub(crate) root: OwnedFd,
}

/// Detaches this process from whatever started it.
pub(crate) fn prepare_process() {
    // Whoever started the daemon may have left it descriptors of its own.
    process::close_inherited_from(3);
    // Fails only for a group leader, which a spawned process is not.
    let _leader = rustix::process::setsid().is_err();
    let _name = rustix::thread::set_name(c"conex-monitor").is_err();
    let own = rustix::process::getpid();
    // Orphans of a container in the host's pid namespace come to us.
    let _no_subreaper = rustix::process::set_child_subreaper(Some(own)).is_err();
    let _kept_cwd = rustix::process::chdir(c"/").is_err();
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
        process::ignore_signal(signal);
    }
}

/// Starts the container.
///
/// On failure nothing is left: no process, no cgroup, no socket.
pub(crate) fn start(
    request: &mut StartRequest,
    fds: Vec<OwnedFd>,
) -> Result<Running, StartFailure> {
    let mut cgroup = None;
    let started = try_start(request, fds, &mut cgroup);
    if started.is_err() {
        let _gone = fs::remove_file(request.run_dir.join("monitor.sock")).is_err();
        if let Some(cgroup) = cgroup {
            let _left = cgroup.kill().and_then(|()| cgroup.remove()).is_err();
        }
    }
    started
}

fn try_start(
    request: &mut StartRequest,
    mut fds: Vec<OwnedFd>,
    made: &mut Option<Cgroup>,
) -> Result<Running, StartFailure> {
    if request.version != protocol::VERSION {
        return Err(failure(format!(
            "the daemon speaks monitor protocol {}, this monitor speaks {}",
            request.version,
            protocol::VERSION
        )));
    }
    if fds.len() != 2 + usize::from(request.network) + request.attach.len() {
        return Err(failure(
            "the start request came without its descriptors".into(),
        ));
    }
    let root = fds.remove(0);
    let listener = fds.remove(0);
    // Open until the container is in it: nothing else keeps it alive.
    let network = request.network.then(|| fds.remove(0));
    if let Some(network) = &network {
        enter_network(&mut request.spec, network);
    }
    let attachers = request.attach.iter().cloned().zip(fds);
    let signals = process::signal_descriptor(&[libc::SIGCHLD])
        .map_err(|e| failure(format!("watch for child signals: {e}")))?;
    let log = request.log.as_ref().map(open_log).transpose()?;

    let mut warnings = Vec::new();
    *made = make_cgroup(request, &mut warnings)?;
    let (launched, mut session) = launch(request, &root, made.as_ref())?;
    drop(network);
    let raw = session.is_terminal();
    for (wanted, socket) in attachers {
        session.attach(socket, wanted, raw, &[]);
    }
    warnings.extend(launched.warnings.iter().cloned());
    let hello = Started {
        version: protocol::VERSION,
        id: request.id.clone(),
        pid: launched.pid(),
        monitor_pid: rustix::process::getpid().as_raw_nonzero().get(),
        started_ns: now_ns(),
        warnings,
    };
    for (link, below) in &request.proc_links {
        // A convenience for tools; its absence harms nobody.
        let _absent = fs::remove_file(link).is_err();
        let target = format!("/proc/{}/{below}", hello.pid);
        let _unmade = std::os::unix::fs::symlink(target, link).is_err();
    }
    Ok(Running {
        hello,
        pidfd: launched.into_pidfd(),
        signals,
        listener,
        session,
        log,
        oom: oom_events(request, made.as_ref()),
        cgroup: made.take(),
        root,
    })
}

pub(crate) fn failure(message: String) -> StartFailure {
    StartFailure {
        message,
        exit_code: 128,
    }
}

/// Has the container enter a namespace that this process holds.
fn enter_network(spec: &mut Spec, namespace: &OwnedFd) {
    let all = spec.linux.iter_mut().flat_map(|l| l.namespaces.iter_mut());
    for entry in all.filter(|entry| entry.kind == NamespaceKind::Network) {
        let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        entry.path = Some(path.into());
    }
}

fn open_log(log: &LogFile) -> Result<Writer, StartFailure> {
    Writer::open(&log.path, &log.options).map_err(|e| {
        failure(format!(
            "failed to initialize logging driver: open {}: {e}",
            log.path.display()
        ))
    })
}

fn make_cgroup(
    request: &StartRequest,
    warnings: &mut Vec<String>,
) -> Result<Option<Cgroup>, StartFailure> {
    let Some(linux) = &request.spec.linux else {
        return Ok(None);
    };
    let Some(path) = &linux.cgroups_path else {
        return Ok(None);
    };
    let limits = linux.resources.clone().unwrap_or_default();
    let made = Layout::detect().and_then(|layout| Cgroup::create(&layout, path, &limits));
    match made {
        Ok((cgroup, words)) => {
            warnings.extend(words);
            Ok(Some(cgroup))
        }
        Err(error) => Err(failure(format!("cgroup {path}: {}", chain(&error)))),
    }
}

/// Where no limit of its own makes the killer strike, its count at the end is enough.
fn oom_events(request: &StartRequest, cgroup: Option<&Cgroup>) -> Option<(OwnedFd, PollFlags)> {
    let resources = request.spec.linux.as_ref()?.resources.as_ref()?;
    resources
        .memory
        .as_ref()?
        .limit
        .filter(|limit| *limit > 0)?;
    cgroup?.oom_events().ok()?
}

fn launch(
    request: &StartRequest,
    root: &OwnedFd,
    cgroup: Option<&Cgroup>,
) -> Result<(Launched, Session), StartFailure> {
    let terminal = request.spec.process.as_ref().is_some_and(|p| p.terminal);
    let root = root
        .try_clone()
        .map_err(|e| failure(format!("duplicate the root: {e}")))?;
    let init = match request.init {
        // Of the sealed copy that this process runs from.
        true => Some(own_executable().map_err(|e| failure(format!("open the init: {e}")))?),
        false => None,
    };
    let run = |stdio| -> Result<Launched, StartFailure> {
        let launch = Launch {
            spec: &request.spec,
            root,
            stdio,
            cgroup,
            start: Start::Now,
            init,
        };
        let refused = |error: &conex_runtime::launch::LaunchError| StartFailure {
            message: error.report(),
            exit_code: error.exit_code(),
        };
        let mut launched = launch.spawn().map_err(|e| refused(&e))?;
        launched.settle().map_err(|e| {
            end_now(&launched);
            refused(&e)
        })?;
        Ok(launched)
    };
    let wiring = Wiring {
        terminal,
        stdin: request.stdin,
        has_readers: true,
    };
    let (launched, pipe, output) = session::connect(wiring, run)?;
    let mut session = Session::new(output, pipe, request.stdin);
    session.hold_terminal();
    Ok((launched, session))
}

fn own_executable() -> Result<OwnedFd, rustix::io::Errno> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(c"/proc/self/exe", flags, Mode::empty())
}

/// Kills a process that nobody will use, and waits until it is gone.
pub(crate) fn end_now(launched: &Launched) {
    let _dead = process::pidfd_signal(launched.pidfd(), libc::SIGKILL).is_err();
    let pidfd = launched.pidfd();
    let mut fds = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    while matches!(
        rustix::event::poll(&mut fds, None),
        Err(rustix::io::Errno::INTR)
    ) {}
    let _reaped = process::reap(launched.pid()).is_err();
}

/// Descriptors of our own making accept this; a failure would only block.
pub(crate) fn non_blocking(fd: &OwnedFd) {
    let _blocking = rustix::io::ioctl_fionbio(fd, true).is_err();
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        let errno = error
            .downcast_ref()
            .and_then(rustix::io::Errno::from_io_error);
        text.push_str(&errno.map_or_else(|| error.to_string(), conex_sys::describe));
        cause = error.source();
    }
    text
}
