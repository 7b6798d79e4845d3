//! Image references, `[domain/]path[:tag][@digest]`, their grammar and
//! Docker's reading of short ones. It must not know registries or local images.
//!
//! ```text
//! reference      := [domain "/"] path [":" tag] ["@" digest]
//! domain         := (name *("." name) | "[" IPv6 "]") [":" digits]    name: letters, digits, inner "-"
//! path           := component *("/" component)
//! component      := alnum *(("." | "_" | "__" | 1*"-") alnum)         alnum: 1*[a-z0-9]
//! tag            := [A-Za-z0-9_] 0*127[A-Za-z0-9_.-]
//! ```
//!
//! The first component is a domain only if it has a `.`, a `:` or an upper-case
//! letter or is `localhost`; without a domain the image is on `docker.io`, where
//! a path of one component is under `library/`.
//!
//! Source: the grammar of the distribution project's reference package.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// The domain of references without one.
pub const DEFAULT_DOMAIN: &str = "docker.io";

/// The tag of references with neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// The most characters of a path.
pub const MAX_PATH_LEN: usize = 255;

/// The older name of [`DEFAULT_DOMAIN`].
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";

/// Where on [`DEFAULT_DOMAIN`] the official images are.
const OFFICIAL_PREFIX: &str = "library/";

/// A reference in full: with its domain, and `library/` where Docker implies it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `domain/path`.
    name: String,
    domain_len: usize,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as a user would write it.
    ///
    /// # Errors
    /// See [`ParseError`]. A first component that looks like a domain and is
    /// none (`my_host.local/image`) is refused, though Docker takes it for a
    /// reference without a domain that it can then neither pull nor push.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err(ParseError::Hexadecimal {
                name: text.to_owned(),
            });
        }
        let (domain, remainder) = split_domain(text);
        let in_library = domain == DEFAULT_DOMAIN && !remainder.contains('/');
        let prefix = if in_library { OFFICIAL_PREFIX } else { "" };

        let before_tag = remainder.split(':').next().unwrap_or_default();
        if before_tag.to_lowercase() != before_tag {
            return Err(ParseError::Uppercase {
                path: format!("{prefix}{before_tag}"),
            });
        }

        let (rest, digest) = match remainder.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (remainder, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if !is_domain(domain)
            || !path.split('/').all(is_path_component)
            || !tag.is_none_or(is_tag)
            || !digest.is_none_or(looks_like_digest)
        {
            return Err(ParseError::Format);
        }
        if prefix.len() + path.len() > MAX_PATH_LEN {
            return Err(ParseError::TooLong);
        }
        Ok(Self {
            name: format!("{domain}/{prefix}{path}"),
            domain_len: domain.len(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::parse).transpose()?,
        })
    }

    /// Domain and path: `docker.io/library/busybox`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry, with its port: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.name[..self.domain_len]
    }

    /// The repository in its registry: `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.name[self.domain_len + 1..]
    }

    /// The tag, if there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one; it outranks the tag.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name as Docker shows it: `busybox`, `user/image`, `localhost:5000/image`.
    #[must_use]
    pub fn familiar_name(&self) -> &str {
        if self.domain() != DEFAULT_DOMAIN {
            return &self.name;
        }
        match self.path().strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official,
            _ => self.path(),
        }
    }

    /// The whole reference as Docker shows it: `busybox:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name().to_owned();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }

    /// The same with tag [`DEFAULT_TAG`] if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same with another tag.
    ///
    /// # Errors
    /// [`ParseError::Tag`] if it is none.
    pub fn with_tag(mut self, tag: &str) -> Result<Self, ParseError> {
        if !is_tag(tag) {
            return Err(ParseError::Tag);
        }
        self.tag = Some(tag.to_owned());
        Ok(self)
    }

    /// The same with another digest.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The same without its tag.
    #[must_use]
    pub fn without_tag(mut self) -> Self {
        self.tag = None;
        self
    }

    /// The repository alone, without tag and digest.
    #[must_use]
    pub fn repository(mut self) -> Self {
        self.tag = None;
        self.digest = None;
        self
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// Why a text is not a reference. The texts are those Docker's clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not of the grammar.
    #[error("invalid reference format")]
    Format,
    /// A path with upper-case letters.
    #[error("invalid reference format: repository name ({path}) must be lowercase")]
    Uppercase {
        /// The path, with the `library/` that Docker implies.
        path: String,
    },
    /// A path of more than [`MAX_PATH_LEN`] characters.
    #[error("repository name must not be more than {MAX_PATH_LEN} characters")]
    TooLong,
    /// What can only be meant as an image id.
    #[error("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")]
    Hexadecimal {
        /// The text.
        name: String,
    },
    /// Not a tag.
    #[error("invalid tag format")]
    Tag,
    /// A digest of the right look that is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// The hexadecimal digits of an image id or the beginning of one, with or without `sha256:` before it.
///
/// What this returns `Some` for may also be the name of an image.
#[must_use]
pub fn image_id_prefix(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    ((1..=64).contains(&hex.len()) && hex.bytes().all(is_lower_hex)).then_some(hex)
}

/// Whether a text is written like an image id: `sha256:` and digits, or 12 to 64 digits.
///
/// A text of 12 to 63 digits may also be the name of an image, which goes first.
#[must_use]
pub fn is_image_id(text: &str) -> bool {
    image_id_prefix(text).is_some_and(|hex| hex.len() >= 12 || hex.len() < text.len())
}

/// Splits off the domain, or gives the default one.
fn split_domain(text: &str) -> (&str, &str) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, text);
    };
    if first == LEGACY_DEFAULT_DOMAIN {
        (DEFAULT_DOMAIN, rest)
    } else if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first {
        (first, rest)
    } else {
        (DEFAULT_DOMAIN, text)
    }
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn is_domain(domain: &str) -> bool {
    let (is_host, port) = if let Some(bracketed) = domain.strip_prefix('[') {
        let Some((address, rest)) = bracketed.split_once(']') else {
            return false;
        };
        let is_address = !address.is_empty()
            && address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b':');
        match rest.strip_prefix(':') {
            Some(port) => (is_address, Some(port)),
            None => (is_address && rest.is_empty(), None),
        }
    } else {
        let (host, port) = match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        };
        (host.split('.').all(is_domain_component), port)
    };
    is_host
        && port
            .is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_domain_component(component: &str) -> bool {
    !component.is_empty()
        && !component.starts_with('-')
        && !component.ends_with('-')
        && component
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_path_component(component: &str) -> bool {
    let is_alnum = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let alnum_len = rest.iter().take_while(|byte| is_alnum(byte)).count();
        if alnum_len == 0 {
            return false;
        }
        rest = &rest[alnum_len..];
        if rest.is_empty() {
            return true;
        }
        let separator_len = rest.iter().take_while(|byte| !is_alnum(byte)).count();
        let (separator, after) = rest.split_at(separator_len);
        if !matches!(separator, b"." | b"_" | b"__") && !separator.iter().all(|byte| *byte == b'-')
        {
            return false;
        }
        rest = after;
    }
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag
            .bytes()
            .all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

/// Whether a text has the outer form of a digest, which decides which error is shown.
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    algorithm.split(['-', '_', '+', '.']).all(|component| {
        component.starts_with(|first: char| first.is_ascii_alphabetic())
            && component.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }) && hex.len() >= 32
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
