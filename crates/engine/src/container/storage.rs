//! What create and inspect say about a container's storage: the size asked
//! for, and what the driver tells of an object. It must not know how drivers
//! lie on disk.

use std::collections::BTreeMap;

use conex_api::container::DriverData;
use conex_layers::driver::{Driver, LayerId, Rootfs};

use super::Record;
use crate::Error;
use crate::engine::Inner;

/// The bytes of `--storage-opt size=`, if it is given (COMPAT D8.9).
///
/// Errors: invalid parameter for another option, for no size, and for zero.
pub(super) fn size_bytes(options: &BTreeMap<String, String>) -> Result<Option<u64>, Error> {
    let mut size = None;
    for (key, value) in options {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("Unknown option {key}")));
        }
        let bytes = conex_logs::driver::parse_size(value, 1024)
            .map_err(|e| Error::invalid(e.to_string()))?;
        if bytes == 0 {
            return Err(Error::invalid(format!("invalid storage size: {value}")));
        }
        size = Some(bytes);
    }
    Ok(size)
}

impl Inner {
    /// Directories of the container's root, as tools read them (COMPAT D8.12).
    pub(super) fn graph_driver(&self, record: &Record) -> DriverData {
        let id = Inner::layer_id(&record.id);
        let mut data = overlay_directories(self.driver.as_ref(), &id);
        if let Some(data) = &mut data {
            let merged = super::start::merged_link(self, record);
            data.insert("MergedDir".into(), merged.display().to_string());
            data.insert("ID".into(), record.id.clone());
        }
        DriverData {
            name: record.driver.clone(),
            data,
        }
    }
}

/// The directories of a layer that is a stack; drivers with whole layers have
/// nothing to tell, in Docker too.
pub(crate) fn overlay_directories(
    driver: &dyn Driver,
    id: &LayerId,
) -> Option<BTreeMap<String, String>> {
    let Ok(Rootfs::Overlay(recipe)) = driver.rootfs(id) else {
        return None;
    };
    let mut data = BTreeMap::new();
    let shown = |p: &std::path::PathBuf| p.display().to_string();
    let mut lowers: Vec<String> = recipe.lowers.iter().map(shown).collect();
    match &recipe.writable {
        Some(writable) => {
            data.insert("UpperDir".into(), shown(&writable.upper));
            data.insert("WorkDir".into(), shown(&writable.work));
        }
        // Of an image, its own layer is on top of the others.
        None if !lowers.is_empty() => {
            data.insert("UpperDir".into(), lowers.remove(0));
        }
        None => {}
    }
    if !lowers.is_empty() {
        data.insert("LowerDir".into(), lowers.join(":"));
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_size_is_bytes_with_a_unit_and_nothing_else_is_an_option() {
        let read = |key: &str, value: &str| {
            size_bytes(&[(key.to_owned(), value.to_owned())].into()).map_err(|e| e.to_string())
        };
        assert_eq!(size_bytes(&BTreeMap::new()).unwrap(), None);
        assert_eq!(read("size", "16m"), Ok(Some(16 << 20)));
        assert_eq!(read("SIZE", "1G"), Ok(Some(1 << 30)));
        assert_eq!(read("inodes", "1"), Err("Unknown option inodes".into()));
        assert_eq!(read("size", "0"), Err("invalid storage size: 0".into()));
        assert_eq!(read("size", "x"), Err("invalid size: 'x'".into()));
    }
}
