//! The default profile call by call: what Docker's answers, listed by what is
//! refused, and the filter installed for real.
#![allow(clippy::unwrap_used)]

use conex_sys::seccomp as bpf;
use conex_sys::seccomp::{ALLOW, Data, ERRNO, evaluate};

use super::super::compile::{Filter, compile_for};
use super::*;
use crate::capability::DEFAULT;

const REFUSED: u32 = ERRNO | EPERM;
const MISSING: u32 = ERRNO | ENOSYS;

/// What a container with the default capabilities is refused on x86-64, clone3
/// and the calls with conditions not among it.
#[rustfmt::skip]
const DENIED_X86_64: &[&str] = &[
    "_sysctl", "acct", "add_key", "afs_syscall", "bpf", "clock_settime", "create_module",
    "delete_module", "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick",
    "get_kernel_syms", "get_mempolicy", "getpmsg", "init_module", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load",
    "kexec_load", "keyctl", "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules",
    "lsm_set_self_attr", "mbind", "migrate_pages", "mount", "mount_setattr", "move_mount",
    "move_pages", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open",
    "pidfd_getfd", "pivot_root", "process_madvise", "putpmsg", "query_module", "quotactl",
    "quotactl_fd", "reboot", "request_key", "security", "set_mempolicy",
    "set_mempolicy_home_node", "setdomainname", "sethostname", "setns", "settimeofday",
    "swapoff", "swapon", "sysfs", "syslog", "tuxcall", "umount2", "unshare", "uprobe", "uselib",
    "userfaultfd", "ustat", "vhangup", "vserver",
];

const CONDITIONAL: &[&str] = &["clone", "clone3", "personality", "socket"];

fn filter(capabilities: CapSet) -> Filter {
    compile_for(&default_profile(capabilities, Arch::X86_64), Arch::X86_64).unwrap()
}

fn ask(filter: &Filter, arch: Arch, name: &str, first: u64) -> u32 {
    let data = Data {
        nr: arch.number(name).unwrap(),
        arch: arch.audit(),
        instruction_pointer: 0,
        args: [first, 0, 0, 0, 0, 0],
    };
    evaluate(&filter.program, &data).unwrap()
}

#[test]
fn every_call_of_x86_64_is_answered_as_docker_answers() {
    let filter = filter(DEFAULT);
    for (name, number) in Arch::X86_64.syscalls() {
        if CONDITIONAL.contains(&name) {
            continue;
        }
        let expected = if number > 466 {
            // Younger than the profile: open_tree_attr and on.
            MISSING
        } else if DENIED_X86_64.contains(&name) {
            REFUSED
        } else {
            ALLOW
        };
        assert_eq!(ask(&filter, Arch::X86_64, name, 0), expected, "{name}");
    }
    for name in DENIED_X86_64 {
        assert!(Arch::X86_64.number(name).is_some(), "{name} is no call");
    }
}

#[test]
fn every_call_in_the_profile_exists_somewhere() {
    // Calls of architectures that have no table here, and of i386 before it had numbers.
    let elsewhere = [
        "riscv_hwprobe",
        "recv",
        "send",
        "arm_fadvise64_64",
        "arm_sync_file_range",
        "breakpoint",
        "cacheflush",
        "set_tls",
        "sync_file_range2",
    ];
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let profile = default_profile(CapSet::ALL, arch);
        for name in profile.syscalls.iter().flat_map(|rule| &rule.names) {
            let known = [Arch::X86_64, Arch::X86, Arch::Aarch64]
                .iter()
                .any(|arch| arch.number(name).is_some());
            assert!(known || elsewhere.contains(&name.as_str()), "{name}");
        }
    }
}

#[test]
fn sockets_are_allowed_by_family() {
    let filter = filter(DEFAULT);
    let refused = [
        12,
        19,
        20,
        23,
        25,
        34,
        37,
        38,
        40,
        46,
        47,
        1000,
        1 << 32,
        (1 << 32) | 2,
    ];
    for family in (0..46).chain(refused) {
        let expected = if refused.contains(&family) {
            REFUSED
        } else {
            ALLOW
        };
        assert_eq!(
            ask(&filter, Arch::X86_64, "socket", family),
            expected,
            "family {family}"
        );
        if family < 1 << 32 {
            assert_eq!(ask(&filter, Arch::X86, "socket", family), expected);
        }
    }
}

#[test]
fn clone_makes_processes_and_no_namespaces() {
    let filter = filter(DEFAULT);
    for arch in [Arch::X86_64, Arch::X86] {
        let thread = 0x3d_0f00;
        assert_eq!(ask(&filter, arch, "clone", thread), ALLOW);
        assert_eq!(ask(&filter, arch, "clone", 17), ALLOW);
        // CLONE_NEWNS to CLONE_NEWNET, each alone.
        for bit in [17, 25, 26, 27, 28, 29, 30] {
            assert_eq!(ask(&filter, arch, "clone", 1 << bit | 17), REFUSED, "{bit}");
        }
        assert_eq!(ask(&filter, arch, "clone", 1 << 31 | 17), ALLOW, "CLONE_IO");
        assert_eq!(ask(&filter, arch, "clone3", 0), MISSING);
    }
}

