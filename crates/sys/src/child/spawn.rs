//! The parent's side: clone3(2) with a pidfd, the error pipe, the result.

use std::ffi::c_char;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use thiserror::Error;

use super::init::Arguments;
use super::run::Registers;
use super::step::{Failure, Plan, Step};

/// Why no child came to be.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// clone3(2) failed: the namespaces asked for are not to be had, or a
    /// process limit is reached.
    #[error("clone3 with flags {flags:#x} failed")]
    Clone {
        /// The flags asked for.
        flags: u64,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// The pipes between parent and child could not be made or read.
    #[error("the pipe to the child failed")]
    Pipe(#[source] std::io::Error),
    /// The plan does not end in an exec.
    #[error("the plan does not end in an exec")]
    NoExec,
}

/// A child that is executing its plan.
#[derive(Debug)]
pub struct Spawned {
    /// Process id in the caller's pid namespace.
    pub pid: i32,
    /// Refers to that process and no other.
    pub pidfd: OwnedFd,
    errors: OwnedFd,
    release: Option<OwnedFd>,
}

/// How the plan went.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program runs.
    Running,
    /// It waits in a [`Step::AwaitParent`].
    Waiting,
    /// Everything is done up to [`Step::AwaitStart`].
    Created,
    /// A step failed; the child is a zombie to be waited for.
    Failed(Failure),
    /// The child went away without a word (killed).
    Vanished,
}

impl Spawned {
    /// Lets a child go on that waits in [`Step::AwaitParent`].
    ///
    /// Errors: the child is gone.
    pub fn release(&mut self) -> Result<(), SpawnError> {
        let Some(release) = &self.release else {
            return Ok(());
        };
        rustix::io::write(release, b"g")
            .map(drop)
            .map_err(|e| SpawnError::Pipe(std::io::Error::from(e)))
    }

    /// The pipe on which the outcome arrives.
    pub fn errors(&self) -> BorrowedFd<'_> {
        self.errors.as_fd()
    }

    /// Waits until the plan has ended or halts: the program runs, the child
    /// waits for this process or for its start, or a step failed.
    pub fn outcome(&mut self) -> Result<Outcome, SpawnError> {
        let file = std::fs::File::from(self.errors.try_clone().map_err(SpawnError::Pipe)?);
        read_outcome(file)
    }
}

/// Reads an outcome from the error pipe, or from the connection that started
/// a created container: `w` (waits for the parent), `c` (created), `x` (about
/// to exec) and then the end of file, or `f` and a [`Failure`].
pub fn read_outcome(mut from: impl Read) -> Result<Outcome, SpawnError> {
    let mut executing = false;
    loop {
        let mut tag = [0];
        match from.read(&mut tag) {
            Ok(0) if executing => return Ok(Outcome::Running),
            Ok(0) => return Ok(Outcome::Vanished),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(SpawnError::Pipe(e)),
        }
        match tag[0] {
            WAITING => return Ok(Outcome::Waiting),
            CREATED => return Ok(Outcome::Created),
            EXECUTING => executing = true,
            _ => {
                let mut record = [0; Failure::SIZE];
                from.read_exact(&mut record).map_err(SpawnError::Pipe)?;
                return Ok(Outcome::Failed(Failure::decode(&record)));
            }
        }
    }
}

/// The child reached a [`Step::AwaitParent`].
pub(super) const WAITING: u8 = b'w';
/// The child reached [`Step::AwaitStart`].
pub(super) const CREATED: u8 = b'c';
/// The child is about to execute the program.
pub(super) const EXECUTING: u8 = b'x';
/// A failure record follows.
pub(super) const FAILED: u8 = b'f';

