//! A hijacked connection between a container and this process's standard streams.
//!
//! ```text
//! stdin  ──thread──► socket ──► container       container ──► socket ──thread──► stdout, stderr
//! ```
//! Each direction is a thread with blocking calls, so that a stuck reader of our output stops
//! neither input nor signals, and no byte is copied more often than it must be.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conex_client::stream::{self, Outputs, StreamError};
use conex_client::{BlockingReader, BlockingWriter, Hijacked};
use tokio::sync::mpsc;

use super::escape::Typed;
use super::terminal::{Direct, Raw};
use crate::error::{CliError, chain};

/// How much input is read at once.
const READ_BYTES: usize = 64 << 10;

/// Which streams are connected.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    /// Whether our input goes to the container.
    pub(super) stdin: bool,
    /// Whether any output of the container comes to us.
    pub(super) output: bool,
    /// Whether the container has a terminal: raw bytes instead of frames, and detach keys.
    pub(super) tty: bool,
    /// `--detach-keys`; empty means the default.
    pub(super) detach_keys: String,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The container's output ended (or its input, when only that was connected).
    Streams,
    /// The engine ended it because the user typed the detach keys.
    Detached,
}

/// What the threads report.
enum Event {
    Output(Result<(), StreamError>),
    Input,
}

/// A session under way.
pub(super) struct Session {
    events: mpsc::UnboundedReceiver<Event>,
    awaited: Awaited,
    /// The last thing typed were the detach keys.
    left: Arc<AtomicBool>,
    raw: Option<Raw>,
}

/// Which end is the session's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Output,
    Input,
}

impl Session {
    /// Connects the standard streams; a terminal goes raw until the session is over.
    pub(super) fn begin(connection: Hijacked, streams: &Streams) -> Result<Self, CliError> {
        let raw = if streams.tty && streams.stdin {
            Raw::enter()?
        } else {
            None
        };
        let (reader, writer) = connection.into_blocking()?;
        let (report, events) = mpsc::unbounded_channel();
        let left = Arc::new(AtomicBool::new(false));
        if streams.stdin {
            let input = Input {
                // Input that is no terminal's may hold any byte.
                typed: streams.tty.then(|| Typed::new(&streams.detach_keys)),
                left: Arc::clone(&left),
                is_all: !streams.output,
            };
            let report = report.clone();
            std::thread::spawn(move || input.send(Direct::stdin(), writer, &report));
        } else {
            // The container reads end of file where it reads at all; an engine that has hung up
            // already says so to the reader.
            writer.close().ok();
        }
        let awaited = if streams.output {
            let tty = streams.tty;
            std::thread::spawn(move || {
                // Nobody listens any more once the user has left.
                report.send(Event::Output(show_output(reader, tty))).ok();
            });
            Awaited::Output
        } else {
            Awaited::Input
        };
        Ok(Self {
            events,
            awaited,
            left,
            raw,
        })
    }

    /// Waits for the end and gives the terminal back.
    pub(super) async fn end(mut self) -> Result<End, CliError> {
        let end = loop {
            match self.events.recv().await {
                Some(Event::Output(result)) => break result.map_err(failure),
                Some(Event::Input) if self.awaited == Awaited::Output => {}
                Some(Event::Input) | None => break Ok(()),
            }
        };
        drop(self.raw.take());
        end.map(|()| match self.left.load(Ordering::Acquire) {
            true => End::Detached,
            false => End::Streams,
        })
    }
}

fn show_output(reader: BlockingReader, tty: bool) -> Result<(), StreamError> {
    if tty {
        return stream::copy(reader, Direct::stdout());
    }
    stream::demultiplex(
        reader,
        &mut Outputs {
            stdout: Direct::stdout(),
            stderr: Direct::stderr(),
        },
    )
}

/// What goes on with what is typed.
struct Input {
    typed: Option<Typed>,
    left: Arc<AtomicBool>,
    /// Nothing comes back, by whose end the session would be known to be over.
    is_all: bool,
}

impl Input {
    fn send(
        mut self,
        mut from: impl Read,
        mut to: BlockingWriter,
        report: &mpsc::UnboundedSender<Event>,
    ) {
        let mut buffer = vec![0; READ_BYTES];
        // A failing standard input is its end; a failing connection is the other thread's news.
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..len];
            let leaves = self
                .typed
                .as_mut()
                .is_some_and(|typed| typed.ends_with_keys(bytes));
            // Before the engine can answer by ending the connection.
            self.left.store(leaves, Ordering::Release);
            if to.write_all(bytes).is_err() || (leaves && self.is_all) {
                break;
            }
        }
        if self.left.load(Ordering::Acquire) {
            to.detach().ok();
        } else {
            to.close().ok();
        }
        report.send(Event::Input).ok();
    }
}

/// What a failed copy of output means to the command.
pub(super) fn failure(error: StreamError) -> CliError {
    match error {
        StreamError::Write(error) if error.kind() == ErrorKind::BrokenPipe => {
            CliError::Output(error)
        }
        other => CliError::message(chain(&other)),
    }
}
