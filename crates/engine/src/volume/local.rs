//! Options of the `local` driver: a file system of the user's own that is
//! mounted over a volume's directory while a container that has it runs.
//!
//! The mount is made on the host, where it outlives the engine, and counted by
//! container; the last one to end takes it away, and what it held if it was a
//! tmpfs.
//!
//! Source: moby `daemon/volume/local/local_unix.go`, `moby/sys/mount`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::create::make_dir;
use super::{Volume, Volumes};
use crate::{Error, ErrorKind};

/// The options there are and which others each needs, in the order of complaint.
const OPTIONS: [(&str, &[&str]); 4] = [
    ("type", &["device"]),
    ("device", &["type"]),
    ("o", &["device", "type"]),
    ("size", &[]),
];

/// Checks a volume's options. Errors: invalid parameter in Docker's words.
pub(crate) fn check_options(options: &BTreeMap<String, String>) -> Result<(), Error> {
    for name in options.keys() {
        if !OPTIONS.iter().any(|(known, _)| known == name) {
            return Err(Error::invalid(format!("invalid option: {name:?}")));
        }
    }
    for (name, needs) in OPTIONS {
        let missing = needs.iter().find(|need| !options.contains_key(**need));
        if let Some(missing) = missing.filter(|_| options.contains_key(name)) {
            return Err(Error::invalid(format!(
                "missing required option: {missing:?}"
            )));
        }
    }
    if options.contains_key("size") {
        return Err(Error::invalid("quota size requested but no quota support"));
    }
    Ok(())
}

impl Volumes {
    /// Makes a volume's content available to a container that starts. Blocks,
    /// for as long as a file system on the network takes.
    pub(crate) fn mount(&self, name: &str, container: &str) -> Result<(), Error> {
        let volume = self.get(name)?;
        let _busy = volume.busy();
        ensure_data(&volume.data()).map_err(|error| super::failed("mount volume", name)(&error))?;
        let needs_mount = volume.has_file_system() && !volume.uses().is_mounted;
        if needs_mount {
            mount_options(&volume)?;
        }
        let mut uses = volume.uses();
        uses.is_mounted |= needs_mount;
        uses.running.insert(container.to_owned());
        Ok(())
    }

    /// Undoes [`Volumes::mount`]; says whether there was anything to undo. Blocks.
    pub(crate) fn unmount(&self, name: &str, container: &str) -> bool {
        let Some(volume) = self.find(name) else {
            return false;
        };
        let _busy = volume.busy();
        let (was_running, is_last) = {
            let mut uses = volume.uses();
            let was_running = uses.running.remove(container);
            (was_running, uses.running.is_empty() && uses.is_mounted)
        };
        if is_last {
            volume.unmount_idle();
        }
        was_running
    }

    /// Whether mounting it may take long.
    pub(crate) fn has_file_system(&self, name: &str) -> bool {
        self.find(name)
            .is_some_and(|volume| volume.has_file_system())
    }
}

impl Volume {
    pub(super) fn has_file_system(&self) -> bool {
        self.description.options.contains_key("device")
    }

    /// Takes the mount away; containers keep theirs. The caller holds `busy`.
    pub(super) fn unmount_idle(&self) {
        match rustix::mount::unmount(self.data(), UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => self.uses().is_mounted = false,
            Err(error) => tracing::warn!(volume = self.name, %error, "not unmounted"),
        }
    }
}

