//! The default profile: an allow-list equal in effect to Docker's, grouped by
//! what the calls are for. It must not know numbers.
//!
//! What is in no list is refused with `EPERM`: kernel-wide state (`kexec_load`,
//! `swapon`, `nfsservctl`, `add_key` and the keyrings, which no namespace
//! contains), interfaces with a history of escapes that few programs need
//! (`io_uring_*`, `userfaultfd`), and calls nobody has used for years (`uselib`,
//! `ustat`, `sysfs`). What the kernel guards with a capability is allowed with
//! that capability, so that `--cap-add` is enough.

use conex_spec::runtime::{
    Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOp, SeccompSyscall,
};

use super::arch::Arch;
use crate::capability::{CapSet, Capability};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Files by path.
#[rustfmt::skip]
const PATHS: &[&str] = &[
    "access", "chdir", "chmod", "chown", "chown32", "creat", "faccessat", "faccessat2",
    "fchdir", "fchmodat", "fchmodat2", "fchownat", "fstatat64", "futimesat", "getcwd", "lchown",
    "lchown32", "link", "linkat", "lstat", "lstat64", "mkdir", "mkdirat", "mknod", "mknodat",
    "name_to_handle_at", "newfstatat", "open", "openat", "openat2", "readlink", "readlinkat",
    "rename", "renameat", "renameat2", "rmdir", "stat", "stat64", "statx", "symlink",
    "symlinkat", "truncate", "truncate64", "umask", "unlink", "unlinkat", "utime", "utimensat",
    "utimensat_time64", "utimes",
];

/// Files by descriptor, and descriptors themselves.
#[rustfmt::skip]
const DESCRIPTORS: &[&str] = &[
    "cachestat", "close", "close_range", "copy_file_range", "dup", "dup2", "dup3", "fadvise64",
    "fadvise64_64", "fallocate", "fchmod", "fchown", "fchown32", "fcntl", "fcntl64",
    "fdatasync", "flock", "fstat", "fstat64", "fsync", "ftruncate", "ftruncate64", "getdents",
    "getdents64", "ioctl", "_llseek", "lseek", "memfd_create", "memfd_secret", "pipe", "pipe2",
    "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead",
    "readv", "sendfile", "sendfile64", "splice", "sync_file_range", "tee", "vmsplice", "write",
    "writev",
];

/// Extended attributes.
#[rustfmt::skip]
const ATTRIBUTES: &[&str] = &[
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat",
    "lgetxattr", "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr",
    "removexattr", "removexattrat", "setxattr", "setxattrat",
];

/// File systems as a whole; mounts may be looked at, not made.
#[rustfmt::skip]
const FILE_SYSTEMS: &[&str] = &[
    "fstatfs", "fstatfs64", "listmount", "statfs", "statfs64", "statmount", "sync", "syncfs",
];

/// Waiting for descriptors, and descriptors made to be waited for.
#[rustfmt::skip]
const EVENTS: &[&str] = &[
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "fanotify_mark",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "_newselect",
    "poll", "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select", "signalfd",
    "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64",
];

/// Asynchronous I/O of the old kind; `io_uring_*` is left out on purpose.
#[rustfmt::skip]
const ASYNCHRONOUS_IO: &[&str] = &[
    "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64",
    "io_setup", "io_submit", "ioprio_get", "ioprio_set",
];

/// Memory.
#[rustfmt::skip]
const MEMORY: &[&str] = &[
    "brk", "madvise", "map_shadow_stack", "membarrier", "mincore", "mlock", "mlock2",
    "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync", "munlock",
    "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_mrelease",
    "remap_file_pages",
];

/// Processes and threads; `clone` is under [`namespaces`].
#[rustfmt::skip]
const PROCESSES: &[&str] = &[
    "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_requeue",
    "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "get_robust_list",
    "get_thread_area", "getcpu", "getpgid", "getpgrp", "getpid", "getppid", "getpriority",
    "getrlimit", "getrusage", "getsid", "gettid", "pidfd_open", "prctl", "prlimit64",
    "restart_syscall", "riscv_hwprobe", "rseq", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
    "set_robust_list", "set_thread_area", "set_tid_address", "setpgid", "setpriority",
    "setrlimit", "setsid", "sysinfo", "times", "ugetrlimit", "uname", "uretprobe", "vfork",
    "wait4", "waitid", "waitpid",
];

