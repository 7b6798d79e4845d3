//! Who the process is and what it may do.

use std::fs;

use conex_spec::runtime::{Capabilities, Rlimit, Seccomp, SeccompAction, SeccompSyscall, User};

use crate::bundle::bundle_or_skip;
use crate::bundle::{stderr, stdout};

/// A line of /proc/PID/status.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default();
    line.split(':').nth(1).unwrap_or_default().trim()
}

#[test]
fn capabilities_are_those_of_the_configuration() {
    let mut bundle = bundle_or_skip!();
    let kill_chown = vec![
        "CAP_KILL".to_owned(),
        "CAP_CHOWN".to_owned(),
        "CAP_UNKNOWN".to_owned(),
    ];
    bundle.process().capabilities = Some(Capabilities {
        bounding: kill_chown.clone(),
        permitted: kill_chown.clone(),
        effective: vec!["CAP_KILL".to_owned()],
        inheritable: vec!["CAP_KILL".to_owned()],
        ambient: vec!["CAP_KILL".to_owned()],
    });
    // With another user, only the ambient ones get through the exec.
    bundle.process().user.uid = 1000;
    let status = bundle.run_script("cat /proc/self/status");
    assert_eq!(field(&status, "CapBnd"), "0000000000000021");
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000020", "{set}");
    }
    bundle.process().capabilities = None;
    bundle.process().user.uid = 0;
    let status = bundle.run_script("cat /proc/self/status");
    for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
}

#[test]
fn user_group_groups_and_umask_are_set() {
    let mut bundle = bundle_or_skip!();
    bundle.process().user = User {
        uid: 7,
        gid: 8,
        umask: Some(0o027),
        additional_gids: vec![9, 10],
        username: None,
    };
    let text = bundle.run_script("id; umask; touch /tmp/made; stat -c %u:%g:%a /tmp/made");
    assert_eq!(text, "uid=7 gid=8 groups=9,10\n0027\n7:8:640\n");
    bundle.process().user = User::default();
    assert_eq!(bundle.run_script("id -G; umask"), "0\n0022\n");
}

#[test]
fn no_new_privileges_and_seccomp_hold() {
    let mut bundle = bundle_or_skip!();
    bundle.linux().seccomp = Some(Seccomp {
        default_action: SeccompAction::Allow,
        default_errno_ret: None,
        architectures: vec![],
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![SeccompSyscall {
            names: vec!["mkdir".into(), "mkdirat".into()],
            action: SeccompAction::Errno,
            errno_ret: Some(libc::ENOTEMPTY as u32),
            args: vec![],
        }],
    });
    for no_new_privileges in [true, false] {
        for uid in [0, 1000] {
            bundle.process().no_new_privileges = no_new_privileges;
            bundle.process().user.uid = uid;
            let text = bundle.run_script("cat /proc/self/status; mkdir /tmp/d 2>&1; true");
            assert_eq!(
                field(&text, "NoNewPrivs"),
                u8::from(no_new_privileges).to_string()
            );
            assert_eq!(field(&text, "Seccomp"), "2");
            assert!(text.ends_with("Directory not empty\n"), "{text}");
        }
    }
}

#[test]
fn a_listener_for_seccomp_is_refused_by_name() {
    let mut bundle = bundle_or_skip!();
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    bundle.linux().seccomp = Some(serde_json::from_str(json).unwrap());
    assert!(
        bundle
            .run_fails()
            .contains("SCMP_ACT_NOTIFY is not supported")
    );
}

#[test]
fn resource_limits_are_set_or_lowered_with_a_warning() {
    let mut bundle = bundle_or_skip!();
    let limit = |kind: &str, soft, hard| Rlimit {
        kind: kind.into(),
        soft,
        hard,
    };
    bundle.process().rlimits = vec![limit("RLIMIT_NOFILE", 100, 200), limit("RLIMIT_CORE", 0, 0)];
    let text = bundle.run_script("ulimit -Sn; ulimit -Hn; ulimit -c");
    assert_eq!(text, "100\n200\n0\n");
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    bundle.process().rlimits = vec![limit("RLIMIT_NOFILE", 100, 1 << 30)];
    bundle.script("ulimit -Hn");
    let output = bundle.oci(&["run", &bundle.id]);
    let (got, said) = (stdout(&output), stderr(&output));
    // With CAP_SYS_RESOURCE the inherited limit is none, but the kernel's own is.
    let privileged = rustix::thread::capabilities(None)
        .unwrap()
        .effective
        .contains(rustix::thread::CapabilitySet::SYS_RESOURCE);
    let ceiling = match privileged {
        true => std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap(),
        false => own.unwrap().to_string(),
    };
    assert_eq!(got.trim(), ceiling.trim());
    assert!(
        said.starts_with("warning: RLIMIT_NOFILE 1073741824 is above"),
        "{said}"
    );
}

