//! Spawning monitors, and burying them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use conex_monitor::Link;
use conex_sys::socket;
use rustix::net::SocketType;
use tokio::signal::unix::{SignalKind, signal};

/// Spawns a monitor from the sealed executable and returns the link to it.
///
/// `posix_spawn` shares the address space until the exec, so the size of this
/// process costs nothing.
pub(crate) fn spawn_monitor(executable: &OwnedFd, id: &str) -> std::io::Result<Link> {
    let (ours, theirs) = socket::pair(SocketType::SEQPACKET)?;
    let program = format!("/proc/self/fd/{}", executable.as_fd().as_raw_fd());
    let child = Command::new(program)
        .arg0("conex")
        .args(["monitor", id])
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        // Nothing of the engine's own: a monitor outlives whoever reads that.
        .stderr(Stdio::null())
        .spawn()?;
    // Buried by `bury_children`.
    drop(child);
    Ok(Link::new(ours))
}

/// Kills the monitor of a container, if there is one: it does not answer.
pub(crate) fn kill_monitor(id: &str) {
    let wanted = format!("conex\0monitor\0{id}\0");
    let is_it = |pid: i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Some(process) = rustix::process::Pid::from_raw(pid).filter(|_| is_it(pid)) else {
            continue;
        };
        let opened = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty());
        // The number may have changed hands before it was opened.
        if let Ok(pidfd) = opened
            && is_it(pid)
        {
            tracing::warn!(
                container = id,
                pid,
                "its monitor does not answer and is killed"
            );
            let _ended = conex_sys::process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).is_err();
        }
    }
}

/// Reaps every child that ends: all of them are monitors.
pub(crate) fn bury_children() -> std::io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    tokio::spawn(async move {
        while ended.recv().await.is_some() {
            while let Ok(Some(_)) = conex_sys::process::reap(-1) {}
        }
    });
    Ok(())
}
