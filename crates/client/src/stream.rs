//! Docker's multiplexed output: frames of stdout and stderr on one connection, taken apart.
//!
//! ```text
//! byte 0     1 2 3   4 5 6 7            8 …
//! stream     0 0 0   size (big endian)  payload
//! ```
//! Payload is passed on as it arrives and never collected, so the size a frame claims costs
//! nothing. Only the sentence of an engine error (stream 3) is, up to [`MAX_ERROR_BYTES`].

use std::io::{self, Read, Write};

/// Length of a frame's header.
pub const HEADER_BYTES: usize = 8;
/// How much is read at once: bigger than a pipe, so that one read can empty it.
pub const READ_BYTES: usize = 128 << 10;
/// Longest engine error taken from the stream.
pub const MAX_ERROR_BYTES: usize = 64 << 10;
/// Payload shorter than this is gathered, so that a frame per line is not a write per line.
const GATHER_BELOW_BYTES: usize = 16 << 10;

/// Why a multiplexed stream could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection failed.
    #[error("cannot read the container's output")]
    Read(#[source] io::Error),
    /// Standard output or error failed; `BrokenPipe` when the reader went away.
    #[error("cannot write the container's output")]
    Write(#[source] io::Error),
    /// The engine reports an error instead of output.
    #[error("error from daemon in stream: {0}")]
    Engine(String),
    /// A header that no engine writes.
    #[error("unrecognized stream: {0}")]
    UnknownStream(u8),
}

/// Where the two streams go.
#[derive(Debug)]
pub struct Outputs<O, E> {
    /// Standard output of the container.
    pub stdout: O,
    /// Standard error of the container.
    pub stderr: E,
}

/// The stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Stdout,
    Stderr,
    Engine,
}

/// Takes frames apart, wherever the pieces it is fed are cut.
#[derive(Debug)]
pub struct Demultiplexer {
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    target: Target,
    payload_left: usize,
    /// Small payloads of `target` not written yet.
    gathered: Vec<u8>,
    engine_error: Vec<u8>,
}

impl Default for Demultiplexer {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES],
            header_filled: 0,
            target: Target::Stdout,
            payload_left: 0,
            gathered: Vec::new(),
            engine_error: Vec::new(),
        }
    }
}

impl Demultiplexer {
    /// Passes on what a piece of the stream holds; everything is written when it returns.
    ///
    /// # Errors
    /// [`StreamError::Write`], [`StreamError::Engine`] and [`StreamError::UnknownStream`].
    pub fn feed<O: Write, E: Write>(
        &mut self,
        mut bytes: &[u8],
        out: &mut Outputs<O, E>,
    ) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            if self.payload_left == 0 {
                let take = bytes.len().min(HEADER_BYTES - self.header_filled);
                self.header[self.header_filled..self.header_filled + take]
                    .copy_from_slice(&bytes[..take]);
                self.header_filled += take;
                bytes = &bytes[take..];
                if self.header_filled == HEADER_BYTES {
                    self.header_filled = 0;
                    self.begin(out)?;
                }
                continue;
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.payload_left));
            self.payload_left -= payload.len();
            bytes = rest;
            self.payload(payload, out)?;
        }
        self.flush(out)
    }

    fn begin<O: Write, E: Write>(&mut self, out: &mut Outputs<O, E>) -> Result<(), StreamError> {
        let [stream, _, _, _, size @ ..] = self.header;
        let target = match stream {
            // Stream 0 is what an engine once called the console: output.
            0 | 1 => Target::Stdout,
            2 => Target::Stderr,
            3 => Target::Engine,
            other => {
                self.flush(out)?;
                return Err(StreamError::UnknownStream(other));
            }
        };
        if target != self.target {
            // What was written first is seen first, even when both streams are one terminal.
            self.flush(out)?;
            self.target = target;
        }
        self.payload_left = u32::from_be_bytes(size) as usize;
        Ok(())
    }

    fn payload<O: Write, E: Write>(
        &mut self,
        payload: &[u8],
        out: &mut Outputs<O, E>,
    ) -> Result<(), StreamError> {
        if self.target == Target::Engine {
            let room = MAX_ERROR_BYTES - self.engine_error.len();
            self.engine_error
                .extend_from_slice(&payload[..payload.len().min(room)]);
            if self.payload_left == 0 {
                let text = String::from_utf8_lossy(&self.engine_error)
                    .trim_end()
                    .to_owned();
                return Err(StreamError::Engine(text));
            }
        } else if payload.len() < GATHER_BELOW_BYTES {
            self.gathered.extend_from_slice(payload);
        } else {
            self.flush(out)?;
            self.write(payload, out)?;
        }
        Ok(())
    }

    fn flush<O: Write, E: Write>(&mut self, out: &mut Outputs<O, E>) -> Result<(), StreamError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        let result = self.write(&gathered, out);
        self.gathered = gathered;
        self.gathered.clear();
        result
    }

    fn write<O: Write, E: Write>(
        &self,
        bytes: &[u8],
        out: &mut Outputs<O, E>,
    ) -> Result<(), StreamError> {
        let written = match self.target {
            Target::Stderr => out
                .stderr
                .write_all(bytes)
                .and_then(|()| out.stderr.flush()),
            Target::Stdout | Target::Engine => out
                .stdout
                .write_all(bytes)
                .and_then(|()| out.stdout.flush()),
        };
        written.map_err(StreamError::Write)
    }
}

