//! `exec` into a running container.

use std::fs;

use conex_spec::runtime::Process;

use crate::bundle::bundle_or_skip;
use crate::bundle::{stderr, stdout, wait_end};

#[test]
fn a_second_process_is_in_every_namespace_and_cgroup_of_the_first() {
    let mut bundle = bundle_or_skip!();
    let pid = bundle.sleeper();
    let inside = bundle.exec(
        "for n in mnt pid net ipc uts user cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/mountinfo | head -0",
    );
    let names: Vec<_> = inside.lines().collect();
    for (name, file) in names
        .iter()
        .zip(["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"])
    {
        let first = fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
        assert_eq!(*name, first.to_str().unwrap(), "{file}");
    }
    assert_eq!(names.len(), 7);

    let output = bundle.detached(&[
        "exec",
        "-d",
        "--pid-file",
        "pid",
        &bundle.id,
        "sleep",
        "1000",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let second = fs::read_to_string(bundle.path().join("pid")).unwrap();
    let cgroup = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroup(&second), cgroup(&pid.to_string()));
    let comm = fs::read_to_string(format!("/proc/{second}/comm")).unwrap();
    assert_eq!(comm, "sleep\n");
    assert!(bundle.oci(&["delete", "-f", &bundle.id]).status.success());
    wait_end(second.parse().unwrap());
}

#[test]
fn the_exit_code_and_the_streams_are_those_of_the_process() {
    let mut bundle = bundle_or_skip!();
    bundle.sleeper();
    let output = bundle.oci(&[
        "exec",
        &bundle.id,
        "sh",
        "-c",
        "echo out; echo err >&2; exit 9",
    ]);
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("out\n".into(), "err\n".into())
    );
    assert_eq!(output.status.code(), Some(9));
    let killed = bundle.oci(&["exec", &bundle.id, "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
    let missing = bundle.oci(&["exec", &bundle.id, "nosuch"]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(
        stderr(&missing),
        "exec: \"nosuch\": executable file not found in $PATH\n"
    );
}

#[test]
fn flags_change_the_process() {
    let mut bundle = bundle_or_skip!();
    fs::write(
        bundle.root().join("etc/passwd"),
        "joe:x:12:34::/tmp:/bin/sh\n",
    )
    .unwrap();
    bundle.process().no_new_privileges = false;
    bundle.sleeper();
    let script = "id; pwd; echo $A; grep -E 'CapEff|CapBnd|NoNew' /proc/self/status";
    let output = bundle.oci(&[
        "exec",
        "--cwd",
        "/tmp",
        "-e",
        "A=b",
        "-u",
        "5:6",
        "-g",
        "7",
        "--cap",
        "CAP_CHOWN",
        "--no-new-privs",
        &bundle.id,
        "sh",
        "-c",
        script,
    ]);
    let text = stdout(&output);
    assert!(
        text.starts_with("uid=5 gid=6 groups=7\n/tmp\nb\n"),
        "{text}{}",
        stderr(&output)
    );
    assert!(
        text.contains("CapEff:\t0000000000000000") && text.contains("CapBnd:\t0000000020000421"),
        "{text}"
    );
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
    let named = bundle.oci(&["exec", "-u", "joe", &bundle.id, "id"]);
    assert!(
        stdout(&named).starts_with("uid=12(joe) gid=34"),
        "{}",
        stderr(&named)
    );
    let unknown = bundle.oci(&["exec", "-u", "nobody", &bundle.id, "id"]);
    assert_eq!(
        stderr(&unknown),
        "unable to find user nobody: no matching entries in passwd file\n"
    );
}

#[test]
fn a_file_says_the_process_and_the_container_what_it_leaves_out() {
    let mut bundle = bundle_or_skip!();
    bundle.process().rlimits[0].soft = 77;
    bundle.sleeper();
    let process = Process {
        args: ["sh", "-c", "pwd; ulimit -Sn; grep CapBnd /proc/self/status"]
            .map(str::to_owned)
            .to_vec(),
        env: vec!["PATH=/bin".into()],
        cwd: "/var".into(),
        ..Process::default()
    };
    let file = bundle.path().join("process.json");
    fs::write(&file, serde_json::to_vec(&process).unwrap()).unwrap();
    let output = bundle.oci(&["exec", "--process", file.to_str().unwrap(), &bundle.id]);
    assert_eq!(
        stdout(&output),
        "/var\n77\nCapBnd:\t0000000020000420\n",
        "{}",
        stderr(&output)
    );
}

#[test]
fn only_a_container_that_lives_can_be_entered() {
    let mut bundle = bundle_or_skip!();
    let pid = bundle.sleeper();
    conex_sys::process::kill(pid, libc::SIGKILL).unwrap();
    wait_end(pid);
    let output = bundle.oci(&["exec", &bundle.id, "true"]);
    assert_eq!(stderr(&output), "cannot exec in a stopped container\n");
    assert!(!bundle.oci(&["exec", "nosuch", "true"]).status.success());
}
