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

use super::Record;
use crate::Error;
use crate::volume::{self, NewVolume, Volumes};
pub(super) use parse::check_target;

/// Everything a new container mounts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Resolved {
    /// By destination.
    pub(super) mounts: Vec<MountPoint>,
    /// Names of the volumes that are for it alone.
    pub(super) anonymous_volumes: Vec<String>,
    /// Volumes to make, by [`acquire_volumes`].
    pub(super) new_volumes: Vec<Planned>,
    /// By destination, of what volume only a part is mounted.
    pub(super) subpaths: Subpaths,
}

/// Parts of volumes, by the destinations they are mounted at.
pub(super) type Subpaths = BTreeMap<String, String>;

/// What `--volumes-from` takes over: mounts, and of which volumes only a part.
pub(super) type Donated = (Vec<MountPoint>, Subpaths);

/// A volume to make unless it is there, by name.
pub(super) type Planned = (String, NewVolume);

/// Resolves a request's mounts and makes nothing yet.
///
/// `donors` tells the mounts of another container. Errors: invalid parameter
/// in Docker's words, and whatever `donors` says.
pub(super) fn plan(
    volumes: &Volumes,
    config: &Config,
    host: &HostConfig,
    donors: &dyn Fn(&str) -> Result<Donated, Error>,
) -> Result<Resolved, Error> {
    let mut resolved = Resolved::default();
    let (points, subpaths) = points(volumes, config, host, donors)?;
    resolved.subpaths = subpaths;
    for (mut point, new_volume) in points {
        if let Some(new_volume) = new_volume {
            point.source = path_text(&volumes.data_dir(&point.name));
            if new_volume.is_anonymous {
                resolved.anonymous_volumes.push(point.name.clone());
            }
            resolved.new_volumes.push((point.name.clone(), new_volume));
        }
        resolved.mounts.push(point);
    }
    Ok(resolved)
}

/// Takes the volumes of a new container, `id`, and makes those that are missing.
///
/// On an error it has none, and no anonymous volume is left. Blocks.
pub(super) fn acquire_volumes(
    volumes: &Volumes,
    id: &str,
    mounts: &[MountPoint],
    new_volumes: &[Planned],
) -> Result<(), Error> {
    let names = || mounts.iter().filter(|point| point.kind == "volume");
    let existing = NewVolume::default();
    let acquire = |point: &MountPoint| {
        let planned = new_volumes.iter().find(|(name, _)| *name == point.name);
        let new = planned.map_or(&existing, |(_, new)| new);
        volumes.acquire(id, &point.name, new)
    };
    names().try_for_each(acquire).inspect_err(|_| {
        let anonymous = new_volumes.iter().filter(|(_, new)| new.is_anonymous);
        let anonymous: Vec<String> = anonymous.map(|(name, _)| name.clone()).collect();
        volume::delete(&volumes.take_out_anonymous(id, &anonymous));
        volumes.release(id, names().map(|point| point.name.as_str()));
    })
}

/// Checks a mount in its long form by itself; a bind's source must be there.
pub(super) fn check(spec: &Mount) -> Result<(), Error> {
    parse::mount(spec, true).map(drop)
}

impl Record {
    /// The part of a volume that is mounted at a destination, if it is not all of it.
    pub(super) fn subpath(&self, destination: &str) -> Option<&str> {
        self.subpaths.get(destination).map(String::as_str)
    }
}

/// Refuses unknown volume drivers; not found would have clients pull the image.
fn check_driver(name: &str) -> Result<(), Error> {
    volume::check_driver(name).map_err(|error| Error::invalid(error.to_string()))
}

type Points = Vec<(MountPoint, Option<NewVolume>)>;

fn points(
    volumes: &Volumes,
    config: &Config,
    host: &HostConfig,
    donors: &dyn Fn(&str) -> Result<Donated, Error>,
) -> Result<(Points, Subpaths), Error> {
    let mut points: BTreeMap<String, (MountPoint, Option<NewVolume>)> = BTreeMap::new();
    let mut subpaths = Subpaths::new();
    for text in host.volumes_from.iter().flatten() {
        let (donor, is_writable) = parse::volumes_from(text)?;
        // Not found would have clients pull the image.
        let (mounts, parts) = donors(donor).map_err(|error| Error::invalid(error.to_string()))?;
        for mut point in mounts {
            point.rw &= is_writable;
            point.mode.clear();
            subpaths.remove(&point.destination);
            points.insert(point.destination.clone(), (point, None));
        }
        subpaths.extend(parts);
    }
    let tmpfs: BTreeSet<String> = host.tmpfs.keys().map(|path| clean(path)).collect();
    let mut own = BTreeSet::new();
    // `--volume-driver` is for volumes without a driver of their own, if there are any.
    let driver_of = |wanted: (MountPoint, Option<NewVolume>)| match &wanted.1 {
        Some(_) => check_driver(&host.volume_driver).map(|()| wanted),
        None => Ok(wanted),
    };
    let binds = host
        .binds
        .iter()
        .flatten()
        .map(|text| parse::bind(text).and_then(driver_of));
    let mounts = host.mounts.iter().map(|mount| parse::mount(mount, true));
    for wanted in binds.chain(mounts) {
        let (point, new_volume) = wanted?;
        let destination = point.destination.clone();
        if tmpfs.contains(&destination) || !own.insert(destination.clone()) {
            return Err(Error::invalid(format!(
                "Duplicate mount point: {destination}"
            )));
        }
        subpaths.remove(&destination);
        points.insert(destination, (point, new_volume));
    }
    for mount in &host.mounts {
        let options = mount.volume_options.as_ref();
        if let Some(options) = options.filter(|options| !options.subpath.is_empty()) {
            subpaths.insert(clean(&mount.target), options.subpath.clone());
        }
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
        let (mut point, new_volume) = parse::mount(&spec, false).and_then(driver_of)?;
        point.mode.clear();
        points.insert(destination, (point, new_volume));
    }
    let mut planned: Points = points.into_values().collect();
    for (point, new_volume) in &mut planned {
        if point.kind == "volume" && new_volume.is_none() && point.source.is_empty() {
            point.source = path_text(&volumes.data_dir(&point.name));
        }
    }
    Ok((planned, subpaths))
}

/// Makes sources of binds that went missing since `create`, as directories,
/// which is how Docker treats a bind mount of nothing. Blocks.
pub(super) fn prepare(mounts: &[MountPoint]) -> Result<(), Error> {
    for mount in mounts.iter().filter(|mount| mount.kind == "bind") {
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
