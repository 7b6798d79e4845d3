//! Cgroups of this machine, made for real; without the right to, each test says so.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use conex_spec::runtime::{Cpu, DeviceCgroup, DeviceKind, HugepageLimit, Memory, Pids};

use super::*;

/// A cgroup path of its own, and nothing of it left behind.
struct Scratch {
    layout: Layout,
    path: String,
}

impl Scratch {
    /// `None`, with a word why, where cgroups cannot be made.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: not root");
            return None;
        }
        let layout = match Layout::detect() {
            Ok(layout) => layout,
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/conex-test-{}-{count}", std::process::id());
        Some(Self { layout, path })
    }

    fn create(&self, resources: &Resources) -> Result<(Cgroup, Vec<String>), Error> {
        Cgroup::create(&self.layout, &self.path, resources)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(cgroup) = Cgroup::open(&self.layout, &self.path) {
            cgroup.thaw().ok();
            cgroup.kill().ok();
            cgroup.remove().ok();
        }
    }
}

/// A shell that reads its commands from a pipe, put into a cgroup before it runs any.
struct Shell(Child);

impl Shell {
    fn start(cgroup: &Cgroup) -> Self {
        let child = Command::new("/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        for (_, dir) in cgroup.hierarchies() {
            Dir(&dir).write("cgroup.procs", child.id()).unwrap();
        }
        Self(child)
    }

    fn tell(&mut self, command: &str) {
        let stdin = self.0.stdin.as_mut().unwrap();
        stdin.write_all(command.as_bytes()).unwrap();
    }

    /// Runs the last command and tells whether it ended well.
    fn succeeds(mut self, command: &str) -> bool {
        self.tell(command);
        drop(self.0.stdin.take());
        self.0.wait().unwrap().success()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn read(cgroup: &Cgroup, controller: &str, file: &str) -> String {
    let (Place::V1(dir) | Place::V2(dir)) = cgroup.place(controller) else {
        panic!("no {controller}");
    };
    dir.read(file).unwrap().trim().to_owned()
}

#[test]
fn a_cgroup_is_made_in_every_hierarchy_and_removed_from_all() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let (cgroup, warnings) = scratch.create(&Resources::default()).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let dirs = cgroup.hierarchies();
    let expected = scratch.layout.legacy().len() + usize::from(scratch.layout.unified().is_some());
    assert_eq!(dirs.len(), expected);
    assert!(dirs.iter().all(|(_, dir)| dir.is_dir()));
    assert_eq!(
        cgroup.join_files().unwrap().len(),
        scratch.layout.legacy().len()
    );
    assert_eq!(
        cgroup.unified_dir().is_some(),
        scratch.layout.unified().is_some()
    );
    assert!(!cgroup.is_populated().unwrap());
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
    cgroup.remove().unwrap();
    assert!(dirs.iter().all(|(_, dir)| !dir.exists()), "{dirs:?}");
    assert!(matches!(
        Cgroup::open(&scratch.layout, &scratch.path),
        Err(Error::NotFound(_))
    ));
}

#[test]
fn limits_are_found_in_the_files() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let needed = ["memory", "cpu", "pids", "cpuset"];
    if let Some(missing) = needed
        .iter()
        .find(|name| !scratch.layout.has_controller(name))
    {
        eprintln!("skipped: no {missing} controller");
        return;
    }
    let resources = Resources {
        memory: Some(Memory {
            limit: Some(64 << 20),
            swap: Some(128 << 20),
            reservation: Some(32 << 20),
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: Some(512),
            quota: Some(150_000),
            period: Some(100_000),
            cpus: Some("0".to_owned()),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: Some(33) }),
        ..Resources::default()
    };
    let (cgroup, warnings) = scratch.create(&resources).unwrap();
    assert_eq!(read(&cgroup, "pids", "pids.max"), "33");
    assert_eq!(read(&cgroup, "cpuset", "cpuset.cpus"), "0");
    let limit = |cgroup: &Cgroup| match cgroup.place("memory") {
        Place::V1(_) => read(cgroup, "memory", "memory.limit_in_bytes"),
        _ => read(cgroup, "memory", "memory.max"),
    };
    assert_eq!(limit(&cgroup), (64 << 20).to_string());
    if let Place::V1(_) = cgroup.place("cpu") {
        assert_eq!(read(&cgroup, "cpu", "cpu.shares"), "512");
        assert_eq!(read(&cgroup, "cpu", "cpu.cfs_quota_us"), "150000");
    } else {
        assert_eq!(read(&cgroup, "cpu", "cpu.max"), "150000 100000");
    }

