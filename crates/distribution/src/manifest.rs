//! Manifests and indexes: which one a tag means, and their exact bytes; and configs, which are as small.

use bytes::Bytes;
use conex_spec::digest::{Digest, Hasher};
use conex_spec::image::{Descriptor, Document, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, media_type};
use reqwest::header::{self, HeaderName};
use reqwest::{Method, Response, StatusCode};

use crate::backoff;
use crate::error::Error;
use crate::repository::Repository;
use crate::session::{Ask, Session, read_limited, refused};

pub(crate) const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");
const DENIED: &str = "denied: requested access to the resource is denied";
const UNKNOWN: &str = "manifest unknown: manifest unknown";
/// Manifests of before 2016, signed or not.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
/// What is asked for, best first.
const ACCEPTED: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::DOCKER_MANIFEST,
];

/// What a tag means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// What the registry calls it.
    pub media_type: String,
    /// Its length, if the registry told it.
    pub size_bytes: Option<u64>,
    /// Its bytes, if the registry did not tell the digest without them.
    pub fetched: Option<Fetched>,
}

/// A manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its digest, checked.
    pub digest: Digest,
    /// What it is, by itself or by the registry.
    pub media_type: String,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// The same, read.
    pub document: Document,
}

impl Repository {
    /// What the reference means: its digest, or what its tag (`latest` without one) stands for now.
    ///
    /// Asks with HEAD, which registries do not count as a pull. Errors: the registry's own words, see
    /// [`Repository::pull_error`].
    pub async fn resolve(&self) -> Result<Resolved, Error> {
        if let Some(digest) = self.reference.digest() {
            return Ok(Resolved {
                digest: digest.clone(),
                media_type: String::new(),
                size_bytes: None,
                fetched: None,
            });
        }
        let reference = self.reference.clone().with_default_tag();
        let tag = reference.tag().unwrap_or_default();
        let mut failures = 0;
        loop {
            match self.head_anywhere(tag).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => {
                    failures += 1;
                    // Who cannot be reached at all is not waited for: the user is told at once.
                    let again = !matches!(error, Error::Unreachable { .. });
                    if !(again && backoff::pause(&self.settings, failures, &error, &()).await) {
                        let step = format!(
                            "failed to resolve reference \"{reference}\": failed to do request"
                        );
                        return Err(error.within(&step));
                    }
                }
            }
        }
    }

    async fn head_anywhere(&self, tag: &str) -> Result<Resolved, Error> {
        let mut round = self.round(|session| session.endpoint.capabilities.resolve);
        while let Some(session) = round.next() {
            if let Some(answer) = round.heard(self.head(session, tag).await)? {
                return Ok(answer);
            }
        }
        Err(round.error())
    }

    async fn get_anywhere(&self, digest: &Digest) -> Result<Fetched, Error> {
        let mut round = self.round(|session| session.endpoint.capabilities.pull);
        while let Some(session) = round.next() {
            if let Some(answer) =
                round.heard(self.get(session, digest.as_str(), Some(digest)).await)?
            {
                return Ok(answer);
            }
        }
        Err(round.error())
    }

    async fn head(&self, session: &Session, tag: &str) -> Result<Resolved, Error> {
        let scope = self.scope(session);
        let url = session.endpoint.url(&format!("manifests/{tag}"))?;
        let ask = accepting(Ask::new(Method::HEAD, url, &scope));
        let response = session.send(&ask).await?;
        let digest = text(&response, &DIGEST_HEADER).and_then(|digest| digest.parse().ok());
        match (response.status(), digest) {
            (status, Some(digest)) if status.is_success() => Ok(Resolved {
                digest,
                media_type: content_type(&response),
                size_bytes: text(&response, &header::CONTENT_LENGTH).and_then(|n| n.parse().ok()),
                fetched: None,
            }),
            // It knows no HEAD, or does not tell the digest.
            (status, _) if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED => {
                let fetched = self.get(session, tag, None).await?;
                Ok(Resolved {
                    digest: fetched.digest.clone(),
                    media_type: fetched.media_type.clone(),
                    size_bytes: Some(fetched.bytes.len() as u64),
                    fetched: Some(fetched),
                })
            }
            _ => Err(named(refused(response, &ask.method, &ask.url).await)),
        }
    }

    /// The manifest or index of a digest; its bytes are checked.
    pub async fn manifest(&self, digest: &Digest) -> Result<Fetched, Error> {
        let mut failures = 0;
        loop {
            match self.get_anywhere(digest).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => {
                    failures += 1;
                    if !backoff::pause(&self.settings, failures, &error, &()).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn get(
        &self,
        session: &Session,
        name: &str,
        digest: Option<&Digest>,
    ) -> Result<Fetched, Error> {
        let scope = self.scope(session);
        let url = session.endpoint.url(&format!("manifests/{name}"))?;
        let ask = accepting(Ask::new(Method::GET, url, &scope));
        let response = session.expect(&ask).await.map_err(named)?;
        let told: Option<Digest> = text(&response, &DIGEST_HEADER).and_then(|d| d.parse().ok());
        let sent_as = content_type(&response);
        let bytes = read_limited(response, MAX_MANIFEST_BYTES, &ask.url).await?;
        let expected = digest.or(told.as_ref());
        let found = match expected {
            Some(expected) => {
                let mut hasher = Hasher::new(expected.algorithm());
                hasher.update(&bytes);
                hasher.finish()
            }
            None => Digest::of(&bytes),
        };
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(Error::Answer {
                message: format!(
                    "manifest verification failed for digest {expected}: the registry sent {found}"
                ),
                transient: false,
                after: None,
            });
        }
        if sent_as.starts_with(SCHEMA_1) {
            let name = self.reference.familiar();
            return Err(Error::Answer {
                message: format!(
                    "Docker Image manifest version 2, schema 1 is not supported. Suggest the author \
                     of {name} to upgrade the image to the OCI Format or Docker Image manifest v2, \
                     schema 2. More information at \
                     https://docs.docker.com/go/deprecated-image-specs/"
                ),
                transient: false,
                after: None,
            });
        }
        let document =
            Document::load(&bytes, Some(&sent_as)).map_err(|source| Error::Manifest {
                name: self.reference.familiar(),
                source,
            })?;
        let own = match &document {
            Document::Manifest(manifest) => manifest.media_type.clone(),
            Document::Index(index) => index.media_type.clone(),
        };
        Ok(Fetched {
            digest: found,
            media_type: own.unwrap_or(sent_as),
            bytes,
            document,
        })
    }

    /// A small blob, an image's config, whole and checked.
    pub async fn config(&self, blob: &Descriptor) -> Result<Bytes, Error> {
        if blob.size_bytes > MAX_CONFIG_BYTES as u64 {
            return Err(Error::Answer {
                message: format!(
                    "image configuration {} is longer than {MAX_CONFIG_BYTES} bytes",
                    blob.digest
                ),
                transient: false,
                after: None,
            });
        }
        let mut sink = Whole {
            bytes: Vec::with_capacity(blob.size_bytes as usize),
        };
        self.download(blob, &mut sink, &()).await?;
        let mut hasher = Hasher::new(blob.digest.algorithm());
        hasher.update(&sink.bytes);
        if hasher.finish() != blob.digest {
            return Err(Error::Answer {
                message: format!(
                    "image config verification failed for digest {}",
                    blob.digest
                ),
                transient: false,
                after: None,
            });
        }
        Ok(sink.bytes.into())
    }

    /// A refusal in the words of `docker pull`.
    #[must_use]
    pub fn pull_error(&self, error: Error) -> Error {
        let name = self.reference.familiar_name();
        match error {
            Error::Denied(text) => {
                let text = match text.as_str() {
                    "" => DENIED,
                    text => text,
                };
                Error::Denied(format!(
                    "pull access denied for {name}, repository does not exist or may require \
                     'docker login': {text}"
                ))
            }
            Error::NotFound(text) => {
                let image = self.reference.clone().with_default_tag().familiar();
                Error::NotFound(format!("manifest for {image} not found: {text}"))
            }
            other => other,
        }
    }
}

/// A 404 that does not say what is missing.
fn named(error: Error) -> Error {
    match error {
        Error::NotFound(text) if text.starts_with("unexpected status") => {
            Error::NotFound(UNKNOWN.to_owned())
        }
        other => other,
    }
}

struct Whole {
    bytes: Vec<u8>,
}

impl crate::download::BlobSink for Whole {
    fn position(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn write(&mut self, piece: Bytes) -> std::io::Result<()> {
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }
}

fn accepting(ask: Ask<'_>) -> Ask<'_> {
    ask.header(header::ACCEPT, &ACCEPTED.join(", "))
}

fn text<'a>(response: &'a Response, name: &HeaderName) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Without parameters.
fn content_type(response: &Response) -> String {
    let value = text(response, &header::CONTENT_TYPE).unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}