/// Copies a multiplexed stream to its end.
///
/// A stream cut in the middle of a frame ends quietly: that is how a container that was killed
/// looks from here.
///
/// # Errors
/// Any [`StreamError`].
pub fn demultiplex<O: Write, E: Write>(
    mut from: impl Read,
    out: &mut Outputs<O, E>,
) -> Result<(), StreamError> {
    let mut demultiplexer = Demultiplexer::default();
    copy_to(&mut from, |bytes| demultiplexer.feed(bytes, out))
}

/// Copies a raw stream (a terminal's) to its end.
///
/// # Errors
/// [`StreamError::Read`] and [`StreamError::Write`].
pub fn copy(mut from: impl Read, mut to: impl Write) -> Result<(), StreamError> {
    copy_to(&mut from, |bytes| {
        to.write_all(bytes)
            .and_then(|()| to.flush())
            .map_err(StreamError::Write)
    })
}

fn copy_to(
    from: &mut impl Read,
    mut sink: impl FnMut(&[u8]) -> Result<(), StreamError>,
) -> Result<(), StreamError> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => sink(&buffer[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An engine that dies resets the connection; what it had sent has been shown.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(StreamError::Read(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn collect() -> Outputs<Vec<u8>, Vec<u8>> {
        Outputs {
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    #[test]
    fn frames_reach_their_stream_however_they_are_cut() {
        let big = vec![b'x'; 40_000];
        let mut bytes = Vec::new();
        for (stream, payload) in [
            (1, &b"out"[..]),
            (2, b"err"),
            (1, b""),
            (0, b"more"),
            (1, &big),
            (2, b"end"),
        ] {
            bytes.extend(frame(stream, payload));
        }
        for step in [1, 7, 8, 4096, bytes.len()] {
            let mut out = collect();
            let mut demultiplexer = Demultiplexer::default();
            for piece in bytes.chunks(step) {
                demultiplexer.feed(piece, &mut out).unwrap();
            }
            assert_eq!(
                out.stdout,
                [b"outmore", big.as_slice()].concat(),
                "step {step}"
            );
            assert_eq!(out.stderr, b"errend", "step {step}");
        }
    }

    #[test]
    fn many_small_frames_of_one_stream_are_one_write() {
        struct Count(usize);
        impl Write for Count {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bytes: Vec<u8> = (0..100).flat_map(|_| frame(1, b"a line\n")).collect();
        let mut out = Outputs {
            stdout: Count(0),
            stderr: Count(0),
        };
        Demultiplexer::default().feed(&bytes, &mut out).unwrap();
        assert_eq!((out.stdout.0, out.stderr.0), (1, 0));
    }

    #[test]
    fn the_order_of_both_streams_survives_on_one_terminal() {
        let terminal = std::cell::RefCell::new(Vec::new());
        struct Shared<'a>(&'a std::cell::RefCell<Vec<u8>>);
        impl Write for Shared<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.borrow_mut().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bytes = [
            frame(1, b"1"),
            frame(2, b"2"),
            frame(2, b"3"),
            frame(1, b"4"),
        ]
        .concat();
        let mut out = Outputs {
            stdout: Shared(&terminal),
            stderr: Shared(&terminal),
        };
        demultiplex(bytes.as_slice(), &mut out).unwrap();
        assert_eq!(*terminal.borrow(), b"1234");
    }

    #[test]
    fn an_engine_error_ends_the_stream_with_its_sentence() {
        let bytes = [frame(1, b"a"), frame(3, b"log file gone\n")].concat();
        let mut out = collect();
        let error = demultiplex(bytes.as_slice(), &mut out).unwrap_err();
        assert_eq!(
            error.to_string(),
            "error from daemon in stream: log file gone"
        );
        assert_eq!(out.stdout, b"a");
    }

    #[test]
    fn an_unknown_stream_is_named_after_what_came_before_it() {
        let bytes = [frame(1, b"a"), frame(b'H', b"b")].concat();
        let mut out = collect();
        let error = demultiplex(bytes.as_slice(), &mut out).unwrap_err();
        assert!(matches!(error, StreamError::UnknownStream(b'H')));
        assert_eq!(out.stdout, b"a");
    }

    #[test]
    fn a_stream_cut_inside_a_frame_ends_quietly() {
        let bytes = frame(1, b"abcdef");
        let mut out = collect();
        demultiplex(&bytes[..11], &mut out).unwrap();
        assert_eq!(out.stdout, b"abc");
    }
}