/// A nul-terminated array of C string pointers for execve(2).
pub(super) fn pointers(strings: &[std::ffi::CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain(std::iter::once(std::ptr::null()))
        .collect()
}

impl Plan {
    /// Clones a child that executes this plan.
    ///
    /// `namespaces` are `CLONE_NEW*` flags; `cgroup` is a directory of a
    /// cgroup v2 hierarchy into which the child is born. With a
    /// [`Step::CloneAgain`] the result is the process that this one leaves
    /// behind, a child of the caller all the same.
    ///
    /// The caller should be single-threaded: the child is a fork, and though
    /// it neither allocates nor locks, a large process pays for its page
    /// tables (DESIGN: the daemon never forks).
    ///
    /// Source: clone(2), "The clone3() system call".
    pub fn spawn(
        &self,
        namespaces: u64,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Spawned, SpawnError> {
        let Some(Step::Exec(exec)) = self.steps.last() else {
            return Err(SpawnError::NoExec);
        };
        let argv = pointers(&exec.args);
        let envp = pointers(&exec.env);
        let mut init = self.steps.iter().find_map(|step| match step {
            Step::UnderInit(init) => Some(Arguments::of(init)),
            _ => None,
        });
        let has = |wanted: fn(&Step) -> bool| self.steps.iter().any(wanted);
        let (errors_read, errors_write) = pipe()?;
        let release = if has(|s| matches!(s, Step::AwaitParent)) {
            Some(pipe()?)
        } else {
            None
        };
        let pid_pipe = if has(|s| matches!(s, Step::CloneAgain(_))) {
            Some(pipe()?)
        } else {
            None
        };

        let mut pidfd: libc::c_int = -1;
        let mut flags = namespaces | libc::CLONE_PIDFD as u64;
        // SAFETY: clone_args is plain integers, all zero is "nothing asked".
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.pidfd = &raw mut pidfd as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        if let Some(dir) = cgroup {
            flags |= CLONE_INTO_CGROUP;
            args.cgroup = dir.as_raw_fd() as u64;
        }
        args.flags = flags;
        // SAFETY: without CLONE_VM the child gets its own copy of this memory
        // and goes on in the branch below, where it allocates nothing, takes no
        // lock, and leaves by exec or _exit only.
        let pid = unsafe { clone3(&mut args) };
        if pid == 0 {
            let pipes = Pipes {
                errors: errors_write.as_raw_fd(),
                release: release
                    .as_ref()
                    .map(|(read, write)| (read.as_raw_fd(), write.as_raw_fd())),
                pid: pid_pipe.as_ref().map(|(_, write)| write.as_raw_fd()),
            };
            Registers::new(pipes, &argv, &envp, init.as_mut()).run(&self.steps);
        }
        if pid < 0 {
            let source = crate::last_errno();
            return Err(SpawnError::Clone { flags, source });
        }
        // SAFETY: the kernel wrote a new descriptor for us into pidfd.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let mut spawned = Spawned {
            pid: pid as i32,
            pidfd,
            errors: errors_read,
            release: release.map(|(_, write)| write),
        };
        if let Some((read, write)) = pid_pipe {
            drop(write);
            spawned.follow(read)?;
        }
        Ok(spawned)
    }
}

impl Spawned {
    /// Replaces the process that cloned again by the one it left behind. One
    /// that failed before stays, and its failure is on the error pipe.
    fn follow(&mut self, pid: OwnedFd) -> Result<(), SpawnError> {
        let failed = |e: Errno| SpawnError::Pipe(std::io::Error::from(e));
        let mut bytes = [0; 4];
        if std::fs::File::from(pid).read_exact(&mut bytes).is_err() {
            return Ok(());
        }
        let pid = i32::from_ne_bytes(bytes);
        wait(self.pidfd.as_fd()).map_err(failed)?;
        let next = Pid::from_raw(pid).ok_or(Errno::SRCH).map_err(failed)?;
        // Our own child, so its number stays taken until we reap it.
        self.pidfd = pidfd_open(next, PidfdFlags::empty()).map_err(failed)?;
        self.pid = pid;
        Ok(())
    }
}

/// Waits for the end of a child and reaps it: its exit code, or 128 + the
/// signal that killed it.
///
/// Errors: `ECHILD` when it is no child of this process.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<i32, Errno> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
            Ok(None) => return Err(Errno::CHILD),
            Ok(Some(status)) => {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                return Ok(signal.or(status.exit_status()).unwrap_or(0));
            }
        }
    }
}

/// Numbers of the pipe ends a child holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pipes {
    pub(super) errors: RawFd,
    /// Where the release is read, and the parent's end of that pipe.
    pub(super) release: Option<(RawFd, RawFd)>,
    /// Where a process that clones again tells whom it leaves behind.
    pub(super) pid: Option<RawFd>,
}

fn pipe() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|e| SpawnError::Pipe(std::io::Error::from(e)))
}

/// SAFETY: as fork(2): the child may do only what is safe in a signal handler
/// if there was more than one thread.
unsafe fn clone3(args: &mut libc::clone_args) -> libc::c_long {
    let size = std::mem::size_of::<libc::clone_args>();
    // SAFETY: args is a valid struct of that size without CLONE_VM.
    unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_mut(args), size) }
}

/// Between clone and exec: returns in a sibling of the caller, which ends.
pub(super) fn clone_again(flags: u64, pid_pipe: Option<RawFd>) -> Result<(), Errno> {
    let pipe = pid_pipe.ok_or(Errno::INVAL)?;
    // SAFETY: clone_args is plain integers, all zero is "nothing asked".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PARENT as u64;
    // SAFETY: this process has one thread.
    let pid = unsafe { clone3(&mut args) };
    if pid < 0 {
        return Err(crate::last_errno());
    }
    // SAFETY: the pipe is open in both processes, and used by nobody else.
    unsafe {
        if pid == 0 {
            libc::close(pipe);
            return Ok(());
        }
        let written = rustix::io::write(BorrowedFd::borrow_raw(pipe), &(pid as i32).to_ne_bytes());
        libc::_exit(i32::from(written.is_err()))
    }
}

/// Not in libc 0.2 for every target: linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
