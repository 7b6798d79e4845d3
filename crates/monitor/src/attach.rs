//! Attachers: sockets that get the container's output and may send its input.
//!
//! A slow attacher is not dropped and loses nothing: past [`HELD_BACK`] bytes
//! the container is held back, as a full pipe would (docs/compat.md, D1.8).

use std::borrow::Cow;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use conex_logs::{Stream, frame};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg};

use crate::detach::Watch;
use crate::protocol::{Attach, Streams};
use crate::start::non_blocking;

/// Output waiting for one attacher before the container is held back.
const HELD_BACK: usize = 256 * 1024;

/// What an attacher sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input<'a> {
    /// Bytes; none when there are none now.
    Bytes(Cow<'a, [u8]>),
    /// The last bytes: nothing more will come.
    End(Vec<u8>),
}

/// One attached socket.
#[derive(Debug)]
pub(crate) struct Attacher {
    socket: OwnedFd,
    streams: Streams,
    raw: bool,
    waiting: Vec<u8>,
    at: usize,
    input_open: bool,
    /// Looks for its detach keys.
    keys: Option<Watch>,
    /// It typed them.
    detached: bool,
    /// The other side is closed; its last input may still be here.
    left: bool,
    gone: bool,
}

impl Attacher {
    /// `raw` sends bytes as they are (a terminal), otherwise framed.
    pub(crate) fn new(socket: OwnedFd, wanted: Attach, raw: bool) -> Attacher {
        non_blocking(&socket);
        let streams = wanted.streams;
        let input_open = streams.stdin;
        let keys = Some(wanted.detach_keys).filter(|keys| !keys.is_empty());
        Attacher {
            keys: keys.map(Watch::new),
            detached: false,
            socket,
            streams,
            raw,
            waiting: Vec::new(),
            at: 0,
            input_open,
            left: false,
            gone: false,
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether its input is still to be read.
    pub(crate) fn sends_input(&self) -> bool {
        self.input_open && !self.gone
    }

    /// Whether output waits for it.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.gone && self.at < self.waiting.len()
    }

    /// Whether it is so far behind that the container must wait.
    pub(crate) fn holds_back(&self) -> bool {
        !self.gone && self.waiting.len() - self.at > HELD_BACK
    }

    /// Whether the other side closed the connection.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether only its input, if any, is still of interest.
    pub(crate) fn has_left(&self) -> bool {
        self.left
    }

    /// The other side closed both directions: output goes nowhere, input it
    /// sent before is still to be read.
    pub(crate) fn leave(&mut self) {
        self.left = true;
        self.waiting = Vec::new();
        self.at = 0;
        self.gone |= !self.input_open;
    }

    /// Ends the connection. Input that the container never took is read away
    /// first: a socket closed over unread bytes resets its peer, which would
    /// take the last output for an error.
    pub(crate) fn close(self) {
        let _gone = rustix::net::shutdown(&self.socket, Shutdown::Both).is_err();
        let mut nowhere = [0; 4096];
        while matches!(rustix::io::read(&self.socket, &mut nowhere), Ok(1..)) {}
    }

    pub(crate) fn mark_gone(&mut self) {
        self.gone = true;
    }

    /// Whether it typed its detach keys.
    pub(crate) fn is_detached(&self) -> bool {
        self.detached
    }

    /// Reads input that is for the program.
    pub(crate) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Input<'a> {
        match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(0) => {
                self.input_open = false;
                self.gone |= self.left;
                Input::End(self.held_back())
            }
            Ok(n) => self.typed(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => Input::Bytes(Cow::Borrowed(&[])),
            Err(_) => {
                self.input_open = false;
                self.gone = true;
                Input::End(self.held_back())
            }
        }
    }

    fn held_back(&mut self) -> Vec<u8> {
        self.keys.as_mut().map(Watch::held_back).unwrap_or_default()
    }

