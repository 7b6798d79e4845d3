//! Tests of group commit, isolation of jobs, migrations, and death at any moment.

#![allow(clippy::unwrap_used)]
use super::*;
use rusqlite::OpenFlags;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

const NUMBERS: &[&str] = &["CREATE TABLE numbers (number INTEGER PRIMARY KEY NOT NULL) STRICT"];

fn open(path: &Path) -> Database {
    Database::open(path, Durability::Normal, NUMBERS).unwrap()
}

fn insert(connection: &Connection, number: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO numbers VALUES (?1)")?
        .execute([number])
        .map(drop)
}

fn numbers(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT number FROM numbers ORDER BY number")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// What another process sees.
fn committed(path: &Path) -> Vec<i64> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    numbers(&connection).unwrap()
}

/// Keeps the writer busy until the returned sender is dropped, so that a batch gathers.
fn hold(database: &Database) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel();
    let (sender, started) = mpsc::channel();
    database.submit(
        move |_| {
            sender.send(()).unwrap();
            released.recv().ok();
            Ok(())
        },
        drop,
    );
    started.recv().unwrap();
    release
}

#[test]
fn a_result_comes_after_its_commit() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    let database = open(&path);
    database.run(|c| insert(c, 1)).unwrap();
    assert_eq!(committed(&path), [1]);
    assert_eq!(database.run(numbers).unwrap(), [1]);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(database.path(), path);
}

#[test]
fn waiting_jobs_are_committed_together_and_fail_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    let database = open(&path);
    let (sender, results) = mpsc::channel();
    let release = hold(&database);
    for (index, number) in [10, 11, 10, 12].into_iter().enumerate() {
        let (sender, path) = (sender.clone(), path.clone());
        database.submit(
            move |c| {
                // What neighbours did is seen here, but by nobody else.
                assert_eq!(committed(&path), Vec::<i64>::new());
                insert(c, 1000 + index as i64)?;
                insert(c, number)?;
                numbers(c)
            },
            move |result| sender.send((index, result)).unwrap(),
        );
    }
    drop(release);
    let results: Vec<_> = results.iter().take(4).collect();
    let order: Vec<_> = results.iter().map(|(index, _)| *index).collect();
    assert_eq!(order, [0, 1, 2, 3]);
    assert_eq!(results[1].1.as_ref().unwrap(), &[10, 11, 1000, 1001]);
    assert!(results[2].1.as_ref().unwrap_err().is_taken());
    assert_eq!(
        results[3].1.as_ref().unwrap(),
        &[10, 11, 12, 1000, 1001, 1003]
    );
    assert_eq!(committed(&path), [10, 11, 12, 1000, 1001, 1003]);
}

#[test]
fn a_panicking_job_is_undone_and_the_writer_lives_on() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    let database = open(&path);
    let result: Result<(), _> = database.run(|c| {
        insert(c, 1)?;
        panic!("as a test")
    });
    assert!(matches!(result, Err(DbError::Panicked { .. })));
    database.submit(|c| insert(c, 2), |_| panic!("in a completion, as a test"));
    database.run(|c| insert(c, 3)).unwrap();
    assert_eq!(committed(&path), [2, 3]);
}

#[test]
fn when_sqlite_gives_up_a_transaction_nobody_is_told_it_was_committed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    let database = open(&path);
    let (sender, results) = mpsc::channel();
    let release = hold(&database);
    for number in 1..=4 {
        let sender = sender.clone();
        database.submit(
            move |c| {
                insert(c, number)?;
                if number == 3 {
                    // As SQLite itself does when the disk is full.
                    c.execute_batch("ROLLBACK")?;
                    insert(c, -1)?;
                    return Err(rusqlite::Error::QueryReturnedNoRows);
                }
                Ok(())
            },
            move |result| sender.send(result).unwrap(),
        );
    }
    drop(release);
    let results: Vec<_> = results.iter().take(4).collect();
    assert!(matches!(results[0], Err(DbError::RolledBack { .. })));
    assert!(matches!(results[1], Err(DbError::RolledBack { .. })));
    assert!(matches!(results[2], Err(DbError::Job { .. })));
    assert!(results[3].is_ok());
    assert_eq!(committed(&path), [-1, 4]);
}

#[test]
fn a_commit_that_fails_fails_all_its_jobs() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    let deferred = &[
        "CREATE TABLE parents (id INTEGER PRIMARY KEY) STRICT;
         CREATE TABLE numbers (number INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED) STRICT",
    ];
    let database = Database::open(&path, Durability::Normal, deferred).unwrap();
    for _ in 0..2 {
        let error = database.run(|c| insert(c, 1)).unwrap_err();
        assert!(matches!(error, DbError::Commit { .. }), "{error:?}");
    }
    database
        .run(|c| c.execute("INSERT INTO parents VALUES (1)", []))
        .unwrap();
    database.run(|c| insert(c, 1)).unwrap();
    assert_eq!(committed(&path), [1]);
}

#[test]
fn dropping_a_database_finishes_what_was_submitted() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    let database = open(&path);
    let (sender, results) = mpsc::channel();
    for number in 0..5000 {
        let sender = sender.clone();
        database.submit(
            move |c| insert(c, number),
            move |result| sender.send(result.is_ok()).unwrap(),
        );
    }
    drop((database, sender));
    assert_eq!(results.try_iter().filter(|ok| *ok).count(), 5000);
    assert!(
        !root.path().join("x.db-wal").exists(),
        "the log was written back"
    );
    assert_eq!(committed(&path).len(), 5000);
}

