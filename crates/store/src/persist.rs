//! Replacing a whole file so that nobody ever sees half of it.
//!
//! This is the one way files of records are written. It must not know what is in them, and
//! it is not for files that are mounted into containers: those keep their inode.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// Whether a file survives the loss of power, or only that of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Content and name are on the disk when the call returns: two fsyncs.
    Synced,
    /// After a loss of power either the old or the new file is there, or an empty one.
    Unsynced,
}

/// Why a file could not be written or read.
#[derive(Debug, Error)]
pub enum PersistError {
    /// The path has no directory or no name.
    #[error("{} does not name a file", .0.display())]
    NotAFile(PathBuf),
    /// The file could not be written; the one that was there before is unchanged.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said; `NotFound` is for the caller to interpret.
        source: io::Error,
    },
    /// The file is longer than it can sensibly be.
    #[error("{} is longer than {max_bytes} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        max_bytes: u64,
    },
}

impl PersistError {
    /// Whether there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, PersistError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Distinguishes the temporary files of one process.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Puts `bytes` at `path` in one step, for its owner only (mode 0600).
///
/// The new file is made beside the old one under a hidden name and renamed over it; on an
/// error it is removed again.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), PersistError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(PersistError::NotAFile(path.to_owned()));
    };
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let mut new_name = std::ffi::OsString::from(".");
    new_name.push(name);
    new_name.push(format!(".{}.{sequence}.new", std::process::id()));
    let new_path = directory.join(new_name);
    let result = replace(path, directory, &new_path, bytes, durability);
    result.map_err(|source| {
        // After the rename there is nothing left to remove.
        fs::remove_file(&new_path).ok();
        PersistError::Write {
            path: path.to_owned(),
            source,
        }
    })
}

fn replace(
    path: &Path,
    directory: &Path,
    new_path: &Path,
    bytes: &[u8],
    durability: Durability,
) -> io::Result<()> {
    // A process that was killed and whose number came round again may have left the name.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(new_path)?;
    file.write_all(bytes)?;
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    fs::rename(new_path, path)?;
    if durability == Durability::Synced {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The content of the file at `path`, which must not be longer than `max_bytes`.
pub fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>, PersistError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(max_bytes.saturating_add(1))
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| PersistError::Read {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > max_bytes {
        return Err(PersistError::TooLong {
            path: path.to_owned(),
            max_bytes,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_belongs_to_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("config.json");
        for (text, durability) in [
            ("a long first version", Durability::Synced),
            ("short", Durability::Unsynced),
        ] {
            write_atomic(&path, text.as_bytes(), durability).unwrap();
            assert_eq!(read_limited(&path, 100).unwrap(), text.as_bytes());
        }
        assert_eq!(names(root.path()), ["config.json"]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_no_temporary_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("taken");
        fs::create_dir_all(path.join("by a directory")).unwrap();
        let error = write_atomic(&path, b"new", Durability::Synced).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot write {}", path.display())
        );
        assert_eq!(names(root.path()), ["taken"]);
        assert_eq!(names(&path), ["by a directory"]);
    }

    #[test]
    fn writers_at_the_same_time_do_not_mix() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let texts = ["a".repeat(100_000), "b".repeat(50_000)];
        std::thread::scope(|scope| {
            for text in &texts {
                scope.spawn(|| {
                    for _ in 0..50 {
                        write_atomic(&path, text.as_bytes(), Durability::Unsynced).unwrap();
                        let found = read_limited(&path, 100_000).unwrap();
                        assert!(texts.iter().any(|text| text.as_bytes() == found));
                    }
                });
            }
        });
        assert_eq!(names(root.path()), ["file"]);
    }

    #[test]
    fn reading_is_limited_and_says_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        assert!(read_limited(&path, 5).unwrap_err().is_not_found());
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
        let error = read_limited(&path, 4).unwrap_err();
        assert!(matches!(error, PersistError::TooLong { max_bytes: 4, .. }));
        assert!(!error.is_not_found());
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        let result = write_atomic(Path::new("/"), b"", Durability::Unsynced);
        assert!(matches!(result, Err(PersistError::NotAFile(_))));
    }
}
