//! Content digests, `algorithm:hex`, and what is computed with them. It must
//! not know what the content is.
//!
//! Source: OCI image specification, descriptor.md ("Digests") and config.md
//! ("Layer ChainID").

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// The digest of some content. Clones share their text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    /// `algorithm:hex`, checked.
    text: Arc<str>,
}

impl Digest {
    /// The SHA-256 digest of some bytes.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(content);
        hasher.finish()
    }

    /// The digest whose SHA-256 sum is already known.
    #[must_use]
    pub fn from_sha256(sum: [u8; 32]) -> Self {
        Self::from_sum(Algorithm::Sha256, &sum)
    }

    /// The hash function.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        if self.text.starts_with("sha512:") {
            Algorithm::Sha512
        } else {
            Algorithm::Sha256
        }
    }

    /// The sum in lower-case hexadecimal, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm().name().len() + 1..]
    }

    /// The first 12 characters of [`Digest::hex`], as Docker shows an image id.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// `algorithm:hex`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn from_sum(algorithm: Algorithm, sum: &[u8]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(algorithm.name().len() + 1 + sum.len() * 2);
        text.push_str(algorithm.name());
        text.push(':');
        for byte in sum {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
        Self { text: text.into() }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        if !is_algorithm(name) || hex.is_empty() {
            return Err(DigestError::Format);
        }
        let algorithm = Algorithm::from_name(name).ok_or(DigestError::Unsupported)?;
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::Length);
        }
        // Upper case would give one content two names.
        if !hex
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        {
            return Err(DigestError::Format);
        }
        Ok(Self { text: text.into() })
    }
}

/// Whether a text follows the grammar of algorithm names, known or not.
fn is_algorithm(name: &str) -> bool {
    name.split(['.', '+', '_', '-']).all(|component| {
        !component.is_empty()
            && component
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    })
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl serde::de::Visitor<'_> for Text {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest such as sha256:<64 hexadecimal digits>")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Why a text is not a digest. The texts are those Docker's clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not `algorithm:hex`, or upper case.
    #[error("invalid checksum digest format")]
    Format,
    /// Not as many digits as the algorithm gives.
    #[error("invalid checksum digest length")]
    Length,
    /// An algorithm this crate does not compute.
    #[error("unsupported digest algorithm")]
    Unsupported,
}

/// The hash functions of the image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// The one everybody uses.
    Sha256,
    /// The one the specification allows too.
    Sha512,
}

impl Algorithm {
    /// Its name in a digest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// SHA-256 of content that comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct Sha256 {
    inner: sha2::Sha256,
}

impl Sha256 {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.inner.update(piece);
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest::from_sum(Algorithm::Sha256, &self.inner.finalize())
    }
}

impl io::Write for Sha256 {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.update(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A hasher of the algorithm a digest asks for, to check content that comes in pieces against it.
#[derive(Debug, Clone)]
pub struct Hasher {
    inner: HasherKind,
}

#[derive(Debug, Clone)]
enum HasherKind {
    Sha256(Sha256),
    // Three times the size of the other and next to never used.
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        let inner = match algorithm {
            Algorithm::Sha256 => HasherKind::Sha256(Sha256::new()),
            Algorithm::Sha512 => HasherKind::Sha512(Box::default()),
        };
        Self { inner }
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.inner {
            HasherKind::Sha256(hasher) => hasher.update(piece),
            HasherKind::Sha512(hasher) => hasher.update(piece),
        }
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.inner {
            HasherKind::Sha256(hasher) => hasher.finish(),
            HasherKind::Sha512(hasher) => Digest::from_sum(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

/// The chain id of a stack of layers: of the stack below (`None` for the lowest layer) and the layer on top.
#[must_use]
pub fn chain_id(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
    match parent {
        None => diff_id.clone(),
        Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const ABC_512: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                           2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    #[test]
    fn the_sums_of_fips_180_come_out() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        assert_eq!(Digest::of(b"abc").as_str(), ABC);
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish().as_str(), ABC_512);
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let mut pieces = Sha256::new();
        pieces.update(b"a");
        io::Write::write_all(&mut pieces, b"bc").unwrap();
        assert_eq!(pieces.finish(), Digest::of(b"abc"));
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"abc");
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn a_digest_is_read_and_shown_unchanged() {
        for text in [EMPTY, ABC, ABC_512] {
            let digest: Digest = text.parse().unwrap();
            assert_eq!(digest.to_string(), text);
            assert_eq!(format!("{}:{}", digest.algorithm(), digest.hex()), text);
        }
        assert_eq!(ABC.parse::<Digest>().unwrap().short(), "ba7816bf8f01");
        assert_eq!(
            ABC_512.parse::<Digest>().unwrap().algorithm(),
            Algorithm::Sha512
        );
    }

    #[test]
    fn what_is_not_exactly_a_digest_is_refused() {
        use DigestError::{Format, Length, Unsupported};
        let upper = ABC.to_uppercase();
        let upper_hex = format!("sha256:{}", &upper[7..]);
        let long = format!("{ABC}0");
        for (text, error) in [
            ("", Format),
            ("sha256", Format),
            (&ABC[7..], Format),
            ("sha256:", Format),
            (":abc", Format),
            ("sha256+:abc", Format),
            (upper.as_str(), Format),
            (upper_hex.as_str(), Format),
            (&ABC[..70], Length),
            (long.as_str(), Length),
            ("sha512:abc", Length),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", Unsupported),
            ("sha256+b64:abc", Unsupported),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
        let not_hex = format!("sha256:{}g", &ABC[7..70]);
        assert_eq!(not_hex.parse::<Digest>(), Err(Format));
    }

    #[test]
    fn json_has_a_digest_as_text() {
        let digest: Digest = serde_json::from_str(&format!("\"{ABC}\"")).unwrap();
        assert_eq!(digest, Digest::of(b"abc"));
        assert_eq!(
            serde_json::to_string(&digest).unwrap(),
            format!("\"{ABC}\"")
        );
        let error = serde_json::from_str::<Digest>("\"sha256:1\"").unwrap_err();
        assert!(error.to_string().contains("invalid checksum digest length"));
    }

    #[test]
    fn the_chain_id_of_one_layer_is_its_diff_id() {
        let layer = Digest::of(b"layer");
        assert_eq!(chain_id(None, &layer), layer);
    }

    #[test]
    fn the_chain_id_of_two_layers_hashes_both_texts() {
        // The sum is that of sha256sum(1) over the two texts and a space.
        let chain = chain_id(Some(&Digest::of(b"")), &Digest::of(b"abc"));
        assert_eq!(chain, Digest::of(format!("{EMPTY} {ABC}").as_bytes()));
        assert_eq!(chain.as_str(), CHAIN);
    }

    const CHAIN: &str = "sha256:a893da35bd22286079f2f3931516d3423eb9b4945f2379e0f8a501ec3d665dd6";

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.as_str(), text);
            }
        }

        #[test]
        fn every_sum_is_read_back(sum: [u8; 32]) {
            let digest = Digest::from_sha256(sum);
            prop_assert_eq!(digest.as_str().parse::<Digest>(), Ok(digest));
        }
    }
}
