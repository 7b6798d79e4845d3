//! The container's mount table: words of fstab(5) to attributes, sources
//! opened on the host, targets made inside the root.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use conex_spec::runtime::{Mount, NamespaceKind, Process, Spec};
use conex_sys::child::{PREPARED, Plan, Step};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::{LaunchError, c_path, c_string, namespaces};
use crate::cgroup::{Cgroup, Mode as CgroupMode};

mod foreign;
mod option;
mod place;
use foreign::Foreign;
use option::Options;

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;

/// The words that are understood in `mounts[].options`, those of file systems aside.
pub fn mount_options() -> Vec<String> {
    option::WORDS
        .iter()
        .map(|word| (*word).to_owned())
        .collect()
}

/// The root and everything mounted below it.
pub(super) fn push_root(
    spec: &Spec,
    root: OwnedFd,
    cgroup: Option<&Cgroup>,
    own_users: bool,
    plan: &mut Plan,
    warnings: &mut Vec<String>,
) -> Result<(), LaunchError> {
    let mut below = Plan::new();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let mut destination = clean(&mount.destination);
        if !matches!(
            mount.kind.as_deref(),
            Some("proc" | "sysfs" | "cgroup" | "cgroup2")
        ) {
            let earlier = &spec.mounts[..index];
            let covered = |path: &Path| {
                earlier
                    .iter()
                    .any(|m| path.starts_with(clean(&m.destination)))
            };
            destination = place::find(&root, &destination, covered);
        }
        push_mount(
            spec,
            mount,
            destination,
            &root,
            cgroup,
            &mut below,
            warnings,
        )?;
    }
    if own_users {
        below = prepare_visible(below, plan);
    }
    let word = spec
        .linux
        .as_ref()
        .and_then(|l| l.rootfs_propagation.as_deref());
    let options = Options::parse(word.map(str::to_owned).as_slice());
    // What is mounted below the root must not show on the host, where the root
    // may be part of a shared mount; what the host mounts there shows inside
    // only if the root is asked to be more than private.
    let kind = options
        .propagation
        .map_or(libc::MS_PRIVATE, |flags| flags & !libc::MS_REC);
    let cut = match kind {
        libc::MS_SHARED | libc::MS_SLAVE => libc::MS_SLAVE,
        _ => libc::MS_PRIVATE,
    };
    conex_sys::mount::set_attributes(root.as_fd(), 0, 0, cut, true).map_err(|source| {
        LaunchError::Step {
            step: "cut the root off the host".into(),
            source,
        }
    })?;
    plan.push(Step::PivotTo(root));
    if let Some(flags) = options.propagation {
        plan.push(Step::Propagation(flags as u32));
    }
    plan.append(below);
    Ok(())
}

/// Takes the making of procfs and sysfs out, to be done while those of the host
/// can be seen: a user namespace's root is not given what others hid from it.
fn prepare_visible(steps: Plan, before: &mut Plan) -> Plan {
    let mut slots = 0..PREPARED;
    let mut after = Plan::new();
    for step in steps {
        match step {
            Step::Mount {
                filesystem,
                parameters,
                attributes,
                target,
                no_symlinks: true,
            } if [c"proc", c"sysfs"].contains(&filesystem.as_c_str()) && !slots.is_empty() => {
                let slot = slots.next().unwrap_or(PREPARED);
                before.push(Step::Prepare {
                    slot,
                    filesystem,
                    parameters,
                    attributes,
                });
                after.push(Step::AttachPrepared { slot, target });
            }
            other => after.push(other),
        }
    }
    after
}

/// The root itself read-only; what is mounted below keeps its own attributes.
pub(super) fn push_read_only_root(plan: &mut Plan) {
    plan.push(Step::SetAttributes {
        path: c"/".into(),
        set: RDONLY,
        clear: 0,
        recursive: false,
    });
}

/// The working directory exists (docs: `WORKDIR` is created if missing).
pub(super) fn push_cwd(process: &Process, plan: &mut Plan) -> Result<(), LaunchError> {
    if process.cwd != Path::new("/") && !process.cwd.as_os_str().is_empty() {
        plan.push(Step::MakeDirs(prefixes(&process.cwd)?));
    }
    Ok(())
}

/// A file of the host at a path inside, as devices need it where mknod(2) is
/// refused.
pub(super) fn push_bound_file(
    source: &Path,
    target: &Path,
    plan: &mut Plan,
) -> Result<(), LaunchError> {
    let tree = clone_source(source, false)?;
    plan.push(Step::MakeFile(prefixes(target)?));
    plan.push(Step::Attach {
        tree,
        target: c_path(target)?,
    });
    Ok(())
}

