//! TLS of the engine in use: what the options, the environment or a context say, read from where it lies.
//!
//! The rules are Docker's: `--tlsverify`, whatever its value, means TLS; certificates that nobody named are
//! looked for in `DOCKER_CERT_PATH`, else beside the settings; a context has TLS if it has certificates or
//! believes everybody.
//!
//! Source: docker/cli `cli/flags/options.go`, `cli/context/docker/load.go`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use conex_client::{Host, Tls, TlsMaterial};

use super::variable;
use crate::context::Globals;
use crate::contexts::{Contexts, DOCKER, PEMS, Stored, read_pem};
use crate::error::CliError;

/// Whether the options or the environment ask for TLS. Opens no file.
pub(super) fn is_asked(globals: &Globals) -> bool {
    globals.tls
        || globals.tls_verify.is_some()
        || variable("DOCKER_TLS").is_some()
        || variable("DOCKER_TLS_VERIFY").is_some()
}

/// The certificates the options and the environment name.
///
/// # Errors
/// For a file that cannot be read: of those that nobody named, only the authorities have to be there, and
/// only if the engine is to be verified.
pub(super) fn of_options(globals: &Globals) -> Result<Option<TlsMaterial>, CliError> {
    if !is_asked(globals) {
        return Ok(None);
    }
    let verify = globals
        .tls_verify
        .unwrap_or_else(|| variable("DOCKER_TLS_VERIFY").is_some());
    let directory =
        variable("DOCKER_CERT_PATH").map_or_else(|| globals.config_dir.clone(), PathBuf::from);
    let read = |given: Option<&PathBuf>, name: &str, is_needed: bool| {
        let path = match given {
            Some(path) => unquoted(path).to_owned(),
            None => directory.join(name),
        };
        if given.is_none() && !is_needed && !path.exists() {
            return Ok(None);
        }
        read_pem(&path).map(Some).map_err(|error| {
            let text = CliError::open(&path, error).text().unwrap_or_default();
            CliError::message(format!("unable to resolve docker endpoint: {text}"))
        })
    };
    Ok(Some(TlsMaterial {
        ca: read(globals.tls_ca_cert.as_ref(), "ca.pem", verify)?,
        cert: read(globals.tls_cert.as_ref(), "cert.pem", false)?,
        key: read(globals.tls_key.as_ref(), "key.pem", false)?,
        skip_verify: !verify,
    }))
}

/// The certificates of a context.
///
/// # Errors
/// For a file that cannot be read.
pub(super) fn of_context(
    contexts: &Contexts,
    stored: &Stored,
) -> Result<Option<TlsMaterial>, CliError> {
    let skip_verify = stored
        .endpoints
        .docker
        .as_ref()
        .is_some_and(|endpoint| endpoint.skip_tls_verify);
    let files = contexts.certificates(&stored.name)?.remove(DOCKER);
    let is_asked = skip_verify || files.is_some();
    Ok(is_asked.then(|| material(files.unwrap_or_default(), skip_verify)))
}

/// Certificates by the names of their files.
pub(crate) fn material(mut files: BTreeMap<String, Vec<u8>>, skip_verify: bool) -> TlsMaterial {
    let [ca, cert, key] = PEMS.map(|(_, file)| files.remove(file));
    TlsMaterial {
        ca,
        cert,
        key,
        skip_verify,
    }
}

/// The host under TLS, where it is one that can be.
///
/// # Errors
/// For certificates that cannot be used.
pub(crate) fn apply(host: Host, material: Option<&TlsMaterial>) -> Result<Host, CliError> {
    match (&host, material) {
        (Host::Tcp(_), Some(material)) => {
            let tls = Tls::new(material).map_err(|error| {
                CliError::message(format!("unable to resolve docker endpoint: {error}"))
            })?;
            Ok(host.with_tls(&tls))
        }
        _ => Ok(host),
    }
}

/// A path without the quotes some shells leave around it.
fn unquoted(path: &Path) -> &Path {
    let text = path.as_os_str().as_encoded_bytes();
    match text {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => {
            std::str::from_utf8(inner).map_or(path, |inner| Path::new(OsStr::new(inner)))
        }
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_authorities_that_are_needed_have_to_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let globals = |tls_verify: Option<bool>| Globals {
            config_dir: dir.path().to_owned(),
            tls_verify,
            ..Globals::default()
        };
        assert_eq!(
            of_options(&globals(Some(false))).unwrap(),
            Some(TlsMaterial {
                skip_verify: true,
                ..TlsMaterial::default()
            })
        );
        let missing = of_options(&globals(Some(true))).unwrap_err();
        assert_eq!(
            missing.text().unwrap(),
            format!(
                "unable to resolve docker endpoint: open {}/ca.pem: no such file or directory",
                dir.path().display()
            )
        );
        std::fs::write(dir.path().join("ca.pem"), "c").unwrap();
        let found = of_options(&globals(Some(true))).unwrap().unwrap();
        assert_eq!((found.ca.as_deref(), found.cert), (Some(&b"c"[..]), None));
        let named = Globals {
            tls_cert: Some("/nosuch".into()),
            ..globals(Some(true))
        };
        assert!(of_options(&named).is_err());
    }

    #[test]
    fn quotes_around_a_path_are_not_of_it() {
        for (given, path) in [("'a b'", "a b"), ("\"a\"", "a"), ("'a", "'a"), ("'", "'")] {
            assert_eq!(unquoted(Path::new(given)), Path::new(path));
        }
    }

    #[test]
    fn sockets_need_no_tls() {
        let broken = TlsMaterial {
            ca: Some(b"x".to_vec()),
            ..TlsMaterial::default()
        };
        let unix = Host::parse("unix:///x").unwrap();
        assert_eq!(apply(unix.clone(), Some(&broken)).unwrap(), unix);
        let tcp = Host::parse("tcp://x:1").unwrap();
        assert_eq!(
            apply(tcp, Some(&broken)).unwrap_err().text().unwrap(),
            "unable to resolve docker endpoint: failed to retrieve context tls info: ca.pem seems invalid"
        );
    }
}
