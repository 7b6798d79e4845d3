//! TLS to an engine: whom to believe, who we are, and Docker's sentences for what goes wrong.
//!
//! It is given certificates as bytes; where they lie is its caller's affair.

pub(crate) mod blocking;

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage,
    RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long an engine may take for a handshake.
const PATIENCE: Duration = Duration::from_secs(30);

/// Certificates and a key in PEM, and whether the engine has to prove itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsMaterial {
    /// The authorities believed; without them the machine's own.
    pub ca: Option<Vec<u8>>,
    /// Our certificate, those of its authorities behind it; shown only with a key.
    pub cert: Option<Vec<u8>>,
    /// Its private key.
    pub key: Option<Vec<u8>>,
    /// Whether whoever answers is believed.
    pub skip_verify: bool,
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("skip_verify", &self.skip_verify)
            .finish_non_exhaustive()
    }
}

/// Why certificates cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The authorities are none.
    #[error("failed to retrieve context tls info: ca.pem seems invalid")]
    Authorities,
    /// There is no key among the bytes of the key.
    #[error("no valid private key found")]
    NoKey,
    /// The key has a password.
    #[error(
        "private key is encrypted - support for encrypted private keys has been removed, see https://docs.docker.com/go/deprecated/"
    )]
    EncryptedKey,
    /// Certificate and key cannot be used together.
    #[error("failed to retrieve context tls info: {0}")]
    Pair(String),
}

/// TLS as it is spoken to one engine; clones share it.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for Tls {}

impl Tls {
    /// Takes certificates as they are given. TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// What of them cannot be used.
    pub fn new(material: &TlsMaterial) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pair = |error: rustls::Error| TlsError::Pair(error.to_string());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let builder = if material.skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone { provider }))
        } else {
            builder.with_root_certificates(roots(material.ca.as_deref())?)
        };
        let config = match (&material.cert, &material.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert).map_err(TlsError::Pair)?;
                builder
                    .with_client_auth_cert(chain, secret(key)?)
                    .map_err(pair)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// The handshake with the engine at `authority` (`host:port`).
    pub(crate) async fn connect(
        &self,
        socket: TcpStream,
        authority: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let shaken = TlsConnector::from(Arc::clone(&self.config)).connect(name, socket);
        tokio::time::timeout(PATIENCE, shaken)
            .await
            .unwrap_or_else(|_| Err(io::Error::other("net/http: TLS handshake timeout")))
    }
}

/// The authorities given, or the machine's.
fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in certificates(pem).map_err(|_| TlsError::Authorities)? {
                roots.add(certificate).map_err(|_| TlsError::Authorities)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(list) if list.is_empty() => Err("no certificate in the file".to_owned()),
        Ok(list) => Ok(list),
        Err(error) => Err(error.to_string()),
    }
}

fn secret(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let is_encrypted = pem.windows(9).any(|word| word == b"ENCRYPTED");
        if is_encrypted {
            TlsError::EncryptedKey
        } else {
            TlsError::NoKey
        }
    })
}

/// The TLS error somewhere below an error of a connection.
pub(crate) fn within<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An I/O error does not name what it carries as its source.
        if let Some(found) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|inner| within(inner))
        {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What went wrong, in the words of Go's TLS and Docker's client.
pub(crate) fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        rustls::Error::InvalidCertificate(problem) => {
            let what = match problem {
                CertificateError::UnknownIssuer => {
                    "certificate signed by unknown authority".to_owned()
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    "certificate has expired or is not yet valid".to_owned()
                }
                CertificateError::NotValidForNameContext {
                    expected,
                    presented,
                } => {
                    let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
                    let names = names.join(", ");
                    format!(
                        "certificate is valid for {names}, not {}",
                        expected.to_str()
                    )
                }
                other => other.to_string(),
            };
            format!("tls: failed to verify certificate: x509: {what}")
        }
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        other => format!("tls: {other}"),
    }
}

/// `IpAddress(127.0.0.1)` and `DnsName("x")` without what they are.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

/// An alert by its name in Go, with Docker's hint where it is about our certificate.
fn of_alert(alert: AlertDescription) -> String {
    let name = match alert {
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        other => return format!("remote error: tls: alert {other:?}"),
    };
    match alert {
        AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => {
            format!("remote error: tls: {name}")
        }
        _ => format!(
            "the server probably has client authentication (--tlsverify) enabled; check your TLS client certification settings: remote error: tls: {name}"
        ),
    }
}

/// Believes every certificate; signatures are still checked, so that the peer has its key.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_used_is_said_as_docker_says_it() {
        let with = |ca: Option<&str>, cert: Option<&str>, key: Option<&str>| {
            let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
            let material = TlsMaterial {
                ca: bytes(ca),
                cert: bytes(cert),
                key: bytes(key),
                skip_verify: false,
            };
            Tls::new(&material).map(|_| ()).unwrap_err()
        };
        assert_eq!(with(Some("x"), None, None), TlsError::Authorities);
        let pem = rcgen::generate_simple_self_signed(vec!["x".into()])
            .unwrap()
            .cert
            .pem();
        assert_eq!(with(None, Some(&pem), Some("x")), TlsError::NoKey);
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(
            with(None, Some(&pem), Some(encrypted)),
            TlsError::EncryptedKey
        );
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert!(matches!(
            with(None, Some(&pem), Some(&other)),
            TlsError::Pair(_)
        ));
    }

    #[test]
    fn a_tls_error_is_found_however_deep_it_lies() {
        let error = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let error = io::Error::other(io::Error::other(error));
        let found = within(&error).unwrap();
        assert!(reason(found).ends_with("remote error: tls: certificate required"));
        assert_eq!(within(&io::Error::other("x")), None);
    }
}
