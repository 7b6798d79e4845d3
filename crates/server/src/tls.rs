//! TLS of TCP listeners: the server's certificate, whose clients may come in, and their handshakes.
//! Knows nothing of HTTP but how a request in clear text begins.

mod handshake;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use handshake::Handshakes;

/// Bytes of a file of certificates or a key at most.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// Where the certificates of the engine are, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, those of its authorities behind it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients may come in; `None` lets in everybody.
    pub client_ca: Option<PathBuf>,
}

/// Why there can be no TLS; the sentences are those of dockerd.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate or its key cannot be read.
    #[error("could not load X509 key pair (cert: {cert:?}, key: {key:?})")]
    ReadPair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The certificate or its key is none, or they do not belong together.
    #[error(
        "error reading X509 key pair - make sure the key is not encrypted (cert: {cert:?}, key: {key:?}): {problem}"
    )]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The authorities cannot be read.
    #[error("could not read CA certificate {path:?}")]
    ReadAuthorities {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file holds no certificate of an authority.
    #[error("failed to append certificates from PEM file: {path:?}: {problem}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// TLS of all listeners of an engine; clones share the certificates and the bound of handshakes.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    handshakes: Arc<Handshakes>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let unreadable = |source| TlsError::ReadPair {
            cert: files.cert.clone(),
            key: files.key.clone(),
            source,
        };
        let unusable = |problem: String| TlsError::Pair {
            cert: files.cert.clone(),
            key: files.key.clone(),
            problem,
        };
        let chain = read(&files.cert).map_err(unreadable)?;
        let key = read(&files.key).map_err(unreadable)?;
        let chain = certificates(&chain).map_err(unusable)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| unusable(format!("no private key: {error}")))?;
        // TLS 1.2 and 1.3, as dockerd.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| TlsError::Authorities {
                        path: path.clone(),
                        problem: error.to_string(),
                    })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder
            .with_single_cert(chain, key)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            handshakes: Arc::default(),
        })
    }

    /// The handshake with a client; `None` when it came to nothing, which is the client's affair.
    pub(crate) async fn greet(&self, socket: TcpStream) -> Option<TlsStream<TcpStream>> {
        match self.handshakes.perform(&self.acceptor, socket).await {
            Ok(stream) => Some(stream),
            Err(reason) => {
                tracing::debug!(%reason, "a client did not finish its TLS handshake");
                None
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > MAX_PEM_BYTES {
        return Err(io::Error::other(format!("{length} bytes are too many")));
    }
    fs::read(path)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(list) if list.is_empty() => Err("no certificate in the file".to_owned()),
        Ok(list) => Ok(list),
        Err(error) => Err(error.to_string()),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let pem = read(path).map_err(|source| TlsError::ReadAuthorities {
        path: path.to_owned(),
        source,
    })?;
    let unusable = |problem: String| TlsError::Authorities {
        path: path.to_owned(),
        problem,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem).map_err(unusable)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
