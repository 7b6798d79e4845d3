//! Blobs on their way in: one file for each digest, that grows while it is fetched and read, and survives the engine.
//!
//! ```text
//! <data root>/image/partial/sha256-<hex>     the blob's first bytes; complete if as long as its manifest says
//!
//! registry ──► Sink ──write──► file ◄──read── Following ──► unpacking
//!                └── how far ──► Shared ──► whoever shows progress
//! ```
//!
//! Whoever wants a blob that is being fetched joins. The last one that leaves ends the download; its bytes stay, and
//! the next pull goes on behind them. What nobody came back for in a week is removed at an engine's start.
//!
//! Nothing here trusts a file: every reader hashes what it reads from the first byte on.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use conex_distribution::{BlobSink, Repository, Watch};
use conex_spec::digest::{Digest, Hasher};
use conex_spec::image::Descriptor;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use crate::error::chain;

/// What is older than this is not waited for any more.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Progress is told in steps of so many bytes.
const STEP_BYTES: u64 = 256 * 1024;

/// All blobs on their way.
#[derive(Debug)]
pub(crate) struct Blobs {
    directory: PathBuf,
    active: Mutex<HashMap<Digest, Weak<Download>>>,
    /// Grows with every download that begins.
    begun: watch::Sender<u64>,
}

/// One blob on its way; the download ends with the last handle on it.
#[derive(Debug)]
pub(crate) struct Download {
    pub(super) shared: Arc<Shared>,
    task: AbortHandle,
}

/// What the download and its readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) blob: Descriptor,
    pub(super) path: PathBuf,
    pub(super) file: File,
    state: Mutex<State>,
    changed: Condvar,
    stage: watch::Sender<Stage>,
    unpacked: watch::Sender<Unpacked>,
}

#[derive(Debug)]
struct State {
    bytes: u64,
    end: Option<Result<(), String>>,
}

/// How far a download is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Downloading(u64),
    Retrying(u64),
    Complete,
    Failed,
}

/// How far the unpacking of a blob is, whoever does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpacked {
    /// So many of its bytes were read.
    Bytes(u64),
    /// The layer is complete.
    Complete,
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Blobs {
    /// Opens the directory and removes what is too old. Blocks.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let now = SystemTime::now();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?;
            if now.duration_since(age).is_ok_and(|age| age > KEPT) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            active: Mutex::default(),
            begun: watch::Sender::new(0),
        })
    }

    fn active(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Download>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The download of a blob that somebody else has begun.
    pub(super) fn under_way(&self, digest: &Digest) -> Option<Arc<Download>> {
        self.active().get(digest)?.upgrade()
    }

    /// The same, waiting until somebody begins it.
    pub(super) async fn begun(&self, digest: &Digest) -> Arc<Download> {
        let mut begun = self.begun.subscribe();
        loop {
            if let Some(download) = self.under_way(digest) {
                return download;
            }
            // The sender lives as long as this.
            let _closed = begun.changed().await.is_err();
        }
    }

    /// Fetches a blob, or joins who is fetching it. Must be called within the runtime; blocks shortly.
    pub(super) fn fetch(
        &self,
        repository: &Arc<Repository>,
        blob: &Descriptor,
        permits: Arc<Semaphore>,
    ) -> io::Result<Arc<Download>> {
        let mut active = self.active();
        active.retain(|_, download| download.strong_count() > 0);
        if let Some(download) = active.get(&blob.digest).and_then(Weak::upgrade)
            && !download.shared.has_failed()
        {
            return Ok(download);
        }
        let name = blob.digest.as_str().replace(':', "-");
        let path = self.directory.join(name);
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(named)?;
        let mut bytes = file.metadata().map_err(named)?.len();
        if bytes > blob.size_bytes {
            file.set_len(0).map_err(named)?;
            bytes = 0;
        }
        let shared = Arc::new(Shared {
            blob: blob.clone(),
            path,
            file,
            state: Mutex::new(State { bytes, end: None }),
            changed: Condvar::new(),
            stage: watch::Sender::new(Stage::Waiting),
            unpacked: watch::Sender::new(Unpacked::Bytes(0)),
        });
        let (repository, filling) = (Arc::clone(repository), Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let _permit = permits.acquire_owned().await;
            let mut sink = Sink {
                shared: Arc::clone(&filling),
                position: filling.state().bytes,
            };
            filling
                .stage
                .send_replace(Stage::Downloading(sink.position));
            let end = repository
                .download(&filling.blob, &mut sink, &*filling)
                .await;
            filling.finish(end.map_err(|error| chain(&error)));
        });
        let download = Arc::new(Download {
            shared,
            task: task.abort_handle(),
        });
        active.insert(blob.digest.clone(), Arc::downgrade(&download));
        drop(active);
        self.begun.send_modify(|count| *count += 1);
        Ok(download)
    }
}

