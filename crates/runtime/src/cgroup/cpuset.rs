//! The cpuset controller: which processors and memory nodes. It must not know
//! what the machine has.

use std::path::Path;

use conex_spec::runtime::Resources;

use super::Error;
use super::file::{Dir, Place};

const NO_CPUSET: &str =
    "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.";

pub(super) fn apply(
    place: Place<'_>,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(cpu) = &resources.cpu else {
        return Ok(());
    };
    let asked = [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)];
    for (file, list) in asked {
        let Some(list) = list else { continue };
        let supported = match place {
            Place::V1(dir) | Place::V2(dir) => dir.write_if_supported(file, list)?,
            Place::Missing => false,
        };
        if !supported {
            warnings.push(NO_CPUSET.to_owned());
        }
    }
    Ok(())
}

/// Fills a new version 1 cgroup and its parents: it starts out with nothing,
/// and no task can be put where there is no processor.
pub(super) fn inherit(mount: &Path, dir: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        filled(mount, dir, file)?;
    }
    Ok(())
}

/// The list in a directory, copied down from above where it is empty.
fn filled(mount: &Path, dir: &Path, file: &str) -> Result<String, Error> {
    let list = Dir(dir).read(file)?.trim().to_owned();
    if !list.is_empty() || dir == mount {
        return Ok(list);
    }
    let Some(parent) = dir.parent() else {
        return Ok(list);
    };
    let list = filled(mount, parent, file)?;
    Dir(dir).write(file, &list)?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn empty_sets_are_filled_from_the_nearest_parent_that_has_one() {
        let mount = tempfile::tempdir().unwrap();
        let leaf = mount.path().join("a/b");
        fs::create_dir_all(&leaf).unwrap();
        for (dir, cpus, mems) in [("", "0-3", "0"), ("a", "1-2\n", "\n"), ("a/b", "\n", "\n")] {
            fs::write(mount.path().join(dir).join("cpuset.cpus"), cpus).unwrap();
            fs::write(mount.path().join(dir).join("cpuset.mems"), mems).unwrap();
        }
        inherit(mount.path(), &leaf).unwrap();
        let read = |path: &str| fs::read_to_string(mount.path().join(path)).unwrap();
        assert_eq!(read("a/b/cpuset.cpus").trim(), "1-2");
        assert_eq!(read("a/b/cpuset.mems").trim(), "0");
        assert_eq!(read("a/cpuset.mems").trim(), "0");
    }
}
