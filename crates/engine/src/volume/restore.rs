//! What a new engine finds of its volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use conex_store::persist;

use super::{
    DATA, DESCRIPTION, DRIVER, Description, MAX_DESCRIPTION_BYTES, Uses, Volume, Volumes,
    check_name, fill,
};
use crate::event::Events;
use crate::time;

impl Volumes {
    /// Reads the volumes of a directory and finishes what was cut short. Blocks.
    pub(crate) fn open(root: PathBuf, events: Arc<Events>) -> io::Result<Volumes> {
        let mut table = BTreeMap::new();
        let mounted = mounted_below(&root);
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let dir = entry.path();
            if name.starts_with('.') || check_name(&name).is_err() || !dir.is_dir() {
                continue;
            }
            let Some(description) = describe(&dir) else {
                tracing::warn!(path = %dir.display(), "no volume of ours, left alone");
                continue;
            };
            if let Err(error) = fill::finish(&dir) {
                tracing::warn!(volume = name, %error, "it was not filled to the end");
            }
            let uses = Uses {
                is_mounted: mounted.contains(&dir.join(DATA)),
                ..Uses::default()
            };
            let volume = Volume {
                name: name.clone(),
                dir,
                description,
                uses: Mutex::new(uses),
                busy: Mutex::default(),
            };
            table.insert(name, Arc::new(volume));
        }
        Ok(Volumes {
            root,
            events,
            table: RwLock::new(table),
            making: Mutex::default(),
            pruning: Mutex::default(),
        })
    }

    /// Drafts and what was being removed, for whoever deletes leftovers.
    pub(crate) fn leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".new-") || name.starts_with(".removed-") {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// Notes that a container has these volumes, and whether it runs.
    pub(crate) fn adopt<'a>(
        &self,
        container: &str,
        names: impl Iterator<Item = &'a str>,
        is_running: bool,
    ) {
        for volume in names.filter_map(|name| self.find(name)) {
            let mut uses = volume.uses();
            uses.containers.insert(container.to_owned());
            if is_running {
                uses.running.insert(container.to_owned());
            }
        }
    }

    /// Takes away mounts whose last container ended while nobody looked. Blocks.
    pub(crate) fn unmount_idle(&self) {
        for volume in self.all() {
            let _busy = volume.busy();
            let is_idle = {
                let uses = volume.uses();
                uses.is_mounted && uses.running.is_empty()
            };
            if is_idle {
                volume.unmount_idle();
            }
        }
    }
}

/// What a volume says of itself; a directory with content alone is a volume
/// too, as Docker has it.
fn describe(dir: &Path) -> Option<Description> {
    match persist::read_limited(&dir.join(DESCRIPTION), MAX_DESCRIPTION_BYTES) {
        Ok(json) => match serde_json::from_slice(&json) {
            Ok(description) => return Some(description),
            Err(error) => {
                tracing::error!(path = %dir.display(), %error, "its volume.json is damaged");
            }
        },
        Err(error) if error.is_not_found() => {}
        Err(error) => {
            tracing::error!(path = %dir.display(), %error, "its volume.json cannot be read");
        }
    }
    let data = fs::symlink_metadata(dir.join(DATA)).ok()?;
    data.is_dir().then(|| Description {
        driver: DRIVER.into(),
        created: time::rfc3339(data.mtime() * 1_000_000_000),
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        anonymous: false,
        container: None,
    })
}

/// Places below a directory where something is mounted.
fn mounted_below(root: &Path) -> BTreeSet<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    // The fifth field, which has no spaces: volumes' names have none, and a
    // root with odd characters is compared unescaped.
    String::from_utf8_lossy(&table)
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(unescape(path)))
        .filter(|path| path.starts_with(root))
        .collect()
}

/// `\040` is a space: proc(5).
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|_| *byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(*byte));
        at += if octal.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/a\9"), r"/a\9");
    }
}
