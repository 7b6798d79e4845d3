//! The `json-file` driver: one JSON object per line, in files that rotate.
//!
//! ```text
//! <path>                     being written        {"log":"text\n","stream":"stdout",
//! <path>.1  or  <path>.1.gz  the one before        "attrs":{..},"time":"2026-01-02T03:04:05.6Z"}
//! <path>.2  or  <path>.2.gz  ...                  (on one line; "attrs" only when there are any)
//! <path>.new, <path>.1.gz.new  in the making, never read
//! ```
//!
//! A message is a line of the container without its end, or 16 KiB of a longer line; only
//! the last part of a line ends with `\n`. Bytes that are not UTF-8 become `\ufffd`.
//! A file is written by one writer only and read by any number of readers without a lock:
//! - a line is complete when its `\n` is there, and the writer leaves no other ends behind;
//! - a file that was renamed is never written again;
//! - readers look from the newest file to the oldest, so that one that is renamed meanwhile
//!   is met twice rather than never, and begin again when the newest has changed.
//!
//! Other tools read these files too, so their shape is Docker's (docs/compat.md, D6.1).

mod chain;
mod decode;
mod encode;
mod reader;
mod rotate;
mod seek;
mod watch;
mod writer;

pub use decode::{Batch, Entry};
pub use reader::{Progress, Query, Reader};
pub use watch::{Watched, consume_watch};
pub use writer::Writer;

use std::path::{Path, PathBuf};

/// A place in a log between two lines. The open file is known again whatever it is called by now, and can be
/// read even when it was dropped.
#[derive(Debug)]
pub struct Mark {
    /// The file that was current.
    pub file: std::fs::File,
    /// How much of it is before the mark.
    pub bytes: u64,
}

/// Longest message in bytes; a longer line of the container is cut into parts.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// Every file that may belong to the log at `path` and exists, the newest first.
///
/// For whoever removes or counts a log. Order between calls is that of the rotation.
pub fn existing_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let candidate = entry.file_name();
        if let Some(number) =
            watch::number_of(candidate.as_encoded_bytes(), name.as_encoded_bytes())
        {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
