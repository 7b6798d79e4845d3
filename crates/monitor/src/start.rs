//! From the start request to a running program.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use conex_logs::json_file::Writer;
use conex_runtime::cgroup::{Cgroup, Layout};
use conex_runtime::launch::{Launch, Launched, Start, Stdio};
use conex_sys::{process, socket};
use rustix::net::SocketType;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::exit::now_ns;
use crate::protocol::{self, LogFile, StartFailure, StartRequest, Started, Stdin, Streams};

/// Where the container's output comes from.
#[derive(Debug)]
pub(crate) enum Output {
    /// Two pipes.
    Pipes {
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    },
    /// The master of its terminal, which also takes the input.
    Terminal(Option<OwnedFd>),
}

/// A container that runs, and everything the monitor holds for it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) hello: Started,
    pub(crate) pidfd: OwnedFd,
    pub(crate) signals: OwnedFd,
    pub(crate) listener: OwnedFd,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) output: Output,
    pub(crate) log: Option<Writer>,
    pub(crate) attachers: Vec<(Streams, OwnedFd)>,
    pub(crate) cgroup: Option<Cgroup>,
    /// Keeps the root's file system mounted past the exit report: its
    /// unmounting may sync a whole disk.
    pub(crate) root: OwnedFd,
}

/// Detaches this process from whatever started it.
pub(crate) fn prepare_process() {
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
    request: &StartRequest,
    mut fds: Vec<OwnedFd>,
) -> Result<Running, StartFailure> {
    if request.version != protocol::VERSION {
        return Err(failure(format!(
            "the daemon speaks monitor protocol {}, this monitor speaks {}",
            request.version,
            protocol::VERSION
        )));
    }
    if fds.len() != 1 + request.attach.len() {
        return Err(failure("the start request came without its descriptors".into()));
    }
    let root = fds.remove(0);
    let attachers = request.attach.iter().copied().zip(fds).collect();
    let signals = process::signal_descriptor(&[libc::SIGCHLD])
        .map_err(|e| failure(format!("watch for child signals: {e}")))?;
    let listener = listen(request).map_err(|e| failure(format!("listen in the run directory: {e}")))?;
    let log = request.log.as_ref().map(open_log).transpose()?;

    let mut warnings = Vec::new();
    let mut cgroup = make_cgroup(request, &mut warnings)?;
    match launch(request, &root, cgroup.as_ref()) {
        Ok((launched, stdin, output)) => {
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
                stdin,
                output,
                log,
                attachers,
                cgroup,
                root,
            })
        }
        Err(failed) => {
            let _gone = fs::remove_file(request.run_dir.join("monitor.sock")).is_err();
            if let Some(cgroup) = cgroup.take() {
                let _left = cgroup.remove().is_err();
            }
            Err(failed)
        }
    }
}

fn failure(message: String) -> StartFailure {
    StartFailure { message, exit_code: 128 }
}

fn listen(request: &StartRequest) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    // The directory's descriptor keeps the address short: sun_path holds 108
    // bytes, a data root may be deeper.
    let dir = open(&request.run_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/monitor.sock", dir.as_raw_fd());
    let _absent = fs::remove_file(&path).is_err();
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(path.as_str())?)?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

fn open_log(log: &LogFile) -> Result<Writer, StartFailure> {
    Writer::open(&log.path, &log.options).map_err(|e| {
        failure(format!("failed to initialize logging driver: open {}: {e}", log.path.display()))
    })
}

fn make_cgroup(
    request: &StartRequest,
    warnings: &mut Vec<String>,
) -> Result<Option<Cgroup>, StartFailure> {
    let Some(linux) = &request.spec.linux else { return Ok(None) };
    let Some(path) = &linux.cgroups_path else { return Ok(None) };
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

type Launching = (Launched, Option<OwnedFd>, Output);

fn launch(
    request: &StartRequest,
    root: &OwnedFd,
    cgroup: Option<&Cgroup>,
) -> Result<Launching, StartFailure> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| failure(format!("make a pipe: {e}")));
    let terminal = request.spec.process.as_ref().is_some_and(|p| p.terminal);
    let root = root.try_clone().map_err(|e| failure(format!("duplicate the root: {e}")))?;
    let run = |stdio| -> Result<Launched, StartFailure> {
        let launch = Launch { spec: &request.spec, root, stdio, cgroup, start: Start::Now };
        let refused = |error: &conex_runtime::launch::LaunchError| StartFailure {
            message: error.report(),
            exit_code: error.exit_code(),
        };
        let mut launched = launch.spawn().map_err(|e| refused(&e))?;
        launched.settle().map_err(|e| {
            let _dead = process::pidfd_signal(launched.pidfd(), libc::SIGKILL).is_err();
            wait_gone(launched.pid(), launched.pidfd());
            refused(&e)
        })?;
        Ok(launched)
    };
    if terminal {
        let (ours, theirs) = socket::pair(SocketType::SEQPACKET)
            .map_err(|e| failure(format!("make a console socket: {e}")))?;
        let launched = run(Stdio::Console(theirs))?;
        let (_, mut masters) = socket::receive(ours.as_fd(), &mut [0; 8])
            .map_err(|e| failure(format!("receive the console: {e}")))?;
        let master = masters.pop().ok_or_else(|| failure("the console did not arrive".into()))?;
        non_blocking(&master);
        return Ok((launched, None, Output::Terminal(Some(master))));
    }
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let (stdin_end, stdin) = match request.stdin {
        Stdin::Closed => (open_null()?, None),
        Stdin::Open | Stdin::Once => {
            let (read, write) = pipe()?;
            non_blocking(&write);
            (read, Some(write))
        }
    };
    non_blocking(&stdout);
    non_blocking(&stderr);
    let launched = run(Stdio::Streams { stdin: stdin_end, stdout: stdout_end, stderr: stderr_end })?;
    Ok((launched, stdin, Output::Pipes { stdout: Some(stdout), stderr: Some(stderr) }))
}

fn open_null() -> Result<OwnedFd, StartFailure> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failure(format!("open /dev/null: {e}")))
}

/// Waits for a killed child to be gone.
fn wait_gone(pid: i32, pidfd: std::os::fd::BorrowedFd<'_>) {
    let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    while matches!(rustix::event::poll(&mut fds, None), Err(rustix::io::Errno::INTR)) {}
    let _reaped = process::reap(pid).is_err();
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
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
