//! Where everything of an engine lies.
//!
//! ```text
//! <data root>/                     survives a reboot
//!   engine-id                      the engine's id, made once
//!   lock                           one engine per data root
//!   state.db                       containers (hot, no fsync per commit)
//!   image/image.db                 images, layers, references (synced)
//!   image/recipes/<layer>          how the layer's archive comes back
//!   image/partial/<digest>         blobs on their way in
//!   network/network.db             networks (synced)
//!   containers/<id>/               config.json, hosts, hostname, resolv.conf, <id>-json.log
//!   overlay2/<layer>/              layers and container layers
//!   volumes/<name>/_data
//!   tmp/                           emptied behind the start
//!   lost/                          strangers found at start; never deleted
//! <exec root>/                     gone after a reboot
//!   containers/<id>/               monitor.sock, exit.json, network.json
//!   netns/<12 of id>               the network namespace, as a link while it runs
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The two roots and the paths below them.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    data: PathBuf,
    exec: PathBuf,
}

impl Root {
    /// Makes what is missing, readable by root only as Docker's.
    pub(crate) fn create(data: &Path, exec: &Path) -> io::Result<Root> {
        let make = |path: PathBuf, mode: u32| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&path)
                .map_err(|e| {
                    io::Error::new(e.kind(), format!("cannot make {}: {e}", path.display()))
                })
        };
        make(data.to_owned(), 0o711)?;
        for dir in ["containers", "image", "network", "tmp", "lost"] {
            make(data.join(dir), 0o710)?;
        }
        make(data.join("volumes"), 0o701)?;
        make(exec.join("containers"), 0o711)?;
        make(exec.join("netns"), 0o711)?;
        // Names in /proc and in records must not depend on a working directory.
        Ok(Root {
            data: data.canonicalize()?,
            exec: exec.canonicalize()?,
        })
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn exec(&self) -> &Path {
        &self.exec
    }

    pub(crate) fn state_database(&self) -> PathBuf {
        self.data.join("state.db")
    }

    pub(crate) fn image_database(&self) -> PathBuf {
        self.data.join("image/image.db")
    }

    pub(crate) fn recipes(&self) -> PathBuf {
        self.data.join("image/recipes")
    }

    pub(crate) fn partial_blobs(&self) -> PathBuf {
        self.data.join("image/partial")
    }

    pub(crate) fn network_database(&self) -> PathBuf {
        self.data.join("network/network.db")
    }

    /// `SandboxKey`: a link to a running container's network namespace.
    pub(crate) fn namespace_link(&self, id: &str) -> PathBuf {
        self.exec.join("netns").join(crate::id::short(id))
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.data.join("containers").join(id)
    }

    pub(crate) fn container_runs(&self) -> PathBuf {
        self.exec.join("containers")
    }

    pub(crate) fn container_run(&self, id: &str) -> PathBuf {
        self.exec.join("containers").join(id)
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.data.join("tmp")
    }

    /// Where a container's directory is made, to appear in one step.
    pub(crate) fn draft(&self, id: &str) -> PathBuf {
        self.tmp().join(format!("new-{id}"))
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// Moves a directory out of the way so that its name is free at once;
    /// the caller deletes what is returned, whenever. `None` when it is gone.
    pub(crate) fn discard(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = self
            .tmp()
            .join(format!("removed-{name}-{}", &crate::id::generate()[..12]));
        match fs::rename(path, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a stranger where its owner can find it.
    pub(crate) fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stamp = crate::time::now_ns();
        let place = self.data.join("lost").join(format!("{name}.{stamp}"));
        fs::rename(path, &place)?;
        Ok(place)
    }

    /// What an earlier engine left in `tmp`: nothing in it was ever promised
    /// to anybody.
    pub(crate) fn tmp_leftovers(&self) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(self.tmp())?
            .map(|entry| Ok(entry?.path()))
            .collect()
    }

    /// Deletes leftovers. One that cannot be deleted (`chattr +i` by a
    /// container) costs its space, never the engine's start, and neither does
    /// one that a container nested deeper than a stack is. Blocks.
    pub(crate) fn delete_leftovers(leftovers: &[PathBuf]) {
        for path in leftovers {
            if let Err(error) = conex_layers::tree::remove_path(path) {
                tracing::warn!(path = %path.display(), %error, "a leftover stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_leftover_nested_deeper_than_a_stack_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::create(&dir.path().join("data"), &dir.path().join("exec")).unwrap();
        let top = root.tmp().join("layer");
        fs::create_dir(&top).unwrap();
        let mut inmost = fs::File::open(&top).unwrap();
        for _ in 0..3000 {
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mkdirat(&inmost, "d", mode).unwrap();
            let flags = rustix::fs::OFlags::DIRECTORY;
            inmost = rustix::fs::openat(&inmost, "d", flags, mode)
                .unwrap()
                .into();
        }
        let leftovers = root.tmp_leftovers().unwrap();
        // With as little stack as a level of it would take.
        let deleting = std::thread::Builder::new().stack_size(128 << 10);
        let deleting = deleting.spawn(move || Root::delete_leftovers(&leftovers));
        deleting.unwrap().join().unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn a_discarded_directory_frees_its_name_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::create(&dir.path().join("data"), &dir.path().join("exec")).unwrap();
        let path = root.container("abc");
        fs::create_dir(&path).unwrap();
        let aside = root.discard(&path).unwrap().unwrap();
        assert!(!path.exists() && aside.exists());
        assert_eq!(root.discard(&path).unwrap(), None);
        Root::delete_leftovers(&[root.tmp().join("gone")]);
        Root::delete_leftovers(&root.tmp_leftovers().unwrap());
        assert!(!aside.exists());
    }
}
