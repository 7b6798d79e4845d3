//! Namespaces: made, entered, mapped.

use std::os::unix::fs::MetadataExt;

use conex_spec::runtime::{IdMapping, Namespace, NamespaceKind, TimeOffset};

use crate::bundle::bundle_or_skip;
use crate::bundle::{Bundle, stderr};

const FILES: [(&str, NamespaceKind); 7] = [
    ("mnt", NamespaceKind::Mount),
    ("pid", NamespaceKind::Pid),
    ("net", NamespaceKind::Network),
    ("ipc", NamespaceKind::Ipc),
    ("uts", NamespaceKind::Uts),
    ("user", NamespaceKind::User),
    ("cgroup", NamespaceKind::Cgroup),
];

fn namespace(pid: &str, file: &str) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/ns/{file}"))
        .unwrap()
        .ino()
}

fn set(bundle: &mut Bundle, kind: NamespaceKind, path: Option<String>) {
    let namespaces = &mut bundle.linux().namespaces;
    namespaces.retain(|n| n.kind != kind);
    namespaces.push(Namespace {
        kind,
        path: path.map(Into::into),
    });
}

/// The owner of a root that a container with mapped users may write.
fn give_root(bundle: &Bundle) {
    std::os::unix::fs::chown(bundle.root(), Some(100_000), Some(100_000)).unwrap();
}

fn map_users(bundle: &mut Bundle) {
    give_root(bundle);
    let map = vec![IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 65536,
    }];
    bundle.linux().uid_mappings = map.clone();
    bundle.linux().gid_mappings = map;
    set(bundle, NamespaceKind::User, None);
}

#[test]
fn every_namespace_asked_for_is_new_and_no_other() {
    let mut bundle = bundle_or_skip!();
    bundle
        .linux()
        .namespaces
        .retain(|n| n.kind != NamespaceKind::Uts);
    bundle.spec.hostname = None;
    let pid = bundle.sleeper().to_string();
    for (file, kind) in FILES {
        let new = bundle.linux().namespace(kind).is_some();
        assert_eq!(
            namespace(&pid, file) != namespace("self", file),
            new,
            "{file}"
        );
    }
    // A cgroup namespace is rooted where the container is.
    assert!(
        bundle
            .exec("cat /proc/self/cgroup")
            .lines()
            .all(|line| line.ends_with(":/"))
    );
}

#[test]
fn names_and_parameters_are_the_containers_own() {
    let mut bundle = bundle_or_skip!();
    bundle.spec.hostname = Some("inside".into());
    bundle.spec.domainname = Some("example.org".into());
    let sysctl = &mut bundle.linux().sysctl;
    sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
    sysctl.insert("kernel.shmmax".into(), "12345678".into());
    let text = bundle.run_script(
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax
         busybox ip -o link show lo",
    );
    assert!(
        text.starts_with("inside\nexample.org\n1\n12345678\n"),
        "{text}"
    );
    assert!(text.contains("LOOPBACK,UP"), "{text}");
    bundle
        .linux()
        .sysctl
        .insert("vm.swappiness".into(), "1".into());
    assert!(
        bundle
            .run_fails()
            .contains("is not in a separate kernel namespace")
    );
}

#[test]
fn namespaces_of_another_container_are_entered() {
    let mut first = bundle_or_skip!();
    let pid = first.sleeper();
    let mut second = bundle_or_skip!();
    for (file, kind) in [
        ("net", NamespaceKind::Network),
        ("pid", NamespaceKind::Pid),
        ("ipc", NamespaceKind::Ipc),
    ] {
        set(&mut second, kind, Some(format!("/proc/{pid}/ns/{file}")));
    }
    let own = second.sleeper().to_string();
    let other = pid.to_string();
    for file in ["net", "pid", "ipc"] {
        assert_eq!(namespace(&own, file), namespace(&other, file), "{file}");
    }
    assert_ne!(namespace(&own, "uts"), namespace(&other, "uts"));
    let processes = second.exec("for p in /proc/[0-9]*; do cat $p/comm; done");
    assert!(processes.matches("sleep").count() >= 2, "{processes}");
    // Nobody dies with the first process: deleting has to end the others.
    assert!(second.oci(&["delete", "-f", &second.id]).status.success());
    assert_eq!(first.status(), "running");
}

