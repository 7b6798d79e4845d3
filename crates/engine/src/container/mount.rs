//! What is mounted into a container besides its root: `-v`, `--mount`,
//! `--volumes-from` and the image's volumes, resolved into one list with one
//! entry a destination. It must not know mount flags, nor how a volume is made.
//!
//! ```text
//! volumes-from  <  binds and mounts (each destination once)  <  tmpfs
//!                  image volumes where nothing else is
//! ```
//!
//! Source of the rules and texts: moby `daemon/volumes.go`,
//! `daemon/volume/mounts/linux_parser.go`.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use conex_api::container::{Config, HostConfig, Mount, MountPoint};

use super::volume::{self, NewVolume};
use crate::Error;
pub(super) use parse::check_target;

/// Everything a new container mounts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Resolved {
    /// By destination.
    pub(super) mounts: Vec<MountPoint>,
    /// Names of the volumes made for it alone.
    pub(super) anonymous_volumes: Vec<String>,
}

/// Resolves a request's mounts and makes the volumes that are missing.
///
/// `id` is the new container's, `donors` tells the mounts of another one.
/// Errors: invalid parameter in Docker's words, and whatever `donors` says.
/// On an error no anonymous volume is left. Blocks.
pub(super) fn resolve(
    volumes_root: &Path,
    id: &str,
    config: &Config,
    host: &HostConfig,
    donors: &dyn Fn(&str) -> Result<Vec<MountPoint>, Error>,
) -> Result<Resolved, Error> {
    let planned = plan(volumes_root, config, host, donors)?;
    let mut resolved = Resolved::default();
    for (mut point, new_volume) in planned {
        if let Some(new_volume) = new_volume {
            let owner = new_volume.is_anonymous.then_some(id);
            if let Err(error) = volume::create(volumes_root, &point.name, owner, new_volume.labels)
            {
                // Nobody knows of them yet; what stays is found by a check.
                let _left = volume::remove_anonymous(volumes_root, &resolved.anonymous_volumes);
                return Err(error);
            }
            if new_volume.is_anonymous {
                resolved.anonymous_volumes.push(point.name.clone());
            }
            point.source = path_text(&volume::data_dir(volumes_root, &point.name));
        }
        resolved.mounts.push(point);
    }
    Ok(resolved)
}

/// Checks a mount in its long form by itself; a bind's source must be there.
pub(super) fn check(spec: &Mount) -> Result<(), Error> {
    parse::mount(spec, true).map(drop)
}

type Planned = Vec<(MountPoint, Option<NewVolume>)>;

fn plan(
    volumes_root: &Path,
    config: &Config,
    host: &HostConfig,
    donors: &dyn Fn(&str) -> Result<Vec<MountPoint>, Error>,
) -> Result<Planned, Error> {
    let mut points: BTreeMap<String, (MountPoint, Option<NewVolume>)> = BTreeMap::new();
    for text in host.volumes_from.iter().flatten() {
        let (donor, is_writable) = parse::volumes_from(text)?;
        for mut point in donors(donor)? {
            point.rw &= is_writable;
            point.mode.clear();
            points.insert(point.destination.clone(), (point, None));
        }
    }
    let tmpfs: BTreeSet<String> = host.tmpfs.keys().map(|path| clean(path)).collect();
    let mut own = BTreeSet::new();
    let binds = host.binds.iter().flatten().map(|text| parse::bind(text));
    let mounts = host.mounts.iter().map(|mount| parse::mount(mount, true));
    for wanted in binds.chain(mounts) {
        let (point, new_volume) = wanted?;
        let destination = point.destination.clone();
        if tmpfs.contains(&destination) || !own.insert(destination.clone()) {
            return Err(Error::invalid(format!(
                "Duplicate mount point: {destination}"
            )));
        }
        points.insert(destination, (point, new_volume));
    }
    for path in config.volumes.iter().flat_map(|volumes| volumes.keys()) {
        let destination = clean(path);
        if points.contains_key(&destination) || tmpfs.contains(&destination) {
            continue;
        }
        let spec = Mount {
            kind: "volume".into(),
            target: destination.clone(),
            ..Mount::default()
        };
        let (mut point, new_volume) = parse::mount(&spec, false)?;
        point.mode.clear();
        points.insert(destination, (point, new_volume));
    }
    let mut planned: Planned = points.into_values().collect();
    for (point, new_volume) in &mut planned {
        if point.kind == "volume" && new_volume.is_none() && point.source.is_empty() {
            point.source = path_text(&volume::data_dir(volumes_root, &point.name));
        }
    }
    Ok(planned)
}

/// Makes sources that went missing since `create`, as directories, which is
/// how Docker treats a bind mount of nothing. Blocks.
pub(super) fn prepare(mounts: &[MountPoint]) -> Result<(), Error> {
    for mount in mounts
        .iter()
        .filter(|mount| matches!(mount.kind.as_str(), "bind" | "volume"))
    {
        let source = Path::new(&mount.source);
        make_dirs(source).map_err(|error| {
            let source = source.display();
            Error::system(
                &format!("error while creating mount source path '{source}'"),
                &error,
            )
        })?;
    }
    Ok(())
}

/// A directory and those above it, each 0755 whatever the umask; what is there
/// stays as it is.
pub(super) fn make_dirs(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found.map(drop),
    }
    if let Some(parent) = path.parent() {
        make_dirs(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
        // Somebody else made it; a link to nothing stays an error.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::metadata(path).map(drop).map_err(|_| error)
        }
        Err(error) => Err(error),
    }
}

/// A path as the API writes it.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Lexically absolute, without `.`, `..` and doubled slashes (Go's `path.Clean`
/// of `/` and the path).
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests;