pub(super) fn push_parent_dirs(path: &Path, plan: &mut Plan) -> Result<(), LaunchError> {
    match path.parent() {
        Some(parent) if parent != Path::new("/") => {
            plan.push(Step::MakeDirs(prefixes(parent)?));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn push_mount(
    spec: &Spec,
    mount: &Mount,
    destination: PathBuf,
    root: &OwnedFd,
    cgroup: Option<&Cgroup>,
    plan: &mut Plan,
    warnings: &mut Vec<String>,
) -> Result<(), LaunchError> {
    let target = c_path(&destination)?;
    let options = Options::parse(&mount.options);
    let kind = mount.kind.as_deref().unwrap_or("none");
    if options.copy_up {
        warnings.push(format!(
            "tmpcopyup is not supported: the tmpfs at {} starts empty",
            destination.display()
        ));
    }
    if options.bind || kind == "bind" {
        return push_bind(mount, &destination, target, &options, plan);
    }
    if kind == "cgroup" || kind == "cgroup2" {
        return push_cgroup(spec, &destination, &options, cgroup, plan);
    }
    let mut parameters: Vec<(CString, Option<CString>)> = Vec::new();
    if let Some(source) = &mount.source {
        parameters.push((c"source".into(), Some(c_path(source)?)));
    }
    for word in &options.data {
        match word.split_once('=') {
            Some((key, value)) => parameters.push((c_string(key)?, Some(c_string(value)?))),
            None => parameters.push((c_string(word)?, None)),
        }
    }
    if kind == "tmpfs" && !options.data.iter().any(|d| d.starts_with("mode=")) {
        // As runc: a tmpfs over an existing directory keeps its mode.
        if let Some(mode) = mode_inside(root, &destination) {
            parameters.push((c"mode".into(), Some(c_string(&format!("{mode:o}"))?)));
        }
    }
    plan.push(Step::MakeDirs(prefixes(&destination)?));
    plan.push(Step::Mount {
        filesystem: c_string(kind)?,
        parameters,
        attributes: options.set as u32,
        target: target.clone(),
        no_symlinks: matches!(kind, "proc" | "sysfs"),
    });
    if let Some(propagation) = options.propagation.filter(|p| *p != libc::MS_PRIVATE) {
        // A fresh mount is private already.
        plan.push(Step::PropagationAt {
            path: target,
            flags: propagation,
        });
    }
    Ok(())
}

fn push_bind(
    mount: &Mount,
    destination: &Path,
    target: CString,
    options: &Options,
    plan: &mut Plan,
) -> Result<(), LaunchError> {
    let source = mount.source.as_deref().ok_or_else(|| LaunchError::Mount {
        destination: destination.to_owned(),
        problem: "a bind mount needs a source".into(),
    })?;
    let tree = match &options.beneath {
        Some(beneath) => clone_beneath(source, beneath, options.recursive)?,
        None => clone_source(source, options.recursive)?,
    };
    let failed = |source_errno| LaunchError::Source {
        path: source.to_owned(),
        source: source_errno,
    };
    let (set, clear) = (options.set, options.clear);
    if set | clear != 0 {
        conex_sys::mount::set_attributes(tree.as_fd(), set, clear, 0, false).map_err(failed)?;
    }
    if options.recursive_set | options.recursive_clear != 0 {
        let (set, clear) = (options.recursive_set, options.recursive_clear);
        conex_sys::mount::set_attributes(tree.as_fd(), set, clear, 0, true).map_err(failed)?;
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        let owners = namespaces::mapped_users(&mount.uid_mappings, &mount.gid_mappings)?;
        conex_sys::mount::set_idmap(tree.as_fd(), owners.as_fd(), options.recursive_idmap)
            .map_err(failed)?;
    } else if options.idmap {
        return Err(LaunchError::Mount {
            destination: destination.to_owned(),
            problem: "an idmapped mount needs uidMappings and gidMappings".into(),
        });
    }
    let propagation = options
        .propagation
        .unwrap_or(libc::MS_PRIVATE | libc::MS_REC);
    let recursive = propagation & libc::MS_REC != 0;
    let kind = propagation & !libc::MS_REC;
    conex_sys::mount::set_attributes(tree.as_fd(), 0, 0, kind, recursive).map_err(failed)?;

    let stat = rustix::fs::fstat(&tree).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        plan.push(Step::MakeDirs(prefixes(destination)?));
    } else {
        plan.push(Step::MakeFile(prefixes(destination)?));
    }
    plan.push(Step::Attach { tree, target });
    Ok(())
}

/// `/sys/fs/cgroup`: the container's own directories of every hierarchy, so
/// that programs which look for their limits there find them.
fn push_cgroup(
    spec: &Spec,
    destination: &Path,
    options: &Options,
    cgroup: Option<&Cgroup>,
    plan: &mut Plan,
) -> Result<(), LaunchError> {
    let Some(cgroup) = cgroup else { return Ok(()) };
    let attributes = NOSUID | NODEV | NOEXEC | (options.set & RDONLY);
    let own_namespace = spec
        .linux
        .as_ref()
        .and_then(|l| l.namespace(NamespaceKind::Cgroup))
        .is_some_and(|n| n.path.is_none());
    let target = c_path(destination)?;
    plan.push(Step::MakeDirs(prefixes(destination)?));
    if cgroup.mode() == CgroupMode::Unified {
        if own_namespace {
            plan.push(Step::Mount {
                filesystem: c"cgroup2".into(),
                parameters: vec![(c"source".into(), Some(c"cgroup".into()))],
                attributes: attributes as u32,
                target,
                no_symlinks: true,
            });
        } else if let Some((_, dir)) = cgroup.hierarchies().first() {
            plan.push(Step::Attach {
                tree: clone_with(dir, attributes)?,
                target,
            });
        }
        return Ok(());
    }
    plan.push(Step::Mount {
        filesystem: c"tmpfs".into(),
        parameters: vec![
            (c"source".into(), Some(c"cgroup".into())),
            (c"mode".into(), Some(c"755".into())),
        ],
        attributes: (NOSUID | NODEV | NOEXEC) as u32,
        target: target.clone(),
        no_symlinks: true,
    });
    for (name, dir) in cgroup.hierarchies() {
        let at = destination.join(&name);
        plan.push(Step::MakeDirs(prefixes(&at)?));
        plan.push(Step::Attach {
            tree: clone_with(&dir, attributes)?,
            target: c_path(&at)?,
        });
        // "cpu,cpuacct" is also found under each of its names.
        for alias in name.split(',').filter(|alias| *alias != name) {
            plan.push(Step::Symlink {
                target: c_string(&name)?,
                path: c_path(&destination.join(alias))?,
            });
        }
    }
    if options.set & RDONLY != 0 {
        plan.push(Step::SetAttributes {
            path: target,
            set: RDONLY,
            clear: 0,
            recursive: false,
        });
    }
    Ok(())
}

fn clone_with(dir: &Path, attributes: u64) -> Result<OwnedFd, LaunchError> {
    let tree = clone_source(dir, false)?;
    conex_sys::mount::set_attributes(tree.as_fd(), attributes, 0, 0, false).map_err(|source| {
        LaunchError::Source {
            path: dir.to_owned(),
            source,
        }
    })?;
    Ok(tree)
}

fn clone_source(source: &Path, recursive: bool) -> Result<OwnedFd, LaunchError> {
    let cloned = match Foreign::of(source) {
        Some(foreign) => foreign.clone(recursive),
        None => conex_sys::mount::clone_tree(rustix::fs::CWD, &c_path(source)?, recursive),
    };
    cloned.map_err(|errno| LaunchError::Source {
        path: source.to_owned(),
        source: errno,
    })
}

/// A part of a source that others may write to at this moment.
fn clone_beneath(source: &Path, beneath: &Path, recursive: bool) -> Result<OwnedFd, LaunchError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(source, flags, Mode::empty())
        .and_then(|base| conex_sys::mount::clone_beneath(base, beneath, recursive))
        .map_err(|errno| match errno {
            rustix::io::Errno::XDEV => LaunchError::Escape {
                base: source.to_owned(),
                beneath: beneath.to_owned(),
            },
            errno => LaunchError::Beneath {
                path: source.join(beneath),
                source: errno,
            },
        })
}

/// A detached mount of a directory on the host, to become a root.
pub fn root_from_path(path: &Path) -> Result<OwnedFd, LaunchError> {
    let failed = |e: std::io::Error| LaunchError::Source {
        path: path.to_owned(),
        source: rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO),
    };
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)
        .open(path)
        .map_err(failed)?;
    conex_sys::mount::clone_tree(&directory, c"", true).map_err(|source| LaunchError::Source {
        path: path.to_owned(),
        source,
    })
}

fn mode_inside(root: &OwnedFd, path: &Path) -> Option<u32> {
    let relative = path.strip_prefix("/").ok()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(root, relative, flags, Mode::empty(), resolve).ok()?;
    Some(rustix::fs::fstat(&found).ok()?.st_mode & 0o7777)
}

/// Lexically absolute, without `.` and `..`: a destination is a place inside.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// `/a/b` → `/a`, `/a/b`.
fn prefixes(path: &Path) -> Result<Vec<CString>, LaunchError> {
    let path = clean(path);
    let mut list = path
        .ancestors()
        .filter(|p| *p != Path::new("/"))
        .map(c_path)
        .collect::<Result<Vec<_>, _>>()?;
    list.reverse();
    Ok(list)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_destination_stays_inside() {
        assert_eq!(clean(Path::new("../../etc/./x")), Path::new("/etc/x"));
        assert_eq!(clean(Path::new("/a/../../b")), Path::new("/b"));
    }

    #[test]
    fn prefixes_run_from_the_top() {
        assert_eq!(
            prefixes(Path::new("/a/b")).unwrap(),
            vec![c"/a".to_owned(), c"/a/b".to_owned()]
        );
        assert!(prefixes(Path::new("/")).unwrap().is_empty());
    }
}
