//! The user's terminal: raw mode and size, and plain descriptors to read and write.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether standard input is a terminal.
pub(super) fn stdin_is_terminal() -> bool {
    isatty(rustix::stdio::stdin())
}

/// Whether standard output is a terminal.
pub(super) fn stdout_is_terminal() -> bool {
    isatty(rustix::stdio::stdout())
}

/// Rows and columns of standard output; zeros when it is no terminal.
pub(super) fn size() -> [u32; 2] {
    tcgetwinsize(rustix::stdio::stdout())
        .map_or([0, 0], |size| [size.ws_row.into(), size.ws_col.into()])
}

/// Raw mode of standard input, ended when dropped (also by a panic).
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Enters raw mode; `None` when standard input is no terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone already.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before).ok();
    }
}

/// A standard stream without a buffer: what a container writes is seen at once and copied once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct(BorrowedFd<'static>);

impl Direct {
    /// Standard input.
    pub(super) fn stdin() -> Self {
        Self(rustix::stdio::stdin())
    }

    /// Standard output.
    pub(super) fn stdout() -> Self {
        Self(rustix::stdio::stdout())
    }

    /// Standard error.
    pub(super) fn stderr() -> Self {
        Self(rustix::stdio::stderr())
    }

    /// Repeats a call that a signal interrupted or that a non-blocking descriptor put off.
    fn retry(
        &self,
        ready: PollFlags,
        mut call: impl FnMut() -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        loop {
            match call() {
                Ok(len) => return Ok(len),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&self.0, ready)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Direct {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.retry(PollFlags::IN, || rustix::io::read(self.0, &mut *buf))
    }
}

impl Write for Direct {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.retry(PollFlags::OUT, || rustix::io::write(self.0, buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
