//! What a push may be asked to compress layers with.

use std::io::{self, Read, Write};

use conex_archive::compression::{gzip, zstd};
use conex_spec::image::media_type;

use crate::Error;

/// A form of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    /// Known to the OCI's manifests alone.
    Zstd,
}

impl Compression {
    /// `gzip` or `zstd`; nothing is `None`.
    pub(super) fn parse(name: &str) -> Result<Option<Self>, Error> {
        match name {
            "" => Ok(None),
            "gzip" => Ok(Some(Self::Gzip)),
            "zstd" => Ok(Some(Self::Zstd)),
            other => Err(Error::invalid(format!(
                "invalid compression format {other:?}: it must be \"gzip\" or \"zstd\""
            ))),
        }
    }

    /// Of a layer that is compressed here.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => media_type::DOCKER_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// The form of layers of a media type, if it is one of these.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        let forms = [("gzip", Self::Gzip), ("zstd", Self::Zstd)];
        let found = forms.iter().find(|(end, _)| media_type.ends_with(end));
        found.map(|(_, form)| *form)
    }

    /// Whether layers of a media type are in this form.
    pub(super) fn is_that_of(self, media_type: &str) -> bool {
        Self::of(media_type) == Some(self)
    }

    /// The same bytes for the same content, always.
    pub(super) fn compress(self, source: &mut dyn Read, sink: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Gzip => gzip::compress(source, sink),
            Self::Zstd => zstd::compress(source, sink),
        }
    }
}
