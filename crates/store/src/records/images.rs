//! Images, layers and references, in `image/image.db` with [`crate::db::Durability::Full`].
//!
//! ```text
//! references_                images                      layers
//!   reference  TEXT PK         id          TEXT PK         chain_id      TEXT PK
//!   image_id   ───────────►    config      BLOB            diff_id       TEXT
//!   updated_ns INTEGER         created_ns  INTEGER         parent_chain  ──► chain_id
//!                              size_bytes  INTEGER         layer_dir     TEXT UNIQUE
//!                              parent ──► id               size_bytes    INTEGER
//!                                                          state         filling | ready
//! manifests                  image_manifests
//!   digest      TEXT PK   ◄──  digest
//!   media_type  TEXT           image_id ──► images.id
//!   content     BLOB
//! ```
//!
//! - `id` is the digest of `config`, kept byte for byte. `parent` is the image that a
//!   classic build or a commit started from; it may be gone.
//! - The way from an image to its layers is in `config` (`rootfs.diff_ids`), so there is no
//!   table for it.
//! - A layer is recorded as `filling` before its directory is made and becomes `ready` when
//!   its data is on the disk; after a crash a `filling` one is removed with its directory.
//! - `reference` is `registry/path:tag` or `registry/path@digest` in full; an image may have
//!   many of both or none.
//! - `manifests` are manifests and indexes as they were received, byte for byte; one goes with
//!   the last image it belongs to. An index can belong to several.
//!
//! This file must not know what is in a config, nor where a layer's directory is.

use super::Found;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

/// For [`crate::db::Database::open`].
pub const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE images (
        id TEXT PRIMARY KEY NOT NULL,
        config BLOB NOT NULL,
        created_ns INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        parent TEXT
    ) STRICT;
    CREATE TABLE layers (
        chain_id TEXT PRIMARY KEY NOT NULL,
        diff_id TEXT NOT NULL,
        parent_chain TEXT REFERENCES layers (chain_id),
        layer_dir TEXT UNIQUE NOT NULL,
        size_bytes INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('filling', 'ready'))
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX layers_by_parent ON layers (parent_chain);
    CREATE TABLE references_ (
        reference TEXT PRIMARY KEY NOT NULL,
        image_id TEXT NOT NULL REFERENCES images (id),
        updated_ns INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX references_by_image ON references_ (image_id);
",
    "
    CREATE TABLE manifests (
        digest TEXT PRIMARY KEY NOT NULL,
        media_type TEXT NOT NULL,
        content BLOB NOT NULL
    ) STRICT;
    CREATE TABLE image_manifests (
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        digest TEXT NOT NULL REFERENCES manifests (digest),
        PRIMARY KEY (image_id, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX image_manifests_by_digest ON image_manifests (digest);
    CREATE TRIGGER manifest_of_no_image AFTER DELETE ON image_manifests
        WHEN NOT EXISTS (SELECT 1 FROM image_manifests WHERE digest = old.digest)
        BEGIN
            DELETE FROM manifests WHERE digest = old.digest;
        END;
",
    super::blobs::MIGRATION,
];

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Digest of `config`.
    pub id: String,
    /// The configuration's exact bytes.
    pub config: Vec<u8>,
    /// When it was put here, in nanoseconds since 1970.
    pub created_ns: i64,
    /// Size of its unpacked layers.
    pub size_bytes: i64,
    /// The image it was made from on this machine.
    pub parent: Option<String>,
}

/// How far a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Its directory may be missing or incomplete.
    Filling,
    /// Its directory is complete and on the disk.
    Ready,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecord {
    /// Digest of the chain up to this layer.
    pub chain_id: String,
    /// Digest of this layer's tar.
    pub diff_id: String,
    /// The chain below, if there is one.
    pub parent_chain: Option<String>,
    /// Name of its directory at the storage driver.
    pub layer_dir: String,
    /// Unpacked size of this layer alone.
    pub size_bytes: i64,
    /// How far it is.
    pub state: LayerState,
}

/// A name for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceRecord {
    /// The full normalised name with its tag.
    pub reference: String,
    /// The image it names.
    pub image_id: String,
    /// When it was last set, in nanoseconds since 1970.
    pub updated_ns: i64,
}

/// A manifest or index as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRecord {
    /// Digest of `content`.
    pub digest: String,
    /// What the sender said it is.
    pub media_type: String,
    /// Its exact bytes.
    pub content: Vec<u8>,
}

/// All there is, for the engine's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Everything {
    /// In the order of their creation.
    pub images: Vec<ImageRecord>,
    /// In no particular order.
    pub layers: Vec<LayerRecord>,
    /// In the order of their names.
    pub references: Vec<ReferenceRecord>,
}

