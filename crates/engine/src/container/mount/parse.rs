//! One mount as a user writes it, checked: `-v`, `--mount`, `--volumes-from`.
//! It must not know other mounts of the container.

use std::fs;
use std::io;

use conex_api::container::{BindOptions, Mount, MountPoint, VolumeOptions};

use super::{check_driver, clean};
use crate::volume::{self, NewVolume};
use crate::{Error, id};

/// A mount and, where a volume is to be there, what makes it.
type Wanted = (MountPoint, Option<NewVolume>);

/// Reads `container[:mode]`: whose mounts, and whether they stay writable.
pub(super) fn volumes_from(text: &str) -> Result<(&str, bool), Error> {
    if text.is_empty() {
        return Err(Error::invalid(
            "volumes-from specification cannot be an empty string",
        ));
    }
    let Some((donor, mode)) = text.split_once(':') else {
        return Ok((text, true));
    };
    let words = Mode::parse(mode).filter(|words| words.propagation.is_none() && !words.no_copy);
    let words = words.ok_or_else(|| invalid_mode(mode))?;
    Ok((donor, !words.is_read_only))
}

/// Reads `[source:]destination[:mode]`.
pub(super) fn bind(text: &str) -> Result<Wanted, Error> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (source, target, mode) = match parts[..] {
        ["", ..] => return Err(invalid()),
        [target] => ("", target, ""),
        // A destination with a mode would be an anonymous volume with one.
        [_, mode] if Mode::parse(mode).is_some() => return Err(invalid()),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(invalid()),
    };
    let words = Mode::parse(mode).ok_or_else(|| invalid_mode(mode))?;
    let is_bind = source.starts_with('/');
    let spec = Mount {
        kind: if is_bind { "bind" } else { "volume" }.into(),
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: words.is_read_only,
        volume_options: words.no_copy.then(|| VolumeOptions {
            no_copy: true,
            ..VolumeOptions::default()
        }),
        bind_options: words.propagation.map(|word| BindOptions {
            propagation: word.to_owned(),
            ..BindOptions::default()
        }),
        ..Mount::default()
    };
    let (mut point, new_volume) = self::mount(&spec, false)
        .map_err(|error| Error::new(error.kind(), format!("{}: {error}", invalid())))?;
    if is_bind || !mode.is_empty() {
        mode.clone_into(&mut point.mode);
    }
    Ok((point, new_volume))
}

fn invalid_mode(mode: &str) -> Error {
    Error::invalid(format!("invalid mode: {mode}"))
}

/// The words after the second colon.
#[derive(Debug, Default)]
struct Mode<'a> {
    is_read_only: bool,
    no_copy: bool,
    propagation: Option<&'a str>,
}

impl<'a> Mode<'a> {
    /// Nothing for an unknown word and for two words of one class.
    fn parse(text: &'a str) -> Option<Mode<'a>> {
        let mut words = Mode::default();
        let mut classes = [false; 5];
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let class = match word {
                "rw" | "ro" => {
                    words.is_read_only = word == "ro";
                    0
                }
                // Labels mean something where SELinux is on, and on Linux
                // consistency means nothing at all.
                "z" | "Z" => 1,
                "consistent" | "cached" | "delegated" => 2,
                "nocopy" => {
                    words.no_copy = true;
                    3
                }
                _ if is_propagation(word) => {
                    words.propagation = Some(word);
                    4
                }
                _ => return None,
            };
            if std::mem::replace(&mut classes[class], true) {
                return None;
            }
        }
        Some(words)
    }
}

fn is_propagation(word: &str) -> bool {
    matches!(
        word.strip_prefix('r').unwrap_or(word),
        "private" | "slave" | "shared"
    )
}

/// Checks a mount in its long form; a bind's source must be there if
/// `needs_source`.
pub(super) fn mount(spec: &Mount, needs_source: bool) -> Result<Wanted, Error> {
    let wanted = match spec.kind.as_str() {
        "image" => Err(Fault::Missing("mounts of images are not available yet")),
        kind => destination(spec).and_then(|destination| {
            let point = MountPoint {
                kind: kind.to_owned(),
                destination,
                rw: !spec.read_only,
                ..MountPoint::default()
            };
            match kind {
                "bind" => bind_of(spec, point, needs_source),
                "volume" => volume_of(spec, point),
                "tmpfs" => tmpfs_of(spec, point),
                _ => Err(Fault::says("mount type unknown")),
            }
        }),
    };
    wanted.map_err(|fault| match fault {
        Fault::Invalid(problem) => Error::invalid(format!(
            "invalid mount config for type {:?}: {problem}",
            spec.kind
        )),
        Fault::Missing(what) => Error::not_implemented(what),
        Fault::Other(error) => error,
    })
}

/// What is wrong with a mount.
enum Fault {
    Invalid(String),
    Missing(&'static str),
    Other(Error),
}

impl Fault {
    fn says(problem: impl Into<String>) -> Fault {
        Fault::Invalid(problem.into())
    }

