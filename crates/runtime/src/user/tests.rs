//! Users of made-up root file systems.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
# a comment
broken line
app:x:1000:1001:App:/home/app:/bin/sh
app:x:2000:2001:second of the name:/second:
1234:x:7:7:a name of digits:/digits:
nohome:x:1002:1002:::
";

const GROUP: &str = "\
root:x:0:
# adm:x:3:app
wheel:x:10:root,app
video:x:44:app
video:x:45:second of the name
same:x:1001:app
again:x:10:app
777:x:8:
users:x:100
";

fn root_with(passwd: Option<&str>, group: Option<&str>) -> TempDir {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    for (name, content) in [("passwd", passwd), ("group", group)] {
        if let Some(content) = content {
            fs::write(root.path().join("etc").join(name), content).unwrap();
        }
    }
    root
}

fn resolve_in(root: &Path, spec: &str, extra: &[&str]) -> Result<ResolvedUser, UserError> {
    let root = fs::File::open(root).unwrap();
    let extra: Vec<String> = extra.iter().map(ToString::to_string).collect();
    resolve(root.as_fd(), spec, &extra)
}

fn user(uid: u32, gid: u32, supplementary: &[u32], home: &str) -> ResolvedUser {
    ResolvedUser {
        uid,
        gid,
        supplementary: supplementary.to_vec(),
        home: home.into(),
    }
}

#[test]
fn every_form_finds_its_user() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    for (spec, expected) in [
        ("", user(0, 0, &[0, 10], "/root")),
        ("root", user(0, 0, &[0, 10], "/root")),
        ("0", user(0, 0, &[0, 10], "/root")),
        ("app", user(1000, 1001, &[1001, 10, 44], "/home/app")),
        ("app:", user(1000, 1001, &[1001, 10, 44], "/home/app")),
        ("1000", user(1000, 1001, &[1001, 10, 44], "/home/app")),
        ("+1000", user(1000, 1001, &[1001, 10, 44], "/home/app")),
        ("app:video", user(1000, 44, &[44], "/home/app")),
        ("app:5", user(1000, 5, &[5], "/home/app")),
        ("1000:video", user(1000, 44, &[44], "/home/app")),
        ("1000:1001", user(1000, 1001, &[1001], "/home/app")),
        (":video", user(0, 44, &[44], "/root")),
        (":5", user(0, 5, &[5], "/root")),
        (":", user(0, 0, &[0, 10], "/root")),
        ("nohome", user(1002, 1002, &[1002], "/")),
        ("4242", user(4242, 0, &[0], "/")),
        ("4242:100", user(4242, 100, &[100], "/")),
        (
            "2147483647:2147483647",
            user(2_147_483_647, 2_147_483_647, &[2_147_483_647], "/"),
        ),
    ] {
        assert_eq!(
            resolve_in(root.path(), spec, &[]).unwrap(),
            expected,
            "{spec:?}"
        );
    }
}

#[test]
fn a_number_is_an_id_and_never_a_name() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    assert_eq!(
        resolve_in(root.path(), "1234", &[]).unwrap(),
        user(1234, 0, &[0], "/")
    );
    assert_eq!(resolve_in(root.path(), "app:777", &[]).unwrap().gid, 777);
}

#[test]
fn extra_groups_are_added_by_name_and_number() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    let resolved = resolve_in(
        root.path(),
        "app:5",
        &["video", "9999", "users", "5", "video"],
    )
    .unwrap();
    assert_eq!(resolved.supplementary, [5, 44, 9999, 100]);
    let resolved = resolve_in(root.path(), "", &["users"]).unwrap();
    assert_eq!(resolved.supplementary, [0, 10, 100]);
}

#[test]
fn names_that_are_nowhere_are_named() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    for (spec, extra, message) in [
        (
            "nobody",
            &[][..],
            "unable to find user nobody: no matching entries in passwd file",
        ),
        (
            "-x",
            &[],
            "unable to find user -x: no matching entries in passwd file",
        ),
        (
            "app:nogroup",
            &[],
            "unable to find group nogroup: no matching entries in group file",
        ),
        (
            "a:b:c",
            &[],
            "unable to find user a: no matching entries in passwd file",
        ),
        (
            "app:b:c",
            &[],
            "unable to find group b:c: no matching entries in group file",
        ),
        (
            "app",
            &["users", "nogroup"],
            "unable to find group nogroup: no matching entries in group file",
        ),
        (
            "app",
            &[""],
            "unable to find group : no matching entries in group file",
        ),
    ] {
        assert_eq!(
            resolve_in(root.path(), spec, extra)
                .unwrap_err()
                .to_string(),
            message
        );
    }
}

