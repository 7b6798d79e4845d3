//! Hooks at every point, in order and in the right place.

use std::fs;
use std::path::Path;

use conex_spec::runtime::{Hook, Hooks};

use crate::bundle::bundle_or_skip;
use crate::bundle::{Bundle, stderr};

/// A hook that appends a line of its name, what a script says, and the status.
fn hook(bundle: &Bundle, name: &str, script: &str) -> Vec<Hook> {
    let log = bundle.path().join("hooks.log");
    let script = format!(
        "state=$(cat); status=${{state#*status\\\":\\\"}}; echo {name} $({script}) ${{status%%\\\"*}} >> {}",
        log.display()
    );
    let args = ["sh", "-c", &script].map(str::to_owned).to_vec();
    vec![Hook {
        path: "/bin/sh".into(),
        args,
        env: vec!["PATH=/bin:/usr/bin".into()],
        timeout_seconds: Some(20),
    }]
}

fn log(bundle: &Bundle) -> Vec<String> {
    let text = fs::read_to_string(bundle.path().join("hooks.log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn hooks_run_in_order_and_where_they_belong() {
    let mut bundle = bundle_or_skip!();
    let root = bundle.root();
    let mounted = format!("[ -e {}/proc/version ] && echo mounted", root.display());
    let unmounted = format!("[ -e {}/proc/version ] || echo unmounted", root.display());
    let inside = Path::new("/bin/sh");
    let mut start = hook(&bundle, "startContainer", "hostname");
    start[0].path = inside.into();
    // That one sees the container's files only.
    let log_inside = start[0].args[2].replace(
        &format!("{}/hooks.log", bundle.path().display()),
        "/tmp/start.log",
    );
    start[0].args[2] = log_inside;
    bundle.spec.hooks = Some(Hooks {
        prestart: hook(&bundle, "prestart", &unmounted),
        create_runtime: hook(&bundle, "createRuntime", "echo"),
        create_container: hook(&bundle, "createContainer", &format!("hostname; {mounted}")),
        start_container: start,
        poststart: hook(&bundle, "poststart", "echo"),
        poststop: hook(&bundle, "poststop", "echo"),
    });
    bundle.spec.hostname = Some("inside".into());
    bundle.process().args = vec!["sleep".into(), "1000".into()];
    let created = bundle.detached(&["create", &bundle.id]);
    assert!(created.status.success(), "{}", stderr(&created));
    assert_eq!(
        log(&bundle),
        [
            "prestart unmounted creating",
            "createRuntime creating",
            "createContainer inside mounted creating"
        ]
    );
    let started = bundle.oci(&["start", &bundle.id]);
    assert!(started.status.success(), "{}", stderr(&started));
    let text = fs::read_to_string(root.join("tmp/start.log")).unwrap();
    assert_eq!(text, "startContainer inside created\n");
    assert_eq!(log(&bundle)[3..], ["poststart running"]);
    assert!(
        bundle
            .oci(&["delete", "--force", &bundle.id])
            .status
            .success()
    );
    assert_eq!(log(&bundle)[4..], ["poststop stopped"]);
    // What a hook saw at the root was a copy.
    assert!(!root.join("proc/version").exists());

    // A foreground run has them all, too.
    fs::remove_file(bundle.path().join("hooks.log")).unwrap();
    bundle.process().args = vec!["true".into()];
    bundle.run();
    assert_eq!(log(&bundle).len(), 5);
}

#[test]
fn a_hook_that_fails_ends_the_creation_and_leaves_nothing() {
    let mut bundle = bundle_or_skip!();
    let failing = |script: &str| {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        vec![Hook {
            path: "/bin/sh".into(),
            args,
            ..Hook::default()
        }]
    };
    bundle.spec.hooks = Some(Hooks {
        create_runtime: failing("echo why; exit 4"),
        ..Hooks::default()
    });
    let text = bundle.run_fails();
    assert_eq!(
        text,
        "error running createRuntime hook #0: /bin/sh: exit status 4, output: why\n"
    );
    bundle.spec.hooks = Some(Hooks {
        create_container: failing("exit 5"),
        ..Hooks::default()
    });
    assert!(
        bundle
            .run_fails()
            .starts_with("error running createContainer hook #0")
    );
    bundle.spec.hooks = Some(Hooks {
        start_container: failing("exit 6"),
        ..Hooks::default()
    });
    assert!(
        bundle
            .run_fails()
            .starts_with("error running startContainer hook #0")
    );
    // After the start, failures are told only.
    bundle.spec.hooks = Some(Hooks {
        poststop: failing("exit 7"),
        ..Hooks::default()
    });
    let output = bundle.oci(&["run", &bundle.id]);
    assert!(output.status.success());
    assert!(stderr(&output).starts_with("warning: error running poststop hook #0"));
}

#[test]
fn hooks_come_before_the_maps_of_users_are_used() {
    let mut bundle = bundle_or_skip!();
    std::os::unix::fs::chown(bundle.root(), Some(100_000), Some(100_000)).unwrap();
    let map = vec![conex_spec::runtime::IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 1000,
    }];
    bundle.linux().uid_mappings = map.clone();
    bundle.linux().gid_mappings = map;
    bundle
        .linux()
        .namespaces
        .push(conex_spec::runtime::Namespace::new(
            conex_spec::runtime::NamespaceKind::User,
        ));
    let read_map = "pid=${state#*pid\\\":}; cat /proc/${pid%%,*}/uid_map";
    bundle.spec.hooks = Some(Hooks {
        create_runtime: hook(&bundle, "createRuntime", read_map),
        create_container: hook(&bundle, "createContainer", "echo"),
        ..Hooks::default()
    });
    bundle.run();
    assert_eq!(
        log(&bundle),
        [
            "createRuntime 0 100000 1000 creating",
            "createContainer creating"
        ]
    );
}
