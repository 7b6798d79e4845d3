//! The write side: raw pipe reads in, lines of JSON out, one write(2) per batch.
//!
//! This file must not know readers. It must never leave half a line in the file, nor stop
//! the container because the disk is full: lines that cannot be written are counted, and
//! one line saying how many were lost is written when there is space again.

use super::encode::{self, Part};
use super::{MAX_MESSAGE_BYTES, Mark, rotate};
use crate::driver::Options;
use crate::{Stream, timestamp};
use memchr::{memchr, memchr_iter, memrchr};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Encoded bytes that are written at once. Larger batches are no faster, and there is one
/// buffer of this size in the process beside every container that writes a lot.
const BATCH_BYTES: usize = 128 * 1024;

/// A read of the pipe smaller than this says that the container is quiet: the buffer goes.
const QUIET_BYTES: usize = 4096;

/// Files are searched backwards for the end of the last line in blocks of this size.
const BLOCK_BYTES: u64 = 64 * 1024;

/// Writes the log of one container.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    /// The size at which the next line goes to a new file.
    rotate_at_bytes: u64,
    max_size_bytes: Option<u64>,
    max_file: u32,
    compress: bool,
    attrs_member: Vec<u8>,
    stdout: Held,
    stderr: Held,
    out: Vec<u8>,
    line_end: Vec<u8>,
    last_time_ns: i128,
    trouble: Trouble,
    compressor: Option<JoinHandle<()>>,
}

/// The beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
struct Held {
    text: Vec<u8>,
    time_ns: i128,
}

/// What stands between the writer and a file in good order.
#[derive(Debug, Default)]
struct Trouble {
    /// Lines that could not be written since the last one that could.
    lost_lines: u64,
    /// What the system said when the first of them could not be written.
    reason: String,
    /// Bytes of half a line at the end of the file that could not be cut off yet.
    torn_bytes: u64,
    /// An error that the caller has not heard of yet.
    unreported: Option<io::Error>,
}

impl Writer {
    /// Opens the log at `path` for appending, making the file if it is not there.
    ///
    /// Half a line left by a writer that was killed is cut off. There must be one writer
    /// at a time; readers may come and go.
    pub fn open(path: &Path, options: &Options) -> io::Result<Writer> {
        rotate::remove_unfinished(path)?;
        let file = rotate::open_current(path)?;
        let size_bytes = cut_torn_end(&file)?;
        Ok(Writer {
            path: path.to_owned(),
            file,
            size_bytes,
            rotate_at_bytes: options.max_size_bytes.unwrap_or(u64::MAX),
            max_size_bytes: options.max_size_bytes,
            max_file: options.max_file.max(1),
            compress: options.compress && options.max_file > 1,
            attrs_member: encode::attrs_member(&options.attrs),
            stdout: Held::default(),
            stderr: Held::default(),
            out: Vec::new(),
            line_end: Vec::new(),
            last_time_ns: 0,
            trouble: Trouble::default(),
            compressor: None,
        })
    }

    /// Logs what one read(2) of the container's `stream` returned, of any size.
    ///
    /// All lines that end in `chunk` carry the one time `now_ns`. The end of `chunk` is
    /// held back until its newline comes or it is [`MAX_MESSAGE_BYTES`] long.
    ///
    /// An error is returned once when writing begins to fail (ENOSPC, EDQUOT, EIO) and is
    /// no reason to stop: later calls return `Ok` and count what they cannot write.
    pub fn write(&mut self, stream: Stream, chunk: &[u8], now_ns: i128) -> io::Result<()> {
        encode::line_end(&mut self.line_end, stream, &self.attrs_member, now_ns);
        let mut held = std::mem::take(self.held(stream));
        self.split(&mut held, chunk, now_ns);
        *self.held(stream) = held;
        self.flush(now_ns);
        if chunk.len() < QUIET_BYTES && self.out.capacity() > BATCH_BYTES {
            self.out = Vec::new();
        }
        self.trouble.unreported.take().map_or(Ok(()), Err)
    }

