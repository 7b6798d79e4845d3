//! Starting the default engine when a command finds none.
//!
//! The daemon is this same binary, detached, with the same roots. Clients queue on a lock file
//! beside the socket: the first one starts the daemon and waits for the word `ready` on a pipe that
//! is the daemon's standard output; the others find it running when their turn comes. What a
//! daemon that did not come up had to say is at the end of its log file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conex_client::{Client, Host};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};

use super::variable;
use crate::context::Context;
use crate::error::CliError;

/// Set to anything but `0` to have no engine started.
const DISABLE: &str = "CONEX_NO_AUTOSTART";
/// Where an engine keeps its data when nobody says otherwise.
const DEFAULT_DATA_ROOT: &str = "/var/lib/conex";
/// The line a daemon writes when it listens.
const READY: &[u8] = b"ready\n";
/// How long a daemon may take: restoring thousands of containers included.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of the log a failed start shows.
const LOG_TAIL_BYTES: u64 = 4 << 10;

/// How the daemon would be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Serialises the clients that find no engine.
    lock: PathBuf,
    /// Takes the daemon's standard error.
    log: PathBuf,
    /// The daemon's arguments.
    args: Vec<String>,
}

/// How to start an engine at `host`, unless it is not ours to start.
pub(super) fn plan(host: &Host) -> Option<Plan> {
    if variable(DISABLE).is_some_and(|value| value != "0") {
        return None;
    }
    let data_root = variable("CONEX_DATA_ROOT");
    let is_root = rustix::process::geteuid().is_root();
    // Without privilege and without a place of one's own there is nothing to start.
    if !is_root && data_root.is_none() {
        return None;
    }
    Plan::new(host, data_root, variable("CONEX_EXEC_ROOT"))
}

impl Plan {
    fn new(host: &Host, data_root: Option<String>, exec_root: Option<String>) -> Option<Self> {
        let Host::Unix(socket) = host else {
            return None;
        };
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let socket = absolute(socket);
        let mut lock = socket.clone().into_os_string();
        lock.push(".autostart");
        let mut args = vec!["daemon".to_owned(), "--auto-start".to_owned()];
        args.extend(["-H".to_owned(), format!("unix://{}", socket.display())]);
        for (flag, root) in [("--data-root", &data_root), ("--exec-root", &exec_root)] {
            if let Some(root) = root {
                args.extend([
                    flag.to_owned(),
                    absolute(Path::new(root)).display().to_string(),
                ]);
            }
        }
        let data_root = data_root.map_or_else(
            || PathBuf::from(DEFAULT_DATA_ROOT),
            |root| absolute(Path::new(&root)),
        );
        Some(Self {
            lock: lock.into(),
            log: data_root.join("daemon.log"),
            args,
        })
    }
}

/// Connects to an engine that is started for it, by us or by another client at the same moment.
///
/// # Errors
/// The first failure to connect, with what the daemon said about it.
pub(super) fn start(
    ctx: &Context,
    host: &Host,
    plan: &Plan,
    absent: conex_client::Error,
) -> Result<Client, CliError> {
    let failed = |why: String| {
        CliError::message(format!("{absent}\nthe daemon could not be started: {why}"))
    };
    // Held until the daemon answers or has failed; the kernel drops it with us.
    let _turn = lock(&plan.lock).map_err(|e| failed(format!("{}: {e}", plan.lock.display())))?;
    if let Ok(client) = ctx.block_on(Client::connect(host)) {
        return Ok(client);
    }
    spawn(plan, Path::new("/proc/self/exe")).map_err(failed)?;
    Ok(ctx.block_on(Client::connect(host))?)
}

