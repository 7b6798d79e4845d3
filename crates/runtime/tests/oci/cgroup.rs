//! Limits, freezing, and cgroups as the container sees them.

use std::fs;

use conex_spec::runtime::{Memory, Pids};

use crate::bundle::bundle_or_skip;
use crate::bundle::{cgroups, stderr};

/// A file of the container's cgroup, whatever its hierarchy.
fn file(name: &str, files: &[&str]) -> String {
    let found = cgroups(name)
        .into_iter()
        .flat_map(|dir| files.map_join(&dir))
        .find(|p| p.exists());
    fs::read_to_string(found.expect("the controller is mounted"))
        .unwrap()
        .trim()
        .to_owned()
}

trait MapJoin {
    fn map_join(&self, dir: &std::path::Path) -> Vec<std::path::PathBuf>;
}

impl MapJoin for &[&str] {
    fn map_join(&self, dir: &std::path::Path) -> Vec<std::path::PathBuf> {
        self.iter().map(|name| dir.join(name)).collect()
    }
}

const MEMORY: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];

#[test]
fn limits_hold_and_are_seen_inside() {
    let mut bundle = bundle_or_skip!();
    let resources = bundle.linux().resources.as_mut().unwrap();
    resources.memory = Some(Memory {
        limit: Some(64 << 20),
        ..Memory::default()
    });
    resources.pids = Some(Pids { limit: Some(23) });
    bundle.sleeper();
    assert_eq!(file(&bundle.id, &MEMORY), (64 << 20).to_string());
    assert_eq!(file(&bundle.id, &["pids.max"]), "23");
    let inside =
        bundle.exec("cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true");
    assert_eq!(inside, "23\n");

    let limits = bundle.path().join("limits.json");
    fs::write(
        &limits,
        r#"{"memory":{"limit":33554432},"pids":{"limit":0}}"#,
    )
    .unwrap();
    let updated = bundle.oci(&["update", "-r", limits.to_str().unwrap(), &bundle.id]);
    assert!(updated.status.success(), "{}", stderr(&updated));
    assert_eq!(file(&bundle.id, &MEMORY), (32 << 20).to_string());
    assert_eq!(file(&bundle.id, &["pids.max"]), "23");
    assert!(
        bundle
            .oci(&["update", "--pids-limit", "31", &bundle.id])
            .status
            .success()
    );
    assert_eq!(file(&bundle.id, &["pids.max"]), "31");
}

#[test]
fn the_cgroup_is_where_the_configuration_says() {
    let mut bundle = bundle_or_skip!();
    let parent = format!("{}-parent", bundle.id);
    bundle.linux().cgroups_path = Some(format!("/{parent}/inner"));
    bundle.sleeper();
    let directories = cgroups(&parent);
    assert!(!directories.is_empty() && directories.iter().all(|dir| dir.join("inner").is_dir()));
    assert!(bundle.oci(&["delete", "-f", &bundle.id]).status.success());
    // The parent may be somebody else's.
    for directory in cgroups(&parent) {
        assert!(!directory.join("inner").exists());
        fs::remove_dir(directory).unwrap();
    }
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    let mut bundle = bundle_or_skip!();
    let (heard, said) = (bundle.fifo("heard"), bundle.fifo("said"));
    bundle.script("while read line; do echo got $line > /tmp/said; done < /tmp/heard");
    assert!(bundle.detached(&["run", "-d", &bundle.id]).status.success());
    heard.write("one\n");
    assert_eq!(said.read(), "got one\n");
    let paused = bundle.oci(&["pause", &bundle.id]);
    assert!(paused.status.success(), "{}", stderr(&paused));
    assert_eq!(bundle.status(), "paused");
    let refused = bundle.oci(&["exec", &bundle.id, "true"]);
    assert!(stderr(&refused).starts_with("cannot exec in a paused container"));
    assert!(!bundle.oci(&["pause", &bundle.id]).status.success());
    heard.write("two\n");
    assert_eq!(said.read_within(100), None);
    assert!(bundle.oci(&["resume", &bundle.id]).status.success());
    assert_eq!(said.read(), "got two\n");
    assert_eq!(bundle.status(), "running");
    assert_eq!(
        stderr(&bundle.oci(&["resume", &bundle.id])),
        "container not paused\n"
    );
    assert!(bundle.oci(&["pause", &bundle.id]).status.success());
    assert!(
        bundle
            .oci(&["delete", "--force", &bundle.id])
            .status
            .success()
    );
    assert!(bundle.is_clean());
}
