//! Containers, in `state.db` with [`crate::db::Durability::Normal`].
//!
//! ```text
//! containers
//!   id          TEXT PRIMARY KEY   64 hexadecimal digits
//!   name        TEXT UNIQUE        without the slash
//!   created_ns  INTEGER            since 1970
//!   config      TEXT               JSON, never changes
//!   state       TEXT               JSON, changes with every transition
//! ```
//!
//! `config` and `state` are apart so that a transition writes only what it changes. This
//! file must not know what is in either.

use super::Found;
use rusqlite::{Connection, Row, named_params};

/// For [`crate::db::Database::open`].
pub const MIGRATIONS: &[&str] = &["
    CREATE TABLE containers (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT UNIQUE NOT NULL,
        created_ns INTEGER NOT NULL,
        config TEXT NOT NULL,
        state TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// Its full identifier.
    pub id: String,
    /// Its name without the slash.
    pub name: String,
    /// When it was created, in nanoseconds since 1970.
    pub created_ns: i64,
    /// JSON of what it was created with.
    pub config: String,
    /// JSON of what it is now.
    pub state: String,
}

/// Adds a container; fails ([`crate::db::DbError::is_taken`]) if its id or name is there.
pub fn insert(connection: &Connection, record: &ContainerRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO containers (id, name, created_ns, config, state)
               VALUES (:id, :name, :created_ns, :config, :state)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": record.id,
        ":name": record.name,
        ":created_ns": record.created_ns,
        ":config": record.config,
        ":state": record.state,
    })?;
    Ok(())
}

/// Replaces the state of a container.
pub fn update_state(connection: &Connection, id: &str, state: &str) -> rusqlite::Result<Found> {
    let mut statement =
        connection.prepare_cached("UPDATE containers SET state = ?2 WHERE id = ?1")?;
    statement.execute([id, state]).map(Found::from)
}

/// Renames a container; fails ([`crate::db::DbError::is_taken`]) if the name is taken.
pub fn rename(connection: &Connection, id: &str, name: &str) -> rusqlite::Result<Found> {
    let mut statement =
        connection.prepare_cached("UPDATE containers SET name = ?2 WHERE id = ?1")?;
    statement.execute([id, name]).map(Found::from)
}

/// Removes a container.
pub fn delete(connection: &Connection, id: &str) -> rusqlite::Result<Found> {
    let mut statement = connection.prepare_cached("DELETE FROM containers WHERE id = ?1")?;
    statement.execute([id]).map(Found::from)
}

/// Every container, the oldest first.
pub fn load_all(connection: &Connection) -> rusqlite::Result<Vec<ContainerRecord>> {
    let sql = "SELECT id, name, created_ns, config, state FROM containers ORDER BY created_ns, id";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row<'_>| {
        Ok(ContainerRecord {
            id: row.get(0)?,
            name: row.get(1)?,
            created_ns: row.get(2)?,
            config: row.get(3)?,
            state: row.get(4)?,
        })
    };
    statement.query_map([], read)?.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::{Database, Durability};

    fn record(id: &str, name: &str, created_ns: i64) -> ContainerRecord {
        ContainerRecord {
            id: id.to_owned(),
            name: name.to_owned(),
            created_ns,
            config: format!("{{\"id\":\"{id}\"}}"),
            state: "{}".to_owned(),
        }
    }

    #[test]
    fn containers_come_back_as_they_were_left() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state.db");
        let open = || Database::open(&path, Durability::Normal, MIGRATIONS).unwrap();
        let database = open();
        for (id, name, created_ns) in [("b", "two", 2), ("a", "one", 3), ("c", "three", 1)] {
            let record = record(id, name, created_ns);
            database.run(move |c| insert(c, &record)).unwrap();
        }
        let found = database
            .run(|c| {
                Ok([
                    update_state(c, "a", "{\"Status\":\"running\"}")?,
                    rename(c, "b", "zwei")?,
                    delete(c, "c")?,
                    update_state(c, "c", "{}")?,
                    rename(c, "c", "x")?,
                    delete(c, "c")?,
                ])
            })
            .unwrap();
        assert_eq!(
            found,
            [
                Found::Yes,
                Found::Yes,
                Found::Yes,
                Found::No,
                Found::No,
                Found::No
            ]
        );
        drop(database);
        let mut one = record("a", "one", 3);
        one.state = "{\"Status\":\"running\"}".to_owned();
        assert_eq!(open().run(load_all).unwrap(), [record("b", "zwei", 2), one]);
    }

    #[test]
    fn ids_and_names_are_given_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state.db");
        let database = Database::open(&path, Durability::Normal, MIGRATIONS).unwrap();
        let try_insert = |id: &str, name: &str| {
            let record = record(id, name, 0);
            database.run(move |c| insert(c, &record))
        };
        try_insert("a", "web").unwrap();
        try_insert("b", "db").unwrap();
        assert!(try_insert("a", "other").unwrap_err().is_taken());
        assert!(try_insert("c", "web").unwrap_err().is_taken());
        assert!(
            database
                .run(|c| rename(c, "b", "web"))
                .unwrap_err()
                .is_taken()
        );
        assert_eq!(database.run(load_all).unwrap().len(), 2);
    }
}
