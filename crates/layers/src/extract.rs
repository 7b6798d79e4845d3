//! Unpacking an archive into a layer's directory.
//!
//! Names come from strangers. Every parent directory is reached with
//! `openat2(RESOLVE_IN_ROOT)` from the layer's root, so that a symbolic link in
//! the layer can lead to another place of the layer and nowhere else; the last
//! component is made by name in that directory and never followed. `..` is
//! resolved in the text of the name, as Docker does, and a name that would
//! leave the root is refused.
//!
//! Order of one entry: content, owner, mode (changing the owner clears
//! set-user-ID), extended attributes (and `security.capability`), times. The
//! times of directories come last of all.

mod content;
mod copying;
mod entry;
mod place;
mod whiteout;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use conex_archive::tar::{self, Timestamp};
use rustix::io::Errno;

use crate::recipe::Recorder;
pub use copying::{Copying, Ownership};
use place::Place;
pub(crate) use place::{clean, is_below, join, split};
pub(crate) use whiteout::{Meaning, meaning};

/// Bounds on what an archive may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the uncompressed archive, headers and trailer included.
    pub max_bytes: u64,
    /// Most entries.
    pub max_entries: u64,
    /// Longest name or link target, in bytes.
    pub max_path_bytes: usize,
}

impl Default for Limits {
    /// 1 TiB, 16 Mi entries, and as long a path as the kernel takes.
    fn default() -> Self {
        Self {
            max_bytes: 1 << 40,
            max_entries: 16 << 20,
            max_path_bytes: 4095,
        }
    }
}

/// What `.wh.` names mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whiteouts {
    /// They become the overlay file system's marks: a character device 0/0,
    /// `trusted.overlay.opaque` on a directory.
    Overlay,
    /// They remove what lay there before this archive, for drivers whose
    /// layers start as a copy of their parent.
    Apply,
    /// Nothing: ordinary files, as in `cp` and `import`.
    AsIs,
}

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bounds on what the archive may do.
    pub limits: Limits,
    /// What `.wh.` names mean.
    pub whiteouts: Whiteouts,
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extracted {
    /// Sum of the sizes of files and symbolic links, holes included.
    pub bytes: u64,
    /// Number of entries, whiteouts included.
    pub entries: u64,
    /// Directories that were made because something lies in them, without an
    /// entry of their own, sorted; the root is the empty path. They have mode
    /// 0755 until [`crate::implied::adopt`] mends them.
    pub implied_dirs: Vec<Vec<u8>>,
    /// Hard links to what is not in this layer and may be below, in the
    /// archive's order; only for [`Whiteouts::Overlay`]. They are not there
    /// until [`crate::below::link`] makes them.
    pub links_below: Vec<LinkBelow>,
}

/// A hard link whose target is in a lower layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkBelow {
    /// The link, cleaned, relative to the root.
    pub path: Vec<u8>,
    /// Its target, likewise.
    pub target: Vec<u8>,
}

/// Why an archive was not unpacked. What was made so far stays, all of it
/// inside the root.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream is damaged, cut or fails.
    #[error("cannot read the layer's archive")]
    Archive(#[source] tar::Error),
    /// A name leads out of the root.
    #[error("invalid entry {entry:?} in the archive: it is outside of the root directory")]
    Outside {
        /// The name.
        entry: String,
    },
    /// A hard link's target leads out of the root.
    #[error(
        "invalid hard link {entry:?} -> {target:?} in the archive: it is outside of the root directory"
    )]
    LinkOutside {
        /// The link's name.
        entry: String,
        /// Its target.
        target: String,
    },
    /// A whiteout of nothing, of `.` or of `..`.
    #[error("invalid whiteout {entry:?} in the archive")]
    Whiteout {
        /// Its name.
        entry: String,
    },
    /// A kind of entry that has no meaning here.
    #[error("the archive entry {entry:?} has the unknown type {flag:?}")]
    Kind {
        /// Its name.
        entry: String,
        /// Its type flag.
        flag: char,
    },
    /// An owner beyond what the kernel has.
    #[error("the archive entry {entry:?} belongs to {id}, which is no user or group number")]
    Owner {
        /// Its name.
        entry: String,
        /// The number.
        id: u64,
    },
    /// More than [`Limits::max_bytes`].
    #[error("the archive unpacks to more than the limit of {limit} bytes")]
    TooManyBytes {
        /// The limit.
        limit: u64,
    },
    /// More than [`Limits::max_entries`].
    #[error("the archive has more than the limit of {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// More than [`Limits::max_path_bytes`].
    #[error(
        "the archive entry {entry:?} has a name or link longer than the limit of {limit} bytes"
    )]
    PathTooLong {
        /// The start of its name.
        entry: String,
        /// The limit.
        limit: usize,
    },
    /// The recipe cannot be written.
    #[error("cannot write the layer's recipe")]
    Recipe(#[source] io::Error),
    /// With [`Copying::keep_kinds`]. The text is Docker's.
    #[error("cannot overwrite directory {path:?} with non-directory {into:?}")]
    OverDirectory {
        /// The directory.
        path: String,
        /// What was unpacked into.
        into: String,
    },
    /// With [`Copying::keep_kinds`]. The text is Docker's.
    #[error("cannot overwrite non-directory {path:?} with directory {into:?}")]
    OverFile {
        /// What is no directory.
        path: String,
        /// What was unpacked into.
        into: String,
    },
    /// The file system refused.
    #[error("cannot {action} the archive entry {entry:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which entry.
        entry: String,
        /// Why not.
        source: Errno,
    },
}

