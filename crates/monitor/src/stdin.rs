//! The container's standard input: bytes of attachers on their way into a pipe
//! or terminal that may not take them yet.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// Input waiting to be taken; attachers are not read beyond this.
const CAPACITY: usize = 64 * 1024;

/// A queue in front of the input.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pipe: Option<OwnedFd>,
    waiting: Vec<u8>,
    at: usize,
    close_when_empty: bool,
}

impl Input {
    pub(crate) fn new(pipe: Option<OwnedFd>) -> Input {
        Input {
            pipe,
            ..Input::default()
        }
    }

    /// Whether attachers may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() - self.at < CAPACITY
    }

    /// Whether bytes wait for the pipe.
    pub(crate) fn is_waiting(&self) -> bool {
        self.at < self.waiting.len()
    }

    /// The pipe, while it is open.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Ends the input once everything in the queue has been taken.
    pub(crate) fn close(&mut self) {
        self.close_when_empty = true;
        if !self.is_waiting() {
            self.pipe = None;
        }
    }

    /// Writes what `target` takes: the own pipe, or the terminal's master.
    pub(crate) fn flush(&mut self, terminal: Option<BorrowedFd<'_>>) {
        let own = self.pipe.as_ref().map(AsFd::as_fd);
        let Some(target) = terminal.or(own) else {
            // Nobody will ever read it.
            self.waiting.clear();
            self.at = 0;
            return;
        };
        let mut broken = false;
        while self.at < self.waiting.len() {
            match rustix::io::write(target, &self.waiting[self.at..]) {
                Ok(n) => self.at += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        if broken || self.at == self.waiting.len() {
            self.waiting.clear();
            self.waiting.shrink_to(CAPACITY);
            self.at = 0;
        }
        if broken || (self.close_when_empty && self.waiting.is_empty()) {
            self.pipe = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;

    #[test]
    fn the_pipe_closes_after_the_last_byte_was_taken() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut input = Input::new(Some(write));
        input.push(b"hello");
        input.close();
        assert!(input.is_waiting());
        input.flush(None);
        assert!(input.pipe().is_none());
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}
