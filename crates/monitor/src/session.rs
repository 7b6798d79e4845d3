//! The streams of one program, the container's first or an exec's: what it
//! writes, what it reads, and the attachers between. It must not know which
//! program that is, nor who is told of its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use conex_logs::Stream;
use conex_runtime::launch::{Launched, Stdio};
use conex_sys::socket;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::OpenptFlags;

use crate::attach::{self, Attacher};
use crate::protocol::{Attach, StartFailure, Stdin};
use crate::start::{end_now, failure, non_blocking};
use crate::stdin::Input;

/// What a terminal holds at most when its last process has gone.
const TERMINAL_REST: u64 = 1024 * 1024;

/// Where a program's output comes from.
#[derive(Debug)]
pub(crate) enum Output {
    /// Two pipes.
    Pipes {
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    },
    /// The master of its terminal, which also takes the input.
    Terminal {
        master: Option<OwnedFd>,
        /// Keeps the terminal alive while no process has it open, as between
        /// an init closing its streams and opening `/dev/console`.
        peer: Option<OwnedFd>,
    },
}

/// How a program's streams are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wiring {
    /// One terminal instead of pipes.
    pub(crate) terminal: bool,
    /// Where input comes from, unless from a terminal.
    pub(crate) stdin: Stdin,
    /// Whether anybody will ever read its pipes; otherwise `/dev/null`.
    pub(crate) has_readers: bool,
}

/// Makes a program's streams, has `run` start it with its ends of them, and
/// gives back ours.
pub(crate) fn connect(
    wiring: Wiring,
    run: impl FnOnce(Stdio) -> Result<Launched, StartFailure>,
) -> Result<(Launched, Option<OwnedFd>, Output), StartFailure> {
    if wiring.terminal {
        let (ours, theirs) = socket::pair(SocketType::SEQPACKET)
            .map_err(|e| failure(format!("make a console socket: {e}")))?;
        let launched = run(Stdio::Console(theirs))?;
        let received = socket::receive(ours.as_fd(), &mut [0; 8]);
        let Some(master) = received.ok().and_then(|(_, mut masters)| masters.pop()) else {
            end_now(&launched);
            return Err(failure("the console did not arrive".into()));
        };
        non_blocking(&master);
        return Ok((
            launched,
            None,
            Output::Terminal {
                master: Some(master),
                peer: None,
            },
        ));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| failure(format!("make a pipe: {e}")));
    let readable = || -> Result<(Option<OwnedFd>, OwnedFd), StartFailure> {
        if !wiring.has_readers {
            return Ok((None, open_null()?));
        }
        let (read, write) = pipe()?;
        non_blocking(&read);
        Ok((Some(read), write))
    };
    let (stdout, stdout_end) = readable()?;
    let (stderr, stderr_end) = readable()?;
    let (stdin_end, stdin) = match wiring.stdin {
        Stdin::Closed => (open_null()?, None),
        Stdin::Open | Stdin::Once => {
            let (read, write) = pipe()?;
            non_blocking(&write);
            (read, Some(write))
        }
    };
    let launched = run(Stdio::Streams {
        stdin: stdin_end,
        stdout: stdout_end,
        stderr: stderr_end,
    })?;
    Ok((launched, stdin, Output::Pipes { stdout, stderr }))
}

fn open_null() -> Result<OwnedFd, StartFailure> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failure(format!("open /dev/null: {e}")))
}

/// What became ready.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ready {
    /// There is output to read.
    Output(Stream),
    /// Input is taken.
    Input,
    /// An attacher, by its place.
    Attacher(usize),
}

/// One program's streams.
#[derive(Debug)]
pub(crate) struct Session {
    output: Output,
    input: Input,
    stdin: Stdin,
    attachers: Vec<Attacher>,
    /// Attachers that left by their keys and were not told of.
    detached: usize,
}

impl Session {
    /// `pipe` is the end of standard input that is written to.
    pub(crate) fn new(output: Output, pipe: Option<OwnedFd>, stdin: Stdin) -> Session {
        Session {
            output,
            input: Input::new(pipe),
            stdin,
            attachers: Vec::new(),
            detached: 0,
        }
    }