    fn typed<'a>(&mut self, bytes: &'a [u8]) -> Input<'a> {
        let Some(keys) = &mut self.keys else {
            return Input::Bytes(Cow::Borrowed(bytes));
        };
        let typed = keys.feed(bytes);
        if typed.leaves {
            self.input_open = false;
            self.detached = true;
            self.flush();
        }
        Input::Bytes(Cow::Owned(typed.input))
    }

    /// Sends output, or queues what the socket does not take.
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let wanted = match stream {
            Stream::Stdout => self.streams.stdout,
            Stream::Stderr => self.streams.stderr,
        };
        if self.gone || self.left || !wanted || bytes.is_empty() {
            return;
        }
        let header = frame::header(stream, bytes.len() as u32);
        let header: &[u8] = if self.raw { &[] } else { &header };
        let mut sent = 0;
        if !self.is_waiting() {
            let parts = [IoSlice::new(header), IoSlice::new(bytes)];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(
                &self.socket,
                &parts,
                &mut SendAncillaryBuffer::default(),
                flags,
            ) {
                Ok(n) => sent = n,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
        self.waiting
            .extend_from_slice(header.get(sent..).unwrap_or_default());
        self.waiting
            .extend_from_slice(&bytes[sent.saturating_sub(header.len())..]);
    }

    /// Sends queued output.
    pub(crate) fn flush(&mut self) {
        while self.is_waiting() {
            let parts = [IoSlice::new(&self.waiting[self.at..])];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(
                &self.socket,
                &parts,
                &mut SendAncillaryBuffer::default(),
                flags,
            ) {
                Ok(n) => self.at += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.gone = true,
            }
        }
        if self.at == self.waiting.len() || self.gone {
            self.waiting = Vec::new();
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::net::SocketType;

    fn wanted(stdin: bool, detach_keys: &[u8]) -> Attach {
        Attach {
            streams: Streams {
                stdin,
                stdout: true,
                stderr: false,
            },
            detach_keys: detach_keys.to_vec(),
            reads_log: false,
        }
    }

    fn attached(raw: bool) -> (Attacher, OwnedFd) {
        let (ours, theirs) = conex_sys::socket::pair(SocketType::STREAM).unwrap();
        (Attacher::new(ours, wanted(false, b""), raw), theirs)
    }

    #[test]
    fn output_is_framed_by_stream_and_filtered_by_wish() {
        let (mut attacher, client) = attached(false);
        attacher.output(Stream::Stdout, b"hi");
        attacher.output(Stream::Stderr, b"not wanted");
        let mut buffer = [0; 64];
        let n = rustix::io::read(&client, &mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"\x01\0\0\0\0\0\0\x02hi");
    }

    #[test]
    fn a_slow_attacher_holds_back_and_loses_nothing() {
        let (mut attacher, client) = attached(true);
        let chunk = [7u8; 65536];
        let mut pushed = 0;
        while !attacher.holds_back() {
            attacher.output(Stream::Stdout, &chunk);
            pushed += chunk.len();
        }
        let (mut got, mut buffer) = (0, vec![0; 65536]);
        while got < pushed {
            got += rustix::io::read(&client, &mut buffer).unwrap();
            attacher.flush();
        }
        assert_eq!(got, pushed);
        assert!(!attacher.holds_back() && !attacher.is_waiting());
    }

    #[test]
    fn input_sent_before_leaving_is_still_read() {
        let (ours, client) = conex_sys::socket::pair(SocketType::STREAM).unwrap();
        let mut attacher = Attacher::new(ours, wanted(true, b""), true);
        rustix::io::write(&client, b"last words").unwrap();
        drop(client);
        attacher.leave();
        assert!(attacher.sends_input() && !attacher.is_gone());
        let mut buffer = [0; 64];
        let words = Input::Bytes(Cow::Borrowed(b"last words"));
        assert_eq!(attacher.read(&mut buffer), words);
        assert_eq!(attacher.read(&mut buffer), Input::End(Vec::new()));
        assert!(attacher.is_gone());
    }

    #[test]
    fn detach_keys_end_it_and_a_begun_sequence_does_not() {
        for (typed, at_end, leaves) in [("a\x10\x11", "", true), ("a\x10", "\x10", false)] {
            let (ours, client) = conex_sys::socket::pair(SocketType::STREAM).unwrap();
            let mut attacher = Attacher::new(ours, wanted(true, &[16, 17]), true);
            rustix::io::write(&client, typed.as_bytes()).unwrap();
            let mut buffer = [0; 64];
            let read = attacher.read(&mut buffer);
            assert_eq!(read, Input::Bytes(Cow::Borrowed(b"a")));
            assert_eq!(attacher.is_detached(), leaves);
            drop(client);
            let end = attacher.read(&mut buffer);
            assert_eq!(end, Input::End(at_end.into()));
        }
    }

    #[test]
    fn unread_input_does_not_reset_the_other_side() {
        let (attacher, client) = attached(true);
        rustix::io::write(&client, &[0; 1000]).unwrap();
        attacher.close();
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::read(&client, &mut buffer), Ok(0));
    }

    #[test]
    fn a_vanished_attacher_is_noticed() {
        let (mut attacher, client) = attached(true);
        drop(client);
        attacher.output(Stream::Stdout, b"x");
        assert!(attacher.is_gone());
    }
}