impl Download {
    /// The bytes are not those of the digest: nobody joins this download any more.
    pub(super) fn condemn(&self, text: &str) {
        self.remove();
        self.shared.finish(Err(text.to_owned()));
    }

    /// The file is of no more use: the content is unpacked, or not what it should be.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.shared.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.shared.path.display(), %error, "a fetched blob is left");
        }
    }

    /// Whether all bytes are here and are not those of the digest. Blocks.
    pub(super) fn is_damaged(&self) -> bool {
        let shared = &self.shared;
        if shared.state().bytes < shared.blob.size_bytes {
            return false;
        }
        let mut hasher = Hasher::new(shared.blob.digest.algorithm());
        let mut buffer = vec![0; 256 * 1024];
        let mut offset = 0;
        loop {
            match shared.file.read_at(&mut buffer, offset) {
                Ok(0) => return hasher.finish() != shared.blob.digest,
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }

    /// The first bytes, as many as there are. Blocks.
    pub(super) fn start(&self, length: usize) -> Vec<u8> {
        let mut start = vec![0; length];
        let mut file = &self.shared.file;
        let read = io::Seek::rewind(&mut file).and_then(|()| file.read(&mut start));
        start.truncate(read.unwrap_or(0));
        start
    }

    /// Changes of [`Stage`]; the current one counts as seen.
    pub(super) fn stages(&self) -> watch::Receiver<Stage> {
        self.shared.stage.subscribe()
    }

    /// Changes of [`Unpacked`]; the current one counts as seen.
    pub(super) fn unpacking(&self) -> watch::Receiver<Unpacked> {
        self.shared.unpacked.subscribe()
    }

    /// Tells whoever watches how far its unpacking is.
    pub(super) fn unpacked(&self, unpacked: Unpacked) {
        self.shared.unpacked.send_replace(unpacked);
    }

    /// Why it failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.state().end.clone()?.err()
    }

    /// Until the download has ended.
    pub(super) async fn ended(&self) -> Result<(), String> {
        let mut stages = self.stages();
        loop {
            if let Some(end) = self.shared.state().end.clone() {
                return end;
            }
            if stages.changed().await.is_err() {
                return Err("the download has ended".to_owned());
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self) -> bool {
        matches!(self.state().end, Some(Err(_)))
    }

    fn finish(&self, end: Result<(), String>) {
        let stage = match end {
            Ok(()) => Stage::Complete,
            Err(_) => Stage::Failed,
        };
        self.state().end = Some(end);
        self.changed.notify_all();
        self.stage.send_replace(stage);
    }

    /// Lets waiting readers look again.
    pub(super) fn wake(&self) {
        // Taken, so that a reader is either before its look or already waiting.
        drop(self.state());
        self.changed.notify_all();
    }

    /// Waits until there are bytes behind `position`, and says where they end; the same position is the blob's end.
    ///
    /// Errors: the download failed, or `is_over` says that nobody wants it any more.
    pub(super) fn wait_beyond(&self, position: u64, is_over: impl Fn() -> bool) -> io::Result<u64> {
        let mut state = self.state();
        loop {
            if is_over() {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    "context canceled",
                ));
            }
            if state.bytes > position || state.bytes == self.blob.size_bytes {
                return Ok(state.bytes);
            }
            match &state.end {
                Some(Err(text)) => return Err(io::Error::other(text.clone())),
                Some(Ok(())) => return Ok(state.bytes),
                None => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Watch for Shared {
    fn progress(&self, current_bytes: u64) {
        // Whoever watches is woken for steps that can be seen.
        self.stage.send_if_modified(|stage| {
            let seen = match *stage {
                Stage::Downloading(before) => current_bytes.saturating_sub(before),
                _ => STEP_BYTES,
            };
            if seen >= STEP_BYTES {
                *stage = Stage::Downloading(current_bytes);
            }
            seen >= STEP_BYTES
        });
    }

    fn retrying(&self, seconds: u64) {
        self.stage.send_replace(Stage::Retrying(seconds));
    }
}

/// Writes what comes at the end of the file.
struct Sink {
    shared: Arc<Shared>,
    position: u64,
}

impl BlobSink for Sink {
    fn position(&self) -> u64 {
        self.position
    }

    async fn write(&mut self, piece: Bytes) -> io::Result<()> {
        // A full disk or its write-back may hold this up: other tasks go elsewhere.
        let written =
            tokio::task::block_in_place(|| self.shared.file.write_all_at(&piece, self.position));
        written.map_err(|e| {
            let path = self.shared.path.display();
            io::Error::new(e.kind(), format!("write {path}: {e}"))
        })?;
        self.position += piece.len() as u64;
        self.shared.state().bytes = self.position;
        self.shared.changed.notify_all();
        Ok(())
    }
}
