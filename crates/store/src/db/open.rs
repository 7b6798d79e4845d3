//! Opening a database file: pragmas, schema migrations, and what can be wrong with it.
//!
//! This file must not know about the writer thread.

use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process. After a loss of power the last commits may be missing, but
    /// the database is sound. SQLite's `synchronous=NORMAL`; a commit costs no fsync.
    Normal,
    /// A loss of power, too: `synchronous=FULL`, one fsync per commit of a batch.
    Full,
}

/// Why a database could not be opened, or a job not be done.
#[derive(Debug, Error)]
pub enum DbError {
    /// The file could not be made or opened.
    #[error("cannot open database {}", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file could not be created.
    #[error("cannot create database {}", path.display())]
    Create {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a database, or a damaged one.
    #[error("database {} is corrupt", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file was written by a newer release.
    #[error(
        "database {} has schema version {found}, but this release of conex knows versions up to {known} only: start a newer release",
        path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version known.
        known: usize,
    },
    /// A migration failed; the database is as it was before it.
    #[error("cannot bring database {} to schema version {version}", path.display())]
    Migrate {
        /// The database.
        path: PathBuf,
        /// The version that was to be reached.
        version: usize,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// There is no thread to write with.
    #[error("cannot start the writer of database {}", path.display())]
    Thread {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The job failed and was undone.
    #[error("cannot change database {}", path.display())]
    Job {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The transaction with the job in it could not be begun or committed.
    #[error("cannot commit to database {}", path.display())]
    Commit {
        /// The database.
        path: PathBuf,
        /// What SQLite said; shared by all jobs of the batch.
        source: Arc<rusqlite::Error>,
    },
    /// The job was undone because another one in the same batch hit an error so bad that
    /// SQLite undid the whole transaction (disk full, I/O error).
    #[error("a change of database {} was undone together with one that failed", path.display())]
    RolledBack {
        /// The database.
        path: PathBuf,
    },
    /// The job panicked and was undone.
    #[error("a change of database {} was abandoned: internal error", path.display())]
    Panicked {
        /// The database.
        path: PathBuf,
    },
    /// The writer has ended.
    #[error("database {} is closed", path.display())]
    Closed {
        /// The database.
        path: PathBuf,
    },
}

impl DbError {
    /// Whether a job failed because a key or a unique value is taken.
    pub fn is_taken(&self) -> bool {
        use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
        let DbError::Job {
            source: rusqlite::Error::SqliteFailure(failure, _),
            ..
        } = self
        else {
            return false;
        };
        matches!(
            failure.extended_code,
            SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE
        )
    }

    /// What a job's failure is to its caller.
    pub(super) fn of_job(path: &Path, source: rusqlite::Error) -> DbError {
        let path = path.to_owned();
        if is_corruption(&source) {
            DbError::Corrupt { path, source }
        } else {
            DbError::Job { path, source }
        }
    }
}

fn is_corruption(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// A foreign reader, such as the sqlite3 shell, may hold a lock for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements kept compiled per connection.
const STATEMENTS: usize = 64;

pub(super) fn open(
    path: &Path,
    durability: Durability,
    migrations: &[&str],
) -> Result<Connection, DbError> {
    // SQLite would make it readable for everybody, and the files beside it like it.
    let created = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    created.map_err(|source| DbError::Create {
        path: path.to_owned(),
        source,
    })?;
    let connection = connect(path, durability).map_err(|source| {
        let path = path.to_owned();
        if is_corruption(&source) {
            DbError::Corrupt { path, source }
        } else {
            DbError::Open { path, source }
        }
    })?;
    migrate(&connection, path, migrations)?;
    Ok(connection)
}

fn connect(path: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    // One thread at a time uses a connection, so SQLite needs no mutex of its own.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Normal => "NORMAL",
        Durability::Full => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn migrate(connection: &Connection, path: &Path, migrations: &[&str]) -> Result<(), DbError> {
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| DbError::of_job(path, source))?;
    let newer = || DbError::NewerSchema {
        path: path.to_owned(),
        found,
        known: migrations.len(),
    };
    let applied = usize::try_from(found).map_err(|_| newer())?;
    let missing = migrations.get(applied..).ok_or_else(newer)?;
    for (index, sql) in missing.iter().enumerate() {
        let version = applied + index + 1;
        let batch = format!("BEGIN IMMEDIATE; {sql}; PRAGMA user_version = {version}; COMMIT;");
        connection.execute_batch(&batch).map_err(|source| {
            // The connection is dropped with the error, which ends the transaction.
            DbError::Migrate {
                path: path.to_owned(),
                version,
                source,
            }
        })?;
    }
    Ok(())
}