/// The directory of the content, should somebody have taken it away.
fn ensure_data(path: &Path) -> io::Result<()> {
    match make_dir(path, 0o755) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

fn mount_options(volume: &Volume) -> Result<(), Error> {
    let option = |name: &str| {
        volume
            .description
            .options
            .get(name)
            .map_or("", String::as_str)
    };
    let (kind, device) = (option("type"), option("device"));
    let target = volume.data();
    let failed = |problem: String| {
        Error::new(
            ErrorKind::System,
            format!(
                "error while mounting volume '{}': failed to mount local volume: {problem}",
                target.display()
            ),
        )
    };
    let words = with_address(kind, option("o")).map_err(|error| failed(error.to_string()))?;
    let parsed = Words::parse(&words);
    mount(kind, device, &target, &parsed).map_err(|errno| {
        let mut text = format!("mount {device}:{}", target.display());
        if parsed.flags != 0 {
            text.push_str(&format!(", flags: {:#x}", parsed.flags));
        }
        if !parsed.data.is_empty() {
            text.push_str(&format!(", data: {}", without_password(&parsed.data)));
        }
        failed(format!("{text}: {}", in_words(errno)))
    })
}

fn mount(kind: &str, device: &str, target: &Path, words: &Words) -> rustix::io::Result<()> {
    let data = CString::new(words.data.as_str()).map_err(|_| rustix::io::Errno::INVAL)?;
    let flags = MountFlags::from_bits_retain(words.flags as u32);
    rustix::mount::mount(device, target, kind, flags, data.as_c_str())?;
    let change = || -> rustix::io::Result<()> {
        if words.propagation != 0 {
            let flags = MountPropagationFlags::from_bits_retain(words.propagation as u32);
            rustix::mount::mount_change(target, flags)?;
        }
        if words.flags & (libc::MS_BIND | libc::MS_RDONLY) == libc::MS_BIND | libc::MS_RDONLY {
            // The kernel takes no attributes with a new bind.
            rustix::mount::mount_remount(target, flags, c"")?;
        }
        Ok(())
    };
    change().inspect_err(|_| {
        let _gone = rustix::mount::unmount(target, UnmountFlags::DETACH).is_err();
    })
}

/// Words of fstab(5), sorted by who reads them.
#[derive(Debug, Default, PartialEq)]
struct Words {
    flags: u64,
    propagation: u64,
    /// For the file system.
    data: String,
}

/// Words the kernel's mount itself knows: set, or taken back.
const FLAGS: [(&str, bool, u64); 26] = [
    ("defaults", true, 0),
    ("ro", true, libc::MS_RDONLY),
    ("rw", false, libc::MS_RDONLY),
    ("suid", false, libc::MS_NOSUID),
    ("nosuid", true, libc::MS_NOSUID),
    ("dev", false, libc::MS_NODEV),
    ("nodev", true, libc::MS_NODEV),
    ("exec", false, libc::MS_NOEXEC),
    ("noexec", true, libc::MS_NOEXEC),
    ("sync", true, libc::MS_SYNCHRONOUS),
    ("async", false, libc::MS_SYNCHRONOUS),
    ("dirsync", true, libc::MS_DIRSYNC),
    ("remount", true, libc::MS_REMOUNT),
    ("mand", true, libc::MS_MANDLOCK),
    ("nomand", false, libc::MS_MANDLOCK),
    ("atime", false, libc::MS_NOATIME),
    ("noatime", true, libc::MS_NOATIME),
    ("diratime", false, libc::MS_NODIRATIME),
    ("nodiratime", true, libc::MS_NODIRATIME),
    ("bind", true, libc::MS_BIND),
    ("rbind", true, libc::MS_BIND | libc::MS_REC),
    ("relatime", true, libc::MS_RELATIME),
    ("norelatime", false, libc::MS_RELATIME),
    ("strictatime", true, libc::MS_STRICTATIME),
    ("nostrictatime", false, libc::MS_STRICTATIME),
    ("", true, 0),
];

const PROPAGATION: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

impl Words {
    fn parse(text: &str) -> Words {
        let mut words = Words::default();
        let mut data = Vec::new();
        for word in text.split(',') {
            let propagation = |word: &str| {
                let found = PROPAGATION.iter().find(|(known, _)| *known == word);
                found.map(|(_, flag)| *flag)
            };
            if let Some((_, is_set, flag)) = FLAGS.iter().find(|(known, ..)| *known == word) {
                match is_set {
                    true => words.flags |= flag,
                    false => words.flags &= !flag,
                }
            } else if let Some(flag) = propagation(word) {
                words.propagation = flag;
            } else if let Some(flag) = word.strip_prefix('r').and_then(propagation) {
                words.propagation = flag | libc::MS_REC;
            } else {
                data.push(word);
            }
        }
        words.data = data.join(",");
        words
    }
}

/// The kernel's network file systems want an address where a user writes a name.
fn with_address(kind: &str, words: &str) -> io::Result<String> {
    let address = words.split(',').find_map(|word| word.strip_prefix("addr="));
    match address {
        Some(name)
            if matches!(kind, "nfs" | "nfs4" | "cifs") && name.parse::<IpAddr>().is_err() =>
        {
            let found = (name, 0u16).to_socket_addrs()?.next();
            let found =
                found.ok_or_else(|| io::Error::other(format!("lookup {name}: no such host")))?;
            let (old, new) = (format!("addr={name}"), format!("addr={}", found.ip()));
            Ok(words.replacen(&old, &new, 1))
        }
        _ => Ok(words.to_owned()),
    }
}

/// `no such file or directory`: the C library's text as Go writes it.
fn in_words(errno: rustix::io::Errno) -> String {
    let text = io::Error::from(errno).to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// What may be shown of the words.
fn without_password(data: &str) -> String {
    let hide = |word: &str| match word.starts_with("password=") {
        true => "password=********".to_owned(),
        false => word.to_owned(),
    };
    data.split(',').map(hide).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn options_are_refused_in_dockers_words() {
        let refusal = |pairs: &[(&str, &str)]| {
            check_options(&options(pairs)).map_err(|error| error.to_string())
        };
        assert_eq!(refusal(&[]), Ok(()));
        assert_eq!(
            refusal(&[("type", "none"), ("device", "/x"), ("o", "bind")]),
            Ok(())
        );
        assert_eq!(
            refusal(&[("foo", "")]),
            Err("invalid option: \"foo\"".into())
        );
        assert_eq!(
            refusal(&[("type", "nfs")]),
            Err("missing required option: \"device\"".into())
        );
        assert_eq!(
            refusal(&[("o", "ro"), ("device", "/x")]),
            Err("missing required option: \"type\"".into())
        );
        assert_eq!(
            refusal(&[("size", "1m")]),
            Err("quota size requested but no quota support".into())
        );
    }

    #[test]
    fn words_are_sorted_by_who_reads_them() {
        let parsed = Words::parse("ro,rbind,rslave,size=10m,exec,uid=3");
        assert_eq!(
            parsed,
            Words {
                flags: libc::MS_RDONLY | libc::MS_BIND | libc::MS_REC,
                propagation: libc::MS_SLAVE | libc::MS_REC,
                data: "size=10m,uid=3".into(),
            }
        );
        assert_eq!(
            Words::parse("ro,rw,nosuid,suid,defaults,"),
            Words::default()
        );
    }

    #[test]
    fn an_address_stays_and_a_name_is_looked_up() {
        let same = "addr=10.0.0.1,rw";
        assert_eq!(with_address("nfs", same).unwrap(), same);
        assert_eq!(
            with_address("tmpfs", "addr=nowhere").unwrap(),
            "addr=nowhere"
        );
        let found = with_address("nfs", "rw,addr=localhost,vers=4").unwrap();
        assert!(
            ["rw,addr=127.0.0.1,vers=4", "rw,addr=::1,vers=4"].contains(&&*found),
            "{found}"
        );
        assert_eq!(
            without_password("user=a,password=b,rw"),
            "user=a,password=********,rw"
        );
    }
}
