//! What a volume takes on disk.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;

use conex_layers::tree;
use rustix::fs::{Mode, OFlags};

use super::Volume;

impl Volume {
    /// Bytes that the file system would get back, a file of several names
    /// counted once. `None` for content that is elsewhere (options of the
    /// driver) or cannot be read. Blocks.
    pub(super) fn bytes_on_disk(&self) -> Option<u64> {
        if self.has_file_system() {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top: OwnedFd = rustix::fs::open(self.data(), flags, Mode::empty()).ok()?;
        let own = File::from(top.try_clone().ok()?).metadata().ok()?;
        let mut blocks = std::os::unix::fs::MetadataExt::blocks(&own);
        let mut several = HashSet::new();
        tree::walk(top, &mut |stat| {
            let is_directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
            let is_counted =
                is_directory || stat.st_nlink < 2 || several.insert((stat.st_dev, stat.st_ino));
            if is_counted {
                blocks += stat.st_blocks as u64;
            }
        })
        .ok()?;
        Some(blocks * 512)
    }
}
