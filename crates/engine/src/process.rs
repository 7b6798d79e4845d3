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
        .spawn()?;
    // Buried by `bury_children`.
    drop(child);
    Ok(Link::new(ours))
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
