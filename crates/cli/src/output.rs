//! Standard output and error of the process, or buffers in their place.
//!
//! Writes are buffered and flushed when a command ends or waits; a reader that
//! went away (`conex ps | head -1`) ends the command quietly. It must not know
//! what is printed.

use std::io::{self, IsTerminal, Write};

/// Bytes kept before they are written out.
const BUFFER_BYTES: usize = 64 * 1024;

/// One output stream.
pub struct Output {
    sink: Sink,
    buffer: Vec<u8>,
}

enum Sink {
    Stdout,
    Stderr,
    /// Keeps everything in `buffer`, for tests.
    Kept,
}

impl Output {
    /// The process's standard output.
    pub fn stdout() -> Self {
        Self {
            sink: Sink::Stdout,
            buffer: Vec::new(),
        }
    }

    /// The process's standard error.
    pub fn stderr() -> Self {
        Self {
            sink: Sink::Stderr,
            buffer: Vec::new(),
        }
    }

    /// A stream that keeps what is written; [`Output::kept`] shows it.
    pub fn keeping() -> Self {
        Self {
            sink: Sink::Kept,
            buffer: Vec::new(),
        }
    }

    /// What is buffered: everything written to a [`Output::keeping`] stream.
    pub fn kept(&self) -> &[u8] {
        &self.buffer
    }

    /// Whether a person looks at it.
    pub fn is_terminal(&self) -> bool {
        match self.sink {
            Sink::Stdout => io::stdout().is_terminal(),
            Sink::Stderr => io::stderr().is_terminal(),
            Sink::Kept => false,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if matches!(self.sink, Sink::Kept) || self.buffer.is_empty() {
            return Ok(());
        }
        // A failed write must not be tried again by the next flush.
        let pending = std::mem::take(&mut self.buffer);
        match self.sink {
            Sink::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&pending)?;
                stdout.flush()
            }
            Sink::Stderr => io::stderr().lock().write_all(&pending),
            Sink::Kept => Ok(()),
        }
    }
}
