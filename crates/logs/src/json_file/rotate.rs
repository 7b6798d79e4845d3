//! Names of rotated files, shifting them, and compressing them behind the writer's back.
//!
//! This file must not know what a line is. A reader may look at any moment: see the parent
//! module for what it can rely on.

use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Log files can be read by root's group, as Docker's can.
const FILE_MODE: u32 = 0o640;

/// `path` with `suffix` appended to its name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The `number`th rotated file, 1 being the latest.
pub(super) fn rotated(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, &format!(".{number}"))
}

/// The `number`th rotated file when it is compressed.
pub(super) fn rotated_gz(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, &format!(".{number}.gz"))
}

/// Opens the current file for appending and reading back, making it if it is not there.
pub(super) fn open_current(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Removes what a writer that was killed left in the making.
pub(super) fn remove_unfinished(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(with_suffix(path, ".new")))?;
    absent_is_fine(fs::remove_file(with_suffix(path, ".1.gz.new")))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Moves every file one number up, drops the oldest, and returns a new empty current file.
///
/// The new file is made first, so that a full disk stops the rotation before anything has
/// moved. On an error the caller goes on writing the file it has.
pub(super) fn rotate(path: &Path, max_file: u32) -> io::Result<File> {
    let new_path = with_suffix(path, ".new");
    absent_is_fine(fs::remove_file(&new_path))?;
    let file = open_current(&new_path)?;
    let result = shift(path, max_file, &new_path);
    if result.is_err() {
        // Best effort: the next rotation removes it otherwise.
        fs::remove_file(&new_path).ok();
    }
    result.map(|()| file)
}

fn shift(path: &Path, max_file: u32, new_path: &Path) -> io::Result<()> {
    if max_file <= 1 {
        return fs::rename(new_path, path);
    }
    absent_is_fine(fs::remove_file(rotated(path, max_file - 1)))?;
    absent_is_fine(fs::remove_file(rotated_gz(path, max_file - 1)))?;
    for number in (1..max_file - 1).rev() {
        absent_is_fine(fs::rename(rotated(path, number), rotated(path, number + 1)))?;
        absent_is_fine(fs::rename(
            rotated_gz(path, number),
            rotated_gz(path, number + 1),
        ))?;
    }
    absent_is_fine(fs::rename(path, rotated(path, 1)))?;
    fs::rename(new_path, path).inspect_err(|_| {
        fs::rename(rotated(path, 1), path).ok();
    })
}

/// What the header of a compressed file says about the file it was made from.
///
/// JSON in the gzip `extra` field. `lastTime` is Docker's; the rest lets a reader that holds
/// the plain file open recognise its compressed copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    #[serde(rename = "lastTime")]
    pub(super) last_time: String,
    #[serde(default)]
    pub(super) ino: u64,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) mtime_ns: i64,
}

impl Origin {
    /// The identity of a plain file at this moment.
    pub(super) fn of(metadata: &fs::Metadata, last_time: String) -> Origin {
        let mtime_ns = metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec());
        Origin {
            last_time,
            ino: metadata.ino(),
            size: metadata.len(),
            mtime_ns,
        }
    }

    /// Whether both describe the same file; the time of its last line is not compared.
    pub(super) fn is_same_file(&self, other: &Origin) -> bool {
        (self.ino, self.size, self.mtime_ns) == (other.ino, other.size, other.mtime_ns)
    }
}

/// Starts compressing the latest rotated file; join the handle before the next rotation.
///
/// `None` where no thread could be had: the file stays as it is, which readers can read too.
pub(super) fn compress_behind(path: &Path, last_time: String) -> Option<JoinHandle<()>> {
    let path = path.to_owned();
    std::thread::Builder::new()
        .name("log-gzip".to_owned())
        .spawn(move || {
            if compress(&path, last_time).is_err() {
                // A plain file is as good for readers; only the space is not saved.
                fs::remove_file(with_suffix(&path, ".1.gz.new")).ok();
            }
        })
        .ok()
}

fn compress(path: &Path, last_time: String) -> io::Result<()> {
    let plain_path = rotated(path, 1);
    let new_path = with_suffix(path, ".1.gz.new");
    let mut plain = File::open(&plain_path)?;
    let origin = Origin::of(&plain.metadata()?, last_time);
    let extra = serde_json::to_vec(&origin)?;
    let out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&new_path)?;
    let mut encoder = GzBuilder::new()
        .extra(extra)
        .write(out, Compression::default());
    io::copy(&mut plain, &mut encoder)?;
    encoder.finish()?.flush()?;
    // Readers try the plain file first, so between these two steps they still find it.
    fs::rename(&new_path, rotated_gz(path, 1))?;
    fs::remove_file(&plain_path)
}
