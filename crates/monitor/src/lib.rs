//! The process beside each container.
//!
//! ```text
//!  daemon ══ link (seqpacket: requests, events, descriptors) ══╗
//!  daemon, restarted ── connects to monitor.sock ──────────────╢
//!                                                              ▼
//!  attachers ◄── sockets handed over by the daemon ──────── monitor ──clone3──► PID 1
//!  <id>-json.log ◄── every line ─────────────────────────────  │  ◄── stdout, stderr / pty
//!  exit.json ◄── the exit record, atomically ──────────────────┘
//! ```
//!
//! *Invariants*: single-threaded, no async runtime. It outlives the daemon; a
//! container never notices that a client or the daemon went away. It knows no
//! images, no names and no API: its root file system comes in as a mount
//! descriptor, its configuration as an OCI spec.

mod attach;
mod detach;
mod exec;
mod exit;
mod link;
pub mod protocol;
mod session;
mod start;
mod stdin;
mod supervise;

pub use exit::ExitRecord;
pub use link::{Link, LinkError, listen, receive_event, send_exec, send_request};

use std::os::fd::OwnedFd;

/// Runs a monitor to its end: one container's life.
///
/// `link` is the socket to the daemon on which the start request arrives.
/// Returns when the container has ended and everything it left has been
/// written down and given back.
pub fn run(link: OwnedFd) -> Result<(), LinkError> {
    start::prepare_process();
    let link = Link::new(link);
    let (mut request, fds) = link.receive_start()?;
    match start::start(&mut request, fds) {
        Ok(started) => {
            // From here on the monitor only watches: what the start needed
            // would be carried along for the container's whole life.
            request.spec = conex_spec::runtime::Spec::default();
            conex_sys::memory::trim();
            supervise::run(&request, started, link)
        }
        Err(failure) => {
            // The daemon may be gone: then nobody waits for this answer.
            let _unheard = link.send(&protocol::Event::Failed(failure), &[]).is_err();
            Ok(())
        }
    }
}
