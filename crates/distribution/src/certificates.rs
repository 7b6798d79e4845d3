//! Folders of certificates, as Docker lays them out. Blocks.
//!
//! ```text
//! certs.d/<host[:port]>/
//!   *.crt              authorities for this registry, beside the machine's
//!   <name>.cert        a client's certificate, its key is
//!   <name>.key
//!   hosts.toml         containerd's layout; see the file beside this one
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// How one host is trusted, and what it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// Files of authorities.
    pub(crate) authorities: Vec<PathBuf>,
    /// Files of a client's certificate and its key, which may be the same file.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    /// Whoever answers is believed.
    pub(crate) any_certificate: bool,
}

/// The folder of a registry: the first of these directories that has one.
pub(crate) fn folder(dirs: &[PathBuf], registry: &str) -> Option<PathBuf> {
    // Names come from references, which have no slashes in their domain.
    let names = [registry.to_owned(), registry.replace(':', "_") + "_"];
    dirs.iter()
        .flat_map(|dir| names.iter().map(move |name| dir.join(name)))
        .find(|path| path.is_dir())
}

/// Reads Docker's layout.
///
/// Errors: a `.cert` without its `.key`, or the other way round, in Docker's words.
pub(crate) fn read(folder: &Path) -> Result<Trust, Error> {
    let failed = |path: &Path, problem: String| Error::Configuration {
        path: path.to_owned(),
        problem,
    };
    let entries = fs::read_dir(folder).map_err(|e| failed(folder, e.to_string()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    let mut trust = Trust::default();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match file.extension().and_then(|e| e.to_str()) {
            Some("crt") => trust.authorities.push(file.clone()),
            Some("cert") => {
                let key = file.with_extension("key");
                if !files.contains(&key) {
                    let stem = key.file_name().unwrap_or_default().to_string_lossy();
                    return Err(failed(
                        folder,
                        format!("missing key {stem} for client certificate {name}"),
                    ));
                }
                trust.client.get_or_insert((file.clone(), key));
            }
            Some("key") if !files.contains(&file.with_extension("cert")) => {
                let certificate = file.with_extension("cert");
                let stem = certificate
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy();
                return Err(failed(
                    folder,
                    format!("missing client certificate {stem} for key {name}"),
                ));
            }
            _ => {}
        }
    }
    Ok(trust)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dockers_layout_is_read_from_the_first_directory_that_has_the_registry() {
        let root = tempfile::tempdir().unwrap();
        let dirs = [root.path().join("conex"), root.path().join("docker")];
        let place = dirs[1].join("r.lan:5000");
        fs::create_dir_all(&place).unwrap();
        for name in ["ca.crt", "b.crt", "client.cert", "client.key", "note.txt"] {
            fs::write(place.join(name), "").unwrap();
        }
        let found = folder(&dirs, "r.lan:5000").unwrap();
        assert_eq!(found, place);
        let trust = read(&found).unwrap();
        assert_eq!(
            trust.authorities,
            [place.join("b.crt"), place.join("ca.crt")]
        );
        assert_eq!(
            trust.client,
            Some((place.join("client.cert"), place.join("client.key")))
        );
        assert_eq!(folder(&dirs, "r.lan"), None);
        fs::create_dir_all(dirs[0].join("r.lan_5000_")).unwrap();
        assert_eq!(
            folder(&dirs, "r.lan:5000"),
            Some(dirs[0].join("r.lan_5000_"))
        );
    }

    #[test]
    fn half_a_client_certificate_is_an_error() {
        for (file, text) in [
            ("x.cert", "missing key x.key for client certificate x.cert"),
            ("x.key", "missing client certificate x.cert for key x.key"),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join(file), "").unwrap();
            let error = read(root.path()).unwrap_err().to_string();
            assert!(error.ends_with(text), "{error}");
        }
    }
}
