//! The read side: a log from its oldest file to its newest, and on as it grows.
//!
//! ```text
//!   open(tail, since)      next_batch              next_batch
//!  oldest ──────────► rotated files ──────────► current file ──► AtEnd ─┐
//!                                                   ▲   watch: Changed  │
//!                                                   └───────────────────┘
//! ```
//!
//! A file that was rotated away stays open until it is finished, so that a follower loses
//! and repeats nothing, unless the writer drops files faster than they are read at all.
//! This file must not know who reads.

use super::chain::{self, Segment, Source};
use super::decode::{Batch, Decoder};
use super::{Mark, seek, watch};
use crate::Stream;
use memchr::memchr;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Bytes of a file that make one batch.
const BLOCK_BYTES: usize = 256 * 1024;

/// A line longer than this is garbage; ours are at most 96 KiB and the container's labels.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Which messages of a log are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Not those before this time, in nanoseconds since 1970.
    pub since_ns: Option<i128>,
    /// Not those after this time; the first of them ends the log.
    pub until_ns: Option<i128>,
    /// Only the last so many that are there at the start, counted before the other
    /// conditions as Docker counts them.
    pub tail: Option<usize>,
    /// Those of standard output.
    pub stdout: bool,
    /// Those of standard error.
    pub stderr: bool,
    /// Whether to go on past what was there at the start.
    pub follow: bool,
}

impl Default for Query {
    /// Everything that is there now.
    fn default() -> Self {
        Query {
            since_ns: None,
            until_ns: None,
            tail: None,
            stdout: true,
            stderr: true,
            follow: false,
        }
    }
}

/// Where a [`Reader`] stands after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There may be more at once.
    More,
    /// All that is there was delivered.
    AtEnd,
    /// A message after [`Query::until_ns`] was met, so nothing more will come.
    PastUntil,
}

/// Reads one log.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    follow: bool,
    /// Oldest first. The last is kept when it is finished, to know what comes after it.
    segments: VecDeque<Segment>,
    block: Vec<u8>,
    /// Bytes at the front of `block` that belong to an unfinished line of a compressed file.
    carried: usize,
    lines: Lines,
}

/// What is done with lines, whichever file they are from.
#[derive(Debug)]
struct Lines {
    decoder: Decoder,
    since_ns: i128,
    until_ns: i128,
    stdout: bool,
    stderr: bool,
    garbage: u64,
    /// In the middle of a line that is too long.
    skipping: bool,
    past_until: bool,
}

impl Reader {
    /// Opens the log whose current file is at `path`.
    ///
    /// A log without any file is an empty one. All files of the log are held open until
    /// they are read. To follow, call [`Reader::watch`] before the first
    /// [`Reader::next_batch`], so that no change falls between the two.
    pub fn open(path: &Path, query: Query) -> io::Result<Reader> {
        let segments = chain::collect(path, None)?;
        Reader::of(path, query, segments)
    }

    /// Opens what is before a mark of the log, as it is by now: files that were dropped since are not there.
    ///
    /// The query's `follow` is not for this.
    pub fn open_before(path: &Path, query: Query, mark: Mark) -> io::Result<Reader> {
        let query = Query {
            follow: false,
            ..query
        };
        let segments = chain::collect_before(path, mark)?;
        Reader::of(path, query, segments)
    }

    fn of(path: &Path, query: Query, mut segments: Vec<Segment>) -> io::Result<Reader> {
        let mut wanted = query.tail.map_or(u64::MAX, |tail| tail as u64);
        let mut kept = 0;
        for (age, segment) in segments.iter_mut().enumerate() {
            if age > 0 && wanted == 0 {
                break;
            }
            kept += 1;
            match &mut segment.source {
                Source::Plain(plain) => {
                    let len = plain.file.metadata()?.len();
                    let len = len.min(plain.end);
                    if age > 0 || !query.follow {
                        plain.end = len;
                    }
                    if query.tail.is_some() {
                        let (position, found) = seek::tail_position(&plain.file, len, wanted)?;
                        plain.position = position;
                        wanted -= found;
                    } else if let Some(since_ns) = query.since_ns {
                        plain.position = seek::since_position(&plain.file, len, since_ns)?;
                    }
                }
                Source::Gzip(gzip) if query.tail.is_some() => {
                    let found = gzip.count_lines()?;
                    gzip.skip_lines = found.saturating_sub(wanted);
                    wanted = wanted.saturating_sub(found);
                }
                Source::Gzip(_) => {}
            }
        }
        segments.truncate(kept);
        if let (Some(since_ns), None) = (query.since_ns, query.tail) {
            // Not needed and costly to read; the newest stays as the mark to go on from.
            let mut is_newest = true;
            segments.retain(|segment| {
                std::mem::take(&mut is_newest)
                    || segment
                        .last_time_ns()
                        .is_none_or(|last_ns| last_ns >= since_ns)
            });
        }
        Ok(Reader {
            path: path.to_owned(),
            follow: query.follow,
            segments: segments.into_iter().rev().collect(),
            block: vec![0; BLOCK_BYTES],
            carried: 0,
            lines: Lines {
                decoder: Decoder::default(),
                since_ns: query.since_ns.unwrap_or(i128::MIN),
                until_ns: query.until_ns.unwrap_or(i128::MAX),
                stdout: query.stdout,
                stderr: query.stderr,
                garbage: 0,
                skipping: false,
                past_until: false,
            },
        })
    }