    // Down, up and away: every order of memory and swap, and a period that
    // only fits the new quota.
    let update = |limit, swap, quota, period| {
        let resources = Resources {
            memory: Some(Memory {
                limit: Some(limit),
                swap,
                ..Memory::default()
            }),
            cpu: Some(Cpu {
                quota: Some(quota),
                period,
                ..Cpu::default()
            }),
            ..Resources::default()
        };
        assert_eq!(cgroup.update(&resources).unwrap(), warnings);
    };
    update(16 << 20, Some(32 << 20), 50_000, Some(10_000));
    assert_eq!(limit(&cgroup), (16 << 20).to_string());
    update(256 << 20, Some(512 << 20), 1_000_000, Some(1_000_000));
    assert_eq!(limit(&cgroup), (256 << 20).to_string());
    update(-1, None, -1, None);
    assert!(
        limit(&cgroup) == "max" || limit(&cgroup).len() > 15,
        "{}",
        limit(&cgroup)
    );
    assert_eq!(read(&cgroup, "pids", "pids.max"), "33", "left as it was");
}

#[test]
fn a_frozen_cgroup_thaws_and_a_frozen_one_is_killed() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let (cgroup, _) = scratch.create(&Resources::default()).unwrap();
    let mut shell = Shell::start(&cgroup);
    assert_eq!(cgroup.pids().unwrap(), [shell.0.id().cast_signed()]);
    assert!(cgroup.is_populated().unwrap());
    assert!(matches!(
        scratch.create(&Resources::default()),
        Err(Error::Occupied(_))
    ));

    cgroup.freeze().unwrap();
    assert!(cgroup.frozen().unwrap());
    cgroup.thaw().unwrap();
    assert!(!cgroup.frozen().unwrap());

    shell.tell("sleep 1000 & sleep 1000 &\n");
    cgroup.freeze().unwrap();
    cgroup.kill().unwrap();
    let status = shell.0.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
    // Its children may still be on their way out: the removal waits for them.
    cgroup.remove().unwrap();
}

#[test]
fn version_1_alone_freezes_kills_and_waits_too() {
    let Some(mut scratch) = Scratch::new() else {
        return;
    };
    // What a machine without the version 2 hierarchy would be.
    scratch.layout.unified = None;
    if !scratch.layout.has_controller("freezer") {
        eprintln!("skipped: no freezer of version 1");
        return;
    }
    let (cgroup, _) = scratch.create(&Resources::default()).unwrap();
    assert_eq!(cgroup.mode(), Mode::Legacy);
    let mut shell = Shell::start(&cgroup);
    shell.tell("sleep 1000 & sleep 1000 &\n");
    cgroup.freeze().unwrap();
    assert!(cgroup.frozen().unwrap());
    cgroup.kill().unwrap();
    assert!(!shell.0.wait().unwrap().success());
    cgroup.remove().unwrap();
}

#[test]
fn a_removal_does_not_wait_for_ever() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let (cgroup, _) = scratch.create(&Resources::default()).unwrap();
    let _shell = Shell::start(&cgroup);
    let before = std::time::Instant::now();
    assert!(matches!(cgroup.remove(), Err(Error::Remove { .. })));
    assert!(before.elapsed() < REMOVAL_BOUND * 3);
}

#[test]
fn what_is_made_inside_is_removed_with_it() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let (cgroup, _) = scratch.create(&Resources::default()).unwrap();
    let dirs = cgroup.hierarchies();
    for (_, dir) in &dirs {
        fs::create_dir_all(dir.join("inner/most")).unwrap();
    }
    cgroup.remove().unwrap();
    assert!(dirs.iter().all(|(_, dir)| !dir.exists()));
}

#[test]
fn a_failure_leaves_no_directory_behind() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let resources = Resources {
        memory: Some(Memory {
            swappiness: Some(101),
            ..Memory::default()
        }),
        devices: vec![DeviceCgroup {
            access: Some("x".to_owned()),
            ..DeviceCgroup::default()
        }],
        ..Resources::default()
    };
    assert!(matches!(scratch.create(&resources), Err(Error::Invalid(_))));
    assert!(Cgroup::open(&scratch.layout, &scratch.path).is_err());
}

