//! Capabilities: names, numbers, sets, and what `--cap-add`, `--cap-drop` and
//! `--privileged` make of them. It must not know processes or how a set is applied.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

/// One capability, by its number in `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// Names without `CAP_`, in the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

macro_rules! constants {
    ($($name:ident = $number:literal,)*) => {
        #[allow(missing_docs)] // each is named after the capability it is
        impl Capability {
            $(pub const $name: Self = Self($number);)*
        }
    };
}

constants! {
    CHOWN = 0, DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, FOWNER = 3, FSETID = 4, KILL = 5,
    SETGID = 6, SETUID = 7, SETPCAP = 8, LINUX_IMMUTABLE = 9, NET_BIND_SERVICE = 10,
    NET_BROADCAST = 11, NET_ADMIN = 12, NET_RAW = 13, IPC_LOCK = 14, IPC_OWNER = 15,
    SYS_MODULE = 16, SYS_RAWIO = 17, SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_PACCT = 20,
    SYS_ADMIN = 21, SYS_BOOT = 22, SYS_NICE = 23, SYS_RESOURCE = 24, SYS_TIME = 25,
    SYS_TTY_CONFIG = 26, MKNOD = 27, LEASE = 28, AUDIT_WRITE = 29, AUDIT_CONTROL = 30,
    SETFCAP = 31, MAC_OVERRIDE = 32, MAC_ADMIN = 33, SYSLOG = 34, WAKE_ALARM = 35,
    BLOCK_SUSPEND = 36, AUDIT_READ = 37, PERFMON = 38, BPF = 39, CHECKPOINT_RESTORE = 40,
}

/// What a container has unless told otherwise.
pub const DEFAULT: CapSet = CapSet::of(&[
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::FSETID,
    Capability::FOWNER,
    Capability::MKNOD,
    Capability::NET_RAW,
    Capability::SETGID,
    Capability::SETUID,
    Capability::SETFCAP,
    Capability::SETPCAP,
    Capability::NET_BIND_SERVICE,
    Capability::SYS_CHROOT,
    Capability::KILL,
    Capability::AUDIT_WRITE,
]);

impl Capability {
    /// The capability of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < NAMES.len()).then_some(Self(number))
    }

    /// Reads `CAP_CHOWN`, `chown` and anything between.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        Self::from_bare_name(name.strip_prefix("CAP_").unwrap_or(&name))
    }

    /// Reads `CHOWN`.
    pub(crate) fn from_bare_name(name: &str) -> Option<Self> {
        let number = NAMES.iter().position(|known| *known == name)?;
        Some(Self(number as u8))
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", NAMES[usize::from(self.0)])
    }
}

/// A set of capabilities: bit n is the capability of number n, as in /proc/self/status.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability that has a name here.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// The set of these capabilities.
    pub const fn of(capabilities: &[Capability]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        // An iterator is not const.
        while index < capabilities.len() {
            bits |= 1 << capabilities[index].0;
            index += 1;
        }
        Self(bits)
    }

    /// The set of these bits; bits without a name are left out.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The set of these OCI names; unknown ones are left out, as the specification asks.
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        names
            .into_iter()
            .filter_map(|name| Capability::from_name(name.as_ref()))
            .collect()
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether it has a capability.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this one only.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Its capabilities by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..NAMES.len() as u8)
            .map(Capability)
            .filter(move |capability| self.contains(*capability))
    }

    /// Their OCI names, by number.
    pub fn names(self) -> Vec<String> {
        self.iter()
            .map(|capability| capability.to_string())
            .collect()
    }
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities
            .into_iter()
            .fold(Self::EMPTY, |set, capability| {
                set.union(Self::of(&[capability]))
            })
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(
                self.iter()
                    .map(|capability| NAMES[usize::from(capability.0)]),
            )
            .finish()
    }
}

