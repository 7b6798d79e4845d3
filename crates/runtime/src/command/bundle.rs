//! A bundle: the directory with a container's configuration.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use conex_spec::runtime::{MAX_CONFIG_BYTES, Spec};

use super::{Error, Given};

/// Makes the bundle that `--bundle` names the working directory, from which
/// relative paths of its configuration count.
///
/// Returns its absolute path, the configuration and its bytes.
pub(super) fn enter(given: &Given) -> Result<(PathBuf, Spec, Vec<u8>), Error> {
    let bundle = given.path("bundle")?.unwrap_or_else(|| ".".into());
    std::env::set_current_dir(&bundle).map_err(|e| Error::io("enter bundle", &bundle, e))?;
    let bundle = std::env::current_dir().map_err(|e| Error::io("find bundle", &bundle, e))?;
    let (spec, bytes) = load(&bundle.join("config.json"))?;
    Ok((bundle, spec, bytes))
}

/// Reads and checks a configuration.
pub(super) fn load(path: &Path) -> Result<(Spec, Vec<u8>), Error> {
    // One byte more, by which the reader of the JSON knows that it is too long.
    let bytes = read(path, MAX_CONFIG_BYTES as u64 + 1)?;
    let spec = Spec::load(&bytes).map_err(|source| Error::Spec {
        path: path.to_owned(),
        source,
    })?;
    Ok((spec, bytes))
}

/// Reads a file up to a limit.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|e| Error::io("open", path, e))?;
    Ok(bytes)
}
