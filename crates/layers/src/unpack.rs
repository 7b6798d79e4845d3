//! From a compressed stream to a filled layer with its identity.

use std::io::{self, BufRead};

use conex_archive::compression::{self, Format};
use conex_spec::digest::Digest;

use crate::digest::DigestReader;
use crate::driver::LayerRoot;
use crate::extract::{self, Extracted, Extractor, Limits, Options};
use crate::recipe::Recorder;

/// What a stream turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// SHA-256 of the uncompressed archive, every byte of it.
    pub diff_id: Digest,
    /// Its length in bytes.
    pub archive_bytes: u64,
    /// How the stream was compressed.
    pub format: Format,
    /// What the layer got.
    pub content: Extracted,
}

/// Why a layer was not filled; the caller removes the layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream cannot be read or decompressed.
    #[error("cannot read the layer's stream")]
    Stream(#[source] io::Error),
    /// Its content cannot be unpacked.
    #[error(transparent)]
    Extract(#[from] extract::Error),
}

/// Fills a new layer from a stream in any known compression.
///
/// Decompression and hashing run on a thread of their own beside unpacking.
/// Nothing is durable before [`LayerRoot::sync`], and the digest is the
/// caller's to compare before the layer gets a name.
pub fn unpack(
    stream: Box<dyn BufRead + Send>,
    layer: &LayerRoot,
    limits: Limits,
) -> Result<Unpacked, Error> {
    run(stream, layer, limits, None)
}

/// The same, and completes the layer's recipe.
pub fn unpack_recording(
    stream: Box<dyn BufRead + Send>,
    layer: &LayerRoot,
    limits: Limits,
    recipe: Recorder,
) -> Result<Unpacked, Error> {
    run(stream, layer, limits, Some(recipe))
}

fn run(
    stream: Box<dyn BufRead + Send>,
    layer: &LayerRoot,
    limits: Limits,
    recipe: Option<Recorder>,
) -> Result<Unpacked, Error> {
    let (format, stream) = compression::decompress(stream).map_err(Error::Stream)?;
    let mut stream = DigestReader::spawn(stream).map_err(Error::Stream)?;
    let root = layer.directory.try_clone().map_err(Error::Stream)?;
    let options = Options {
        limits,
        whiteouts: layer.whiteouts,
    };
    let extractor = Extractor::new(root, options);
    let (content, recipe) = match recipe {
        Some(recipe) => {
            let (content, recipe) = extractor.extract_recording(&mut stream, recipe)?;
            (content, Some(recipe))
        }
        None => (extractor.extract(&mut stream)?, None),
    };
    let digested = stream.finish().map_err(Error::Stream)?;
    if let Some(recipe) = recipe {
        recipe
            .finish(digested.bytes, &digested.digest)
            .map_err(extract::Error::Recipe)?;
    }
    Ok(Unpacked {
        diff_id: digested.digest,
        archive_bytes: digested.bytes,
        format,
        content,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::extract::Whiteouts;
    use crate::fixture::{Archive, directory, privileged};
    use std::io::Cursor;

    fn attempt(stream: Vec<u8>) -> Result<Unpacked, Error> {
        let temporary = tempfile::tempdir().unwrap();
        let layer = LayerRoot {
            directory: directory(temporary.path()),
            whiteouts: Whiteouts::Overlay,
        };
        unpack(Box::new(Cursor::new(stream)), &layer, Limits::default())
    }

    #[test]
    fn the_identity_covers_what_follows_the_archive() {
        if !privileged() {
            return;
        }
        let mut archive = Archive::new().file("a", "x").finish();
        archive.resize(1 << 20, 0);
        archive.extend_from_slice(b"trailing");
        let expected = Digest::of(&archive);
        let unpacked = attempt(archive).unwrap();
        assert_eq!(unpacked.diff_id, expected);
        assert_eq!(unpacked.archive_bytes, (1 << 20) + 8);
        assert_eq!(unpacked.format, Format::None);
    }

    #[test]
    fn a_stream_that_does_not_decompress_is_an_error() {
        if !privileged() {
            return;
        }
        for magic in [
            &b"\x1f\x8b\x08"[..],
            b"\xfd7zXZ\0",
            b"\x28\xb5\x2f\xfd",
            b"BZh91AY&SY",
        ] {
            let stream = [magic, &[0xa5; 3000]].concat();
            let error = attempt(stream).unwrap_err();
            assert!(
                matches!(error, Error::Extract(extract::Error::Archive(_))),
                "{error:?}"
            );
        }
    }
}
