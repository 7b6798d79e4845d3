//! Which blobs a layer's archive is known as, in `image/image.db` beside the layers.
//!
//! ```text
//! blobs
//!   diff_id     TEXT  ┐           digest of the archive
//!   digest      TEXT  │ PK        digest of a blob that decompresses to it
//!   repository  TEXT  ┘           where a registry has it, `registry/path`; empty: nowhere known
//!   media_type  TEXT
//!   size_bytes  INTEGER           of the blob
//!   ours        INTEGER           whether compressing the archive here gives this blob
//!   seen_ns     INTEGER           when it was last seen there
//! ```
//!
//! Nothing depends on a row: one that is missing or wrong costs a transfer, for registries check digests.

use rusqlite::{Connection, named_params};

/// For [`crate::records::images::MIGRATIONS`].
pub(super) const MIGRATION: &str = "
    CREATE TABLE blobs (
        diff_id TEXT NOT NULL,
        digest TEXT NOT NULL,
        repository TEXT NOT NULL,
        media_type TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        ours INTEGER NOT NULL,
        seen_ns INTEGER NOT NULL,
        PRIMARY KEY (diff_id, digest, repository)
    ) STRICT, WITHOUT ROWID;
";

/// One blob of a layer at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRecord {
    /// Digest of the layer's archive.
    pub diff_id: String,
    /// Digest of the blob.
    pub digest: String,
    /// `registry/path` that has it; empty if none is known.
    pub repository: String,
    /// What manifests call it.
    pub media_type: String,
    /// Length of the blob.
    pub size_bytes: i64,
    /// Whether compressing the archive here gives this blob.
    pub ours: bool,
    /// When it was last seen there, in nanoseconds since 1970.
    pub seen_ns: i64,
}

/// Remembers a blob.
pub fn put_blob(connection: &Connection, blob: &BlobRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO blobs
                   (diff_id, digest, repository, media_type, size_bytes, ours, seen_ns)
               VALUES (:diff_id, :digest, :repository, :media_type, :size_bytes, :ours, :seen_ns)
               ON CONFLICT (diff_id, digest, repository)
               DO UPDATE SET seen_ns = excluded.seen_ns, ours = max(ours, excluded.ours)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":diff_id": blob.diff_id,
        ":digest": blob.digest,
        ":repository": blob.repository,
        ":media_type": blob.media_type,
        ":size_bytes": blob.size_bytes,
        ":ours": blob.ours,
        ":seen_ns": blob.seen_ns,
    })?;
    Ok(())
}

/// The blobs of a layer's archive, last seen first.
pub fn blobs_of(connection: &Connection, diff_id: &str) -> rusqlite::Result<Vec<BlobRecord>> {
    let sql = "SELECT digest, repository, media_type, size_bytes, ours, seen_ns FROM blobs
               WHERE diff_id = ?1 ORDER BY seen_ns DESC, digest";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([diff_id], |row| {
        Ok(BlobRecord {
            diff_id: diff_id.to_owned(),
            digest: row.get(0)?,
            repository: row.get(1)?,
            media_type: row.get(2)?,
            size_bytes: row.get(3)?,
            ours: row.get(4)?,
            seen_ns: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Forgets the blobs of layers that are no more.
pub fn delete_strangers(connection: &Connection) -> rusqlite::Result<usize> {
    connection.execute(
        "DELETE FROM blobs WHERE diff_id NOT IN (SELECT diff_id FROM layers)",
        [],
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::{Database, Durability};
    use crate::records::images;

    fn blob(digest: &str, repository: &str, seen_ns: i64) -> BlobRecord {
        BlobRecord {
            diff_id: "d".into(),
            digest: digest.into(),
            repository: repository.into(),
            media_type: "m".into(),
            size_bytes: 1,
            ours: false,
            seen_ns,
        }
    }

    #[test]
    fn what_was_seen_last_comes_first_and_goes_with_its_layer() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("image.db");
        let db = Database::open(&path, Durability::Full, images::MIGRATIONS).unwrap();
        let found = db
            .run(|c| {
                images::put_layer_filling(c, "c", "d", None, "l")?;
                put_blob(c, &blob("1", "r/a", 5))?;
                put_blob(c, &blob("2", "r/a", 7))?;
                put_blob(
                    c,
                    &BlobRecord {
                        ours: true,
                        ..blob("1", "r/a", 9)
                    },
                )?;
                assert_eq!(delete_strangers(c)?, 0);
                blobs_of(c, "d")
            })
            .unwrap();
        let digests: Vec<_> = found.iter().map(|b| (&*b.digest, b.ours)).collect();
        assert_eq!(digests, [("1", true), ("2", false)]);
        let left = db
            .run(|c| {
                images::delete_layer(c, "c")?;
                delete_strangers(c)
            })
            .unwrap();
        assert_eq!(left, 2);
    }
}