#[test]
fn the_last_reference_may_die_in_a_completion() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    let database = Arc::new(open(&path));
    let (sender, finished) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let last = Arc::clone(&database);
    database.submit(
        |c| insert(c, 1),
        move |result| {
            wait.recv().ok();
            drop(last);
            sender.send(result.is_ok()).unwrap();
        },
    );
    drop(database);
    drop(go);
    assert!(finished.recv().unwrap());
}

#[test]
fn a_large_log_is_written_back_when_nothing_waits() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    let database = Database::open(
        &path,
        Durability::Normal,
        &["CREATE TABLE blobs (blob BLOB)"],
    )
    .unwrap();
    let wal = root.path().join("x.db-wal");
    database
        .run(|c| c.execute("INSERT INTO blobs VALUES (zeroblob(2000000))", []))
        .unwrap();
    let mut waited = 0;
    // The writer tells nobody when it does this, so this test has to look.
    while std::fs::metadata(&wal).unwrap().len() > 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        waited += 1;
        assert!(waited < 500, "the log was never written back");
    }
    assert!(std::fs::metadata(&path).unwrap().len() > 2_000_000);
}

#[test]
fn migrations_are_applied_once_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    drop(open(&path));
    let two = [
        NUMBERS[0],
        "INSERT INTO numbers VALUES (7); INSERT INTO numbers VALUES (8);",
    ];
    for _ in 0..2 {
        let database = Database::open(&path, Durability::Full, &two).unwrap();
        assert_eq!(database.run(numbers).unwrap(), [7, 8]);
    }
    let three = [
        two[0],
        two[1],
        "INSERT INTO numbers VALUES (9); INSERT INTO nowhere VALUES (1)",
    ];
    let error = Database::open(&path, Durability::Full, &three).unwrap_err();
    assert!(
        matches!(error, DbError::Migrate { version: 3, .. }),
        "{error:?}"
    );
    let database = Database::open(&path, Durability::Full, &two).unwrap();
    assert_eq!(
        database.run(numbers).unwrap(),
        [7, 8],
        "a migration is applied whole or not at all"
    );
}

#[test]
fn a_newer_schema_is_refused_with_a_sentence() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    drop(Database::open(&path, Durability::Normal, &[NUMBERS[0], "", ""]).unwrap());
    let error = Database::open(&path, Durability::Normal, NUMBERS).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "database {} has schema version 3, but this release of conex knows versions up to 1 only: start a newer release",
            path.display()
        )
    );
}

#[test]
fn a_damaged_database_is_called_by_its_path() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    std::fs::write(
        &path,
        "this is not a database, but long enough to look at".repeat(100),
    )
    .unwrap();
    let error = Database::open(&path, Durability::Normal, NUMBERS).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("database {} is corrupt", path.display())
    );
    let error =
        Database::open(&root.path().join("no/x.db"), Durability::Normal, NUMBERS).unwrap_err();
    assert!(matches!(error, DbError::Create { .. }));
}

#[test]
fn damage_found_later_is_reported_as_such() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    drop(open(&path));
    let mut bytes = std::fs::read(&path).unwrap();
    let second_page = bytes.len() / 2;
    bytes[second_page..].fill(0xee);
    std::fs::write(&path, bytes).unwrap();
    let error = open(&path).run(numbers).unwrap_err();
    assert!(matches!(error, DbError::Corrupt { .. }), "{error:?}");
}

/// Set for the run of this test binary that is to be killed.
const VICTIM: &str = "CONEX_STORE_TEST_VICTIM";

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let Some(path) = std::env::var_os(VICTIM) {
        return commit_for_ever(Path::new(&path));
    }
    for durability in ["normal", "full"] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(durability);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "db::tests::what_was_acknowledged_survives_a_kill",
                "--nocapture",
            ])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some(number) = line.unwrap().strip_prefix("ack ") {
                acknowledged.push(number.parse::<i64>().unwrap());
            }
            if acknowledged.len() == 500 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= 500);
        let found = open(&path).run(numbers).unwrap();
        for number in acknowledged {
            assert!(found.binary_search(&number).is_ok(), "{number} is missing");
        }
    }
}

/// Commits numbers, many at once, and writes those that were acknowledged.
fn commit_for_ever(path: &Path) {
    let durability = if path.ends_with("full") {
        Durability::Full
    } else {
        Durability::Normal
    };
    let database = Database::open(path, durability, NUMBERS).unwrap();
    let (sender, acknowledged) = mpsc::channel();
    let mut next = 0;
    loop {
        for _ in 0..7 {
            let (sender, number) = (sender.clone(), next);
            database.submit(
                move |c| insert(c, number),
                move |result| sender.send(result.map(|()| number)).unwrap(),
            );
            next += 1;
        }
        for result in acknowledged.iter().take(5) {
            // Whole lines in one write, as the kill may come at any moment.
            let line = format!("ack {}\n", result.unwrap());
            std::io::stdout().write_all(line.as_bytes()).unwrap();
        }
    }
}
