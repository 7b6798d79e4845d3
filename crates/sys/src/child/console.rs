//! The terminal of a container, opened from its own devpts.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{self, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::filesystem::{attach, clone_tree, open_target};
use super::run::{Result, check};

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Opens a terminal, sends its master through a socket and makes the slave
/// standard input, output and error of this session.
///
/// The master is checked to be one (CVE-2025-52565).
pub(super) fn open(socket: BorrowedFd<'_>, size: Option<(u16, u16)>, mount: bool) -> Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS;
    let master = fs::openat2(CWD, c"/dev/pts/ptmx", flags, Mode::empty(), resolve)?;
    let stat = fs::fstat(&master)?;
    let devpts = fs::fstatfs(&master)?.f_type as i64 == DEVPTS_SUPER_MAGIC;
    if stat.st_rdev != fs::makedev(5, 2) || !devpts {
        return Err(Errno::NODEV);
    }
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    if let Some((ws_row, ws_col)) = size {
        let size = Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size)?;
    }
    crate::socket::send_with_fd(socket, b"/dev/ptmx", master.as_fd())?;
    if mount {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match fs::open(
            c"/dev/console",
            flags | OFlags::EXCL,
            Mode::from_raw_mode(0o600),
        ) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        let tree = clone_tree(slave.as_fd())?;
        let at = open_target(c"/dev/console", true)?;
        attach(tree.as_fd(), at.as_fd())?;
    }
    rustix::process::ioctl_tiocsctty(&slave)?;
    for at in 0..3 {
        // SAFETY: dup3 onto 0..=2, which belong to this child alone.
        check(unsafe { libc::syscall(libc::SYS_dup3, slave.as_raw_fd(), at, 0) })?;
    }
    Ok(())
}
