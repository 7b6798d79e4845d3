//! From `create` to `delete`, and what the commands say.

use std::fs;

use serde_json::Value;

use crate::bundle::bundle_or_skip;
use crate::bundle::{cgroups, stderr, stdout, wait_end};

#[test]
fn run_returns_the_exit_code_and_leaves_nothing() {
    let mut bundle = bundle_or_skip!();
    for (script, code) in [("true", 0), ("exit 7", 7), ("kill -9 $$; sleep 9", 137)] {
        // The first process of a pid namespace cannot kill itself.
        let script = if code == 137 {
            "sh -c 'kill -9 $$'; exit $?"
        } else {
            script
        };
        bundle.script(script);
        let output = bundle.oci(&["run", &bundle.id]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{script}: {}",
            stderr(&output)
        );
        assert!(bundle.is_clean());
    }
}

#[test]
fn a_container_goes_from_created_to_running_to_stopped_to_nothing() {
    let mut bundle = bundle_or_skip!();
    bundle
        .spec
        .annotations
        .insert("org.example.key".into(), "value".into());
    bundle.script("echo started > /tmp/started; exec sleep 1000");
    let output = bundle.detached(&["create", "--pid-file", "pid", &bundle.id]);
    assert!(output.status.success(), "{}", stderr(&output));

    let state = bundle.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], *bundle.id);
    assert_eq!(state["bundle"], *bundle.path().to_str().unwrap());
    assert_eq!(state["annotations"]["org.example.key"], "value");
    let pid = bundle.pid();
    assert_eq!(
        fs::read_to_string(bundle.path().join("pid")).unwrap(),
        pid.to_string()
    );
    assert!(
        !bundle.root().join("tmp/started").exists(),
        "the program ran before its start"
    );
    assert!(!cgroups(&bundle.id).is_empty());

    assert!(bundle.oci(&["start", &bundle.id]).status.success());
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.pid(), pid);
    let again = bundle.oci(&["start", &bundle.id]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(
        stderr(&again),
        "cannot start an already running container\n"
    );
    let early = bundle.oci(&["delete", &bundle.id]);
    assert!(
        stderr(&early).contains("that is not stopped: running"),
        "{}",
        stderr(&early)
    );

    assert!(bundle.oci(&["kill", &bundle.id, "KILL"]).status.success());
    wait_end(pid);
    let state = bundle.state();
    assert_eq!(
        (&state["status"], state.get("pid")),
        (&Value::from("stopped"), None)
    );
    assert!(bundle.root().join("tmp/started").exists());
    let dead = bundle.oci(&["kill", &bundle.id]);
    assert_eq!(stderr(&dead), "container not running\n");
    assert_eq!(
        stderr(&bundle.oci(&["start", &bundle.id])),
        "cannot start a container that has stopped\n"
    );

    assert!(bundle.oci(&["delete", &bundle.id]).status.success());
    assert!(bundle.is_clean());
    let gone = bundle.oci(&["state", &bundle.id]);
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(
        stderr(&gone),
        format!("container does not exist: {}\n", bundle.id)
    );
    assert!(
        bundle
            .oci(&["delete", "--force", &bundle.id])
            .status
            .success()
    );
    assert!(!bundle.oci(&["delete", &bundle.id]).status.success());
}

#[test]
fn an_id_is_taken_once() {
    let mut bundle = bundle_or_skip!();
    let pid = bundle.sleeper();
    let again = bundle.detached(&["create", &bundle.id]);
    assert_eq!(
        stderr(&again),
        format!("container with given ID already exists: {}\n", bundle.id)
    );
    // The first one is unharmed.
    assert_eq!((bundle.status().as_str(), bundle.pid()), ("running", pid));
    let wrong = bundle.detached(&["create", "../x"]);
    assert_eq!(stderr(&wrong), "invalid container ID format: \"../x\"\n");
}

#[test]
fn a_created_container_is_deleted_and_a_running_one_by_force() {
    let mut bundle = bundle_or_skip!();
    assert!(bundle.detached(&["create", &bundle.id]).status.success());
    assert!(bundle.oci(&["delete", &bundle.id]).status.success());
    assert!(bundle.is_clean());
    let pid = bundle.sleeper();
    assert!(
        bundle
            .oci(&["delete", "--force", &bundle.id])
            .status
            .success()
    );
    assert!(bundle.is_clean());
    wait_end(pid);
}

#[test]
fn a_program_that_is_missing_fails_the_creation_as_engines_expect() {
    let mut bundle = bundle_or_skip!();
    let cases = [
        (
            "nosuch",
            "exec: \"nosuch\": executable file not found in $PATH",
        ),
        (
            "/no/such",
            "exec: \"/no/such\": stat /no/such: no such file or directory",
        ),
        ("/etc", "exec: \"/etc\": is a directory"),
        ("/etc/plain", "exec: \"/etc/plain\": permission denied"),
    ];
    fs::write(bundle.root().join("etc/plain"), "").unwrap();
    for (program, text) in cases {
        bundle.process().args = vec![program.into()];
        assert_eq!(bundle.run_fails(), format!("{text}\n"));
        let log = bundle.path().join("log.json");
        let log = log.to_str().unwrap();
        let created =
            bundle.detached(&["--log", log, "--log-format", "json", "create", &bundle.id]);
        assert_eq!(created.status.code(), Some(1));
        assert!(bundle.is_clean());
        let lines = fs::read_to_string(log).unwrap();
        let line: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&line["level"], &line["msg"]),
            (&"error".into(), &text.into())
        );
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
}

