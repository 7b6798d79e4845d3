//! What a default container must not be able to do.

use std::fs;
use std::os::unix::fs::MetadataExt;

use conex_tests::client::{Cli, Client, engine_for};
use conex_tests::fixture::{self, Fixture};
use conex_tests::{leftovers, skip, under_both_clients, workspace};

/// Runs a script in a default container; gives its exit code and all it printed.
fn inside(cli: &Cli<'_>, script: &str) -> (Option<i32>, String) {
    let output = cli.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    (output.code, output.stdout + &output.stderr)
}

under_both_clients! {
    a_default_container_cannot_mount,
    a_default_container_cannot_write_kernel_settings,
    a_default_container_sees_only_its_own_processes,
    a_default_container_has_the_usual_devices_and_no_others,
    a_default_container_has_fourteen_capabilities_and_a_filter,
    capabilities_are_added_and_dropped,
    a_privileged_container_may_mount,
    shared_memory_is_shared_with_whom_it_is_meant_for,
    our_program_cannot_be_written_from_inside,
    processes_of_a_removed_container_are_gone,
}

fn a_default_container_cannot_mount(cli: &Cli<'_>) {
    for attempt in [
        "mount -t tmpfs x /mnt",
        "mount -t proc x /mnt",
        "mount --bind / /mnt",
        "mount -o remount,rw /proc/sys",
        "umount /proc",
        "unshare -m true",
        "unshare -U true",
    ] {
        let (code, said) = inside(cli, &format!("mkdir -p /mnt; {attempt}"));
        assert_ne!(code, Some(0), "{attempt}: {said}");
    }
}

fn a_default_container_cannot_write_kernel_settings(cli: &Cli<'_>) {
    for path in [
        "/proc/sys/kernel/panic",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/proc/irq/default_smp_affinity",
    ] {
        let (code, said) = inside(cli, &format!("[ -e {path} ] || exit 1; echo 1 >{path}"));
        assert_ne!(code, Some(0), "{path}: {said}");
    }
    let (code, said) = inside(
        cli,
        "cat /proc/kcore /proc/keys /proc/interrupts /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l",
    );
    assert_eq!((code, said.as_str()), (Some(0), "0\n0\n"));
}

fn a_default_container_sees_only_its_own_processes(cli: &Cli<'_>) {
    let (_, said) = inside(cli, "echo $$; ls /proc | grep -c '^[0-9]*$'");
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("1"));
    let count: u32 = lines.next().and_then(|n| n.parse().ok()).expect("a count");
    // The shell, ls and grep.
    assert!(count <= 3, "{count} processes");
}

fn a_default_container_has_the_usual_devices_and_no_others(cli: &Cli<'_>) {
    let (code, said) = inside(
        cli,
        "ls /dev; stat -c %t:%T /dev/null; mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk; mknod /tmp/kmem c 1 1 && head -c 1 /tmp/kmem",
    );
    assert_ne!(code, Some(0), "{said}");
    for name in [
        "console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr",
        "stdin", "stdout", "tty", "urandom", "zero",
    ] {
        // A console is there only with a terminal.
        assert!(
            name == "console" || said.lines().any(|line| line == name),
            "no /dev/{name}: {said}"
        );
    }
    assert!(said.lines().any(|line| line == "1:3"), "{said}");
    assert_eq!(said.matches("Operation not permitted").count(), 2, "{said}");
    assert!(!said.contains("vda") && !said.contains("kvm"), "{said}");
}

fn a_default_container_has_fourteen_capabilities_and_a_filter(cli: &Cli<'_>) {
    let (_, said) = inside(
        cli,
        "grep -E '^(CapEff|CapBnd|CapAmb|Seccomp):' /proc/self/status",
    );
    let value = |key: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"))
            .map(str::to_owned)
    };
    assert_eq!(value("CapEff").as_deref(), Some("00000000a80425fb"));
    assert_eq!(value("CapBnd").as_deref(), Some("00000000a80425fb"));
    assert_eq!(value("CapAmb").as_deref(), Some("0000000000000000"));
    assert_eq!(value("Seccomp").as_deref(), Some("2"));
}

fn capabilities_are_added_and_dropped(cli: &Cli<'_>) {
    let said = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_ADMIN",
        "busybox",
        "grep",
        "CapEff",
        "/proc/self/status",
    ]);
    assert_eq!(said, "CapEff:\t0000000000001000");
    let said = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-u",
        "1000",
        "busybox",
        "grep",
        "CapEff",
        "/proc/self/status",
    ]);
    assert_eq!(said, "CapEff:\t0000000000000000");
}

fn a_privileged_container_may_mount(cli: &Cli<'_>) {
    let said = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--privileged",
        "busybox",
        "sh",
        "-c",
        "mkdir /mnt; mount -t tmpfs x /mnt && echo mounted; grep Seccomp: /proc/self/status",
    ]);
    assert_eq!(said, "mounted\nSeccomp:\t0");
}

