//! The files of one cgroup directory. It must not know controllers.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Error;

/// Where a controller's files of a container are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// In a version 1 hierarchy.
    V1(Dir<'a>),
    /// In the version 2 hierarchy.
    V2(Dir<'a>),
    /// Nowhere: the controller is not mounted.
    Missing,
}

/// A cgroup directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dir<'a>(pub(super) &'a Path);

impl Dir<'_> {
    pub(super) fn read(&self, name: &str) -> Result<String, Error> {
        let path = self.0.join(name);
        fs::read_to_string(&path).map_err(|source| Error::Read { path, source })
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    pub(super) fn write(&self, name: &str, value: impl ToString) -> Result<(), Error> {
        let value = value.to_string();
        self.write_raw(name, &value).map_err(|source| Error::Write {
            path: self.0.join(name),
            value,
            source,
        })
    }

    /// Writes, if the kernel has the file; tells whether it has.
    pub(super) fn write_if_supported(
        &self,
        name: &str,
        value: impl ToString,
    ) -> Result<bool, Error> {
        match self.write(name, value) {
            Ok(()) => Ok(true),
            Err(Error::Write { source, .. })
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes in one write(2), without creating the file.
    pub(super) fn write_raw(&self, name: &str, value: &str) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .open(self.0.join(name))?
            .write_all(value.as_bytes())
    }

    /// The number in a flat keyed file such as `memory.events`.
    pub(super) fn keyed(&self, name: &str, key: &str) -> Result<Option<u64>, Error> {
        Ok(value_of(&self.read(name)?, key))
    }

    /// The processes in it and everything below it, those of other pid namespaces left out.
    pub(super) fn pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = Vec::new();
        for dir in self.tree()? {
            match Dir(&dir).read("cgroup.procs") {
                Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                // A child that has just been removed, or that holds threads only.
                Err(Error::Read { source, .. })
                    if dir != self.0
                        && matches!(
                            source.kind(),
                            ErrorKind::NotFound | ErrorKind::Unsupported
                        ) => {}
                Err(error) => return Err(error),
            }
        }
        pids.retain(|pid| *pid > 0);
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// The directory and all below it, parents first.
    pub(super) fn tree(&self) -> Result<Vec<PathBuf>, Error> {
        let mut dirs = vec![self.0.to_owned()];
        let mut next = 0;
        while next < dirs.len() {
            let path = dirs[next].clone();
            next += 1;
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound && next > 1 => continue,
                Err(source) => return Err(Error::Read { path, source }),
            };
            for entry in entries {
                let entry = entry.map_err(|source| Error::Read {
                    path: path.clone(),
                    source,
                })?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    dirs.push(entry.path());
                }
            }
        }
        Ok(dirs)
    }
}

/// The number after a key, one pair a line.
pub(super) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_missing_file_is_not_created_but_reported_as_unsupported() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Dir(dir.path()).write_if_supported("pids.max", 3).unwrap());
        assert!(!dir.path().join("pids.max").exists());
        fs::write(dir.path().join("pids.max"), "").unwrap();
        assert!(Dir(dir.path()).write_if_supported("pids.max", 3).unwrap());
        assert_eq!(Dir(dir.path()).read("pids.max").unwrap(), "3");
    }

    #[test]
    fn pids_are_gathered_from_the_whole_tree() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        fs::write(dir.path().join("cgroup.procs"), "7\n0\n5\n").unwrap();
        fs::write(dir.path().join("inner/cgroup.procs"), "5\n9\n").unwrap();
        assert_eq!(Dir(dir.path()).pids().unwrap(), [5, 7, 9]);
    }

    #[test]
    fn a_key_is_matched_as_a_whole() {
        let text = "oom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(value_of(text, "oom_kill"), Some(2));
        assert_eq!(value_of(text, "kill"), None);
    }
}