#[test]
fn a_failure_after_the_start_is_told_to_whoever_starts() {
    let mut bundle = bundle_or_skip!();
    // It can be found, but not be executed.
    fs::write(bundle.root().join("bin/bad"), "\u{7f}ELF").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(
        bundle.root().join("bin/bad"),
        PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    bundle.process().args = vec!["bad".into()];
    assert!(bundle.detached(&["create", &bundle.id]).status.success());
    let pid = bundle.pid();
    let started = bundle.oci(&["start", &bundle.id]);
    assert_eq!(started.status.code(), Some(1));
    assert_eq!(stderr(&started), "exec: \"bad\": exec format error\n");
    wait_end(pid);
    assert!(bundle.oci(&["delete", &bundle.id]).status.success());
    assert!(bundle.is_clean());
}

#[test]
fn signals_reach_the_first_process_and_all_reaches_the_others() {
    let mut bundle = bundle_or_skip!();
    let said = bundle.fifo("said");
    bundle.script(
        "trap 'echo first > /tmp/said' USR1; trap : USR2
         sh -c 'trap \"echo other > /tmp/said; exit\" USR2; echo ready > /tmp/said; while :; do sleep 0.05; done' &
         while ! wait; do :; done",
    );
    assert!(
        bundle
            .detached(&["run", "--detach", &bundle.id])
            .status
            .success()
    );
    assert_eq!(said.read(), "ready\n");
    assert!(bundle.oci(&["kill", &bundle.id, "USR1"]).status.success());
    assert_eq!(said.read(), "first\n");
    let pid = bundle.pid();
    assert!(
        bundle
            .oci(&["kill", "--all", &bundle.id, "SIGUSR2"])
            .status
            .success()
    );
    assert_eq!(said.read(), "other\n");
    wait_end(pid);
}

#[test]
fn run_passes_signals_on() {
    let mut bundle = bundle_or_skip!();
    let said = bundle.fifo("said");
    bundle.script("trap 'exit 5' TERM; echo ready > /tmp/said; while :; do sleep 0.05; done");
    let mut child = bundle.command(&["run", &bundle.id]).spawn().unwrap();
    assert_eq!(said.read(), "ready\n");
    conex_sys::process::kill(child.id() as i32, libc::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert!(bundle.is_clean());
}

#[test]
fn the_runtime_itself_cannot_be_written_from_a_container() {
    let mut bundle = bundle_or_skip!();
    bundle.process().args = vec!["true".into()];
    assert!(bundle.detached(&["create", &bundle.id]).status.success());
    // While it runs nobody can write it anyhow, but who holds it could later.
    let exe = fs::File::open(format!("/proc/{}/exe", bundle.pid())).unwrap();
    let flags = rustix::fs::fstatvfs(exe).unwrap().f_flag;
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY));
}

#[test]
fn containers_are_listed() {
    let mut bundle = bundle_or_skip!();
    assert_eq!(stdout(&bundle.oci(&["list", "-f", "json"])), "[]\n");
    let pid = bundle.sleeper();
    assert_eq!(
        stdout(&bundle.oci(&["list", "-q"])),
        format!("{}\n", bundle.id)
    );
    let json: Value = serde_json::from_slice(&bundle.oci(&["list", "-f=json"]).stdout).unwrap();
    assert_eq!(
        (&json[0]["pid"], &json[0]["status"]),
        (&pid.into(), &"running".into())
    );
    let table = stdout(&bundle.oci(&["list"]));
    assert!(
        table.starts_with("ID   ") && table.contains(" running "),
        "{table}"
    );
    let pids: Vec<i32> =
        serde_json::from_slice(&bundle.oci(&["ps", "-f", "json", &bundle.id]).stdout).unwrap();
    assert_eq!(pids, [pid]);
}

#[test]
fn the_command_line_is_checked() {
    let bundle = bundle_or_skip!();
    for (args, text) in [
        (["nosuch"].as_slice(), "no such command"),
        (&["state"], "one argument is needed"),
        (
            &["state", "--what", "x"],
            "flag provided but not defined: --what",
        ),
        (&["kill", "x", "NOSIG"], "unable to parse signal"),
        (&["--log-format", "xml", "list"], "invalid log-format"),
    ] {
        let output = bundle.oci(args);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
    assert!(stdout(&bundle.oci(&["--version"])).starts_with("conex runtime version"));
    assert!(stdout(&bundle.oci(&["--help"])).contains("create"));
    let features: Value = serde_json::from_slice(&bundle.oci(&["features"]).stdout).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
}