/// Why a request cannot be granted; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {list}: {fault}: {name:?}")]
pub struct Error {
    /// Which list: `CapAdd` or `CapDrop`.
    pub list: &'static str,
    /// What is wrong with the name.
    pub fault: Fault,
    /// The name, upper case and with its prefix.
    pub name: String,
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No such capability.
    #[error("unknown capability")]
    Unknown,
    /// This kernel, or what this process was left with, does not have it.
    #[error("capability not supported by your kernel or not available in the current environment")]
    Unavailable,
}

/// The capabilities a container has, from `CapAdd`, `CapDrop` and `Privileged`.
///
/// Names are read with and without `CAP_`, in any case; `ALL` stands for every
/// one that is available.
pub fn apply(add: &[String], drop: &[String], privileged: bool) -> Result<CapSet, Error> {
    apply_to(available(), add, drop, privileged)
}

fn apply_to(
    available: CapSet,
    add: &[String],
    drop: &[String],
    privileged: bool,
) -> Result<CapSet, Error> {
    let added = Request::read("CapAdd", add, available)?;
    let dropped = Request::read("CapDrop", drop, available)?;
    let set = if privileged {
        CapSet::ALL
    } else if added.all {
        // An `ALL` among the dropped ones does not count against it.
        CapSet::ALL.difference(dropped.named)
    } else if dropped.all {
        added.named
    } else {
        DEFAULT.difference(dropped.named).union(added.named)
    };
    Ok(set.intersection(available))
}

/// One list, read.
struct Request {
    all: bool,
    named: CapSet,
}

impl Request {
    fn read(list: &'static str, names: &[String], available: CapSet) -> Result<Self, Error> {
        let mut request = Self {
            all: false,
            named: CapSet::EMPTY,
        };
        for name in names {
            if name.eq_ignore_ascii_case("ALL") {
                request.all = true;
                continue;
            }
            let fault = match Capability::from_name(name) {
                Some(capability) if available.contains(capability) => {
                    request.named = request.named.union(CapSet::of(&[capability]));
                    continue;
                }
                Some(_) => Fault::Unavailable,
                None => Fault::Unknown,
            };
            let mut name = name.to_ascii_uppercase();
            if !name.starts_with("CAP_") {
                name.insert_str(0, "CAP_");
            }
            return Err(Error { list, fault, name });
        }
        Ok(request)
    }
}

/// The bits of the OCI names that this process can hand on.
///
/// What is unknown or unavailable is left out, as runc does with a warning: a
/// set with one such bit would be refused as a whole.
pub fn mask<S: AsRef<str>>(names: &[S]) -> u64 {
    CapSet::from_names(names).intersection(available()).bits()
}

/// What this process could hand on when first asked: its bounding set, as far
/// as the kernel goes.
pub fn available() -> CapSet {
    static AVAILABLE: OnceLock<CapSet> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let bounding = fs::read_to_string("/proc/thread-self/status")
            .ok()
            .and_then(|status| bounding(&status))
            .unwrap_or(CapSet::ALL);
        bounding.intersection(up_to(last_cap()))
    })
}

/// The last capability the running kernel has; what is unreadable counts as the last one named here.
pub fn last_cap() -> Capability {
    fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .and_then(Capability::from_number)
        .unwrap_or(Capability::CHECKPOINT_RESTORE)
}

fn up_to(last: Capability) -> CapSet {
    (0..=last.0).map(Capability).collect()
}

