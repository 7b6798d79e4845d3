//! Archives and conditions for tests.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;
use std::os::fd::OwnedFd;
use std::path::Path;

use conex_archive::tar::{EntryKind, Header, Writer};

use crate::extract::{Error, Extracted, Extractor, Limits, Options, Whiteouts};
use crate::tree::open_directory;

/// An archive being put together.
pub(crate) struct Archive(Writer<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    pub(crate) fn entry(mut self, header: Header, mut content: &[u8]) -> Self {
        let header = Header {
            size: content.len() as u64,
            ..header
        };
        self.0.append(&header, &mut content).unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.entry(Header::new(path, EntryKind::Regular), content.as_bytes())
    }

    pub(crate) fn directory(self, path: &str, mode: u32) -> Self {
        let header = Header {
            mode,
            ..Header::new(path, EntryKind::Directory)
        };
        self.entry(header, b"")
    }

    pub(crate) fn link(self, kind: EntryKind, path: &str, target: &str) -> Self {
        let header = Header {
            link: target.as_bytes().to_vec(),
            ..Header::new(path, kind)
        };
        self.entry(header, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryKind::Symlink, path, target)
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(EntryKind::HardLink, path, target)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }

    pub(crate) fn unpack(self, root: &Path, whiteouts: Whiteouts) -> Result<Extracted, Error> {
        unpack(&self.finish(), root, whiteouts)
    }
}

pub(crate) fn directory(path: &Path) -> OwnedFd {
    open_directory(rustix::fs::CWD, path).unwrap()
}

pub(crate) fn unpack(
    archive: &[u8],
    root: &Path,
    whiteouts: Whiteouts,
) -> Result<Extracted, Error> {
    let options = Options {
        limits: Limits::default(),
        whiteouts,
    };
    Extractor::new(directory(root), options).extract(Cursor::new(archive))
}

/// Whether tests may mount and change owners; says so when they may not.
pub(crate) fn privileged() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// A directory to make a driver in; `None` without privilege.
pub(crate) fn directory_of_its_own() -> Option<tempfile::TempDir> {
    privileged().then(|| tempfile::tempdir().unwrap())
}

/// A file system of its own in a file, mounted while this lives.
pub(crate) struct Loop {
    _directory: tempfile::TempDir,
    path: std::path::PathBuf,
}

impl Loop {
    /// One of so many MiB; `None`, with the reason printed, where it cannot be
    /// made.
    pub(crate) fn new(kind: &str, mebibytes: u64) -> Option<Loop> {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        let path = directory.path().join("mounted");
        std::fs::create_dir(&path).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(mebibytes << 20).unwrap();
        let run = |program: &str, args: &[&std::ffi::OsStr]| {
            let path = std::env::var("PATH").unwrap_or_default();
            let output = std::process::Command::new(program)
                .args(args)
                .env("PATH", format!("{path}:/usr/sbin:/sbin"))
                .output();
            match output {
                Ok(output) if output.status.success() => true,
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    eprintln!("skipped: {program}: {said}");
                    false
                }
                Err(error) => {
                    eprintln!("skipped: {program}: {error}");
                    false
                }
            }
        };
        let made = run(&format!("mkfs.{kind}"), &["-q".as_ref(), image.as_ref()])
            && run(
                "mount",
                &[
                    "-o".as_ref(),
                    "loop".as_ref(),
                    image.as_ref(),
                    path.as_ref(),
                ],
            );
        made.then_some(Loop {
            _directory: directory,
            path,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        let status = rustix::fs::statvfs(&self.path).unwrap();
        status.f_bavail * status.f_frsize
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        if let Err(error) = rustix::mount::unmount(&self.path, flags) {
            eprintln!("cannot unmount {}: {error}", self.path.display());
        }
    }
}