/// Unpacks one archive into one directory.
#[derive(Debug)]
pub struct Extractor {
    place: Place,
    options: Options,
    extracted: Extracted,
    /// Times of directories, set when nothing changes them any more.
    directories: BTreeMap<Vec<u8>, Timestamp>,
    /// What this archive made, which its whiteouts spare; only for
    /// [`Whiteouts::Apply`].
    unpacked: BTreeSet<Vec<u8>>,
    /// Set by [`Extractor::copying`].
    copying: Option<Copying>,
    buffer: Vec<u8>,
    recorder: Option<Recorder>,
}

impl Extractor {
    /// For the directory `root`, opened for reading, usually empty.
    #[must_use]
    pub fn new(root: OwnedFd, options: Options) -> Self {
        Self {
            place: Place::new(root, options.whiteouts),
            options,
            extracted: Extracted::default(),
            directories: BTreeMap::new(),
            unpacked: BTreeSet::new(),
            copying: None,
            buffer: vec![0; 128 * 1024],
            recorder: None,
        }
    }

    /// Unpacks the uncompressed archive and reads its stream to the end, so
    /// that a digest taken below covers all of it.
    pub fn extract(mut self, stream: impl Read) -> Result<Extracted, Error> {
        self.run(stream)?;
        Ok(self.extracted)
    }

    /// The same, and writes down what the tree does not keep of the archive.
    pub fn extract_recording(
        mut self,
        stream: impl Read,
        recorder: Recorder,
    ) -> Result<(Extracted, Recorder), Error> {
        self.recorder = Some(recorder);
        self.run(stream)?;
        let mut recorder = self.recorder.expect("given above, and nothing takes it");
        recorder
            .relocate(self.place.root())
            .map_err(Error::Recipe)?;
        Ok((self.extracted, recorder))
    }

    fn run(&mut self, stream: impl Read) -> Result<(), Error> {
        let limit = self.options.limits.max_bytes;
        let mut archive = tar::Reader::new(Bounded {
            stream,
            left: limit,
        });
        if self.recorder.is_some() {
            archive = archive.keeping_raw();
        }
        let failed = |error| archive_failed(error, limit);
        let mut raw = Vec::new();
        while let Some(mut entry) = archive.next_entry().map_err(failed)? {
            if let Some(recorder) = &mut self.recorder {
                entry.take_raw(&mut raw);
                recorder.raw(&raw).map_err(Error::Recipe)?;
            }
            self.extracted.entries += 1;
            self.check_limits(&entry.header)?;
            self.unpack(&mut entry)?;
            self.record_unread(&mut entry)?;
        }
        match &mut self.recorder {
            Some(recorder) => {
                archive.take_raw(&mut raw);
                recorder.raw(&raw).map_err(Error::Recipe)?;
                let mut trailer = recorder;
                archive.finish_into(&mut trailer).map_err(failed)?;
            }
            None => {
                archive.finish().map_err(failed)?;
            }
        }
        self.place.restore_times().map_err(|source| Error::Io {
            action: "restore the times of directories around",
            entry: "/".into(),
            source,
        })?;
        self.finish_directories()?;
        self.extracted.implied_dirs = self.place.implied_directories();
        Ok(())
    }

    /// Content that goes into no file, as a whiteout may have, is the archive's
    /// own.
    fn record_unread<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), Error> {
        let Some(recorder) = &mut self.recorder else {
            return Ok(());
        };
        while entry.stored_left() > 0 {
            let read = entry.stored().read(&mut self.buffer);
            let read = match read {
                Ok(read) => read,
                Err(error) => return Err(self.content_failed(error)),
            };
            recorder.raw(&self.buffer[..read]).map_err(Error::Recipe)?;
        }
        Ok(())
    }

    fn check_limits(&self, header: &tar::Header) -> Result<(), Error> {
        let limits = &self.options.limits;
        if self.extracted.entries > limits.max_entries {
            return Err(Error::TooManyEntries {
                limit: limits.max_entries,
            });
        }
        let limit = limits.max_path_bytes;
        if header.path.len() > limit || header.link.len() > limit {
            let start = &header.path[..header.path.len().min(100)];
            return Err(Error::PathTooLong {
                entry: shown(start),
                limit,
            });
        }
        Ok(())
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Fails instead of passing more than `left` bytes.
struct Bounded<R> {
    stream: R,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the archive is too large")]
struct BoundReached;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte more than allowed tells an end from an excess.
        let allowed = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX);
        let wanted = allowed.min(buffer.len());
        let read = self.stream.read(&mut buffer[..wanted])?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(BoundReached))?;
        Ok(read)
    }
}

fn archive_failed(error: tar::Error, limit: u64) -> Error {
    if let tar::Error::Read { source, .. } = &error
        && source
            .get_ref()
            .is_some_and(|inner| inner.is::<BoundReached>())
    {
        return Error::TooManyBytes { limit };
    }
    Error::Archive(error)
}

#[cfg(test)]
mod tests;
