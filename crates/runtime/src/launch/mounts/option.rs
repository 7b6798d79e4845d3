//! Mount options as the words of mount(8) and the runtime specification.

use std::path::PathBuf;

/// What a list of words means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `MOUNT_ATTR_*` to set on the mount itself.
    pub(super) set: u64,
    /// `MOUNT_ATTR_*` to clear on the mount itself.
    pub(super) clear: u64,
    /// As `set`, for the whole tree (`rro`, `rnosuid`, …).
    pub(super) recursive_set: u64,
    /// As `clear`, for the whole tree.
    pub(super) recursive_clear: u64,
    /// `MS_SHARED`/`MS_SLAVE`/`MS_PRIVATE`/`MS_UNBINDABLE`, with `MS_REC` for
    /// the `r` forms.
    pub(super) propagation: Option<u64>,
    /// A bind mount.
    pub(super) bind: bool,
    /// With the mounts below the source.
    pub(super) recursive: bool,
    /// `idmap` or `ridmap`.
    pub(super) idmap: bool,
    /// `ridmap`.
    pub(super) recursive_idmap: bool,
    /// `tmpcopyup`.
    pub(super) copy_up: bool,
    /// `beneath=PATH`, a word of the engine's own: of a bind's source only what
    /// is there, and no link may lead out of the source on the way.
    pub(super) beneath: Option<PathBuf>,
    /// Parameters of the file system, in order.
    pub(super) data: Vec<String>,
}

/// Every word that is not a parameter of a file system.
pub(super) const WORDS: [&str; 53] = [
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "idmap",
    "loud",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "tmpcopyup",
    "unbindable",
];

/// The attribute a word stands for, and whether it sets or clears it.
/// Bits from linux/mount.h.
fn attribute(word: &str) -> Option<(u64, bool)> {
    const ATIME_MASK: u64 = 0x70;
    Some(match word {
        "ro" => (0x1, true),
        "rw" => (0x1, false),
        "nosuid" => (0x2, true),
        "suid" => (0x2, false),
        "nodev" => (0x4, true),
        "dev" => (0x4, false),
        "noexec" => (0x8, true),
        "exec" => (0x8, false),
        "noatime" => (0x10, true),
        "strictatime" => (0x20, true),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (ATIME_MASK, false),
        "nodiratime" => (0x80, true),
        "diratime" => (0x80, false),
        "nosymfollow" => (0x0020_0000, true),
        "symfollow" => (0x0020_0000, false),
        _ => return None,
    })
}

impl Options {
    pub(super) fn parse(words: &[String]) -> Options {
        let mut out = Options::default();
        for word in words {
            out.word(word);
        }
        out
    }

    fn word(&mut self, word: &str) {
        let propagation =
            |kind: u64, recursive: bool| Some(if recursive { kind | libc::MS_REC } else { kind });
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "private" | "rprivate" => {
                self.propagation = propagation(libc::MS_PRIVATE, word.starts_with('r'));
            }
            "shared" => self.propagation = propagation(libc::MS_SHARED, false),
            "rshared" => self.propagation = propagation(libc::MS_SHARED, true),
            "slave" => self.propagation = propagation(libc::MS_SLAVE, false),
            "rslave" => self.propagation = propagation(libc::MS_SLAVE, true),
            "unbindable" => self.propagation = propagation(libc::MS_UNBINDABLE, false),
            "runbindable" => self.propagation = propagation(libc::MS_UNBINDABLE, true),
            "idmap" => self.idmap = true,
            "ridmap" => (self.idmap, self.recursive_idmap) = (true, true),
            "tmpcopyup" => self.copy_up = true,
            "defaults" | "remount" | "silent" | "loud" => {}
            _ => {
                if let Some((bits, sets)) = attribute(word) {
                    Self::apply(&mut self.set, &mut self.clear, bits, sets);
                } else if let Some((bits, sets)) = word.strip_prefix('r').and_then(attribute) {
                    Self::apply(
                        &mut self.recursive_set,
                        &mut self.recursive_clear,
                        bits,
                        sets,
                    );
                } else if let Some(path) = word.strip_prefix("beneath=") {
                    self.beneath = Some(path.into());
                } else {
                    self.data.push(word.to_owned());
                }
            }
        }
    }

    fn apply(set: &mut u64, clear: &mut u64, bits: u64, sets: bool) {
        const ATIME_MASK: u64 = 0x70;
        if sets {
            *set |= bits;
            *clear &= !bits;
            if bits & ATIME_MASK != 0 {
                // The kernel wants the whole field cleared when it is set.
                *clear |= ATIME_MASK;
            }
        } else {
            *clear |= bits;
            *set &= !bits;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        Options::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_later_word_wins() {
        let options = parse(&["ro", "rw", "nosuid"]);
        assert_eq!((options.set, options.clear), (0x2, 0x1));
    }

    #[test]
    fn recursive_words_are_kept_apart() {
        let options = parse(&["rbind", "ro", "rro", "rslave"]);
        assert!(options.bind && options.recursive);
        assert_eq!((options.set, options.recursive_set), (0x1, 0x1));
        assert_eq!(options.propagation, Some(libc::MS_SLAVE | libc::MS_REC));
    }

    #[test]
    fn unknown_words_are_parameters_of_the_file_system() {
        assert_eq!(
            parse(&["size=64m", "mode=1777", "noexec"]).data,
            ["size=64m", "mode=1777"]
        );
    }

    #[test]
    fn every_listed_word_is_known() {
        for word in WORDS {
            assert!(parse(&[word]).data.is_empty(), "{word}");
        }
    }

    #[test]
    fn an_access_time_word_replaces_the_field() {
        let options = parse(&["noatime"]);
        assert_eq!((options.set, options.clear), (0x10, 0x70));
    }
}