    /// Writes what is held of unfinished lines, as the container has ended.
    ///
    /// Waits for a rotated file that is still being compressed.
    pub fn finish(mut self) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let held = std::mem::take(self.held(stream));
            if !held.text.is_empty() {
                encode::line_end(&mut self.line_end, stream, &self.attrs_member, held.time_ns);
                self.push(&held.text, Part::Unfinished, held.time_ns);
                self.flush(held.time_ns);
            }
        }
        if self.trouble.lost_lines > 0 && self.trouble.unreported.is_none() {
            // Perhaps there is space again for the one line that tells of the loss.
            self.write_out(self.last_time_ns);
        }
        self.join_compressor();
        self.trouble.unreported.take().map_or(Ok(()), Err)
    }

    /// The beginning of a line of `stream` that is in no file yet, since its end has not come.
    pub fn held_text(&self, stream: Stream) -> &[u8] {
        match stream {
            Stream::Stdout => &self.stdout.text,
            Stream::Stderr => &self.stderr.text,
        }
    }

    /// Where the log ends now: the current file and its length.
    pub fn mark(&self) -> io::Result<Mark> {
        // Of the file's own size: a user may have truncated it.
        let bytes = self.file.metadata()?.len();
        Ok(Mark {
            file: self.file.try_clone()?,
            bytes: bytes.saturating_sub(self.trouble.torn_bytes),
        })
    }

    /// How many lines could not be written and are not told of in the log yet.
    pub fn lost_lines(&self) -> u64 {
        self.trouble.lost_lines
    }

    fn held(&mut self, stream: Stream) -> &mut Held {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Cuts `chunk` into messages; what has no end yet is left in `held`.
    fn split(&mut self, held: &mut Held, mut chunk: &[u8], now_ns: i128) {
        while !chunk.is_empty() {
            let room = MAX_MESSAGE_BYTES - held.text.len();
            let window = &chunk[..chunk.len().min(room)];
            match memchr(b'\n', window) {
                Some(end) if held.text.is_empty() => {
                    self.push(&window[..end], Part::Last, now_ns);
                    chunk = &chunk[end + 1..];
                }
                Some(end) => {
                    held.text.extend_from_slice(&window[..end]);
                    self.push(&held.text, Part::Last, now_ns);
                    held.text.clear();
                    chunk = &chunk[end + 1..];
                }
                None => {
                    if held.text.is_empty() {
                        held.time_ns = now_ns;
                    }
                    held.text.extend_from_slice(window);
                    chunk = &chunk[window.len()..];
                    if held.text.len() == MAX_MESSAGE_BYTES {
                        let cut = encode::cut_at_character(&held.text);
                        self.push(&held.text[..cut], Part::Unfinished, now_ns);
                        held.text.drain(..cut);
                        held.time_ns = now_ns;
                    }
                }
            }
        }
    }

    /// Adds one line to the batch, rotating before it where the file is full.
    fn push(&mut self, text: &[u8], part: Part, now_ns: i128) {
        if self.size_bytes + self.out.len() as u64 >= self.rotate_at_bytes {
            self.flush(now_ns);
            if self.size_bytes >= self.rotate_at_bytes {
                self.rotate();
            }
        }
        encode::push_line(&mut self.out, text, part, &self.line_end);
        self.last_time_ns = now_ns;
        if self.out.len() >= BATCH_BYTES {
            self.flush(now_ns);
        }
    }

    fn flush(&mut self, now_ns: i128) {
        if !self.out.is_empty() {
            self.write_out(now_ns);
            self.out.clear();
        }
    }

    /// Writes the batch, after the line that tells of lost ones where there were any.
    fn write_out(&mut self, now_ns: i128) {
        if self.trouble.torn_bytes > 0 && self.cut_torn_write().is_err() {
            self.trouble.lost_lines += count_lines(&self.out);
            return;
        }
        if self.trouble.lost_lines > 0 {
            let marker = self.marker(now_ns);
            if self.append(&marker).is_err() {
                self.trouble.lost_lines += count_lines(&self.out);
                return;
            }
            self.trouble.lost_lines = 0;
        }
        let out = std::mem::take(&mut self.out);
        if let Err((written, error)) = self.append(&out) {
            self.trouble.lost_lines += count_lines(&out[written..]);
            self.trouble.reason = reason(&error);
            self.trouble.unreported.get_or_insert(error);
        }
        self.out = out;
    }

    /// Appends whole lines; on an error, how many bytes of them are in the file.
    fn append(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        let error = loop {
            if done == lines.len() {
                self.size_bytes += done as u64;
                return Ok(());
            }
            match rustix::io::write(&self.file, &lines[done..]) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => break errno.into(),
            }
        };
        let whole = memrchr(b'\n', &lines[..done]).map_or(0, |at| at + 1);
        self.size_bytes += whole as u64;
        self.trouble.torn_bytes = (done - whole) as u64;
        // When even this fails it is tried again before the next write.
        self.cut_torn_write().ok();
        Err((whole, error))
    }

    /// Cuts off half a line that a failed write left.
    fn cut_torn_write(&mut self) -> io::Result<()> {
        if self.trouble.torn_bytes > 0 {
            // From the file's own size: a user may have truncated it meanwhile.
            let len = self.file.metadata()?.len();
            self.file
                .set_len(len.saturating_sub(self.trouble.torn_bytes))?;
            self.trouble.torn_bytes = 0;
        }
        Ok(())
    }

    fn marker(&self, now_ns: i128) -> Vec<u8> {
        let text = format!(
            "conex: {} log lines lost: {}",
            self.trouble.lost_lines, self.trouble.reason
        );
        let (mut line_end, mut line) = (Vec::new(), Vec::new());
        encode::line_end(&mut line_end, Stream::Stderr, &self.attrs_member, now_ns);
        encode::push_line(&mut line, text.as_bytes(), Part::Last, &line_end);
        line
    }

    fn rotate(&mut self) {
        if self.trouble.torn_bytes > 0 {
            return;
        }
        // At most one file is being compressed, or the numbers would shift under it.
        self.join_compressor();
        let max_size_bytes = self.max_size_bytes.unwrap_or(u64::MAX);
        match rotate::rotate(&self.path, self.max_file) {
            Ok(file) => {
                self.file = file;
                self.size_bytes = 0;
                self.rotate_at_bytes = max_size_bytes;
                if self.compress {
                    let mut last_time = Vec::new();
                    timestamp::push_trimmed(&mut last_time, self.last_time_ns);
                    let last_time = String::from_utf8(last_time).expect("times are ASCII");
                    self.compressor = rotate::compress_behind(&self.path, last_time);
                }
            }
            Err(error) => {
                // Go on in the same file and try again a good while later, not at every line.
                self.rotate_at_bytes = self.size_bytes.saturating_add(max_size_bytes);
                self.trouble.unreported.get_or_insert(error);
            }
        }
    }

    fn join_compressor(&mut self) {
        if let Some(handle) = self.compressor.take() {
            // A panic there loses no lines: the plain file is removed last.
            handle.join().ok();
        }
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr_iter(b'\n', lines).count() as u64
}

/// The system's own words: `no space left on device`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.to_lowercase()
}

/// Cuts off what follows the last newline and returns the size that remains.
fn cut_torn_end(file: &File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let mut end = len;
    let mut block = vec![0; usize::try_from(BLOCK_BYTES.min(len)).expect("64 KiB")];
    while end > 0 {
        let start = end.saturating_sub(if end == len { 1 } else { BLOCK_BYTES });
        let block = &mut block[..usize::try_from(end - start).expect("at most a block")];
        file.read_exact_at(block, start)?;
        if let Some(at) = memrchr(b'\n', block) {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < len {
        file.set_len(end)?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests;