/// Records a layer that is about to be filled.
///
/// Fails ([`crate::db::DbError::is_taken`]) if the chain or the directory is recorded
/// already, and if the parent chain is not.
pub fn put_layer_filling(
    connection: &Connection,
    chain_id: &str,
    diff_id: &str,
    parent_chain: Option<&str>,
    layer_dir: &str,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO layers (chain_id, diff_id, parent_chain, layer_dir, size_bytes, state)
               VALUES (:chain_id, :diff_id, :parent_chain, :layer_dir, 0, 'filling')";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":chain_id": chain_id,
        ":diff_id": diff_id,
        ":parent_chain": parent_chain,
        ":layer_dir": layer_dir,
    })?;
    Ok(())
}

/// Says that a layer's directory is complete and on the disk.
pub fn mark_layer_ready(
    connection: &Connection,
    chain_id: &str,
    size_bytes: i64,
) -> rusqlite::Result<Found> {
    let sql = "UPDATE layers SET state = 'ready', size_bytes = ?2 WHERE chain_id = ?1";
    connection
        .prepare_cached(sql)?
        .execute((chain_id, size_bytes))
        .map(Found::from)
}

/// Removes a layer; fails while another layer stands on it.
pub fn delete_layer(connection: &Connection, chain_id: &str) -> rusqlite::Result<Found> {
    let mut statement = connection.prepare_cached("DELETE FROM layers WHERE chain_id = ?1")?;
    statement.execute([chain_id]).map(Found::from)
}

/// Records an image; one that is there already keeps its record, unless that is
/// damaged: the same id is the same configuration.
pub fn put_image(connection: &Connection, image: &ImageRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO images (id, config, created_ns, size_bytes, parent)
               VALUES (:id, :config, :created_ns, :size_bytes, :parent)
               ON CONFLICT (id) DO UPDATE
               SET config = excluded.config, size_bytes = excluded.size_bytes
               WHERE config IS NOT excluded.config";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": image.id,
        ":config": image.config,
        ":created_ns": image.created_ns,
        ":size_bytes": image.size_bytes,
        ":parent": image.parent,
    })?;
    Ok(())
}

/// Records that a manifest or index belongs to an image, which must be recorded.
pub fn put_manifest(
    connection: &Connection,
    image_id: &str,
    manifest: &ManifestRecord,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO manifests (digest, media_type, content) VALUES (?1, ?2, ?3)
               ON CONFLICT (digest) DO NOTHING";
    connection.prepare_cached(sql)?.execute((
        &manifest.digest,
        &manifest.media_type,
        &manifest.content,
    ))?;
    let sql = "INSERT INTO image_manifests (image_id, digest) VALUES (?1, ?2)
               ON CONFLICT DO NOTHING";
    connection
        .prepare_cached(sql)?
        .execute((image_id, &manifest.digest))?;
    Ok(())
}

