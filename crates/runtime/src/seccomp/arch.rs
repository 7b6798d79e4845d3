//! System call architectures: their audit number and their table of system
//! calls. It must not know rules or BPF.

use std::collections::HashMap;
use std::sync::LazyLock;

use conex_spec::runtime::SeccompArch;
use conex_sys::seccomp::{AUDIT_ARCH_AARCH64, AUDIT_ARCH_I386, AUDIT_ARCH_X86_64};
use syscalls::{aarch64, x86, x86_64};

/// An architecture whose system calls have a table here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// x86-64; its x32 calls are refused, see [`X32_BIT`].
    X86_64,
    /// i386, the 32-bit calls of an x86-64 kernel.
    X86,
    /// 64-bit ARM.
    Aarch64,
}

/// What an x32 call has set in its number. The kernel rarely has the ABI, and a
/// filter that knows x86-64 numbers only would be walked around by it.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// A call behind `socketcall` or `ipc`: which one, and what its first argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiplexed {
    pub(super) through: &'static str,
    pub(super) selector: u32,
    /// `ipc` keeps a version in the upper half of its first argument.
    pub(super) mask: u32,
}

type Table = HashMap<&'static str, u32>;

/// Calls younger than the tables, with one number on all architectures.
const NEWER: [(&str, u32); 2] = [("listns", 470), ("rseq_slice_yield", 471)];

const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

const IPC: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

impl Arch {
    /// The architecture this program is built for.
    pub const fn native() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else if cfg!(target_arch = "x86") {
            Self::X86
        } else {
            Self::X86_64
        }
    }

    /// The architecture of a profile's word, if there is a table for it.
    pub fn from_spec(arch: SeccompArch) -> Option<Self> {
        match arch {
            SeccompArch::X86_64 => Some(Self::X86_64),
            SeccompArch::X86 => Some(Self::X86),
            SeccompArch::Aarch64 => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// The profile's word for it.
    pub const fn to_spec(self) -> SeccompArch {
        match self {
            Self::X86_64 => SeccompArch::X86_64,
            Self::X86 => SeccompArch::X86,
            Self::Aarch64 => SeccompArch::Aarch64,
        }
    }

    /// Docker's word for it in the conditions of a profile.
    pub const fn condition_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::Aarch64 => "arm64",
        }
    }

    /// What `seccomp_data.arch` holds for its calls.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => AUDIT_ARCH_X86_64,
            Self::X86 => AUDIT_ARCH_I386,
            Self::Aarch64 => AUDIT_ARCH_AARCH64,
        }
    }

    /// The number of a system call, if the architecture has it.
    pub fn number(self, name: &str) -> Option<u32> {
        self.table().get(name).copied()
    }

    /// Every system call with its number, in no order.
    pub fn syscalls(self) -> impl Iterator<Item = (&'static str, u32)> {
        self.table().iter().map(|(name, number)| (*name, *number))
    }

    /// Whether arguments are 32 bits wide; the kernel shows their upper half as zero.
    pub(super) const fn is_32_bit(self) -> bool {
        matches!(self, Self::X86)
    }

    /// The old door to a call: i386 C libraries went through `socketcall` and `ipc`.
    pub(super) fn multiplexed(self, name: &str) -> Option<Multiplexed> {
        if self != Self::X86 {
            return None;
        }
        if let Some(index) = SOCKETCALL.iter().position(|call| *call == name) {
            return Some(Multiplexed {
                through: "socketcall",
                selector: index as u32 + 1,
                mask: u32::MAX,
            });
        }
        let (_, selector) = IPC.iter().find(|(call, _)| *call == name)?;
        Some(Multiplexed {
            through: "ipc",
            selector: *selector,
            mask: 0xffff,
        })
    }

    fn table(self) -> &'static Table {
        static X86_64: LazyLock<Table> = LazyLock::new(|| {
            let last = x86_64::Sysno::last().id();
            table(last, |id| x86_64::Sysno::new(id).map(|call| call.name()))
        });
        static X86: LazyLock<Table> = LazyLock::new(|| {
            let last = x86::Sysno::last().id();
            table(last, |id| x86::Sysno::new(id).map(|call| call.name()))
        });
        static AARCH64: LazyLock<Table> = LazyLock::new(|| {
            let last = aarch64::Sysno::last().id();
            let mut table = table(last, |id| aarch64::Sysno::new(id).map(|call| call.name()));
            // Profiles call it by the name it has on x86-64.
            if let Some(&number) = table.get("fstatat") {
                table.insert("newfstatat", number);
            }
            table
        });
        match self {
            Self::X86_64 => &X86_64,
            Self::X86 => &X86,
            Self::Aarch64 => &AARCH64,
        }
    }
}

fn table(last: i32, name: impl Fn(usize) -> Option<&'static str>) -> Table {
    (0..=last.unsigned_abs())
        .filter_map(|number| Some((name(number as usize)?, number)))
        .chain(NEWER)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_table_has_old_and_new_calls() {
        assert_eq!(Arch::X86_64.number("read"), Some(0));
        assert_eq!(Arch::X86_64.number("uretprobe"), Some(335));
        assert_eq!(Arch::X86.number("socketcall"), Some(102));
        assert_eq!(Arch::Aarch64.number("newfstatat"), Some(79));
        for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64] {
            assert_eq!(arch.number("file_setattr"), Some(469), "{arch:?}");
            assert_eq!(arch.number("removexattrat"), Some(466), "{arch:?}");
            assert_eq!(arch.number("listns"), Some(470), "{arch:?}");
            assert_eq!(arch.number("no_such_call"), None, "{arch:?}");
        }
        assert_eq!(Arch::X86_64.number("socketcall"), None);
    }

    #[test]
    fn only_i386_multiplexes() {
        let accept4 = Arch::X86.multiplexed("accept4").unwrap();
        assert_eq!((accept4.through, accept4.selector), ("socketcall", 18));
        let shmctl = Arch::X86.multiplexed("shmctl").unwrap();
        assert_eq!((shmctl.selector, shmctl.mask), (24, 0xffff));
        assert_eq!(Arch::X86_64.multiplexed("accept4"), None);
        assert_eq!(Arch::X86.multiplexed("read"), None);
    }
}
