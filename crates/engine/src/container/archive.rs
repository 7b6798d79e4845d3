//! Files in and out: one path's looks, an archive of what is there, an archive
//! unpacked into a directory.
//!
//! A path is resolved inside the container's root by the kernel, while the
//! container may change it: nothing is looked up twice by name where the first
//! look mattered. The rules are Docker's (COMPAT D1.19): links are followed on
//! the way, the last component only if a slash or `/.` follows it.
//!
//! Source: moby `daemon/archive_unix.go`.

mod path;

use std::ffi::CString;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use conex_api::container::{ExtractOptions, PathStat, go_mode};
use conex_layers::extract::{Copying, Extractor, Limits, Options, Ownership, Whiteouts};
use conex_layers::pack::Tree;
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::files::{Files, Purpose, check_writable, find};
use super::{Container, Record};
use crate::error::chain;
use crate::pipe::{self, ByteStream, PipeReader};
use crate::time::rfc3339;
use crate::{Engine, Error};
use path::Wanted;

impl Engine {
    /// The looks of a path. Errors: not found in Docker's words.
    pub async fn container_path_stat(&self, name: &str, path: &str) -> Result<PathStat, Error> {
        let found = self.found(name, path).await?;
        Ok(found.stat)
    }

    /// The looks of a path and an archive of it, which begins with the path's
    /// last component. An error of the stream says that the archive is cut.
    pub async fn container_archive(
        &self,
        name: &str,
        path: &str,
    ) -> Result<(PathStat, ByteStream), Error> {
        let Found {
            container,
            files,
            wanted,
            place,
            stat,
        } = self.found(name, path).await?;
        let (mut writer, stream) = pipe::writer();
        tokio::task::spawn_blocking(move || {
            let tree = Tree {
                name: wanted.name().to_vec(),
                with_top: true,
                closed: files.kernels.clone(),
                whole_seconds: true,
            };
            let result = match place {
                Place::Directory(directory) => tree.pack(directory.as_fd(), &mut writer),
                Place::Other { parent, name } => tree.pack_one(parent.as_fd(), &name, &mut writer),
            };
            writer.finish(result.map(drop).map_err(io::Error::other));
            // A mount may end here.
            drop(files);
        });
        container.publish(&self.inner.events, "archive-path", &[]);
        Ok((stat, stream))
    }

    /// Unpacks an archive, plain or compressed, into a directory.
    ///
    /// Errors: not found for the path; invalid parameter when it is no
    /// directory, or for the archive; forbidden where the container may not
    /// write. What was unpacked before an error stays.
    pub async fn container_extract(
        &self,
        name: &str,
        options: ExtractOptions,
        body: ByteStream,
    ) -> Result<(), Error> {
        let container = self.inner.find(name)?;
        let engine = Arc::clone(&self.inner);
        let (name, unpacked) = (name.to_owned(), Arc::clone(&container));
        let reader = pipe::reader(body);
        let unpack = move || {
            let files = engine.files(&unpacked, Purpose::Write)?;
            let result = extract(&files, &unpacked.record, &name, &options, reader);
            // Maybe the end of a mount, which writes out the file system it lies on: behind the answer.
            tokio::task::spawn_blocking(move || drop(files));
            result
        };
        tokio::task::spawn_blocking(unpack)
            .await
            .map_err(|e| Error::system("unpack into the container", &e))??;
        container.publish(&self.inner.events, "extract-to-dir", &[]);
        Ok(())
    }

    async fn found(&self, name: &str, path: &str) -> Result<Found, Error> {
        let container = self.inner.find(name)?;
        let engine = Arc::clone(&self.inner);
        let (name, path) = (name.to_owned(), path.to_owned());
        tokio::task::spawn_blocking(move || {
            let files = engine.files(&container, Purpose::Read)?;
            let wanted = Wanted::new(&path);
            let told = |errno| told(errno, &path, &name);
            let place = Place::open(files.root(), &wanted).map_err(told)?;
            let stat = place.stat(files.root(), &wanted).map_err(told)?;
            Ok(Found {
                container,
                files,
                wanted,
                place,
                stat,
            })
        })
        .await
        .map_err(|e| Error::system("look into the container", &e))?
    }
}

/// Something that was asked for and is there.
struct Found {
    container: Arc<Container>,
    files: Files,
    wanted: Wanted,
    place: Place,
    stat: PathStat,
}

