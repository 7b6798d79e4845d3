//! Terminals of the tests' own, for clients that ask for one. It must not know
//! what runs at the other end.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::process;

/// Past this a program counts as silent.
const LIMIT: Duration = Duration::from_secs(60);

/// A terminal of so many rows and columns: its master and its other end.
pub fn open(rows: u16, columns: u16) -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).expect("a terminal can be had");
    rustix::pty::unlockpt(&master).expect("a fresh terminal can be unlocked");
    resize(&master, rows, columns);
    let peer = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("it has another end");
    (master, peer)
}

/// Gives it another size.
pub fn resize(master: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(master, size).expect("a terminal has a size");
}

/// Starts a program in a terminal of 24 rows and 80 columns; gives its master.
pub fn spawn(mut command: Command) -> (Child, OwnedFd) {
    let (master, peer) = open(24, 80);
    let end = || Stdio::from(peer.try_clone().expect("a descriptor can be shared"));
    let child = command
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    (child, master)
}

/// Types.
pub fn type_in(master: &OwnedFd, text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let n = rustix::io::write(master, rest).expect("a terminal takes what is typed");
        rest = &rest[n..];
    }
}

/// Tells a client that its terminal has another size, until what is wanted comes back: a
/// client that has only just begun does not listen for the signal yet, and loses it.
pub fn tell_size(master: &OwnedFd, client: &Child, seen: &mut String, wanted: &str) {
    const PATIENCE: Duration = Duration::from_millis(500);
    let deadline = Instant::now() + LIMIT;
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        assert!(Instant::now() < deadline, "no {wanted:?} in {seen:?}");
        rustix::process::kill_process(Pid::from_child(client), Signal::WINCH)
            .expect("a child can be signalled");
        if process::readable_within(master, PATIENCE).expect("a terminal can be polled")
            && let Ok(n @ 1..) = rustix::io::read(master, &mut buffer)
        {
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }
}

/// Reads until the text is there; panics at the end of the terminal.
pub fn read_until(master: &OwnedFd, seen: &mut String, wanted: &str) {
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        let heard = process::readable_within(master, LIMIT).expect("a terminal can be polled");
        assert!(heard, "no {wanted:?} in {seen:?}");
        match rustix::io::read(master, &mut buffer) {
            Ok(n @ 1..) => seen.push_str(&String::from_utf8_lossy(&buffer[..n])),
            other => panic!("{other:?} instead of {wanted:?} after {seen:?}"),
        }
    }
}
