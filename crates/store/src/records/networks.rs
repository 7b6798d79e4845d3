//! Networks, in `network/network.db` with [`crate::db::Durability::Full`].
//!
//! ```text
//! networks
//!   id          TEXT PRIMARY KEY   64 hexadecimal digits
//!   name        TEXT UNIQUE
//!   created_ns  INTEGER            since 1970
//!   config      TEXT               JSON
//! ```
//!
//! This file must not know what is in a config.

use super::Found;
use rusqlite::{Connection, Row, named_params};

/// For [`crate::db::Database::open`].
pub const MIGRATIONS: &[&str] = &["
    CREATE TABLE networks (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT UNIQUE NOT NULL,
        created_ns INTEGER NOT NULL,
        config TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// One network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRecord {
    /// Its full identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was created, in nanoseconds since 1970.
    pub created_ns: i64,
    /// JSON of what it was created with.
    pub config: String,
}

/// Adds a network; fails ([`crate::db::DbError::is_taken`]) if its id or name is there.
pub fn insert(connection: &Connection, record: &NetworkRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO networks (id, name, created_ns, config)
               VALUES (:id, :name, :created_ns, :config)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": record.id,
        ":name": record.name,
        ":created_ns": record.created_ns,
        ":config": record.config,
    })?;
    Ok(())
}

/// Replaces the configuration of a network.
pub fn update_config(connection: &Connection, id: &str, config: &str) -> rusqlite::Result<Found> {
    let mut statement =
        connection.prepare_cached("UPDATE networks SET config = ?2 WHERE id = ?1")?;
    statement.execute([id, config]).map(Found::from)
}

/// Removes a network.
pub fn delete(connection: &Connection, id: &str) -> rusqlite::Result<Found> {
    let mut statement = connection.prepare_cached("DELETE FROM networks WHERE id = ?1")?;
    statement.execute([id]).map(Found::from)
}

/// Every network, the oldest first.
pub fn load_all(connection: &Connection) -> rusqlite::Result<Vec<NetworkRecord>> {
    let sql = "SELECT id, name, created_ns, config FROM networks ORDER BY created_ns, id";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row<'_>| {
        Ok(NetworkRecord {
            id: row.get(0)?,
            name: row.get(1)?,
            created_ns: row.get(2)?,
            config: row.get(3)?,
        })
    };
    statement.query_map([], read)?.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::{Database, Durability};

    #[test]
    fn networks_come_back_as_they_were_left_and_names_are_given_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("network.db");
        let open = || Database::open(&path, Durability::Full, MIGRATIONS).unwrap();
        let record = |id: &str, name: &str, created_ns| NetworkRecord {
            id: id.to_owned(),
            name: name.to_owned(),
            created_ns,
            config: "{}".to_owned(),
        };
        let database = open();
        let add = |row: NetworkRecord| database.run(move |c| insert(c, &row));
        add(record("b", "two", 2)).unwrap();
        add(record("a", "one", 3)).unwrap();
        add(record("c", "three", 1)).unwrap();
        assert!(add(record("d", "one", 4)).unwrap_err().is_taken());
        let found = database
            .run(|c| {
                Ok([
                    delete(c, "c")?,
                    delete(c, "c")?,
                    update_config(c, "a", "{\"x\":1}")?,
                ])
            })
            .unwrap();
        assert_eq!(found, [Found::Yes, Found::No, Found::Yes]);
        drop(database);
        let mut one = record("a", "one", 3);
        one.config = "{\"x\":1}".to_owned();
        assert_eq!(open().run(load_all).unwrap(), [record("b", "two", 2), one]);
    }
}