fn char_rule(allow: bool, node: Option<(i64, i64)>, access: &str) -> DeviceCgroup {
    DeviceCgroup {
        allow,
        kind: node.map(|_| DeviceKind::Char),
        major: node.map(|(major, _)| major),
        minor: node.map(|(_, minor)| minor),
        access: Some(access.to_owned()),
    }
}

#[test]
fn a_device_that_is_not_allowed_cannot_be_opened() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let resources = Resources {
        devices: devices::default_rules(),
        ..Resources::default()
    };
    let (cgroup, _) = scratch.create(&resources).unwrap();
    assert!(Shell::start(&cgroup).succeeds("exec 3<>/dev/null 4</dev/zero\n"));
    assert!(!Shell::start(&cgroup).succeeds("exec 3</dev/kmsg\n"));
}

#[test]
fn a_device_program_is_enforced_in_version_2_and_replaced_at_once() {
    let Some(mut scratch) = Scratch::new() else {
        return;
    };
    // So that the rules go to version 2 also on a machine with both.
    scratch
        .layout
        .legacy
        .retain(|hierarchy| !hierarchy.has("devices"));
    if scratch.layout.unified().is_none() {
        eprintln!("skipped: no version 2");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mknod = format!("mknod {}/n c 1 11 && rm {0}/n\n", dir.path().display());
    let (cgroup, _) = scratch.create(&Resources::default()).unwrap();
    if !Shell::start(&cgroup).succeeds(&mknod) {
        eprintln!("skipped: no device nodes can be made here");
        return;
    }
    let apply = |rules: &[DeviceCgroup]| {
        let resources = Resources {
            devices: rules.to_vec(),
            ..Resources::default()
        };
        match cgroup.update(&resources) {
            Ok(_) => true,
            Err(Error::DeviceProgram {
                source: Errno::PERM | Errno::NOSYS,
                ..
            }) => {
                eprintln!("skipped: bpf(2) is not permitted");
                false
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    let none = char_rule(false, None, "rwm");
    let null = char_rule(true, Some((1, 3)), "rw");
    if !apply(&[none.clone(), null]) {
        return;
    }
    assert!(!Shell::start(&cgroup).succeeds(&mknod));
    assert!(!Shell::start(&cgroup).succeeds("exec 3</dev/zero\n"));
    assert!(Shell::start(&cgroup).succeeds("exec 3<>/dev/null\n"));
    assert!(apply(&[none, char_rule(true, Some((1, 11)), "m")]));
    assert!(Shell::start(&cgroup).succeeds(&mknod));
    assert!(!Shell::start(&cgroup).succeeds("exec 3</dev/null\n"));
    let attached = conex_sys::bpf::attached_cgroup_devices(cgroup.unified_dir().unwrap()).unwrap();
    assert_eq!(attached.len(), 1);
}

#[test]
fn huge_pages_are_limited_where_the_controller_is() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let resources = Resources {
        hugepage_limits: vec![HugepageLimit {
            page_size: "2MB".to_owned(),
            limit: 4 << 20,
        }],
        ..Resources::default()
    };
    let (cgroup, warnings) = scratch.create(&resources).unwrap();
    match cgroup.place("hugetlb") {
        Place::V2(dir) if dir.exists("hugetlb.2MB.max") => {
            assert_eq!(read(&cgroup, "hugetlb", "hugetlb.2MB.max"), "4194304");
            assert!(warnings.is_empty());
        }
        Place::V1(dir) if dir.exists("hugetlb.2MB.limit_in_bytes") => {
            assert_eq!(
                read(&cgroup, "hugetlb", "hugetlb.2MB.limit_in_bytes"),
                "4194304"
            );
        }
        _ => assert_eq!(warnings.len(), 1),
    }
}

#[test]
fn files_of_version_2_are_written_by_name() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let resources = |file: &str, value: &str| Resources {
        unified: [(file.to_owned(), value.to_owned())].into(),
        ..Resources::default()
    };
    let (cgroup, _) = scratch.create(&Resources::default()).unwrap();
    let outcome = cgroup.update(&resources("cgroup.max.depth", "3"));
    let Some(unified) = &cgroup.unified else {
        assert!(matches!(outcome, Err(Error::Invalid(_))));
        return;
    };
    outcome.unwrap();
    assert_eq!(
        Dir(&unified.path).read("cgroup.max.depth").unwrap().trim(),
        "3"
    );
    for file in ["../cgroup.max.depth", "depth"] {
        assert!(cgroup.update(&resources(file, "3")).is_err(), "{file}");
    }
}
