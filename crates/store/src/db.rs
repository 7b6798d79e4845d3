//! A SQLite database with one writer thread that commits many jobs at once.
//!
//! ```text
//!  submit ─┐                  ┌ BEGIN                          ┌► done(Ok)
//!  submit ─┼─► queue ─► batch ┤ SAVEPOINT, job, RELEASE  × n   ├► done(Ok)
//!  run    ─┘                  └ COMMIT ────────────────────────┴► returns Ok
//! ```
//!
//! No completion is called before the commit of its job. A job that fails is undone alone.
//! While a batch is being committed the next one gathers, so the more there is to do, the
//! less each job costs. This file must not know any table.
//!
//! The write-ahead log is never checkpointed on the way of a commit, but by the writer
//! thread when nothing is waiting (or when the log has become very large): a container
//! that comes and goes costs no fsync.

mod open;
mod writer;

pub use open::{DbError, Durability};

use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use writer::{Task, Work};

/// A database, and the thread that writes it.
///
/// Dropping it waits until everything submitted is committed and answered.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    queue: Option<mpsc::Sender<Box<dyn Work>>>,
    thread: Option<JoinHandle<()>>,
}

impl Database {
    /// Opens the database at `path`, making it or bringing it up to `migrations`.
    ///
    /// The schema's version is how many of `migrations` were applied, kept in SQLite's
    /// `user_version`; each is a batch of SQL and applied in a transaction of its own.
    /// Older entries must never change. There must be one [`Database`] per file, which the
    /// caller's lock on the data root ensures.
    pub fn open(
        path: &Path,
        durability: Durability,
        migrations: &[&str],
    ) -> Result<Database, DbError> {
        let connection = open::open(path, durability, migrations)?;
        let (queue, jobs) = mpsc::channel();
        let owned_path = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("db-writer".to_owned())
            .spawn(move || writer::serve(&connection, &owned_path, &jobs))
            .map_err(|source| DbError::Thread {
                path: path.to_owned(),
                source,
            })?;
        Ok(Database {
            path: path.to_owned(),
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// The file this was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Queues `job` and calls `done` with its result after its commit; never blocks.
    ///
    /// Jobs run in the order of their submission, each seeing what those before it did.
    /// `job` must not begin or end transactions. Both run on the writer thread, so `done`
    /// should only hand the result on.
    pub fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        done: impl FnOnce(Result<T, DbError>) + Send + 'static,
    ) {
        let task: Box<dyn Work> = Box::new(Task::new(&self.path, job, done));
        let queue = self
            .queue
            .as_ref()
            .expect("the queue is there until the drop");
        if let Err(mpsc::SendError(task)) = queue.send(task) {
            task.finish(Some(DbError::Closed {
                path: self.path.clone(),
            }));
        }
    }

    /// Runs `job` and returns its result after its commit.
    ///
    /// Blocks for a commit, and with [`Durability::Full`] for the disk; must not be called
    /// from a job or a completion, which would wait for themselves.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DbError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.submit(job, move |result| {
            // The receiver waits below until this is sent.
            sender.send(result).ok();
        });
        receiver.recv().unwrap_or_else(|_| {
            Err(DbError::Closed {
                path: self.path.clone(),
            })
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            // A completion may have held the last reference; a thread cannot wait for itself.
            && thread.thread().id() != std::thread::current().id()
        {
            // It catches the panics of jobs, so there is none to pass on.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests;
