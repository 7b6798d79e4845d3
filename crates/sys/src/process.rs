//! Processes by descriptor, signals by number, and joining namespaces.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// Sends any signal, also a real-time one, through a pidfd.
///
/// Errors: `ESRCH` when the process is gone, `EINVAL` for a number past 64.
/// Source: pidfd_send_signal(2).
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: no siginfo is passed; the kernel fills it as for kill(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            none,
            0,
        )
    };
    if result < 0 {
        Err(crate::last_errno())
    } else {
        Ok(())
    }
}

/// Sends a signal by process id; for processes whose pidfd nobody holds.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill touches no memory.
    if unsafe { libc::kill(pid, signal) } < 0 {
        Err(crate::last_errno())
    } else {
        Ok(())
    }
}

/// How a process ended, as waitpid(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which process.
    pub pid: i32,
    /// Its exit code, or 128 + the signal that killed it.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
}

/// Reaps one child that has ended; `None` when none has.
///
/// `pid` −1 means any child. `__WALL` also finds children made with
/// `CLONE_PARENT` and no exit signal.
pub fn reap(pid: i32) -> Result<Option<Ended>, Errno> {
    let mut status = 0;
    // SAFETY: status is a valid place for the answer.
    let found = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG | libc::__WALL) };
    match found {
        0 => Ok(None),
        n if n < 0 => match crate::last_errno() {
            Errno::CHILD => Ok(None),
            e => Err(e),
        },
        pid => {
            let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
            let code = signal.map_or_else(|| libc::WEXITSTATUS(status), |s| 128 + s);
            Ok(Some(Ended { pid, code, signal }))
        }
    }
}

/// Blocks signals in this thread and returns a non-blocking descriptor that
/// reads them. Source: signalfd(2).
pub fn signal_descriptor(signals: &[i32]) -> Result<OwnedFd, Errno> {
    // SAFETY: sigsets are initialised before use; a new descriptor is ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
            return Err(crate::last_errno());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(crate::last_errno());
        }
        Ok(std::os::fd::FromRawFd::from_raw_fd(fd))
    }
}

/// Blocks every signal in this process, which has one thread: they wait for
/// [`next_signal`].
pub fn block_signals() {
    let (all, none): (u64, *mut u64) = (u64::MAX, std::ptr::null_mut());
    // SAFETY: a valid set of the size the kernel has; the old one is not asked
    // for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            none,
            8,
        )
    };
}

/// Waits for a signal that is blocked, and takes it. Source: sigwaitinfo(2).
pub fn next_signal() -> Result<i32, Errno> {
    let all = u64::MAX;
    let (info, timeout): (*mut libc::siginfo_t, *const libc::timespec) =
        (std::ptr::null_mut(), std::ptr::null());
    // SAFETY: a valid set of the size the kernel has; nothing else is passed.
    let signal =
        unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const all, info, timeout, 8) };
    if signal < 0 {
        Err(crate::last_errno())
    } else {
        Ok(signal as i32)
    }
}

/// Closes every descriptor from a number on: whatever this process inherited
/// and does not know. Source: close_range(2), since Linux 5.9.
///
/// Only before anything else was opened, since owners are not asked.
pub fn close_inherited_from(first: u32) {
    // SAFETY: called where nothing above `first` has an owner yet; before
    // Linux 5.9 the call fails and nothing is closed.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Ignores a signal in this process.
pub fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN installs no code.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Moves the calling thread into a namespace (setns(2)).
///
/// For a single-threaded process only: never on a worker of an async runtime.
pub fn enter_namespace(namespace: BorrowedFd<'_>, kind: i32) -> Result<(), Errno> {
    // SAFETY: changes the caller's namespaces, touches no memory.
    if unsafe { libc::setns(namespace.as_raw_fd(), kind) } < 0 {
        return Err(crate::last_errno());
    }
    Ok(())
}

/// Opens the file this process runs from.
pub fn own_executable() -> std::io::Result<std::fs::File> {
    std::fs::File::open("/proc/self/exe")
}

/// Leaves namespaces of the calling thread for new ones (unshare(2)).
///
/// For a single-threaded process only.
pub fn unshare(kinds: i32) -> Result<(), Errno> {
    // SAFETY: CLONE_NEW* flags touch no memory of the caller.
    if unsafe { libc::unshare(kinds) } < 0 {
        Err(crate::last_errno())
    } else {
        Ok(())
    }
}
