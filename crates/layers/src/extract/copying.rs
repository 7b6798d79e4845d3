//! Unpacking as `cp` does: into a directory that is there and may be in use,
//! under names that differ from the archive's, for owners that may not be its.

use conex_archive::tar::Header;
use rustix::fs::{Gid, Uid};

use super::place::{is_below, join};
use super::{Error, Extractor, shown};

/// Whose the unpacked files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ownership {
    /// The archive's numbers.
    #[default]
    Archived,
    /// Whoever unpacks: no owner is changed.
    Unpacker,
    /// All of them this user's and group's.
    Given {
        /// User number.
        uid: u32,
        /// Group number.
        gid: u32,
    },
}

/// How `cp` differs from filling a layer. The entry of the top directory itself
/// changes nothing, and extended attributes that may not be set are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copying {
    /// The directory, below the root and with its links resolved inside it,
    /// that names are relative to; cleaned, empty for the root.
    pub into: Vec<u8>,
    /// What is called by the first name, or is below it, gets the second
    /// instead. Empty names mean the archive's top.
    pub rename: Option<(Vec<u8>, Vec<u8>)>,
    /// Whose the files are.
    pub ownership: Ownership,
    /// Whether it is an error to put a directory in the place of something
    /// else, or the other way round.
    pub keep_kinds: bool,
}

impl Extractor {
    /// Lets it unpack by the rules of `cp`.
    #[must_use]
    pub fn copying(mut self, rules: Copying) -> Self {
        self.copying = Some(rules);
        self
    }

    /// Where a cleaned name of the archive is to go; `None` for the top itself.
    pub(super) fn destination(&self, path: Vec<u8>) -> Option<Vec<u8>> {
        let Some(rules) = &self.copying else {
            return Some(path);
        };
        let path = match &rules.rename {
            Some((from, to)) if path == *from => to.clone(),
            Some((from, to)) if is_below(&path, from) => {
                let rest = match from.as_slice() {
                    b"" => &path[..],
                    from => &path[from.len() + 1..],
                };
                join(to, rest)
            }
            _ => path,
        };
        (!path.is_empty()).then(|| join(&rules.into, &path))
    }

    pub(super) fn keeps_kinds(&self) -> bool {
        self.copying.as_ref().is_some_and(|rules| rules.keep_kinds)
    }

    /// The path as messages of `cp` show it, and the directory unpacked into.
    pub(super) fn over(&self, path: &[u8], is_directory: bool) -> Error {
        let into = self.copying.as_ref().map(|rules| &*rules.into);
        let [path, into] = [path, into.unwrap_or_default()].map(|path| format!("/{}", shown(path)));
        if is_directory {
            Error::OverFile { path, into }
        } else {
            Error::OverDirectory { path, into }
        }
    }

    /// Whom an entry will belong to; `None` leaves it to whoever unpacks.
    pub(super) fn owner(&self, header: &Header) -> Result<Option<Owner>, Error> {
        let ownership = self.copying.as_ref().map(|rules| rules.ownership);
        let (uid, gid) = match ownership.unwrap_or_default() {
            Ownership::Archived => (header.uid, header.gid),
            Ownership::Unpacker => return Ok(None),
            Ownership::Given { uid, gid } => (uid.into(), gid.into()),
        };
        // All ones means "unchanged" to the kernel.
        let number = |id: u64| {
            u32::try_from(id)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| Error::Owner {
                    entry: shown(&header.path),
                    id,
                })
        };
        Ok(Some(Owner {
            uid: Uid::from_raw(number(uid)?),
            gid: Gid::from_raw(number(gid)?),
        }))
    }
}

/// User and group of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
}
