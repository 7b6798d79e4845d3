//! One more program in the running container: a forked child of this process
//! with streams of its own, and its end kept until a daemon has taken it. It
//! must not know the container's own program.
//!
//! ```text
//!  runs ──ends──► drain what it wrote ► ExecExited ──ExecTaken──► attachers closed
//!       ► pipes read to their end for processes it left behind ► forgotten
//! ```
//!
//! The attachers wait for `ExecTaken`: whoever saw the output end and asks for
//! the exit code finds it.

use std::os::fd::{AsFd, OwnedFd};

use conex_logs::Stream;
use conex_runtime::launch::{self, LaunchError, Launched};
use rustix::event::PollFlags;

use crate::exit::now_ns;
use crate::protocol::{Event, ExecExit, ExecRequest, ExecStarted, StartFailure, Stdin};
use crate::session::{self, Ready, Session, Wiring};
use crate::start::Running;

/// Ended execs that are kept while no daemon takes them.
const MAX_REMEMBERED: usize = 256;

/// The longest reason for a failed start, in bytes.
const MAX_REASON: usize = 8 * 1024;

/// Docker's code for everything that is not the program's fault.
const NOT_STARTED: i32 = 126;

/// A program that was started in the container.
#[derive(Debug)]
pub(crate) struct Exec {
    started: ExecStarted,
    session: Session,
    exit: Option<ExecExit>,
    taken: bool,
}

