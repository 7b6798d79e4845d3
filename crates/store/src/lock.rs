//! A lock on a file, so that one data root has one engine.
//!
//! The lock is flock(2) on the file and ends with the process however it ends; the number
//! inside is only for the message to who finds it taken. The file is never removed: a lock
//! on a removed file would lock nothing.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A lock that is held as long as this value lives.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    _file: File,
}

/// Why a lock was not obtained.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is held by {}", path.display(), holder_text(*holder))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The process, where it could be read.
        holder: Option<u32>,
    },
    /// The file could not be opened, locked or written.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

impl FileLock {
    /// Takes the lock at `path` or fails at once; the file is made if it is not there.
    pub fn try_acquire(path: &Path) -> Result<FileLock, LockError> {
        FileLock::with(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock at `path`, waiting for as long as another process has it.
    pub fn acquire(path: &Path) -> Result<FileLock, LockError> {
        FileLock::with(path, FlockOperation::LockExclusive)
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn with(path: &Path, operation: FlockOperation) -> Result<FileLock, LockError> {
        let io_error = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io_error)?;
        loop {
            match flock(&file, operation) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(LockError::Held {
                        path: path.to_owned(),
                        holder: holder(&mut file),
                    });
                }
                Err(errno) => return Err(io_error(errno.into())),
            }
        }
        write_holder(&mut file).map_err(io_error)?;
        Ok(FileLock {
            path: path.to_owned(),
            _file: file,
        })
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// The number in the file; none while its holder is just writing it.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lock_has_one_holder_who_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("engine.lock");
        std::fs::write(&path, "4294967295 and the rest of a longer text").unwrap();
        let lock = FileLock::try_acquire(&path).unwrap();
        assert_eq!(lock.path(), path);
        // flock is per open file, so the same process can compete with itself.
        let error = FileLock::try_acquire(&path).unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            error.to_string(),
            format!("{} is held by process {pid}", path.display())
        );
        drop(lock);
        FileLock::try_acquire(&path).unwrap();
    }

    #[test]
    fn an_unreadable_holder_is_another_process() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("engine.lock");
        let _lock = FileLock::acquire(&path).unwrap();
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        let error = FileLock::try_acquire(&path).unwrap_err();
        assert!(error.to_string().ends_with("is held by another process"));
    }

    #[test]
    fn who_waits_gets_the_lock_when_it_is_free() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("engine.lock");
        let lock = FileLock::acquire(&path).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _lock = FileLock::acquire(&path).unwrap();
                sender.send(()).unwrap();
            });
            assert!(receiver.try_recv().is_err());
            drop(lock);
            receiver.recv().unwrap();
        });
    }

    #[test]
    fn a_lock_in_a_missing_directory_says_where() {
        let error = FileLock::try_acquire(Path::new("/nonexistent/lock")).unwrap_err();
        assert_eq!(error.to_string(), "cannot lock /nonexistent/lock");
    }
}
