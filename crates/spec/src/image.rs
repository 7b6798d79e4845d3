//! Images: configuration, manifests and their media types, of the OCI image
//! specification 1.1 and of Docker's schema 2, which differ in names only.
//! The bytes a digest is of are the caller's to keep; nothing here is meant to
//! be written back in their place. It must not know where images are stored.

use serde::de::DeserializeOwned;

mod config;
mod manifest;
pub mod media_type;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use manifest::{Descriptor, Document, Index, Manifest};

/// The longest manifest or index that is read, in bytes; registries promise to take at least as much.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// The longest image configuration that is read, in bytes.
pub const MAX_CONFIG_BYTES: usize = 8 << 20;

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// More bytes than are read.
    #[error("{what} is {len} bytes long, more than {max}")]
    TooLong {
        /// Manifest, index or configuration.
        what: &'static str,
        /// How many there are.
        len: usize,
        /// How many are read.
        max: usize,
    },
    /// Not JSON, or not of the specification's shape.
    #[error("{what} is not of the shape the image specification gives")]
    Json {
        /// Manifest, index or configuration.
        what: &'static str,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
    /// Not version 2, as schema 1 has it.
    #[error("unsupported manifest schema version {version}")]
    SchemaVersion {
        /// What the document says.
        version: u64,
    },
    /// A document that says it is something else than it is taken for, or could be taken for two things.
    #[error("{what} has media type {media_type:?}")]
    MediaType {
        /// Manifest or index.
        what: &'static str,
        /// What the document or its sender says.
        media_type: String,
    },
    /// A document with members of both kinds, which two readers would take for two things.
    #[error("document is both a manifest and an index")]
    Ambiguous,
    /// A document with members of neither kind.
    #[error("document is neither a manifest nor an index")]
    Unrecognised,
    /// A root file system not made of layers.
    #[error("unsupported root file system type {kind:?}")]
    RootFs {
        /// What the configuration says.
        kind: String,
    },
}

fn parse<T: DeserializeOwned>(
    what: &'static str,
    json: &[u8],
    max: usize,
) -> Result<T, ImageError> {
    if json.len() > max {
        return Err(ImageError::TooLong {
            what,
            len: json.len(),
            max,
        });
    }
    serde_json::from_slice(json).map_err(|source| ImageError::Json { what, source })
}

#[cfg(test)]
mod tests;
