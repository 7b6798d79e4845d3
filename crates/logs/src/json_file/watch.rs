//! Waiting for a log to grow, rotate or disappear, with inotify on its directory.
//!
//! This file must not read the log itself; it only says that looking again is worth it.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What the events waiting on a watch amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Nothing about this log.
    Quiet,
    /// The log may have grown or rotated: read on.
    Changed,
    /// The log was removed: read on to the end, then stop.
    Gone,
}

pub(super) fn watch(path: &Path) -> io::Result<OwnedFd> {
    let directory = directory_of(path);
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let flags = WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE
        | WatchFlags::MOVE_SELF
        | WatchFlags::DELETE_SELF
        | WatchFlags::ONLYDIR;
    inotify::add_watch(&inotify, directory, flags)?;
    Ok(inotify)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Takes all waiting events off `watch`, which never blocks, and says what they mean for
/// the log at `path`.
///
/// `watch` is what [`super::Reader::watch`] returned for the same path.
pub fn consume_watch(watch: impl AsFd, path: &Path) -> io::Result<Watched> {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch.as_fd(), &mut buffer);
    let mut seen = Watched::Quiet;
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => return Ok(seen),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
        if event.events().intersects(gone) {
            seen = Watched::Gone;
            continue;
        }
        let ours = match event.file_name() {
            Some(event_name) => match number_of(event_name.to_bytes(), name) {
                // A rotation renames the current file, so this is its removal. The end of
                // the directory would not be told while a reader has a file in it open.
                Some(0) if event.events().contains(ReadFlags::DELETE) => {
                    seen = Watched::Gone;
                    continue;
                }
                number => number.is_some(),
            },
            // The queue overflowed: anything may have happened.
            None => event.events().contains(ReadFlags::QUEUE_OVERFLOW),
        };
        if ours && seen == Watched::Quiet {
            seen = Watched::Changed;
        }
    }
}

/// Which file of the log called `name` a `candidate` is: 0 for the current one, `n` for
/// `name.n` and `name.n.gz`, `None` for a stranger.
pub(super) fn number_of(candidate: &[u8], name: &[u8]) -> Option<u32> {
    let suffix = candidate.strip_prefix(name)?;
    if suffix.is_empty() {
        return Some(0);
    }
    let number = suffix.strip_prefix(b".")?;
    let number = number.strip_suffix(b".gz").unwrap_or(number);
    if !number.iter().all(u8::is_ascii_digit) || number.starts_with(b"0") {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Inode number of the file at `path`, if there is one.
pub(super) fn inode_at(path: &Path) -> io::Result<Option<u64>> {
    use std::os::unix::fs::MetadataExt;
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    #[test]
    fn only_the_logs_own_files_are_its_own() {
        for (candidate, number) in [
            ("x.log", Some(0)),
            ("x.log.1", Some(1)),
            ("x.log.12.gz", Some(12)),
            ("x.log.new", None),
            ("x.log.1.gz.new", None),
            ("x.log.", None),
            ("x.log.0", None),
            ("x.log.99999999999", None),
            ("x.logs", None),
            ("config.json", None),
        ] {
            assert_eq!(
                number_of(candidate.as_bytes(), b"x.log"),
                number,
                "{candidate}"
            );
        }
    }

    #[test]
    fn a_watch_tells_growth_from_strangers_and_from_the_end() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("c");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("x.log");
        let fd = watch(&path).unwrap();
        assert_eq!(consume_watch(&fd, &path).unwrap(), Watched::Quiet);
        fs::write(directory.join("config.json"), "{}").unwrap();
        assert_eq!(consume_watch(&fd, &path).unwrap(), Watched::Quiet);
        let mut file = fs::File::create(&path).unwrap();
        assert_eq!(consume_watch(&fd, &path).unwrap(), Watched::Changed);
        file.write_all(b"line\n").unwrap();
        assert_eq!(consume_watch(&fd, &path).unwrap(), Watched::Changed);
        assert_eq!(consume_watch(&fd, &path).unwrap(), Watched::Quiet);
        fs::rename(&path, directory.join("x.log.1")).unwrap();
        assert_eq!(consume_watch(&fd, &path).unwrap(), Watched::Changed);
        fs::remove_file(directory.join("x.log.1")).unwrap();
        assert_eq!(consume_watch(&fd, &path).unwrap(), Watched::Changed);
        fs::write(&path, "line\n").unwrap();
        // `file` is still open, as in a reader that follows.
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(consume_watch(&fd, &path).unwrap(), Watched::Gone);
    }
}