/// The manifests and indexes of an image, in the order of their digests.
pub fn manifests_of(
    connection: &Connection,
    image_id: &str,
) -> rusqlite::Result<Vec<ManifestRecord>> {
    let sql = "SELECT digest, media_type, content FROM manifests JOIN image_manifests
               USING (digest) WHERE image_id = ?1 ORDER BY digest";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([image_id], |row| {
        Ok(ManifestRecord {
            digest: row.get(0)?,
            media_type: row.get(1)?,
            content: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// The exact bytes of an image's configuration.
pub fn config_of(connection: &Connection, image_id: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT config FROM images WHERE id = ?1")?
        .query_row([image_id], |row| row.get(0))
        .optional()
}

/// Removes an image with what of its manifests no other has; one that a reference names stays and is not found.
pub fn delete_image(connection: &Connection, id: &str) -> rusqlite::Result<Found> {
    let sql = "DELETE FROM images WHERE id = ?1
               AND NOT EXISTS (SELECT 1 FROM references_ WHERE image_id = ?1)";
    connection
        .prepare_cached(sql)?
        .execute([id])
        .map(Found::from)
}

/// Lets a reference name an image and returns the one it named before.
///
/// Fails if there is no such image.
pub fn set_reference(
    connection: &Connection,
    record: &ReferenceRecord,
) -> rusqlite::Result<Option<String>> {
    let before = connection
        .prepare_cached("SELECT image_id FROM references_ WHERE reference = ?1")?
        .query_row([&record.reference], |row| row.get(0))
        .optional()?;
    let sql = "INSERT INTO references_ (reference, image_id, updated_ns)
               VALUES (:reference, :image_id, :updated_ns)
               ON CONFLICT (reference)
               DO UPDATE SET image_id = excluded.image_id, updated_ns = excluded.updated_ns";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":reference": record.reference,
        ":image_id": record.image_id,
        ":updated_ns": record.updated_ns,
    })?;
    Ok(before)
}

/// Removes a reference; the image stays.
pub fn delete_reference(connection: &Connection, reference: &str) -> rusqlite::Result<Found> {
    let mut statement =
        connection.prepare_cached("DELETE FROM references_ WHERE reference = ?1")?;
    statement.execute([reference]).map(Found::from)
}

/// Removes a reference if it names that image.
pub fn delete_reference_to(
    connection: &Connection,
    reference: &str,
    image_id: &str,
) -> rusqlite::Result<Found> {
    let sql = "DELETE FROM references_ WHERE reference = ?1 AND image_id = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute((reference, image_id)).map(Found::from)
}

/// Everything, as of one moment.
pub fn load_all(connection: &Connection) -> rusqlite::Result<Everything> {
    let image = |row: &Row<'_>| {
        Ok(ImageRecord {
            id: row.get(0)?,
            config: row.get(1)?,
            created_ns: row.get(2)?,
            size_bytes: row.get(3)?,
            parent: row.get(4)?,
        })
    };
    let layer = |row: &Row<'_>| {
        let state: String = row.get(5)?;
        Ok(LayerRecord {
            chain_id: row.get(0)?,
            diff_id: row.get(1)?,
            parent_chain: row.get(2)?,
            layer_dir: row.get(3)?,
            size_bytes: row.get(4)?,
            // The table admits these two only.
            state: if state == "ready" {
                LayerState::Ready
            } else {
                LayerState::Filling
            },
        })
    };
    let reference = |row: &Row<'_>| {
        Ok(ReferenceRecord {
            reference: row.get(0)?,
            image_id: row.get(1)?,
            updated_ns: row.get(2)?,
        })
    };
    let images = "SELECT id, config, created_ns, size_bytes, parent FROM images
                  ORDER BY created_ns, id";
    let layers = "SELECT chain_id, diff_id, parent_chain, layer_dir, size_bytes, state FROM layers";
    let references = "SELECT reference, image_id, updated_ns FROM references_ ORDER BY reference";
    Ok(Everything {
        images: connection
            .prepare(images)?
            .query_map([], image)?
            .collect::<Result<_, _>>()?,
        layers: connection
            .prepare(layers)?
            .query_map([], layer)?
            .collect::<Result<_, _>>()?,
        references: connection
            .prepare(references)?
            .query_map([], reference)?
            .collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::{Database, Durability};
    use std::path::Path;

    fn open(root: &Path) -> Database {
        Database::open(&root.join("image.db"), Durability::Full, MIGRATIONS).unwrap()
    }

    fn image(id: &str, created_ns: i64) -> ImageRecord {
        let config = format!("{{ \"exact\" : \"{id}\" }}\n\0").into_bytes();
        ImageRecord {
            id: id.to_owned(),
            config,
            created_ns,
            size_bytes: 7,
            parent: None,
        }
    }

    fn reference(name: &str, image_id: &str, updated_ns: i64) -> ReferenceRecord {
        ReferenceRecord {
            reference: name.to_owned(),
            image_id: image_id.to_owned(),
            updated_ns,
        }
    }

    #[test]
    fn a_pulled_image_comes_back_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let database = open(root.path());
        database
            .run(|c| {
                put_layer_filling(c, "c1", "d1", None, "l-1")?;
                assert_eq!(mark_layer_ready(c, "c1", 100)?, Found::Yes);
                put_layer_filling(c, "c2", "d2", Some("c1"), "l-2")?;
                put_image(c, &image("sha256:b", 2))?;
                put_image(
                    c,
                    &ImageRecord {
                        parent: Some("sha256:b".into()),
                        ..image("sha256:a", 3)
                    },
                )?;
                set_reference(
                    c,
                    &reference("docker.io/library/busybox:latest", "sha256:b", 5),
                )
            })
            .unwrap();
        drop(database);
        let all = open(root.path()).run(load_all).unwrap();
        assert_eq!(all.images[0], image("sha256:b", 2));
        assert_eq!(all.images[1].parent.as_deref(), Some("sha256:b"));
        assert_eq!(
            all.references,
            [reference("docker.io/library/busybox:latest", "sha256:b", 5)]
        );
        let layer =
            |chain_id: &str, diff_id: &str, parent: Option<&str>, dir: &str, size_bytes, state| {
                LayerRecord {
                    chain_id: chain_id.to_owned(),
                    diff_id: diff_id.to_owned(),
                    parent_chain: parent.map(str::to_owned),
                    layer_dir: dir.to_owned(),
                    size_bytes,
                    state,
                }
            };
        assert_eq!(
            all.layers,
            [
                layer("c1", "d1", None, "l-1", 100, LayerState::Ready),
                layer("c2", "d2", Some("c1"), "l-2", 0, LayerState::Filling),
            ]
        );
    }

    #[test]
    fn a_reference_moves_and_tells_where_it_was() {
        let root = tempfile::tempdir().unwrap();
        let database = open(root.path());
        let moves = database
            .run(|c| {
                put_image(c, &image("a", 1))?;
                put_image(c, &image("b", 2))?;
                let first = set_reference(c, &reference("x:1", "a", 1))?;
                let second = set_reference(c, &reference("x:1", "b", 2))?;
                Ok((first, second))
            })
            .unwrap();
        assert_eq!(moves, (None, Some("a".to_owned())));
        assert_eq!(
            database.run(load_all).unwrap().references,
            [reference("x:1", "b", 2)]
        );
        let removed =
            |name: &'static str| database.run(move |c| delete_reference(c, name)).unwrap();
        assert_eq!((removed("x:1"), removed("x:1")), (Found::Yes, Found::No));
    }

    #[test]
    fn what_is_needed_cannot_be_removed() {
        let root = tempfile::tempdir().unwrap();
        let database = open(root.path());
        database
            .run(|c| {
                put_layer_filling(c, "c1", "d1", None, "l-1")?;
                put_layer_filling(c, "c2", "d2", Some("c1"), "l-2")?;
                put_image(c, &image("a", 1))?;
                set_reference(c, &reference("x:1", "a", 1))
            })
            .unwrap();
        assert!(database.run(|c| delete_layer(c, "c1")).is_err());
        assert_eq!(database.run(|c| delete_image(c, "a")).unwrap(), Found::No);
        assert!(
            database
                .run(|c| set_reference(c, &reference("y:1", "missing", 1)))
                .is_err()
        );
        assert!(
            database
                .run(|c| put_layer_filling(c, "c9", "d", Some("missing"), "l-9"))
                .is_err()
        );
        let taken = |chain: &'static str, dir: &'static str| {
            database
                .run(move |c| put_layer_filling(c, chain, "d", None, dir))
                .unwrap_err()
        };
        assert!(taken("c1", "l-3").is_taken());
        assert!(taken("c3", "l-1").is_taken());
        let found = database.run(|c| {
            Ok([
                delete_layer(c, "c2")?,
                delete_layer(c, "c1")?,
                delete_layer(c, "c1")?,
                delete_reference(c, "x:1")?,
                delete_image(c, "a")?,
                delete_image(c, "a")?,
                mark_layer_ready(c, "c1", 1)?,
            ])
        });
        use Found::{No, Yes};
        assert_eq!(found.unwrap(), [Yes, Yes, No, Yes, Yes, No, No]);
        assert_eq!(database.run(load_all).unwrap(), Everything::default());
    }

    #[test]
    fn a_manifest_goes_with_its_last_image() {
        let root = tempfile::tempdir().unwrap();
        let database = open(root.path());
        let manifest = |digest: &str| ManifestRecord {
            digest: digest.to_owned(),
            media_type: "application/x".to_owned(),
            content: b"{ \"exact\" }\n\0".to_vec(),
        };
        database
            .run(move |c| {
                put_image(c, &image("a", 1))?;
                put_image(c, &image("b", 2))?;
                put_manifest(c, "a", &manifest("m"))?;
                put_manifest(c, "a", &manifest("index"))?;
                put_manifest(c, "b", &manifest("index"))?;
                put_manifest(c, "b", &manifest("index"))
            })
            .unwrap();
        let of = |id: &'static str| database.run(move |c| manifests_of(c, id)).unwrap();
        assert_eq!(of("a"), [manifest("index"), manifest("m")]);
        let config = database.run(|c| config_of(c, "a")).unwrap();
        assert_eq!(config, Some(image("a", 1).config));
        database.run(|c| delete_image(c, "a")).unwrap();
        assert_eq!(of("b"), [manifest("index")]);
        let count = || {
            database
                .run(|c| c.query_row("SELECT count(*) FROM manifests", [], |row| row.get(0)))
                .unwrap()
        };
        let left: i64 = count();
        assert_eq!(left, 1);
        database.run(|c| delete_image(c, "b")).unwrap();
        let left: i64 = count();
        assert_eq!(left, 0);
    }

    #[test]
    fn an_image_put_twice_keeps_its_first_record() {
        let root = tempfile::tempdir().unwrap();
        let database = open(root.path());
        database.run(|c| put_image(c, &image("a", 1))).unwrap();
        database.run(|c| put_image(c, &image("a", 9))).unwrap();
        assert_eq!(database.run(load_all).unwrap().images, [image("a", 1)]);
    }
}
