//! Which cgroup hierarchies the machine has and where they are mounted. It must
//! not know containers or limits.
//!
//! ```text
//!  Legacy   /sys/fs/cgroup/{memory,cpu,cpuacct,…,systemd}            version 1 only
//!  Hybrid   the same, and /sys/fs/cgroup/unified                     both
//!  Unified  /sys/fs/cgroup                                           version 2 only
//! ```

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Which versions of cgroups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Version 1.
    Legacy,
    /// Controllers in version 1 and a version 2 hierarchy beside them.
    Hybrid,
    /// Version 2.
    Unified,
}

/// A mounted version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Name of its directory, as `memory` or `cpu,cpuacct`.
    pub name: String,
    /// Its controllers; `name=systemd` for one without any.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
}

/// The mounted version 2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unified {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Controllers found there, those of version 1 hierarchies not among them.
    pub controllers: Vec<String>,
}

/// Every hierarchy of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub(super) legacy: Vec<Hierarchy>,
    pub(super) unified: Option<Unified>,
}

impl Layout {
    /// Finds the hierarchies this process sees.
    pub fn detect() -> Result<Self, Error> {
        let read = |path: &'static str| {
            fs::read_to_string(path).map_err(|source| Error::Read {
                path: path.into(),
                source,
            })
        };
        let mut layout = Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)?;
        if let Some(unified) = &mut layout.unified {
            let path = unified.mount.join("cgroup.controllers");
            let controllers =
                fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
            unified.controllers = controllers.split_whitespace().map(str::to_owned).collect();
        }
        Ok(layout)
    }

    /// Reads mountinfo and the process's own cgroups, which tell controllers from mount options.
    fn parse(mountinfo: &str, own: &str) -> Result<Self, Error> {
        let known: BTreeSet<&str> = own
            .lines()
            .filter_map(|line| line.split(':').nth(1))
            .flat_map(|controllers| controllers.split(','))
            .filter(|controller| !controller.is_empty())
            .collect();
        let mut layout = Self {
            legacy: Vec::new(),
            unified: None,
        };
        for mount in mountinfo.lines().filter_map(CgroupMount::parse) {
            if mount.kind == "cgroup2" {
                // The first mount is the system's, later ones are somebody's.
                layout.unified.get_or_insert(Unified {
                    mount: mount.point,
                    controllers: Vec::new(),
                });
                continue;
            }
            let controllers: Vec<String> = mount
                .options
                .split(',')
                .filter(|option| known.contains(option))
                .map(str::to_owned)
                .collect();
            let seen = layout
                .legacy
                .iter()
                .any(|other| other.controllers == controllers);
            let name = mount.point.file_name().and_then(|name| name.to_str());
            if let Some(name) = name
                && !controllers.is_empty()
                && !seen
            {
                layout.legacy.push(Hierarchy {
                    name: name.to_owned(),
                    controllers,
                    mount: mount.point,
                });
            }
        }
        if layout.legacy.is_empty() && layout.unified.is_none() {
            return Err(Error::NotMounted);
        }
        Ok(layout)
    }

    /// Which versions are mounted.
    pub fn mode(&self) -> Mode {
        match (&self.unified, self.legacy.is_empty()) {
            (Some(_), true) => Mode::Unified,
            (Some(_), false) => Mode::Hybrid,
            (None, _) => Mode::Legacy,
        }
    }

    /// Whether a controller can be used, in either version.
    pub fn has_controller(&self, controller: &str) -> bool {
        self.legacy_with(controller).is_some()
            || self
                .unified
                .iter()
                .flat_map(|unified| &unified.controllers)
                .any(|name| name == controller)
    }

    /// The version 1 hierarchies.
    pub fn legacy(&self) -> &[Hierarchy] {
        &self.legacy
    }

    /// The version 2 hierarchy.
    pub fn unified(&self) -> Option<&Unified> {
        self.unified.as_ref()
    }

    fn legacy_with(&self, controller: &str) -> Option<&Hierarchy> {
        self.legacy
            .iter()
            .find(|hierarchy| hierarchy.has(controller))
    }
}