#[test]
fn numbers_that_are_no_ids_are_refused() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    for (spec, extra) in [
        ("-1", &[][..]),
        ("2147483648", &[]),
        ("4294967295", &[]),
        ("99999999999999999999999", &[]),
        ("0:-1", &[]),
        ("0:2147483648", &[]),
        ("0", &["2147483648"]),
    ] {
        let message = resolve_in(root.path(), spec, extra)
            .unwrap_err()
            .to_string();
        assert_eq!(
            message, "uids and gids must be in range 0-2147483647",
            "{spec} {extra:?}"
        );
    }
}

#[test]
fn a_root_file_system_without_files_has_root_and_numbers() {
    let root = TempDir::new().unwrap();
    for spec in ["", "root", "0", "root:root", ":root", "0:0"] {
        assert_eq!(
            resolve_in(root.path(), spec, &[]).unwrap(),
            user(0, 0, &[0], "/"),
            "{spec:?}"
        );
    }
    assert_eq!(
        resolve_in(root.path(), "5:6", &["7", "root"]).unwrap(),
        user(5, 6, &[6, 7, 0], "/")
    );
    assert!(matches!(
        resolve_in(root.path(), "app", &[]),
        Err(UserError::NoUser { .. })
    ));
    assert!(matches!(
        resolve_in(root.path(), "0:app", &[]),
        Err(UserError::NoGroup { .. })
    ));
}

#[test]
fn a_passwd_file_without_root_does_not_have_it() {
    let root = root_with(Some("app:x:1:1::/:\n"), Some(""));
    assert!(matches!(
        resolve_in(root.path(), "root", &[]),
        Err(UserError::NoUser { .. })
    ));
    assert!(matches!(
        resolve_in(root.path(), "app:root", &[]),
        Err(UserError::NoGroup { .. })
    ));
    assert_eq!(
        resolve_in(root.path(), "", &[]).unwrap(),
        user(0, 0, &[0], "/")
    );
}

#[test]
fn links_lead_to_files_inside_the_root_only() {
    let root = root_with(None, None);
    let etc = root.path().join("etc");
    // What an absolute link means inside, and what one that climbs out meets.
    fs::create_dir(root.path().join("nix")).unwrap();
    fs::write(root.path().join("nix/passwd"), "inside:x:1:1::/in:\n").unwrap();
    symlink("/nix/passwd", etc.join("passwd")).unwrap();
    assert_eq!(
        resolve_in(root.path(), "inside", &[]).unwrap(),
        user(1, 1, &[1], "/in")
    );

    let outside = TempDir::new().unwrap();
    let secret = outside.path().join("group");
    fs::write(&secret, "secret:x:66:\n").unwrap();
    let climbing =
        Path::new("../../../../../../../../../..").join(secret.strip_prefix("/").unwrap());
    symlink(climbing, etc.join("group")).unwrap();
    let error = resolve_in(root.path(), "0:secret", &[]).unwrap_err();
    assert!(matches!(error, UserError::NoGroup { .. }), "{error}");
}

#[test]
fn what_is_no_regular_file_has_no_entries() {
    let root = root_with(None, None);
    let etc = root.path().join("etc");
    fs::create_dir(etc.join("passwd")).unwrap();
    // Nobody writes to it: an open that waits would hang here.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        etc.join("group"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(
        resolve_in(root.path(), "root:root", &[]).unwrap(),
        user(0, 0, &[0], "/")
    );
    fs::remove_dir(etc.join("passwd")).unwrap();
    symlink("passwd", etc.join("passwd")).unwrap();
    assert_eq!(
        resolve_in(root.path(), "3", &[]).unwrap(),
        user(3, 0, &[0], "/")
    );
}

#[test]
fn more_groups_than_a_process_can_have_are_refused() {
    let lines = |count: u32| {
        (1..=count)
            .map(|gid| format!("g{gid}:x:{gid}:root\n"))
            .collect::<String>()
    };
    let passwd = "root:x:0:0::/:\n";
    let root = root_with(Some(passwd), Some(&lines(65535)));
    assert_eq!(
        resolve_in(root.path(), "root", &[])
            .unwrap()
            .supplementary
            .len(),
        MAX_GROUPS
    );
    let root = root_with(Some(passwd), Some(&lines(65536)));
    let error = resolve_in(root.path(), "root", &[]).unwrap_err();
    assert!(matches!(error, UserError::TooManyGroups { .. }), "{error}");
}
