//! HTTP clients: one for each way of trusting a host. Reads the files of certificates and nothing else.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use reqwest::{Client, NoProxy, Proxy, redirect};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::certificates::Trust;
use crate::error::Error;
use crate::settings::{Proxies, Settings};

/// Hosts a proxy is never asked for, as Go has it.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1";

/// A client that trusts as said. Redirects are the caller's: they decide who sees the credentials. Blocks shortly.
///
/// Errors: a file of certificates or a proxy cannot be used.
pub(crate) fn client(settings: &Settings, trust: &Trust) -> Result<Client, Error> {
    let tls = tls(trust)?;
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .user_agent(&settings.user_agent)
        .connect_timeout(settings.connect_timeout)
        .no_proxy();
    for proxy in proxies(&settings.proxies.or_environment())? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| Error::Configuration {
        path: "HTTP client".into(),
        problem: error.to_string(),
    })
}

fn proxies(proxies: &Proxies) -> Result<Vec<Proxy>, Error> {
    let none_for = match &proxies.none_for {
        Some(list) => format!("{list},{NEVER_PROXIED}"),
        None => NEVER_PROXIED.to_owned(),
    };
    let mut made = Vec::new();
    for (url, make) in [
        (&proxies.http, Proxy::http as fn(String) -> _),
        (&proxies.https, Proxy::https),
    ] {
        let Some(url) = url else { continue };
        let proxy = make(url.clone()).map_err(|error| Error::Configuration {
            path: "proxies".into(),
            problem: format!("a proxy's URL cannot be used: {error}"),
        })?;
        made.push(proxy.no_proxy(NoProxy::from_string(&none_for)));
    }
    Ok(made)
}

fn tls(trust: &Trust) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Configuration {
            path: "TLS".into(),
            problem: error.to_string(),
        })?;
    let builder = if trust.any_certificate {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone { provider }))
    } else {
        builder.with_root_certificates(roots(trust)?)
    };
    let Some((certificate, key)) = &trust.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, &e))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|e| unusable(certificate, &e))
}

/// The machine's authorities, read once, and those of this host.
fn roots(trust: &Trust) -> Result<RootCertStore, Error> {
    static MACHINE: OnceLock<RootCertStore> = OnceLock::new();
    let mut roots = MACHINE
        .get_or_init(|| {
            let mut store = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a certificate authority of this machine cannot be read");
            }
            store.add_parsable_certificates(found.certs);
            store
        })
        .clone();
    for file in &trust.authorities {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|e| unusable(file, &e))?;
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| unusable(file, &e))
}

fn unusable(file: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Configuration {
        path: file.to_owned(),
        problem: error.to_string(),
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
