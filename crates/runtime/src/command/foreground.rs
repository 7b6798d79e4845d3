//! Staying with a process: signals go on to it, its terminal to ours, and its
//! exit code back. It must not know containers.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::Error;

/// `struct signalfd_siginfo`.
const SIGINFO_BYTES: usize = 128;

/// A process that is ready to stay with another one.
#[derive(Debug)]
pub(super) struct Foreground {
    signals: OwnedFd,
}

/// An exit status holds eight bits.
pub(super) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

impl Foreground {
    /// Collects signals from now on. Call before the other process is made, so
    /// that none is lost.
    pub(super) fn prepare() -> Result<Foreground, Error> {
        // Not those that are about this process itself.
        const OWN: [i32; 13] = [
            libc::SIGKILL,
            libc::SIGSTOP,
            libc::SIGCHLD,
            libc::SIGPIPE,
            libc::SIGURG,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGSYS,
            libc::SIGTTIN,
            libc::SIGTTOU,
        ];
        let forwarded: Vec<i32> = (1..=31)
            .chain(34..=64)
            .filter(|n| !OWN.contains(n))
            .collect();
        let signals = conex_sys::process::signal_descriptor(&forwarded)
            .map_err(|e| Error::io("watch", "signals", e))?;
        Ok(Foreground { signals })
    }

    /// Stays with a child until it ends, and reaps it: its exit code, or 128 +
    /// the signal that killed it.
    pub(super) fn wait(self, process: OwnedFd, terminal: Option<OwnedFd>) -> Result<i32, Error> {
        let failed = |e: Errno| Error::io("wait for", "the process", e);
        let mut relay = terminal.map(Relay::new).transpose().map_err(failed)?;
        loop {
            let mut fds = vec![
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(&process, PollFlags::IN),
            ];
            let input = stdin();
            if let Some(relay) = &relay {
                fds.push(PollFd::new(&relay.master, relay.interest()));
                if relay.wants_input() {
                    fds.push(PollFd::new(&input, PollFlags::IN));
                }
            }
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => other.map_err(failed)?,
            };
            let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            if let Some(relay) = &mut relay {
                relay.turn(
                    ready[2],
                    ready.get(3).copied().unwrap_or(PollFlags::empty()),
                );
            }
            if !ready[0].is_empty() {
                self.forward(&process, relay.as_ref());
            }
            if !ready[1].is_empty() {
                break;
            }
        }
        if let Some(relay) = &mut relay {
            relay.drain();
        }
        conex_sys::child::wait(process.as_fd()).map_err(failed)
    }

    fn forward(&self, process: &OwnedFd, relay: Option<&Relay>) {
        let mut info = [0; SIGINFO_BYTES];
        while let Ok(SIGINFO_BYTES) = rustix::io::read(&self.signals, &mut info) {
            let signal = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            match relay {
                Some(relay) if signal == libc::SIGWINCH => relay.resize(),
                // It may have ended, which the next turn sees.
                _ => drop(conex_sys::process::pidfd_signal(process.as_fd(), signal)),
            }
        }
    }
}

/// Between our terminal, in raw mode, and the container's.
#[derive(Debug)]
struct Relay {
    master: OwnedFd,
    open: bool,
    input_open: bool,
    pending: Vec<u8>,
    before: Option<Termios>,
}

impl Relay {
    fn new(master: OwnedFd) -> Result<Relay, Errno> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        }
        let relay = Relay {
            master,
            open: true,
            input_open: true,
            pending: Vec::new(),
            before,
        };
        relay.resize();
        Ok(relay)
    }

    /// The container's terminal gets the size of ours, if we have one.
    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(stdin()).or_else(|_| tcgetwinsize(stdout())) {
            tcsetwinsize(&self.master, size).ok();
        }
    }

    fn interest(&self) -> PollFlags {
        let out = if self.pending.is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::OUT
        };
        if self.open {
            PollFlags::IN | out
        } else {
            PollFlags::empty()
        }
    }

    fn wants_input(&self) -> bool {
        self.open && self.input_open && self.pending.is_empty()
    }

    fn turn(&mut self, master: PollFlags, input: PollFlags) {
        let mut buffer = [0; 32 << 10];
        if !input.is_empty() {
            match rustix::io::read(stdin(), &mut buffer) {
                Ok(0) => self.input_open = false,
                Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.input_open = false,
            }
        }
        if !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.pending.clear(),
            }
        }
        if master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.copy_out(&mut buffer);
        }
    }

    /// Copies one piece of output; `false` when there is no more for now.
    fn copy_out(&mut self, buffer: &mut [u8]) -> bool {
        match rustix::io::read(&self.master, &mut *buffer) {
            Ok(n) if n > 0 => {
                let mut rest = &buffer[..n];
                while !rest.is_empty() {
                    match rustix::io::write(stdout(), rest) {
                        Ok(n) => rest = &rest[n..],
                        Err(Errno::INTR) => {}
                        // Nobody reads us any more.
                        Err(_) => break,
                    }
                }
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            // The last process that had the terminal is gone (EIO).
            Ok(_) | Err(_) => {
                self.open = false;
                false
            }
        }
    }

    fn drain(&mut self) {
        let mut buffer = [0; 32 << 10];
        while self.open && self.copy_out(&mut buffer) {}
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            tcsetattr(stdin(), OptionalActions::Now, before).ok();
        }
    }
}