    /// Keeps its terminal alive while no process has it open.
    pub(crate) fn hold_terminal(&mut self) {
        if let Output::Terminal {
            master: Some(master),
            peer,
        } = &mut self.output
        {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            *peer = rustix::pty::ioctl_tiocgptpeer(master, flags).ok();
        }
    }

    /// Lets the terminal end with its last process.
    pub(crate) fn release_terminal(&mut self) {
        if let Output::Terminal { peer, .. } = &mut self.output {
            *peer = None;
        }
    }

    /// Whether it has a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.output, Output::Terminal { .. })
    }

    /// Serves one more attacher; `raw` as for [`Attacher::new`].
    /// Detach keys are for a terminal alone. `begun` is what it has not seen of
    /// lines that are in no log.
    pub(crate) fn attach(
        &mut self,
        socket: OwnedFd,
        mut wanted: Attach,
        raw: bool,
        begun: &[(Stream, &[u8])],
    ) {
        if !self.is_terminal() {
            wanted.detach_keys.clear();
        }
        let mut attacher = Attacher::new(socket, wanted, raw);
        for (stream, text) in begun {
            attacher.output(*stream, text);
        }
        self.attachers.push(attacher);
    }

    /// Changes the size of the terminal, if there is one.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        if let Output::Terminal {
            master: Some(master),
            ..
        } = &self.output
        {
            let size = rustix::termios::Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _closed = rustix::termios::tcsetwinsize(master, size).is_err();
        }
    }

    /// Names every descriptor to wait for, and for what.
    pub(crate) fn wanted<'a>(&'a self, mut add: impl FnMut(Ready, BorrowedFd<'a>, PollFlags)) {
        if !self.attachers.iter().any(Attacher::holds_back) {
            for stream in [Stream::Stdout, Stream::Stderr] {
                if let Some(fd) = self.source(stream) {
                    add(Ready::Output(stream), fd, PollFlags::IN);
                }
            }
        }
        if self.input.is_waiting()
            && let Some(fd) = self.terminal().or(self.input.pipe())
        {
            add(Ready::Input, fd, PollFlags::OUT);
        }
        let has_room = self.input.has_room();
        for (index, attacher) in self.attachers.iter().enumerate() {
            if attacher.has_left() && !has_room {
                // What it sent before it left is read when there is room.
                continue;
            }
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, attacher.sends_input() && has_room);
            wanted.set(PollFlags::OUT, attacher.is_waiting());
            add(Ready::Attacher(index), attacher.socket(), wanted);
        }
    }

    /// Does what became possible. `heard` gets the output before attachers do.
    pub(crate) fn serve(
        &mut self,
        ready: Ready,
        events: PollFlags,
        buffer: &mut [u8],
        heard: &mut dyn FnMut(Stream, &[u8]),
    ) {
        match ready {
            Ready::Output(stream) => {
                self.copy_output(stream, buffer, heard);
            }
            Ready::Input => self.flush_input(),
            Ready::Attacher(index) => self.serve_attacher(index, events, buffer),
        }
    }

    /// Forgets attachers that went away; after all of a turn was served, since
    /// places change.
    pub(crate) fn forget_gone(&mut self) {
        for left in self
            .attachers
            .extract_if(.., |attacher| attacher.is_detached())
        {
            self.detached += 1;
            left.close();
        }
        self.attachers.retain(|attacher| !attacher.is_gone());
    }

    /// How many attachers left by their keys since the last call.
    pub(crate) fn take_detached(&mut self) -> usize {
        std::mem::take(&mut self.detached)
    }

    /// Copies one chunk and says how long it was; `None` when there is nothing
    /// now, or will never be.
    fn copy_output(
        &mut self,
        stream: Stream,
        buffer: &mut [u8],
        heard: &mut dyn FnMut(Stream, &[u8]),
    ) -> Option<usize> {
        match rustix::io::read(self.source(stream)?, &mut *buffer) {
            Ok(0) => {
                self.close_output(stream);
                None
            }
            Ok(n) => {
                let bytes = &buffer[..n];
                heard(stream, bytes);
                for attacher in &mut self.attachers {
                    attacher.output(stream, bytes);
                }
                Some(n)
            }
            Err(Errno::AGAIN) => None,
            Err(Errno::INTR) => Some(0),
            // EIO: the last process with the terminal open is gone.
            Err(_) => {
                self.close_output(stream);
                None
            }
        }
    }

    /// Copies what the program wrote before it ended, and no more: a process
    /// that was handed the pipe may go on writing for ever.
    pub(crate) fn drain(&mut self, buffer: &mut [u8], heard: &mut dyn FnMut(Stream, &[u8])) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = match (&self.output, self.source(stream)) {
                (Output::Pipes { .. }, Some(fd)) => rustix::io::ioctl_fionread(fd).unwrap_or(0),
                _ => TERMINAL_REST,
            };
            let mut copied = 0;
            while copied < rest
                && let Some(n) = self.copy_output(stream, buffer, heard)
            {
                copied += n as u64;
            }
        }
    }

    fn close_output(&mut self, stream: Stream) {
        match (&mut self.output, stream) {
            (Output::Terminal { master: end, .. }, _)
            | (Output::Pipes { stdout: end, .. }, Stream::Stdout)
            | (Output::Pipes { stderr: end, .. }, Stream::Stderr) => *end = None,
        }
    }

    fn flush_input(&mut self) {
        let terminal = match &self.output {
            Output::Terminal {
                master: Some(master),
                ..
            } => Some(master.as_fd()),
            _ => None,
        };
        self.input.flush(terminal);
    }

    fn serve_attacher(&mut self, index: usize, events: PollFlags, buffer: &mut [u8]) {
        let Some(attacher) = self.attachers.get_mut(index) else {
            return;
        };
        if events.contains(PollFlags::OUT) {
            attacher.flush();
        }
        if events.intersects(PollFlags::IN) && attacher.sends_input() {
            match attacher.read(buffer) {
                attach::Input::Bytes(bytes) => self.input.push(&bytes),
                attach::Input::End(rest) => {
                    self.input.push(&rest);
                    // One that left by its keys left the input to others.
                    if self.stdin == Stdin::Once && !attacher.is_detached() {
                        self.input.close();
                    }
                }
            }
            self.flush_input();
        }
        let Some(attacher) = self.attachers.get_mut(index) else {
            return;
        };
        if events.intersects(PollFlags::HUP | PollFlags::ERR) {
            attacher.leave();
        }
    }

    /// Where a stream is read from, while it is open. A terminal has one stream.
    fn source(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        let end = match (&self.output, stream) {
            (Output::Terminal { master, .. }, Stream::Stdout) => master,
            (Output::Terminal { .. }, Stream::Stderr) => return None,
            (Output::Pipes { stdout, .. }, Stream::Stdout) => stdout,
            (Output::Pipes { stderr, .. }, Stream::Stderr) => stderr,
        };
        end.as_ref().map(AsFd::as_fd)
    }

    fn terminal(&self) -> Option<BorrowedFd<'_>> {
        match &self.output {
            Output::Terminal { master, .. } => master.as_ref().map(AsFd::as_fd),
            Output::Pipes { .. } => None,
        }
    }

    /// Ends the connections of attachers that have everything.
    pub(crate) fn close_served(&mut self) {
        for done in self
            .attachers
            .extract_if(.., |attacher| !attacher.is_waiting())
        {
            done.close();
        }
    }

    /// Whether nobody is attached and nothing more can be read.
    pub(crate) fn is_over(&self) -> bool {
        self.attachers.is_empty()
            && [Stream::Stdout, Stream::Stderr]
                .into_iter()
                .all(|s| self.source(s).is_none())
    }

    /// Closes the streams; the attachers may still have output to get.
    pub(crate) fn into_attachers(self) -> Vec<Attacher> {
        self.attachers
    }
}