    /// Replaces what is in `batch` with the next messages, from 256 KiB of log at most.
    ///
    /// The batch may be empty where none of them is wanted. After [`Progress::AtEnd`] a
    /// follower waits for its watch to become readable and calls again; half a line at the
    /// end of the file is waited for too. Never blocks but for the disk.
    pub fn next_batch(&mut self, batch: &mut Batch) -> io::Result<Progress> {
        batch.clear();
        if self.lines.past_until {
            return Ok(Progress::PastUntil);
        }
        if self.follow {
            // Before reading: a file with a successor is complete, so that its end, when it
            // is met afterwards, is its last.
            self.discover()?;
        }
        loop {
            let has_successor = self.segments.len() > 1;
            let Some(segment) = self.segments.front_mut() else {
                return Ok(Progress::AtEnd);
            };
            let mut no_skip = 0;
            let (filled, skip_lines) = match &mut segment.source {
                Source::Plain(plain) => (plain.fill(&mut self.block)?, &mut no_skip),
                Source::Gzip(gzip) => (
                    gzip.fill(&mut self.block, self.carried)?,
                    &mut gzip.skip_lines,
                ),
            };
            let consumed = self.lines.take(&self.block[..filled], skip_lines, batch);
            match &mut segment.source {
                Source::Plain(plain) => plain.position += consumed as u64,
                Source::Gzip(_) => {
                    self.block.copy_within(consumed..filled, 0);
                    self.carried = filled - consumed;
                }
            }
            if self.lines.past_until {
                return Ok(Progress::PastUntil);
            }
            if consumed > 0 {
                return Ok(Progress::More);
            }
            if filled == self.block.len() {
                if filled < MAX_LINE_BYTES {
                    self.block.resize(filled * 2, 0);
                } else {
                    self.lines.skipping = true;
                }
                continue;
            }
            if has_successor {
                self.lines.garbage += u64::from(filled > 0 || self.lines.skipping);
                self.lines.skipping = false;
                self.carried = 0;
                self.segments.pop_front();
                continue;
            }
            let restarted = match &mut segment.source {
                Source::Plain(plain) => self.follow && plain.start_over_if_truncated()?,
                Source::Gzip(_) => false,
            };
            if !restarted {
                return Ok(Progress::AtEnd);
            }
            self.lines.skipping = false;
        }
    }

    /// A non-blocking inotify descriptor that becomes readable when the log changes.
    ///
    /// Empty it with [`super::consume_watch`] before reading on. It is for the directory,
    /// which must exist, and tells of the log being made, too.
    pub fn watch(&self) -> io::Result<OwnedFd> {
        watch::watch(&self.path)
    }

    /// How many lines were left out because they are no log lines.
    pub fn garbage_lines(&self) -> u64 {
        self.lines.garbage
    }

    /// Opens the files that became the log's since the newest that is known.
    fn discover(&mut self) -> io::Result<()> {
        let newer = match self.segments.back() {
            Some(newest) if newest.is_at(&self.path)? => return Ok(()),
            newest => chain::collect(&self.path, newest)?,
        };
        self.segments.extend(newer.into_iter().rev());
        Ok(())
    }
}

impl Lines {
    /// Adds the messages of all complete lines of `data` and returns their length.
    fn take(&mut self, data: &[u8], skip_lines: &mut u64, batch: &mut Batch) -> usize {
        let mut at = 0;
        while let Some(len) = memchr(b'\n', &data[at..]) {
            let line = &data[at..at + len];
            at += len + 1;
            if std::mem::take(&mut self.skipping) {
                self.garbage += 1;
            } else if *skip_lines > 0 {
                *skip_lines -= 1;
            } else if self.decoder.decode(line, batch).is_err() {
                self.garbage += 1;
            } else if !self.wants_last(batch) {
                batch.pop();
                if self.past_until {
                    return at;
                }
            }
        }
        if self.skipping { data.len() } else { at }
    }

    fn wants_last(&mut self, batch: &Batch) -> bool {
        let Some((stream, time_ns)) = batch.last() else {
            return false;
        };
        self.past_until = time_ns > self.until_ns;
        let stream_wanted = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        !self.past_until && time_ns >= self.since_ns && stream_wanted
    }
}

#[cfg(test)]
mod tests;