enum Place {
    Directory(OwnedFd),
    /// By name in its directory: not to be opened, maybe.
    Other {
        parent: OwnedFd,
        name: CString,
    },
}

impl Place {
    fn open(root: BorrowedFd<'_>, wanted: &Wanted) -> Result<Place, Errno> {
        let follow = match wanted.is_directory {
            true => OFlags::DIRECTORY,
            false => OFlags::NOFOLLOW,
        };
        let opened = find(root, wanted.path(), OFlags::PATH | follow)?;
        let status = rustix::fs::fstat(&opened)?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            return Ok(Place::Directory(opened));
        }
        let (parent, name) = wanted.split();
        Ok(Place::Other {
            parent: find(root, parent, OFlags::PATH | OFlags::DIRECTORY)?,
            name: CString::new(name).map_err(|_| Errno::INVAL)?,
        })
    }

    fn stat(&self, root: BorrowedFd<'_>, wanted: &Wanted) -> Result<PathStat, Errno> {
        let status: Stat = match self {
            Place::Directory(directory) => rustix::fs::fstat(directory)?,
            Place::Other { parent, name } => {
                rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?
            }
        };
        let link_target = match FileType::from_raw_mode(status.st_mode) {
            FileType::Symlink => path::target(root, wanted.path())?,
            _ => Vec::new(),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mtime_ns = status
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add_unsigned(status.st_mtime_nsec);
        Ok(PathStat {
            name: text(wanted.name()),
            size: status.st_size,
            mode: go_mode(status.st_mode),
            // Nanosecond 0 of 1970 is no "never" here.
            mtime: match mtime_ns {
                0 => "1970-01-01T00:00:00Z".into(),
                ns => rfc3339(ns),
            },
            link_target: text(&link_target),
        })
    }
}

/// Errors of a path in Docker's words.
fn told(errno: Errno, path: &str, container: &str) -> Error {
    match errno {
        Errno::NOENT => Error::not_found(format!(
            "Could not find the file {path} in container {container}"
        )),
        Errno::NOTDIR => Error::invalid(format!("lstat {path}: not a directory")),
        Errno::LOOP => Error::invalid(format!("lstat {path}: too many levels of symbolic links")),
        Errno::NAMETOOLONG => Error::invalid(format!("lstat {path}: file name too long")),
        Errno::INVAL => Error::invalid(format!("lstat {path}: invalid argument")),
        errno => Error::system(&format!("look at {path} in container {container}"), &errno),
    }
}

fn extract(
    files: &Files,
    record: &Record,
    name: &str,
    options: &ExtractOptions,
    body: PipeReader,
) -> Result<(), Error> {
    let root = files.root();
    let wanted = Wanted::new(&options.path);
    let told = |errno| told(errno, &options.path, name);
    let opened = find(root, wanted.path(), OFlags::PATH).map_err(told)?;
    let status = rustix::fs::fstat(&opened).map_err(told)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Err(match wanted.is_directory {
            true => told(Errno::NOTDIR),
            false => Error::invalid("extraction point is not a directory"),
        });
    }
    check_writable(record, root, opened.as_fd())?;
    let ownership = match options.copy_uid_gid && !record.config.user.is_empty() {
        false => Ownership::Archived,
        true => {
            let user = conex_runtime::user::resolve(root, &record.config.user, &[])
                .map_err(|e| Error::invalid(chain(&e)))?;
            Ownership::Given {
                uid: user.uid,
                gid: user.gid,
            }
        }
    };
    let failed = |e: &dyn std::error::Error| Error::system("unpack into the container", e);
    let rules = Copying {
        into: wanted.path()[1..].to_vec(),
        rename: None,
        ownership,
        keep_kinds: options.no_overwrite_dir_non_dir,
    };
    let unpacking = Options {
        limits: Limits::default(),
        whiteouts: Whiteouts::AsIs,
    };
    let (_, stream) =
        conex_archive::compression::decompress(Box::new(BufReader::with_capacity(1 << 18, body)))
            .map_err(|e| Error::invalid(format!("cannot read the archive: {e}")))?;
    let root = find(root, "/", OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| failed(&e))?;
    let result = Extractor::new(root, unpacking)
        .copying(rules)
        .extract(stream);
    result.map(drop).map_err(|error| match error {
        conex_layers::extract::Error::Io { .. } => failed(&error),
        error => Error::invalid(chain(&error)),
    })
}