impl Exec {
    /// Starts it. Nothing of a failed one is left but a zombie for the reaper.
    pub(crate) fn start(
        request: ExecRequest,
        socket: Option<OwnedFd>,
        running: &Running,
    ) -> Result<Exec, StartFailure> {
        let ExecRequest {
            id,
            process,
            seccomp,
            attach,
            raw,
            note,
        } = request;
        let takes_input = attach.as_ref().is_some_and(|attach| attach.streams.stdin);
        let stdin = if takes_input {
            Stdin::Once
        } else {
            Stdin::Closed
        };
        let wiring = Wiring {
            terminal: process.terminal,
            stdin,
            has_readers: attach.is_some(),
        };
        let run = |stdio| -> Result<Launched, LaunchError> {
            let mut launched = launch::exec::Exec {
                container: launch::exec::Target {
                    pid: running.hello.pid,
                    pidfd: running.pidfd.as_fd(),
                },
                process: &process,
                seccomp: seccomp.as_ref(),
                stdio,
                cgroup: running.cgroup.as_ref(),
                preserve_fds: 0,
            }
            .spawn()?;
            launched.settle()?;
            Ok(launched)
        };
        let (launched, pipe, output) =
            session::connect(wiring, |stdio| run(stdio).map_err(|e| refused(&e)))?;
        let mut session = Session::new(output, pipe, stdin);
        if let (Some(wanted), Some(socket)) = (attach, socket) {
            session.attach(socket, wanted, raw, &[]);
        }
        let started = ExecStarted {
            id,
            pid: launched.pid(),
            note,
        };
        Ok(Exec {
            started,
            session,
            exit: None,
            taken: false,
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.started.id
    }

    /// Its process, while that is not reaped.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.exit.is_none().then_some(self.started.pid)
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// What a daemon is told of it when it connects.
    pub(crate) fn story(&self) -> impl Iterator<Item = Event> + use<> {
        let started = (!self.taken).then(|| Event::ExecStarted(self.started.clone()));
        let exit = self
            .exit
            .clone()
            .filter(|_| !self.taken)
            .map(Event::ExecExited);
        started.into_iter().chain(exit)
    }

    pub(crate) fn serve(&mut self, ready: Ready, events: PollFlags, buffer: &mut [u8]) {
        self.session
            .serve(ready, events, buffer, &mut |_: Stream, _: &[u8]| {});
    }

    /// What to tell of attachers that left by their keys.
    fn detachments(&mut self) -> impl Iterator<Item = Event> + use<> {
        let event = Event::Detached {
            exec: Some(self.started.id.clone()),
        };
        std::iter::repeat_n(event, self.session.take_detached())
    }

    /// Its process has ended: what to tell the daemon.
    pub(crate) fn ended(&mut self, exit_code: i32, buffer: &mut [u8]) -> Event {
        self.session.drain(buffer, &mut |_: Stream, _: &[u8]| {});
        let exit = ExecExit {
            id: self.started.id.clone(),
            exit_code,
            finished_ns: now_ns(),
        };
        Event::ExecExited(self.exit.insert(exit).clone())
    }

    /// A daemon knows how it ended.
    pub(crate) fn taken(&mut self) {
        self.taken = self.exit.is_some();
    }

    /// Tidies up after a turn; says whether it is still needed.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.session.forget_gone();
        if self.taken {
            self.session.close_served();
        }
        !(self.taken && self.session.is_over())
    }

    pub(crate) fn into_session(self) -> Session {
        self.session
    }
}

/// Drops what needs no more attention, and of the ends that nobody takes the
/// oldest.
///
/// `told` is called for every attacher that left by its keys.
pub(crate) fn tidy(execs: &mut Vec<Exec>, told: &mut dyn FnMut(&Event)) {
    execs.retain_mut(|exec| {
        let goes_on = exec.goes_on();
        exec.detachments().for_each(|event| told(&event));
        goes_on
    });
    let unheard = |exec: &Exec| exec.exit.is_some() && !exec.taken;
    let mut surplus = execs
        .iter()
        .filter(|e| unheard(e))
        .count()
        .saturating_sub(MAX_REMEMBERED);
    execs.retain(|exec| {
        let goes = surplus > 0 && unheard(exec);
        surplus -= usize::from(goes);
        !goes
    });
}

fn refused(error: &LaunchError) -> StartFailure {
    let exit_code = match error.exit_code() {
        127 => 127,
        _ => NOT_STARTED,
    };
    let mut message = error.report();
    // A program's name may be as long as a whole message.
    message.truncate(message.floor_char_boundary(MAX_REASON));
    StartFailure { message, exit_code }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Attach;
    use crate::session::Output;
    use rustix::net::SocketType;

    fn exec(id: &str) -> Exec {
        let output = Output::Pipes {
            stdout: None,
            stderr: None,
        };
        Exec {
            started: ExecStarted {
                id: id.into(),
                pid: 7,
                note: "n".into(),
            },
            session: Session::new(output, None, Stdin::Closed),
            exit: None,
            taken: false,
        }
    }

    #[test]
    fn attachers_stay_until_the_exit_code_is_known_to_the_daemon() {
        let (ours, client) = conex_sys::socket::pair(SocketType::STREAM).unwrap();
        crate::start::non_blocking(&client);
        let mut exec = exec("e");
        exec.session.attach(ours, Attach::default(), true, &[]);
        exec.taken();
        assert!(exec.goes_on(), "it runs");
        assert!(
            matches!(exec.ended(3, &mut [0; 8]), Event::ExecExited(exit) if exit.exit_code == 3)
        );
        assert!(exec.goes_on());
        let closed = || rustix::io::read(&client, &mut [0; 8]);
        assert_eq!(closed(), Err(rustix::io::Errno::AGAIN));
        exec.taken();
        assert!(!exec.goes_on());
        assert_eq!(closed(), Ok(0));
    }

    #[test]
    fn a_new_daemon_hears_of_what_runs_and_of_ends_not_taken() {
        let mut exec = exec("e");
        let told = |exec: &Exec| exec.story().count();
        assert_eq!((told(&exec), exec.pid()), (1, Some(7)));
        exec.ended(0, &mut [0; 8]);
        assert_eq!((told(&exec), exec.pid()), (2, None));
        exec.taken();
        assert_eq!(told(&exec), 0);
    }

    #[test]
    fn of_untaken_ends_the_oldest_are_forgotten() {
        let mut execs: Vec<Exec> = (0..MAX_REMEMBERED + 2)
            .map(|n| {
                let mut exec = exec(&n.to_string());
                if n != 0 {
                    exec.ended(0, &mut [0; 8]);
                }
                exec
            })
            .collect();
        tidy(&mut execs, &mut |_| {});
        assert_eq!(execs.len(), MAX_REMEMBERED + 1);
        // The first still runs.
        assert_eq!((execs[0].id(), execs[1].id()), ("0", "2"));
    }
}