/// CVE-2019-5736: the first process of a container runs `/proc/self/exe`,
/// which is then still the engine's own program.
fn our_program_cannot_be_written_from_inside(cli: &Cli<'_>) {
    let program = workspace::conex();
    let before = fs::metadata(&program).expect("the binary under test");
    cli.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "/proc/self/exe",
        "--version",
    ]);
    let after = fs::metadata(&program).expect("the binary under test");
    assert_eq!(
        (
            before.ino(),
            before.len(),
            before.mtime(),
            before.mtime_nsec()
        ),
        (after.ino(), after.len(), after.mtime(), after.mtime_nsec())
    );

    // Seen from the host: what runs beside a container is a sealed copy.
    let id = cli.ok(&["run", "-d", "--network", "none", "busybox", "sleep", "1000"]);
    let pid: u32 = cli.inspect(&id, "{{.State.Pid}}").parse().expect("a pid");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let parent: u32 = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
        .expect("a parent");
    assert_ne!(
        parent,
        cli.engine.pid(),
        "the daemon itself must not be the parent"
    );
    let exe = format!("/proc/{parent}/exe");
    let target = fs::read_link(&exe).expect("a running monitor");
    assert!(
        target.to_string_lossy().starts_with("/memfd:"),
        "{}",
        target.display()
    );
    let copy = fs::File::open(&exe).expect("a monitor's program can be read");
    let seals = rustix::fs::fcntl_get_seals(&copy).expect("a memfd has seals");
    assert!(seals.contains(rustix::fs::SealFlags::WRITE), "{seals:?}");
}

fn processes_of_a_removed_container_are_gone(cli: &Cli<'_>) {
    let id = cli.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "sleep 1000 & sleep 1000 & sleep 1000",
    ]);
    assert!(!leftovers::cgroups(std::slice::from_ref(&id)).is_empty());
    cli.ok(&["rm", "-f", &id]);
    let ids = [id];
    leftovers::await_monitors(&ids);
    assert_eq!(leftovers::cgroups(&ids), Vec::<std::path::PathBuf>::new());
}

/// System calls no busybox applet makes, through Debian's perl.
fn refused_calls(client: Client) {
    let Some(engine) = engine_for(client) else {
        return;
    };
    let tar = match fixture::make(Fixture::Debian) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    let cli = engine.cli(client);
    cli.ok(&["import", &tar.to_string_lossy(), "debian"]);
    // Numbers of x86_64; EPERM is 1, ENOSYS is 38.
    let calls = [
        ("bpf", "321, 0, 0, 0", "1"),
        ("perf_event_open", "298, 0, 0, 0, 0, 0", "1"),
        ("mount", "165, 0, 0, 0, 0, 0", "1"),
        ("fsopen", "430, 0, 0", "1"),
        ("add_key", "248, 0, 0, 0, 0, 0", "1"),
        ("keyctl", "250, 0, 0, 0, 0, 0", "1"),
        ("io_uring_setup", "425, 1, 0", "1"),
        ("init_module", "175, 0, 0, 0", "1"),
        ("kexec_load", "246, 0, 0, 0, 0", "1"),
        ("reboot", "169, 0, 0, 0, 0", "1"),
        ("clone3", "435, 0, 0", "38"),
        ("a call nobody knows", "4000", "38"),
    ];
    for (name, call, errno) in calls {
        let program = format!("syscall({call}); print $!+0");
        let said = cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "debian",
            "perl",
            "-e",
            &program,
        ]);
        assert_eq!(said, errno, "{name}");
    }
}

#[test]
fn a_default_container_cannot_load_bpf_and_the_like_with_conex() {
    refused_calls(Client::Conex);
}

#[test]
fn a_default_container_cannot_load_bpf_and_the_like_with_docker() {
    refused_calls(Client::Docker);
}

fn shared_memory_is_shared_with_whom_it_is_meant_for(cli: &Cli<'_>) {
    let run = |name: &str, ipc: &str| {
        let own = [
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "none",
            "--ipc",
            ipc,
        ];
        cli.run(&[&own[..], &["busybox", "sleep", "1000"]].concat())
    };
    assert_eq!(run("donor", "shareable").code, Some(0));
    cli.ok(&["exec", "donor", "sh", "-c", "echo shared >/dev/shm/word"]);
    let near = run("near", "container:donor");
    assert_eq!(near.code, Some(0), "{near}");
    assert_eq!(cli.ok(&["exec", "near", "cat", "/dev/shm/word"]), "shared");
    cli.ok(&["exec", "near", "rm", "/dev/shm/word"]);
    assert_eq!(cli.ok(&["exec", "donor", "ls", "/dev/shm"]), "");
    // It lives as long as somebody has it.
    cli.ok(&["exec", "near", "touch", "/dev/shm/kept"]);
    cli.ok(&["rm", "-f", "donor"]);
    assert_eq!(cli.ok(&["exec", "near", "ls", "/dev/shm"]), "kept");

    assert_eq!(run("alone", "private").code, Some(0));
    let refused = run("far", "container:alone");
    assert_eq!(refused.code, Some(125), "{refused}");
    assert!(refused.stderr.contains("non-shareable IPC"), "{refused}");
}
