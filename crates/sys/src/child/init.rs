//! Process 1 that is not the program: a fork just before the exec. As all of the
//! child it neither allocates nor locks.

use std::ffi::{c_char, c_long};
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use super::run::{Result, check, decimal, set_blocked};
use super::spawn::pointers;
use super::step::{INIT_CHILD, Init};

/// What the exec of the init takes, made before the clone.
pub(super) struct Arguments {
    argv: Vec<*const c_char>,
    /// The first is filled in when the child is known.
    envp: Vec<*const c_char>,
    variable: [u8; INIT_CHILD.len() + 16],
}

impl Arguments {
    pub(super) fn of(init: &Init) -> Arguments {
        let env = pointers(&init.env);
        let mut variable = [0; INIT_CHILD.len() + 16];
        variable[..INIT_CHILD.len()].copy_from_slice(INIT_CHILD.as_bytes());
        Arguments {
            argv: pointers(&init.args),
            envp: std::iter::once(std::ptr::null()).chain(env).collect(),
            variable,
        }
    }
}

/// Returns in the child. The parent has become the init, or fails.
pub(super) fn fork(init: &Init, arguments: &mut Arguments) -> Result<()> {
    // What arrives before the init listens waits for it.
    set_blocked(u64::MAX);
    // SAFETY: a plain fork of a process with one thread. clone3 is what
    // Docker's system call filter denies.
    let pid = unsafe { libc::syscall(libc::SYS_clone, c_long::from(libc::SIGCHLD), 0, 0, 0, 0) };
    match pid {
        0 => {
            lead_a_group();
            set_blocked(0);
            Ok(())
        }
        pid if pid < 0 => Err(crate::last_errno()),
        pid => Err(become_init(init, arguments, pid as i32)),
    }
}

/// As the foreground job of a shell.
fn lead_a_group() {
    let none = rustix::process::Pid::from_raw(0);
    // Fails for a session leader only, which a forked process is not.
    let _led = rustix::process::setpgid(none, none).is_err();
    let own = rustix::process::getpgrp();
    // SAFETY: standard input is open in every child of ours.
    let stdin = unsafe { rustix::fd::BorrowedFd::borrow_raw(0) };
    // Not a terminal, or not ours.
    let _none = rustix::termios::tcsetpgrp(stdin.as_fd(), own).is_err();
}

/// Returns only on failure.
fn become_init(init: &Init, arguments: &mut Arguments, child: i32) -> Errno {
    let mut digits = [0; 12];
    let number = decimal(child, &mut digits);
    let at = INIT_CHILD.len();
    arguments.variable[at] = b'=';
    arguments.variable[at + 1..=at + number.len()].copy_from_slice(number);
    arguments.envp[0] = arguments.variable.as_ptr().cast();
    // SAFETY: both arrays end in a null pointer and point to C strings that
    // live in the plan, or in `arguments`, whose rest is zero.
    let failed = check(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            init.program.as_raw_fd(),
            c"".as_ptr(),
            arguments.argv.as_ptr(),
            arguments.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    });
    failed.err().unwrap_or(Errno::INVAL)
}
