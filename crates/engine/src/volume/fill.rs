//! Filling an empty volume with what the image has at its place (COMPAT D8.3),
//! so that an engine killed meanwhile leaves it empty or full.
//!
//! ```text
//! copy ──► filling/ ──rename──► filled/ ──its entries, one by one──► _data/
//!          (deleted)            (finished by the next engine)
//! ```
//!
//! `_data` itself is never replaced: another container may have it mounted.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use conex_layers::tree;
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{DATA, Volumes, aside, copy};
use crate::Error;

const FILLING: &str = "filling";
const FILLED: &str = "filled";

impl Volumes {
    /// Copies a directory of the image into a volume, if the volume is empty
    /// and the image has a directory there.
    ///
    /// Errors: invalid parameter where the image has a file, which no volume
    /// can cover. On an error the volume is as empty as before. Blocks, for
    /// other copies too: two containers may be made of one empty volume at once.
    pub(crate) fn fill(
        &self,
        name: &str,
        image_root: BorrowedFd<'_>,
        path_in_image: &Path,
    ) -> Result<(), Error> {
        let volume = self.get(name)?;
        let _busy = volume.busy();
        let data = volume.data();
        let failed = |error: &dyn std::error::Error| {
            let (path, volume) = (path_in_image.display(), data.display());
            Error::system(&format!("copy {path} of the image to {volume}"), error)
        };
        if !is_empty(&data).map_err(|error| failed(&error))? {
            return Ok(());
        }
        let Some(source) = copy::source(image_root, path_in_image)? else {
            return Ok(());
        };
        if volume.has_file_system() {
            // The draft would be on another file system, and what is there may
            // be somebody else's too.
            return copy::into(source, &data).map_err(|error| failed(&error));
        }
        let draft = volume.dir.join(FILLING);
        let filled = super::create::make_dir(&draft, 0o700)
            .map_err(|error| failed(&error))
            .and_then(|()| copy::into(source, &draft).map_err(|error| failed(&error)))
            .and_then(|()| {
                fs::rename(&draft, volume.dir.join(FILLED))
                    .and_then(|()| move_in(&volume.dir))
                    .map_err(|error| failed(&error))
            });
        filled.inspect_err(|_| {
            let _left = tree::remove_path(&draft).is_err();
        })
    }
}

/// Finishes or takes back what an earlier engine was filling.
pub(super) fn finish(dir: &Path) -> io::Result<()> {
    let draft = dir.join(FILLING);
    if draft.try_exists()? {
        // Deleting it may take long: that is for those who delete leftovers.
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let root = dir.parent().unwrap_or(dir);
        fs::rename(&draft, aside(root, "removed", &name))?;
    }
    match dir.join(FILLED).try_exists()? {
        true => move_in(dir),
        false => Ok(()),
    }
}

fn is_empty(data: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(data)?.next().is_none())
}

/// Moves the entries of `filled` into `_data`. Where a running container put
/// something of the same name meanwhile, its own stays.
fn move_in(dir: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |name: &str| rustix::fs::open(dir.join(name), flags, Mode::empty());
    let (from, to): (OwnedFd, OwnedFd) = (open(FILLED)?, open(DATA)?);
    // The owner and the mode first, for whoever looks in between.
    conex_layers::copy::metadata(from.as_fd(), to.as_fd())?;
    let status = rustix::fs::fstat(&from)?;
    for entry in fs::read_dir(dir.join(FILLED))? {
        let name = entry?.file_name();
        match rustix::fs::renameat_with(&from, &*name, &to, &*name, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::futimens(&to, &conex_layers::copy::times(&status))?;
    tree::remove_path(&dir.join(FILLED))
}