fn lock(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Starts the daemon and returns once it listens; otherwise what it said.
fn spawn(plan: &Plan, binary: &Path) -> Result<(), String> {
    let mut log = open_log(&plan.log).ok();
    let seen = log
        .as_mut()
        .and_then(|log| log.seek(SeekFrom::End(0)).ok())
        .unwrap_or(0);
    let stderr = log
        .as_ref()
        .and_then(|log| log.try_clone().ok())
        .map_or_else(Stdio::null, Stdio::from);
    let mut child = Command::new(binary)
        .arg0("conex")
        .args(&plan.args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        // Out of the terminal's foreground group: Ctrl-C is meant for this command.
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut ready = child
        .stdout
        .take()
        .expect("standard output was made a pipe");
    match wait_ready(&mut ready) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let status = child.wait().map_err(|error| error.to_string())?;
            let said = log.and_then(|log| tail(log, seen).ok()).unwrap_or_default();
            Err(if said.trim().is_empty() {
                status.to_string()
            } else {
                said.trim().to_owned()
            })
        }
        Err(error) => Err(error.to_string()),
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o640)
        .open(path)
}

/// Whether the pipe brought the word before its end.
fn wait_ready(pipe: &mut std::process::ChildStdout) -> io::Result<bool> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut said = Vec::new();
    let mut piece = [0; 64];
    while said.len() < 4096 {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&*pipe, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "it did not get ready within 60 seconds",
                ));
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let len = pipe.read(&mut piece)?;
        if len == 0 {
            return Ok(false);
        }
        said.extend_from_slice(&piece[..len]);
        if said.windows(READY.len()).any(|window| window == READY) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What was written to the log since it had `from` bytes, its last part.
fn tail(mut log: File, from: u64) -> io::Result<String> {
    let end = log.seek(SeekFrom::End(0))?;
    log.seek(SeekFrom::Start(
        from.max(end.saturating_sub(LOG_TAIL_BYTES)),
    ))?;
    let mut bytes = Vec::new();
    log.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A plan whose "daemon" is a shell script.
    fn script(dir: &Path, body: &str) -> (Plan, PathBuf) {
        let path = dir.join("daemon.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let host = Host::Unix(dir.join("conex.sock"));
        (
            Plan::new(&host, Some(dir.join("data").display().to_string()), None).unwrap(),
            path,
        )
    }

    #[test]
    fn the_daemon_gets_the_socket_and_the_roots() {
        let host = Host::Unix("/tmp/x/conex.sock".into());
        let plan = Plan::new(&host, Some("/tmp/d".into()), Some("/tmp/x".into())).unwrap();
        assert_eq!(
            plan.args,
            [
                "daemon",
                "--auto-start",
                "-H",
                "unix:///tmp/x/conex.sock",
                "--data-root",
                "/tmp/d",
                "--exec-root",
                "/tmp/x"
            ]
        );
        assert_eq!(plan.lock, Path::new("/tmp/x/conex.sock.autostart"));
        assert_eq!(plan.log, Path::new("/tmp/d/daemon.log"));
        assert_eq!(Plan::new(&Host::Tcp("a:1".into()), None, None), None);
    }

    #[test]
    fn a_daemon_that_says_ready_is_left_running() {
        let dir = tempfile::tempdir().unwrap();
        let (plan, binary) = script(dir.path(), "echo starting >&2; echo ready");
        assert_eq!(spawn(&plan, &binary), Ok(()));
        let log = std::fs::read_to_string(&plan.log).unwrap();
        assert!(log.starts_with("starting\n"), "{log}");
    }

    #[test]
    fn a_daemon_that_fails_is_quoted_without_its_older_words() {
        let dir = tempfile::tempdir().unwrap();
        let (plan, binary) = script(dir.path(), "echo 'address in use' >&2; exit 1");
        std::fs::create_dir_all(plan.log.parent().unwrap()).unwrap();
        std::fs::write(&plan.log, "old words\n").unwrap();
        assert_eq!(spawn(&plan, &binary), Err("address in use".into()));
    }

    #[test]
    fn a_daemon_that_fails_silently_shows_its_status() {
        let dir = tempfile::tempdir().unwrap();
        let (plan, binary) = script(dir.path(), "exit 3");
        assert_eq!(spawn(&plan, &binary), Err("exit status: 3".into()));
        assert!(spawn(&plan, Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn clients_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/lock");
        let first = lock(&path).unwrap();
        let second = OpenOptions::new().write(true).open(&path).unwrap();
        let busy = flock(&second, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(busy, Err(rustix::io::Errno::WOULDBLOCK));
        drop(first);
        assert_eq!(
            flock(&second, FlockOperation::NonBlockingLockExclusive),
            Ok(())
        );
    }
}