#[test]
fn personality_is_allowed_where_it_changes_little() {
    let filter = filter(DEFAULT);
    for (value, expected) in [
        (0, ALLOW),
        (8, ALLOW),
        (0x2_0000, ALLOW),
        (0x2_0008, ALLOW),
        (0xffff_ffff, ALLOW),
        (0x4_0000, REFUSED),
        (1, REFUSED),
        (1 << 32, REFUSED),
    ] {
        assert_eq!(
            ask(&filter, Arch::X86_64, "personality", value),
            expected,
            "{value:#x}"
        );
    }
}

#[test]
fn a_capability_brings_its_calls() {
    let cases: &[(Capability, &[&str])] = &[
        (
            Capability::SYS_ADMIN,
            &["mount", "unshare", "setns", "clone3", "bpf", "syslog"],
        ),
        (
            Capability::SYS_PTRACE,
            &["kcmp", "pidfd_getfd", "process_madvise"],
        ),
        (Capability::DAC_READ_SEARCH, &["open_by_handle_at"]),
        (
            Capability::SYS_MODULE,
            &["finit_module", "init_module", "delete_module"],
        ),
        (Capability::SYS_TIME, &["settimeofday", "clock_settime"]),
        (Capability::SYS_NICE, &["mbind", "set_mempolicy_home_node"]),
        (Capability::SYS_TTY_CONFIG, &["vhangup"]),
        (Capability::SYS_RAWIO, &["iopl", "ioperm"]),
        (Capability::SYS_PACCT, &["acct"]),
        (Capability::SYS_BOOT, &["reboot"]),
        (Capability::SYSLOG, &["syslog"]),
        (Capability::PERFMON, &["perf_event_open"]),
        (Capability::BPF, &["bpf"]),
    ];
    for (capability, names) in cases {
        let with = filter(DEFAULT.union(CapSet::of(&[*capability])));
        for name in *names {
            assert_eq!(
                ask(&with, Arch::X86_64, name, 0),
                ALLOW,
                "{capability} {name}"
            );
        }
    }
    let admin = filter(DEFAULT.union(CapSet::of(&[Capability::SYS_ADMIN])));
    assert_eq!(ask(&admin, Arch::X86_64, "clone", 1 << 28), ALLOW);
    let without = filter(DEFAULT.difference(CapSet::of(&[Capability::SYS_CHROOT])));
    assert_eq!(ask(&without, Arch::X86_64, "chroot", 0), REFUSED);
    // Not even with every capability.
    let all = filter(CapSet::ALL);
    for name in [
        "kexec_load",
        "swapon",
        "keyctl",
        "io_uring_setup",
        "userfaultfd",
        "pivot_root",
    ] {
        assert_eq!(ask(&all, Arch::X86_64, name, 0), REFUSED, "{name}");
    }
}

#[test]
fn i386_is_filtered_by_its_own_numbers() {
    let filter = filter(DEFAULT);
    for name in [
        "socketcall",
        "ipc",
        "waitpid",
        "fcntl64",
        "clock_gettime64",
        "_llseek",
    ] {
        assert_eq!(ask(&filter, Arch::X86, name, 0), ALLOW, "{name}");
    }
    for name in ["stime", "umount", "mount", "vm86", "uselib", "swapon"] {
        assert_eq!(ask(&filter, Arch::X86, name, 0), REFUSED, "{name}");
    }
}

#[test]
fn aarch64_has_a_filter_too() {
    let profile = default_profile(DEFAULT, Arch::Aarch64);
    let filter = compile_for(&profile, Arch::Aarch64).unwrap();
    assert_eq!(ask(&filter, Arch::Aarch64, "newfstatat", 0), ALLOW);
    assert_eq!(ask(&filter, Arch::Aarch64, "socket", 40), REFUSED);
    assert_eq!(ask(&filter, Arch::Aarch64, "mount", 0), REFUSED);
    assert_eq!(ask(&filter, Arch::Aarch64, "clone3", 0), MISSING);
}

#[test]
fn the_default_filter_is_short() {
    for capabilities in [DEFAULT, CapSet::EMPTY, CapSet::ALL] {
        let length = filter(capabilities).program.len();
        assert!(length <= 500, "{length} instructions for {capabilities:?}");
    }
}

#[test]
fn the_kernel_enforces_it() {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};
    use rustix::process::chroot;

    let capabilities = DEFAULT.difference(CapSet::of(&[Capability::SYS_CHROOT]));
    // A filter belongs to a thread, so a thread of its own is enough to try it.
    std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        let filter = filter(capabilities);
        bpf::install(&filter.program, filter.flags).unwrap();
        let family = |raw| socket(AddressFamily::from_raw(raw), SocketType::STREAM, None);
        assert_eq!(family(40).unwrap_err(), Errno::PERM, "AF_VSOCK");
        assert!(family(1).is_ok(), "AF_UNIX");
        // Unfiltered this is ENOENT, or EPERM without the right to.
        assert_eq!(chroot("/there/is/no/such/root"), Err(Errno::PERM));
        assert!(std::fs::read("/proc/self/status").is_ok());
        // clone3 is missing, so the C library makes threads by clone.
        assert_eq!(std::thread::spawn(|| 5).join().unwrap(), 5);
    })
    .join()
    .unwrap();
}