impl Hierarchy {
    /// Whether a controller is in it.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// A line of mountinfo that is about cgroups.
struct CgroupMount<'a> {
    kind: &'a str,
    point: PathBuf,
    options: &'a str,
}

impl<'a> CgroupMount<'a> {
    /// `id parent device root point options [tags…] - kind source super-options`
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, superblock) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        let mut superblock = superblock.split(' ');
        let kind = superblock.next()?;
        if kind != "cgroup" && kind != "cgroup2" {
            return None;
        }
        Some(Self {
            kind,
            point: unescape(point),
            options: superblock.nth(1)?,
        })
    }
}

/// Reads `\040` and the like as the bytes they stand for.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after
            .first_chunk::<3>()
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// A cgroup's path below a mount, or why it is none.
pub(super) fn below(mount: &Path, path: &str) -> Result<PathBuf, Error> {
    let invalid = || Error::InvalidPath(path.to_owned());
    let mut out = mount.to_owned();
    let mut components = 0;
    for component in path.split('/').filter(|part| !part.is_empty()) {
        if component == "." || component == ".." || component.contains(['\0', '\n']) {
            return Err(invalid());
        }
        out.push(component);
        components += 1;
    }
    // The root of a hierarchy is the machine's, never a container's.
    if components == 0 {
        Err(invalid())
    } else {
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HYBRID: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:31 / /sys/fs/cgroup/memory rw,relatime shared:10 master:3 - cgroup cgroup rw,memory
34 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
35 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
36 31 0:31 / /mnt/again rw,relatime - cgroup cgroup rw,memory
37 31 0:38 /deep /mnt/two rw,relatime - cgroup2 cgroup2 rw
";
    const OWN: &str = "3:cpu,cpuacct:/\n2:memory:/x\n1:name=systemd:/\n0::/\n";

    #[test]
    fn a_hybrid_machine_is_read_with_its_joint_controllers() {
        let layout = Layout::parse(HYBRID, OWN).unwrap();
        assert_eq!(layout.mode(), Mode::Hybrid);
        let names: Vec<_> = layout.legacy().iter().map(|h| h.name.as_str()).collect();
        assert_eq!(names, ["cpu,cpuacct", "memory", "systemd"]);
        assert_eq!(layout.legacy()[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(layout.legacy()[2].controllers, ["name=systemd"]);
        assert_eq!(
            layout.unified().unwrap().mount,
            Path::new("/sys/fs/cgroup/unified")
        );
        assert!(layout.has_controller("cpuacct"));
        assert!(!layout.has_controller("pids"));
    }

    #[test]
    fn one_version_alone_is_told_apart() {
        let unified = "25 20 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let layout = Layout::parse(unified, "0::/user.slice\n").unwrap();
        assert_eq!(layout.mode(), Mode::Unified);
        let legacy = HYBRID.lines().nth(3).unwrap();
        assert_eq!(Layout::parse(legacy, OWN).unwrap().mode(), Mode::Legacy);
        assert!(matches!(Layout::parse("", OWN), Err(Error::NotMounted)));
    }

    #[test]
    fn mount_points_are_unescaped_and_broken_lines_skipped() {
        let line = "31 2 0:3 / /a\\040b\\134c rw - cgroup2 none rw\n1 2 -\n - \n5 - cgroup\n";
        let layout = Layout::parse(line, "").unwrap();
        assert_eq!(layout.unified().unwrap().mount, Path::new("/a b\\c"));
    }

    #[test]
    fn this_machine_has_a_layout() {
        match Layout::detect() {
            Ok(layout) => assert!(layout.unified().is_some() || !layout.legacy().is_empty()),
            Err(error) => eprintln!("skipped: {error}"),
        }
    }

    #[test]
    fn a_path_cannot_leave_its_mount_nor_be_it() {
        let mount = Path::new("/sys/fs/cgroup/memory");
        assert_eq!(
            below(mount, "/conex//abc/").unwrap(),
            mount.join("conex/abc")
        );
        for path in ["", "/", "/../x", "/conex/..", "/./x", "a\0b"] {
            assert!(below(mount, path).is_err(), "{path:?}");
        }
    }
}
