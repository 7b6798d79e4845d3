//! The writer thread: batches of jobs, savepoints, commits, and checkpoints when idle.
//!
//! This file must not know what jobs do.

use super::open::DbError;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Jobs in one transaction at most, so that the first does not wait for ever.
const BATCH_JOBS: usize = 1024;

/// A write-ahead log of this size is written back when nothing is waiting.
const LARGE_WAL_BYTES: u64 = 1 << 20;

/// A write-ahead log of this size is written back whoever is waiting.
const HUGE_WAL_BYTES: u64 = 64 << 20;

/// How long the queue has to be empty before the writer counts as idle.
const IDLE: Duration = Duration::from_millis(200);

/// A job with its completion, without its types.
pub(super) trait Work: Send {
    /// Runs the job and says whether what it did shall stay.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Calls the completion: with `failure`, or with the job's own result without one.
    ///
    /// A job that failed by itself reports that in any case.
    fn finish(self: Box<Self>, failure: Option<DbError>);
}

/// The one implementation of [`Work`].
pub(super) struct Task<T, J, D> {
    path: PathBuf,
    job: Option<J>,
    result: Option<Result<T, DbError>>,
    done: D,
}

impl<T, J, D> Task<T, J, D> {
    pub(super) fn new(path: &Path, job: J, done: D) -> Self {
        Task {
            path: path.to_owned(),
            job: Some(job),
            result: None,
            done,
        }
    }
}

impl<T, J, D> Work for Task<T, J, D>
where
    T: Send,
    J: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    D: FnOnce(Result<T, DbError>) + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(job) = self.job.take() else {
            return false;
        };
        // The savepoint undoes what a panicking job did, so nothing broken is seen later.
        let result = match catch_unwind(AssertUnwindSafe(|| job(connection))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(DbError::of_job(&self.path, source)),
            Err(_) => Err(DbError::Panicked {
                path: self.path.clone(),
            }),
        };
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn finish(self: Box<Self>, failure: Option<DbError>) {
        let Task {
            path, result, done, ..
        } = *self;
        let result = match (result, failure) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(failure)) => Err(failure),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(DbError::Closed { path }),
        };
        // The panic hook has reported it, and other jobs' completions must still be called.
        catch_unwind(AssertUnwindSafe(|| done(result))).ok();
    }
}

/// Serves jobs until all senders of `queue` are gone.
pub(super) fn serve(connection: &Connection, path: &Path, queue: &Receiver<Box<dyn Work>>) {
    let mut wal_is_large = false;
    loop {
        let first = if wal_is_large {
            match queue.recv_timeout(IDLE) {
                Ok(task) => task,
                Err(RecvTimeoutError::Timeout) => {
                    checkpoint(connection);
                    // If it failed, the next commit is early enough to try again.
                    wal_is_large = false;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        } else {
            match queue.recv() {
                Ok(task) => task,
                Err(_) => return,
            }
        };
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(BATCH_JOBS - 1));
        commit(connection, path, batch);
        let wal_bytes = wal_bytes(path);
        if wal_bytes > HUGE_WAL_BYTES {
            checkpoint(connection);
            wal_is_large = false;
        } else {
            wal_is_large = wal_bytes > LARGE_WAL_BYTES;
        }
    }
}

fn wal_bytes(path: &Path) -> u64 {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    std::fs::metadata(wal).map_or(0, |metadata| metadata.len())
}

/// Writes the log back into the database and empties it.
///
/// A failure costs nothing but space: the log stays valid, and the commits in it, too.
fn checkpoint(connection: &Connection) {
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .ok();
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Runs and commits a batch, then calls all completions in the order of the jobs.
fn commit(connection: &Connection, path: &Path, batch: Vec<Box<dyn Work>>) {
    // A job that is alone needs no savepoint: its transaction is one.
    let savepoints = batch.len() > 1;
    let mut ran: Vec<Box<dyn Work>> = Vec::with_capacity(batch.len());
    let mut kept = 0_usize;
    for mut task in batch {
        if let Err(error) = prepare(connection, savepoints) {
            let source = Arc::new(error);
            task.finish(Some(DbError::Commit {
                path: path.to_owned(),
                source,
            }));
            continue;
        }
        let keep = task.run(connection);
        if connection.is_autocommit() {
            // SQLite undid the transaction as a whole, and with it the jobs before this one.
            for task in ran.drain(..) {
                task.finish(Some(DbError::RolledBack {
                    path: path.to_owned(),
                }));
            }
            kept = 0;
            task.finish(Some(DbError::RolledBack {
                path: path.to_owned(),
            }));
            continue;
        }
        match settle(connection, savepoints, keep) {
            Ok(()) => {
                kept += usize::from(keep);
                ran.push(task);
            }
            Err(error) => {
                // Where this job cannot be told from its neighbours, none of them is kept.
                execute(connection, "ROLLBACK").ok();
                let source = Arc::new(error);
                ran.push(task);
                for task in ran.drain(..) {
                    let source = Arc::clone(&source);
                    task.finish(Some(DbError::Commit {
                        path: path.to_owned(),
                        source,
                    }));
                }
                kept = 0;
            }
        }
    }
    let result = match (connection.is_autocommit(), kept) {
        (true, _) => Ok(()),
        (false, 0) => execute(connection, "ROLLBACK"),
        (false, _) => execute(connection, "COMMIT"),
    };
    let failure = result.err().map(Arc::new);
    if failure.is_some() && !connection.is_autocommit() {
        execute(connection, "ROLLBACK").ok();
    }
    for task in ran {
        task.finish(failure.as_ref().map(|source| DbError::Commit {
            path: path.to_owned(),
            source: Arc::clone(source),
        }));
    }
}

/// Opens what the next job runs in.
fn prepare(connection: &Connection, savepoints: bool) -> rusqlite::Result<()> {
    if connection.is_autocommit() {
        execute(connection, "BEGIN IMMEDIATE")?;
    }
    if savepoints {
        execute(connection, "SAVEPOINT job")?;
    }
    Ok(())
}

/// Keeps or undoes what the job that just ran did.
fn settle(connection: &Connection, savepoints: bool, keep: bool) -> rusqlite::Result<()> {
    match (savepoints, keep) {
        // Without a savepoint the batch is this job, and its end follows.
        (false, _) => Ok(()),
        (true, true) => execute(connection, "RELEASE job"),
        (true, false) => {
            execute(connection, "ROLLBACK TO job")?;
            execute(connection, "RELEASE job")
        }
    }
}
