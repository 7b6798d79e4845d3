//! A hijacked connection between a container and this process's standard streams.
//!
//! ```text
//! stdin  ──thread──► socket ──► container       container ──► socket ──thread──► stdout, stderr
//! ```
//! Each direction is a thread with blocking calls, so that a stuck reader of our output stops
//! neither input nor signals, and no byte is copied more often than it must be.

use std::io::{ErrorKind, Read, Write};

use conex_client::stream::{self, Outputs, StreamError};
use conex_client::{BlockingReader, BlockingWriter, Hijacked};
use tokio::sync::mpsc;

use super::escape::{self, Typed, Watch};
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
    /// The user typed the detach keys.
    Detached,
}

/// What the threads report.
enum Event {
    Output(Result<(), StreamError>),
    Input,
    Detached,
}

/// A session under way.
pub(super) struct Session {
    events: mpsc::UnboundedReceiver<Event>,
    awaited: Awaited,
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
        if streams.stdin {
            let watch = watch(streams);
            let report = report.clone();
            std::thread::spawn(move || send_input(Direct::stdin(), writer, watch, &report));
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
            raw,
        })
    }

    /// Waits for the end and gives the terminal back.
    pub(super) async fn end(mut self) -> Result<End, CliError> {
        let end = loop {
            match self.events.recv().await {
                Some(Event::Detached) => break Ok(End::Detached),
                Some(Event::Output(result)) => {
                    break result.map(|()| End::Streams).map_err(failure);
                }
                Some(Event::Input) if self.awaited == Awaited::Output => {}
                Some(Event::Input) | None => break Ok(End::Streams),
            }
        };
        drop(self.raw.take());
        end
    }
}

fn watch(streams: &Streams) -> Watch {
    if !streams.tty {
        // Input that is no terminal's may hold any byte.
        return Watch::new(Vec::new());
    }
    // Docker's client, too, falls back to the default for a sequence it cannot read.
    let keys = escape::parse(&streams.detach_keys).unwrap_or_else(|| escape::DEFAULT.to_vec());
    Watch::new(keys)
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

fn send_input(
    mut from: impl Read,
    mut to: BlockingWriter,
    mut watch: Watch,
    report: &mpsc::UnboundedSender<Event>,
) {
    let mut buffer = vec![0; READ_BYTES];
    // A failing standard input is its end; a failing connection is the other thread's news.
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        match watch.feed(&buffer[..len]) {
            Typed::Input(input) => {
                if to.write_all(&input).is_err() {
                    break;
                }
            }
            Typed::Detach(input) => {
                to.write_all(&input).ok();
                report.send(Event::Detached).ok();
                to.detach().ok();
                return;
            }
        }
    }
    to.close().ok();
    report.send(Event::Input).ok();
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