#[test]
fn the_oom_score_is_raised() {
    let mut bundle = bundle_or_skip!();
    bundle.process().oom_score_adj = Some(321);
    assert_eq!(bundle.run_script("cat /proc/self/oom_score_adj"), "321\n");
}

#[test]
fn the_working_directory_is_made_and_entered() {
    let mut bundle = bundle_or_skip!();
    bundle.process().cwd = "/deep/inside/it".into();
    assert_eq!(
        bundle.run_script("pwd; stat -c %a ."),
        "/deep/inside/it\n755\n"
    );
    // Root may enter what the user may not.
    let closed = bundle.root().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    bundle.process().cwd = "/closed".into();
    bundle.process().user.uid = 1000;
    bundle.script("true").run();
}

#[test]
fn a_working_directory_that_is_a_descriptor_of_the_runtime_is_refused() {
    let mut bundle = bundle_or_skip!();
    std::os::unix::fs::symlink("/proc/self/fd/5", bundle.root().join("link")).unwrap();
    for cwd in ["/proc/self/fd/5", "/proc/self/fd/10/../..", "/link"] {
        bundle.process().cwd = cwd.into();
        let text = bundle.run_fails();
        assert!(
            text.contains("symbolic link") || text.contains("symlink"),
            "{cwd}: {text}"
        );
    }
}

#[test]
fn only_descriptors_that_are_asked_for_are_inherited() {
    let mut bundle = bundle_or_skip!();
    bundle.script("ls /proc/self/fd; cat <&3");
    let run = |bundle: &crate::bundle::Bundle, args: &str| {
        let json = serde_json::to_vec(&bundle.spec).unwrap();
        fs::write(bundle.path().join("config.json"), json).unwrap();
        let program = bundle.command(&[]).get_program().to_owned();
        let line = format!(
            "exec 3</proc/sys/kernel/ostype 4</dev/null; exec \"$0\" --root state run {args} {}",
            bundle.id
        );
        let mut command = std::process::Command::new("sh");
        command
            .current_dir(bundle.path())
            .arg("-c")
            .arg(line)
            .arg(program);
        command.output().unwrap()
    };
    let kept = run(&bundle, "--preserve-fds 1");
    assert_eq!(stdout(&kept), "0\n1\n2\n3\n4\nLinux\n", "{}", stderr(&kept));
    bundle.script("ls /proc/self/fd");
    // The last one is the directory that ls has opened.
    assert_eq!(stdout(&run(&bundle, "")), "0\n1\n2\n3\n");
    let missing = bundle.oci(&["run", "--preserve-fds", "200", &bundle.id]);
    assert!(
        stderr(&missing).contains("preserve descriptor"),
        "{}",
        stderr(&missing)
    );
}

#[test]
fn the_environment_is_that_of_the_configuration() {
    let mut bundle = bundle_or_skip!();
    bundle.process().env = vec!["PATH=/bin".into(), "A=b c".into()];
    bundle.process().args = vec!["env".into()];
    assert_eq!(bundle.run(), "PATH=/bin\nA=b c\nHOME=/\n");
    let passwd = bundle.root().join("etc/passwd");
    fs::write(passwd, "joe:x:12:34::/home/joe:/bin/sh\n").unwrap();
    bundle.process().user.uid = 12;
    bundle.process().env.push("HOME=".into());
    assert!(bundle.run().ends_with("\nHOME=/home/joe\n"));
    bundle.process().env.push("HOME=/mine".into());
    assert!(bundle.run().ends_with("\nHOME=/mine\n"));
}

#[test]
fn scheduling_and_personality_are_set() {
    let mut bundle = bundle_or_skip!();
    let process = bundle.process();
    process.scheduler = serde_json::from_str(r#"{"policy":"SCHED_BATCH","nice":7}"#).unwrap();
    process.io_priority = serde_json::from_str(r#"{"class":"IOPRIO_CLASS_IDLE"}"#).unwrap();
    bundle.linux().personality = serde_json::from_str(r#"{"domain":"LINUX32"}"#).unwrap();
    let text =
        bundle.run_script("cat /proc/self/stat; uname -m || busybox uname -m; busybox ionice -p 1");
    let fields: Vec<&str> = text
        .lines()
        .next()
        .unwrap()
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .collect();
    assert_eq!((fields[16], fields[38]), ("7", "3"), "{text}");
    assert!(text.contains("i686") && text.ends_with("idle\n"), "{text}");
}