    fn is_extra(field: &str) -> Fault {
        Fault::says(format!("field {field} must not be specified"))
    }

    fn is_empty(field: &str) -> Fault {
        Fault::says(format!("field {field} must not be empty"))
    }
}

fn destination(spec: &Mount) -> Result<String, Fault> {
    if spec.target.is_empty() {
        return Err(Fault::is_empty("Target"));
    }
    check_target(&spec.target).map_err(Fault::Invalid)?;
    Ok(clean(&spec.target))
}

/// Whether something can be mounted at a path; the error is the problem.
pub(in crate::container) fn check_target(target: &str) -> Result<(), String> {
    if target.starts_with('/') && clean(target) == "/" || target == "." {
        return Err("invalid specification: destination can't be '/'".into());
    }
    check_absolute(target)
}

fn check_absolute(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        ));
    }
    Ok(())
}

fn bind_of(spec: &Mount, mut point: MountPoint, needs_source: bool) -> Result<Wanted, Fault> {
    if spec.source.is_empty() {
        return Err(Fault::is_empty("Source"));
    }
    let options = spec.bind_options.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !is_propagation(&options.propagation) {
        return Err(Fault::says(format!(
            "invalid propagation mode: {}",
            options.propagation
        )));
    }
    if options.read_only_non_recursive && options.read_only_force_recursive {
        return Err(Fault::says(
            "ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other",
        ));
    }
    for (is_given, field) in [
        (spec.volume_options.is_some(), "VolumeOptions"),
        (spec.tmpfs_options.is_some(), "TmpfsOptions"),
        (spec.image_options.is_some(), "ImageOptions"),
    ] {
        if is_given {
            return Err(Fault::is_extra(field));
        }
    }
    check_absolute(&spec.source).map_err(Fault::Invalid)?;
    if needs_source && !options.create_mountpoint {
        match fs::metadata(&spec.source) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let source = &spec.source;
                return Err(Fault::says(format!(
                    "bind source path does not exist: {source}"
                )));
            }
            Err(error) => return Err(Fault::says(format!("stat {}: {error}", spec.source))),
        }
    }
    point.source = clean(&spec.source);
    point.propagation = match options.propagation {
        word if word.is_empty() => "rprivate".into(),
        word => word,
    };
    Ok((point, None))
}

fn volume_of(spec: &Mount, mut point: MountPoint) -> Result<Wanted, Fault> {
    for (is_given, field) in [
        (spec.bind_options.is_some(), "BindOptions"),
        (spec.tmpfs_options.is_some(), "TmpfsOptions"),
        (spec.image_options.is_some(), "ImageOptions"),
    ] {
        if is_given {
            return Err(Fault::is_extra(field));
        }
    }
    let is_anonymous = spec.source.is_empty();
    if is_anonymous && spec.read_only {
        return Err(Fault::says(
            "must not set ReadOnly mode when using anonymous volumes",
        ));
    }
    let options = spec.volume_options.clone().unwrap_or_default();
    if !options.subpath.is_empty() {
        if is_anonymous {
            return Err(Fault::says(
                "must not set Subpath when using anonymous volumes",
            ));
        }
        if !is_local(&options.subpath) {
            return Err(Fault::says(
                "subpath must be a relative path within the volume",
            ));
        }
    }
    let driver = options.driver_config.unwrap_or_default();
    check_driver(&driver.name).map_err(Fault::Other)?;
    volume::check_options(&driver.options).map_err(Fault::Other)?;
    if is_anonymous {
        point.name = id::generate();
    } else {
        volume::check_name(&spec.source).map_err(Fault::Other)?;
        spec.source.clone_into(&mut point.name);
    }
    point.driver = "local".into();
    // Docker shows the label it would use, had SELinux been asked for.
    point.mode = if options.no_copy { "nocopy" } else { "z" }.into();
    Ok((
        point,
        Some(NewVolume {
            is_anonymous,
            labels: options.labels,
            options: driver.options,
        }),
    ))
}

/// Relative, and never above where it begins (Go's `filepath.IsLocal`).
fn is_local(path: &str) -> bool {
    let mut depth = 0_i64;
    let mut stays = !path.starts_with('/');
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        stays &= depth >= 0;
    }
    stays
}

fn tmpfs_of(spec: &Mount, point: MountPoint) -> Result<Wanted, Fault> {
    for (is_given, field) in [
        (spec.bind_options.is_some(), "BindOptions"),
        (spec.volume_options.is_some(), "VolumeOptions"),
        (spec.image_options.is_some(), "ImageOptions"),
        (!spec.source.is_empty(), "Source"),
    ] {
        if is_given {
            return Err(Fault::is_extra(field));
        }
    }
    super::super::spec::tmpfs_words(spec).map_err(|error| Fault::Invalid(error.to_string()))?;
    Ok((point, None))
}