#[test]
fn users_are_mapped() {
    let mut bundle = bundle_or_skip!();
    map_users(&mut bundle);
    bundle.process().oom_score_adj = Some(50);
    std::os::unix::fs::chown(bundle.root().join("tmp"), Some(100_000), Some(100_000)).unwrap();
    let text = bundle.run_script(
        "id -u; cat /proc/self/uid_map /proc/self/oom_score_adj; echo x > /dev/null; touch /tmp/made; cat /proc/self/mounts",
    );
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("0"));
    let map: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", "100000", "65536"]);
    assert_eq!(lines.next(), Some("50"));
    assert!(
        text.contains("proc /proc proc rw") && text.contains(" /dev/null "),
        "{text}"
    );
    assert_eq!(
        std::fs::metadata(bundle.root().join("tmp/made"))
            .unwrap()
            .uid(),
        100_000
    );

    bundle.sleeper();
    assert_eq!(
        bundle.exec("id -u; cat /proc/self/oom_score_adj"),
        "0\n50\n"
    );
    bundle.linux().uid_mappings.clear();
    assert!(bundle.oci(&["delete", "-f", &bundle.id]).status.success());
    assert!(bundle.run_fails().contains("needs uidMappings"));
}

#[test]
fn a_user_namespace_is_made_beside_a_network_that_is_entered() {
    let mut first = bundle_or_skip!();
    let pid = first.sleeper();
    let mut second = bundle_or_skip!();
    map_users(&mut second);
    set(
        &mut second,
        NamespaceKind::Network,
        Some(format!("/proc/{pid}/ns/net")),
    );
    // That network belongs to the host's users, so that its sysfs is not to be had.
    second
        .spec
        .mounts
        .retain(|m| !m.destination.starts_with("/sys"));
    let own = second.sleeper().to_string();
    assert_eq!(namespace(&own, "net"), namespace(&pid.to_string(), "net"));
    assert_ne!(namespace(&own, "user"), namespace("self", "user"));
    assert_eq!(second.exec("id -u"), "0\n");
}

#[test]
fn the_users_of_another_container_are_shared() {
    let mut first = bundle_or_skip!();
    map_users(&mut first);
    let pid = first.sleeper();
    let mut second = bundle_or_skip!();
    give_root(&second);
    set(
        &mut second,
        NamespaceKind::User,
        Some(format!("/proc/{pid}/ns/user")),
    );
    let own = second.sleeper().to_string();
    assert_eq!(namespace(&own, "user"), namespace(&pid.to_string(), "user"));
    assert_ne!(namespace(&own, "net"), namespace(&pid.to_string(), "net"));
    assert_eq!(second.exec("id -u; echo 1 > /dev/null"), "0\n");
}

#[test]
fn clocks_have_their_offsets() {
    let mut bundle = bundle_or_skip!();
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        eprintln!("skipped: this kernel has no time namespaces");
        return;
    }
    set(&mut bundle, NamespaceKind::Time, None);
    let offset = TimeOffset {
        secs: 1_000_000,
        nanosecs: 0,
    };
    bundle.linux().time_offsets = [("boottime".to_owned(), offset)].into();
    let uptime = |text: &str| text.split('.').next().unwrap().parse::<i64>().unwrap();
    let inside = uptime(&bundle.run_script("cat /proc/uptime"));
    let outside = uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
    assert!(
        (inside - outside - 1_000_000).abs() < 100,
        "{inside} {outside}"
    );
    bundle.sleeper();
    assert!((uptime(&bundle.exec("cat /proc/uptime")) - inside).abs() < 100);
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    let mut bundle = bundle_or_skip!();
    set(
        &mut bundle,
        NamespaceKind::Network,
        Some("/run/no/such/net".into()),
    );
    assert!(
        bundle
            .run_fails()
            .starts_with("namespace /run/no/such/net: no such file")
    );
    set(
        &mut bundle,
        NamespaceKind::Network,
        Some("/proc/self/ns/uts".into()),
    );
    let output = bundle.oci(&["run", &bundle.id]);
    assert!(
        stderr(&output).starts_with("enter a namespace"),
        "{}",
        stderr(&output)
    );
}