/// Identity, and giving rights up.
#[rustfmt::skip]
const IDENTITY: &[&str] = &[
    "capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32",
    "getgroups", "getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32",
    "getuid", "getuid32", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "seccomp", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32",
    "setgid", "setgid32", "setgroups", "setgroups32", "setregid", "setregid32", "setresgid",
    "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32",
];

/// Signals.
#[rustfmt::skip]
const SIGNALS: &[&str] = &[
    "kill", "pause", "pidfd_send_signal", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaltstack", "sigprocmask", "sigreturn",
    "tgkill", "tkill",
];

/// Time and randomness; the kernel itself asks `adjtimex` for its capability.
#[rustfmt::skip]
const TIME: &[&str] = &[
    "adjtimex", "alarm", "clock_adjtime", "clock_adjtime64", "clock_getres",
    "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
    "clock_nanosleep_time64", "getitimer", "getrandom", "gettimeofday", "nanosleep",
    "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_gettime64", "timer_settime", "timer_settime64",
];

/// Sockets; `socket` is under [`sockets`]. `socketcall` hides its arguments
/// behind a pointer, so what it makes cannot be filtered.
#[rustfmt::skip]
const SOCKETS: &[&str] = &[
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt",
    "listen", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg",
    "sendmsg", "sendto", "setsockopt", "shutdown", "socketcall", "socketpair",
];

/// System V IPC and POSIX message queues.
#[rustfmt::skip]
const IPC: &[&str] = &[
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd",
    "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt",
    "shmget",
];

/// Other processes' memory. Since Linux 4.8, older than any kernel this engine
/// runs on, ptrace can no longer change a call after seccomp has seen it, and
/// the kernel asks for `CAP_SYS_PTRACE` where the other process is not one's own.
const TRACING: &[&str] = &["process_vm_readv", "process_vm_writev", "ptrace"];

/// What each capability brings along; without it the call is not even tried.
#[rustfmt::skip]
const BY_CAPABILITY: &[(Capability, &[&str])] = &[
    // Bypasses the directories above the file.
    (Capability::DAC_READ_SEARCH, &["open_by_handle_at"]),
    // Mounts, namespaces and what else the kernel has put under it.
    (Capability::SYS_ADMIN, &[
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
        "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount",
        "mount_setattr", "move_mount", "open_tree", "perf_event_open", "quotactl",
        "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog", "umount", "umount2",
        "unshare",
    ]),
    (Capability::SYS_BOOT, &["reboot"]),
    (Capability::SYS_CHROOT, &["chroot"]),
    (Capability::SYS_MODULE, &["delete_module", "finit_module", "init_module"]),
    (Capability::SYS_PACCT, &["acct"]),
    // Looks into processes that are not one's own.
    (Capability::SYS_PTRACE, &["kcmp", "pidfd_getfd", "process_madvise"]),
    (Capability::SYS_RAWIO, &["ioperm", "iopl"]),
    // The clock is not in a namespace: setting it sets the host's.
    (Capability::SYS_TIME, &[
        "clock_settime", "clock_settime64", "settimeofday", "stime",
    ]),
    (Capability::SYS_TTY_CONFIG, &["vhangup"]),
    // Where memory is, which tells about and acts on other containers.
    (Capability::SYS_NICE, &[
        "get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node",
    ]),
    (Capability::SYSLOG, &["syslog"]),
    // The two that were split off CAP_SYS_ADMIN.
    (Capability::BPF, &["bpf"]),
    (Capability::PERFMON, &["perf_event_open"]),
];

/// The socket address families a container may use: all that Linux has but
/// those it has dropped (DECnet 12, Econet 19, ATM SVC 20, IrDA 23, WANPIPE 25,
/// ISDN 34, CAIF 37), `AF_ALG` (38), whose kernel crypto interface has had
/// holes that nobody's program was worth, and `AF_VSOCK` (40), which knows no
/// network namespace and reaches the virtual machine's host.
const FAMILIES: &[std::ops::RangeInclusive<u64>] = &[
    0..=11,
    13..=18,
    21..=22,
    24..=24,
    26..=33,
    35..=36,
    39..=39,
    41..=45,
];

