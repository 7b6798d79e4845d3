//! Counting what a layer holds, as Docker counts.

use std::collections::HashSet;

use rustix::fs::{FileType, Stat};

/// What a layer holds of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Sum of the sizes of files and symbolic links, each inode once;
    /// directories count nothing, holes count in full.
    pub bytes: u64,
    /// Number of inodes below the layer's root.
    pub inodes: u64,
}

/// A count under way.
#[derive(Debug, Default)]
pub(super) struct Counter {
    pub(super) usage: Usage,
    linked: HashSet<(u64, u64)>,
}

impl Counter {
    pub(super) fn count(&mut self, status: &Stat) {
        let directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        let several = !directory && status.st_nlink > 1;
        if several && !self.linked.insert((status.st_dev, status.st_ino)) {
            return;
        }
        self.usage.inodes += 1;
        if !directory {
            self.usage.bytes += u64::try_from(status.st_size).unwrap_or(0);
        }
    }
}