fn bounding(status: &str) -> Option<CapSet> {
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(bits.trim(), 16)
        .ok()
        .map(CapSet::from_bits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn ask(add: &[&str], drop: &[&str]) -> Result<CapSet, Error> {
        apply_to(CapSet::ALL, &names(add), &names(drop), false)
    }

    #[test]
    fn constants_and_names_are_in_one_order() {
        assert_eq!(
            Capability::CHECKPOINT_RESTORE.to_string(),
            "CAP_CHECKPOINT_RESTORE"
        );
        assert_eq!(Capability::SYS_ADMIN.number(), 21);
        assert_eq!(Capability::SYS_ADMIN.to_string(), "CAP_SYS_ADMIN");
        assert_eq!(Capability::MKNOD.to_string(), "CAP_MKNOD");
        assert_eq!(Capability::SYSLOG.to_string(), "CAP_SYSLOG");
        for number in 0..41 {
            let capability = Capability::from_number(number).unwrap();
            assert_eq!(
                Capability::from_name(&capability.to_string()),
                Some(capability)
            );
        }
        assert_eq!(Capability::from_number(41), None);
    }

    #[test]
    fn names_are_read_in_any_case_with_and_without_prefix() {
        for name in ["CAP_NET_ADMIN", "net_admin", "Cap_Net_Admin", "NET_ADMIN"] {
            assert_eq!(
                Capability::from_name(name),
                Some(Capability::NET_ADMIN),
                "{name}"
            );
        }
        assert_eq!(Capability::from_name("CAP_CAP_KILL"), None);
    }

    #[test]
    fn the_default_is_dockers_mask() {
        assert_eq!(DEFAULT.bits(), 0xa804_25fb);
        assert_eq!(ask(&[], &[]).unwrap(), DEFAULT);
    }

    #[test]
    fn adding_and_dropping_follow_docker() {
        let kill = CapSet::of(&[Capability::KILL]);
        let admin = CapSet::of(&[Capability::SYS_ADMIN]);
        assert_eq!(ask(&["sys_admin"], &[]).unwrap(), DEFAULT.union(admin));
        assert_eq!(ask(&[], &["CAP_KILL"]).unwrap(), DEFAULT.difference(kill));
        assert_eq!(ask(&["kill"], &["all"]).unwrap(), kill);
        assert_eq!(
            ask(&["ALL"], &["kill"]).unwrap(),
            CapSet::ALL.difference(kill)
        );
        assert_eq!(ask(&["ALL"], &["ALL"]).unwrap(), CapSet::ALL);
        assert_eq!(ask(&["kill"], &["kill"]).unwrap(), DEFAULT);
        assert_eq!(ask(&[], &["ALL"]).unwrap(), CapSet::EMPTY);
    }

    #[test]
    fn a_privileged_container_gets_what_there_is() {
        let available = CapSet::ALL.difference(CapSet::of(&[Capability::SYS_RESOURCE]));
        assert_eq!(apply_to(available, &[], &[], true).unwrap(), available);
        assert_eq!(
            apply_to(available, &names(&["ALL"]), &[], false).unwrap(),
            available
        );
    }

    #[test]
    fn refusals_read_as_dockers() {
        assert_eq!(
            ask(&["foo"], &[]).unwrap_err().to_string(),
            "invalid CapAdd: unknown capability: \"CAP_FOO\""
        );
        assert_eq!(
            ask(&["CAP_ALL"], &[]).unwrap_err().to_string(),
            "invalid CapAdd: unknown capability: \"CAP_ALL\""
        );
        assert_eq!(
            ask(&[], &["nope"]).unwrap_err().to_string(),
            "invalid CapDrop: unknown capability: \"CAP_NOPE\""
        );
        assert_eq!(
            apply_to(CapSet::EMPTY, &names(&["kill"]), &[], false)
                .unwrap_err()
                .to_string(),
            "invalid CapAdd: capability not supported by your kernel or not available in the \
             current environment: \"CAP_KILL\""
        );
    }

    #[test]
    fn the_bounding_set_is_read_from_status() {
        let status = "Name:\tx\nCapEff:\t0000000000000001\nCapBnd:\t000001fffeffffff\n";
        let expected = CapSet::ALL.difference(CapSet::of(&[Capability::SYS_RESOURCE]));
        assert_eq!(bounding(status), Some(expected));
        assert_eq!(bounding("CapBnd:\tzz\n"), None);
        assert_eq!(up_to(Capability::AUDIT_READ).bits(), (1 << 38) - 1);
        assert!(!available().is_empty());
    }

    #[test]
    fn a_set_lists_its_names_by_number() {
        let set = CapSet::from_names(["CAP_KILL", "CAP_CHOWN", "CAP_OF_TOMORROW"]);
        assert_eq!(set.names(), ["CAP_CHOWN", "CAP_KILL"]);
        assert_eq!(CapSet::from_bits(u64::MAX), CapSet::ALL);
    }
}