/// Values of `personality` that change nothing another rule relies on:
/// `PER_LINUX` and `PER_LINUX32`, each also with `UNAME26`, and the question
/// which one is in force.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}`. The time namespace's flag shares
/// its bit with the exit signal and is only read by `clone3` and `unshare`.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// The default profile for a container with these capabilities in its bounding set.
///
/// Source: Docker's default profile (github.com/moby/profiles), whose youngest calls are of Linux 6.13.
pub fn default_profile(capabilities: CapSet, arch: Arch) -> Seccomp {
    let mut syscalls: Vec<SeccompSyscall> = [
        PATHS,
        DESCRIPTORS,
        ATTRIBUTES,
        FILE_SYSTEMS,
        EVENTS,
        ASYNCHRONOUS_IO,
        MEMORY,
        PROCESSES,
        IDENTITY,
        SIGNALS,
        TIME,
        SOCKETS,
        IPC,
        TRACING,
    ]
    .into_iter()
    .map(allow)
    .collect();
    syscalls.extend(sockets());
    syscalls.extend(
        PERSONALITIES
            .iter()
            .map(|value| allow_if("personality", SeccompOp::EqualTo, *value)),
    );
    syscalls.push(match arch {
        // Segment bases and descriptor tables of the calling process.
        Arch::X86_64 => allow(&["arch_prctl", "modify_ldt"]),
        Arch::X86 => allow(&["modify_ldt"]),
        // Names of 32-bit ARM.
        Arch::Aarch64 => allow(&[
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "breakpoint",
            "cacheflush",
            "set_tls",
            "sync_file_range2",
        ]),
    });
    syscalls.extend(
        BY_CAPABILITY
            .iter()
            .filter(|(capability, _)| capabilities.contains(*capability))
            .map(|(_, names)| allow(names)),
    );
    if !capabilities.contains(Capability::SYS_ADMIN) {
        syscalls.extend(namespaces());
    }
    Seccomp {
        default_action: SeccompAction::Errno,
        default_errno_ret: Some(EPERM),
        architectures: match arch {
            Arch::X86_64 => vec![SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32],
            Arch::X86 => vec![SeccompArch::X86],
            Arch::Aarch64 => vec![SeccompArch::Aarch64, SeccompArch::Arm],
        },
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls,
    }
}

/// Processes may be made, namespaces not. `clone3` keeps its flags behind a
/// pointer and must look missing, which sends C libraries back to `clone`.
fn namespaces() -> [SeccompSyscall; 2] {
    [
        allow_if("clone", SeccompOp::MaskedEqual, CLONE_NAMESPACES),
        SeccompSyscall {
            names: vec!["clone3".to_owned()],
            action: SeccompAction::Errno,
            errno_ret: Some(ENOSYS),
            args: Vec::new(),
        },
    ]
}

/// `socket` by family. A rule cannot have two conditions on one argument, so a
/// range but for the first becomes one rule a family.
fn sockets() -> impl Iterator<Item = SeccompSyscall> {
    FAMILIES.iter().flat_map(|families| {
        let (first, last) = (*families.start(), *families.end());
        if first == 0 {
            vec![allow_if("socket", SeccompOp::LessEqual, last)]
        } else {
            (first..=last)
                .map(|family| allow_if("socket", SeccompOp::EqualTo, family))
                .collect()
        }
    })
}

fn allow(names: &[&str]) -> SeccompSyscall {
    SeccompSyscall {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action: SeccompAction::Allow,
        errno_ret: None,
        args: Vec::new(),
    }
}

/// Allows a call by its first argument; for a mask, where none of its bits is set.
fn allow_if(name: &str, op: SeccompOp, value: u64) -> SeccompSyscall {
    SeccompSyscall {
        args: vec![SeccompArg {
            index: 0,
            value,
            value_two: 0,
            op,
        }],
        ..allow(&[name])
    }
}

#[cfg(test)]
mod tests;
