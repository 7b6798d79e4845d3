//! The container's mount table: Docker's defaults less what the user covers,
//! then the user's own by depth. It must not know mount flags.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use conex_api::container::{Mount as Asked, MountPoint};
use conex_spec::runtime::Mount;

use super::Host;
use crate::Error;
use crate::container::Record;
use crate::container::mount::clean;
use crate::container::validate::SecurityOptions;

const SHM: &str = "/dev/shm";

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.into()),
        options: options.iter().map(|word| (*word).to_owned()).collect(),
        ..Mount::default()
    }
}

/// What every container has.
fn defaults() -> Vec<Mount> {
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            SHM,
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777"],
        ),
    ]
}

pub(super) fn mounts(
    host: &Host<'_>,
    record: &Record,
    security: &SecurityOptions,
) -> Result<Vec<Mount>, Error> {
    let asked = &record.host_config;
    let own = users(host, record)?;
    let covered: BTreeSet<&Path> = own
        .iter()
        .map(|mount| mount.destination.as_path())
        .collect();
    let covers_dev = covered.contains(Path::new("/dev"));
    let mut mounts = Vec::with_capacity(own.len() + 7);
    for mut mount in defaults() {
        let at = mount.destination.as_path();
        let below_dev = covers_dev && at.starts_with("/dev");
        if covered.contains(at) || below_dev || (at == Path::new(SHM) && asked.ipc_mode == "none") {
            continue;
        }
        let is_writable = match mount.kind.as_deref() {
            Some("sysfs") => asked.privileged,
            Some("cgroup") => asked.privileged || security.writable_cgroups,
            _ => false,
        };
        if is_writable {
            mount.options.retain(|word| word != "ro");
        }
        if at == Path::new(SHM) {
            mount.options.push(format!("size={}", asked.shm_size));
        }
        mounts.push(mount);
    }
    mounts.extend(own);
    Ok(mounts)
}

/// Everything the user or the engine puts over the image, the shallow first, so
/// that none hides one before it.
fn users(host: &Host<'_>, record: &Record) -> Result<Vec<Mount>, Error> {
    let asked = &record.host_config;
    let mut own = Vec::new();
    for point in &record.mounts {
        let spec = asked
            .mounts
            .iter()
            .find(|spec| clean(&spec.target) == point.destination);
        own.push(match point.kind.as_str() {
            "tmpfs" => {
                let words = tmpfs_words(spec.unwrap_or(&Asked::default()))?;
                tmpfs(&point.destination, words)
            }
            _ => bind(point, spec, record.subpath(&point.destination)),
        });
    }
    for (path, words) in &asked.tmpfs {
        own.push(tmpfs(&clean(path), tmpfs_options(words)?));
    }
    let taken: BTreeSet<PathBuf> = own.iter().map(|mount| mount.destination.clone()).collect();
    for file in ["resolv.conf", "hostname", "hosts"] {
        let destination = Path::new("/etc").join(file);
        if !taken.contains(&destination) {
            own.push(host_bind(
                &destination,
                &host.files.join(file),
                asked.readonly_rootfs,
            ));
        }
    }
    if let Some(shm) = shared_memory(host, record).filter(|_| !taken.contains(Path::new(SHM))) {
        own.push(host_bind(Path::new(SHM), &shm, false));
    }
    own.sort_by_key(|mount| mount.destination.components().count());
    Ok(own)
}

fn host_bind(destination: &Path, source: &Path, is_read_only: bool) -> Mount {
    let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
    if is_read_only {
        options.push("ro".to_owned());
    }
    Mount {
        destination: destination.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source.to_owned()),
        options,
        ..Mount::default()
    }
}

/// The `/dev/shm` that is shared; otherwise the container has one of its own.
fn shared_memory(host: &Host<'_>, record: &Record) -> Option<PathBuf> {
    if record.host_config.ipc_mode == "host" {
        return Some(SHM.into());
    }
    host.joined.shm.clone()
}