/// Waits until every attacher has what is queued for it, or went away.
pub(crate) fn flush_all(mut attachers: Vec<Attacher>) {
    loop {
        attachers.iter_mut().for_each(Attacher::flush);
        for done in attachers.extract_if(.., |attacher| !attacher.is_waiting()) {
            done.close();
        }
        if attachers.is_empty() {
            return;
        }
        let mut fds: Vec<_> = attachers
            .iter()
            .map(|a| PollFd::from_borrowed_fd(a.socket(), PollFlags::OUT))
            .collect();
        if !matches!(poll(&mut fds, None), Ok(_) | Err(Errno::INTR)) {
            return;
        }
        let hung: Vec<bool> = fds
            .iter()
            .map(|f| f.revents().contains(PollFlags::HUP))
            .collect();
        for (attacher, hung) in attachers.iter_mut().zip(hung) {
            if hung {
                attacher.mark_gone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Streams;

    struct Program {
        session: Session,
        stdin: OwnedFd,
        stdout: OwnedFd,
        client: OwnedFd,
    }

    fn program(stdin: Stdin) -> Program {
        let (stdout_read, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (stdin_read, stdin_write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        non_blocking(&stdout_read);
        let output = Output::Pipes {
            stdout: Some(stdout_read),
            stderr: None,
        };
        let mut session = Session::new(output, Some(stdin_write), stdin);
        let (ours, client) = socket::pair(SocketType::STREAM).unwrap();
        let streams = Streams {
            stdin: true,
            stdout: true,
            stderr: true,
        };
        let wanted = Attach {
            streams,
            ..Attach::default()
        };
        session.attach(ours, wanted, true, &[]);
        Program {
            session,
            stdin: stdin_read,
            stdout,
            client,
        }
    }

    fn turn(session: &mut Session) {
        let (mut places, mut fds) = (Vec::new(), Vec::new());
        session.wanted(|ready, fd, flags| {
            places.push(ready);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        });
        poll(&mut fds, None).unwrap();
        let ready: Vec<_> = fds.iter().map(PollFd::revents).collect();
        for (place, events) in places.into_iter().zip(ready) {
            if !events.is_empty() {
                session.serve(place, events, &mut [0; 256], &mut |_, _| {});
            }
        }
        session.forget_gone();
    }

    fn read(fd: &OwnedFd) -> Vec<u8> {
        let mut buffer = [0; 256];
        let n = rustix::io::read(fd, &mut buffer).unwrap();
        buffer[..n].to_vec()
    }

    #[test]
    fn the_end_of_an_attachers_input_is_the_programs_only_if_it_is_the_last() {
        for (stdin, ends) in [(Stdin::Once, true), (Stdin::Open, false)] {
            let mut program = program(stdin);
            rustix::io::write(&program.client, b"typed").unwrap();
            turn(&mut program.session);
            rustix::net::shutdown(&program.client, rustix::net::Shutdown::Write).unwrap();
            turn(&mut program.session);
            assert_eq!(read(&program.stdin), b"typed");
            non_blocking(&program.stdin);
            let ended = rustix::io::read(&program.stdin, &mut [0; 8]) == Ok(0);
            assert_eq!(ended, ends);
            // Output goes on either way.
            rustix::io::write(&program.stdout, b"answer").unwrap();
            turn(&mut program.session);
            assert_eq!(read(&program.client), b"answer");
        }
    }

    #[test]
    fn what_was_written_before_the_end_is_heard_though_a_grandchild_keeps_the_pipe() {
        let mut program = program(Stdin::Closed);
        rustix::io::write(&program.stdout, b"last").unwrap();
        let mut heard = Vec::new();
        program
            .session
            .drain(&mut [0; 2], &mut |_, bytes| heard.extend_from_slice(bytes));
        assert_eq!(heard, b"last");
        program.session.close_served();
        assert_eq!(read(&program.client), b"last");
        assert_eq!(read(&program.client), b"");
        assert!(!program.session.is_over());
        drop(program.stdout);
        turn(&mut program.session);
        assert!(program.session.is_over());
    }
}