fn bind(point: &MountPoint, spec: Option<&Asked>, subpath: Option<&str>) -> Mount {
    let options = spec
        .and_then(|spec| spec.bind_options.clone())
        .unwrap_or_default();
    let mut words = vec![
        if options.non_recursive {
            "bind"
        } else {
            "rbind"
        }
        .to_owned(),
    ];
    if !point.rw {
        // With every mount below it, or those would be the way to write.
        words.push(
            if options.read_only_non_recursive {
                "ro"
            } else {
                "rro"
            }
            .to_owned(),
        );
    }
    if !point.propagation.is_empty() {
        words.push(point.propagation.clone());
    }
    if let Some(subpath) = subpath {
        words.push(format!("beneath={subpath}"));
    }
    Mount {
        destination: PathBuf::from(&point.destination),
        kind: Some("bind".to_owned()),
        source: Some(PathBuf::from(&point.source)),
        options: words,
        ..Mount::default()
    }
}

fn tmpfs(destination: &str, options: Vec<String>) -> Mount {
    let mut mount = mount(destination, "tmpfs", "tmpfs", &[]);
    mount.options = options;
    mount
}

/// Options of a `--mount type=tmpfs`.
pub(in crate::container) fn tmpfs_words(spec: &Asked) -> Result<Vec<String>, Error> {
    let options = spec.tmpfs_options.clone().unwrap_or_default();
    let mut words = Vec::new();
    if spec.read_only {
        words.push("ro".to_owned());
    }
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes < 0 {
        return Err(Error::invalid(format!(
            "invalid tmpfs size {}",
            options.size_bytes
        )));
    }
    if options.size_bytes != 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    for option in &options.options {
        match option.as_slice() {
            [flag] => words.push(flag.clone()),
            [name, value] => words.push(format!("{name}={value}")),
            _ => return Err(Error::invalid(format!("invalid tmpfs option {option:?}"))),
        }
    }
    merge_tmpfs(words.iter().map(String::as_str))
}

/// Options of a `--tmpfs path:words`.
pub(in crate::container) fn tmpfs_options(words: &str) -> Result<Vec<String>, Error> {
    merge_tmpfs(words.split(',').filter(|word| !word.is_empty()))
}

/// Docker's defaults and the user's words, the last of each kind.
fn merge_tmpfs<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Error> {
    const DEFAULTS: [&str; 4] = ["noexec", "nosuid", "nodev", "rprivate"];
    let mut merged: Vec<(&str, &str)> = Vec::new();
    for word in DEFAULTS
        .into_iter()
        .chain(words)
        .filter(|word| *word != "defaults")
    {
        let kind = flag(word).or_else(|| parameter(word)).ok_or_else(|| {
            let name = word.split_once('=').map_or(word, |(name, _)| name);
            Error::invalid(format!("invalid tmpfs option {name:?}"))
        })?;
        merged.retain(|(other, _)| *other != kind);
        merged.push((kind, word));
    }
    Ok(merged
        .into_iter()
        .map(|(_, word)| word.to_owned())
        .collect())
}

/// The kind of a flag; flags of a kind exclude each other.
fn flag(word: &str) -> Option<&'static str> {
    Some(match word {
        "ro" | "rw" => "ro",
        "exec" | "noexec" => "exec",
        "suid" | "nosuid" => "suid",
        "dev" | "nodev" => "dev",
        "sync" | "async" => "sync",
        "mand" | "nomand" => "mand",
        "dirsync" => "dirsync",
        "atime" | "noatime" => "atime",
        "diratime" | "nodiratime" => "diratime",
        "relatime" | "norelatime" => "relatime",
        "strictatime" | "nostrictatime" => "strictatime",
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" | "unbindable"
        | "runbindable" => "propagation",
        _ => return None,
    })
}

/// The name of a parameter that has a value.
fn parameter(word: &str) -> Option<&str> {
    const KNOWN: [&str; 7] = [
        "size",
        "mode",
        "uid",
        "gid",
        "nr_inodes",
        "nr_blocks",
        "mpol",
    ];
    let (name, _) = word.split_once('=')?;
    KNOWN.contains(&name).then_some(name)
}
