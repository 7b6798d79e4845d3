//! Who a container runs as: `user`, `uid`, `user:group` and the like, looked
//! up in `/etc/passwd` and `/etc/group` of its root file system, as bytes and
//! without executing anything there. It must not know the host's users.
//!
//! A number is always an id, never a name; an id that no file has is taken as
//! it is. Groups that list the user count only where no group is asked for.
//!
//! Source: the user package of moby/sys, which Docker and runc share.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

mod database;

use database::{Group, PasswdEntry};

/// The greatest id that may be asked for by number.
const MAX_ID: u64 = i32::MAX as u64;

/// The most groups the kernel gives a process (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;

/// The ids of a user and where it is at home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, each once. The primary group is the first of them: were it missing, a program
    /// that changes its group would lose it and with it the denials meant for it (CVE-2022-36109).
    pub supplementary: Vec<u32>,
    /// Home directory; `/` if the user has none.
    pub home: PathBuf,
}

/// Why a user cannot be told. The texts are those Docker's clients know.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A name the passwd file does not have.
    #[error("unable to find user {user}: no matching entries in passwd file")]
    NoUser {
        /// The name.
        user: String,
    },
    /// A name the group file does not have.
    #[error("unable to find group {group}: no matching entries in group file")]
    NoGroup {
        /// The name.
        group: String,
    },
    /// A number that is no id.
    #[error("uids and gids must be in range 0-{MAX_ID}")]
    Range,
    /// The user is in more groups than a process can have.
    #[error("user {user:?} is in more than {MAX_GROUPS} groups")]
    TooManyGroups {
        /// What was asked for.
        user: String,
    },
    /// A file that is too long, or a line of it.
    #[error("{path} of the root file system has more than {max} bytes in {unit}")]
    TooLong {
        /// Path inside the root file system.
        path: &'static str,
        /// How many are read.
        max: u64,
        /// The file or one line.
        unit: &'static str,
    },
    /// A file that is there and cannot be read.
    #[error("cannot read {path} of the root file system")]
    Read {
        /// Path inside the root file system.
        path: &'static str,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
}

/// Looks up a user inside a root file system.
///
/// `spec` is empty (root), `user`, `uid`, `user:group`, `uid:gid`, a mixture, or `:group`;
/// `extra_groups` are names or numbers of groups to add. Files that are missing or not
/// regular have no entries, and then `root` is 0 all the same.
///
/// # Errors
/// See [`UserError`].
pub fn resolve(
    root: BorrowedFd<'_>,
    spec: &str,
    extra_groups: &[String],
) -> Result<ResolvedUser, UserError> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let user = Wanted::parse(user)?;
    let group = Wanted::parse(group)?;
    let extra_groups = extra_groups
        .iter()
        .map(|extra| Wanted::parse(extra))
        .collect::<Result<Vec<_>, _>>()?;

    let passwd = database::open(root, database::PASSWD)?;
    let passwd_is_missing = passwd.is_none();
    let entry = match passwd {
        Some(file) => database::find_user(file, |entry| match user {
            Wanted::Unsaid => entry.uid == 0,
            Wanted::Id(uid) => entry.uid == uid,
            Wanted::Name(name) => entry.name == name.as_bytes(),
        })?,
        None => None,
    };
    let entry = match (entry, user) {
        (Some(entry), _) => entry,
        (None, Wanted::Unsaid) => PasswdEntry::nameless(0),
        (None, Wanted::Id(uid)) => PasswdEntry::nameless(uid),
        (None, Wanted::Name("root")) if passwd_is_missing => PasswdEntry::nameless(0),
        (None, Wanted::Name(name)) => {
            return Err(UserError::NoUser {
                user: name.to_owned(),
            });
        }
    };

    let groups = Groups::look_up(root, &entry, group, &extra_groups)?;
    let gid = groups.primary.unwrap_or(entry.gid);
    let mut supplementary = vec![gid];
    let mut seen = std::collections::HashSet::from([gid]);
    for gid in groups.listing.into_iter().chain(groups.extra) {
        if seen.insert(gid) {
            supplementary.push(gid);
        }
    }
    if supplementary.len() > MAX_GROUPS {
        return Err(UserError::TooManyGroups {
            user: spec.to_owned(),
        });
    }
    Ok(ResolvedUser {
        uid: entry.uid,
        gid,
        supplementary,
        home: entry.home,
    })
}

/// What a user or group is asked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted<'a> {
    Unsaid,
    Id(u32),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Result<Self, UserError> {
        if text.is_empty() {
            return Ok(Self::Unsaid);
        }
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text));
        }
        // Digits that do not fit are too great, whatever they are.
        let id = digits.parse().unwrap_or(u64::MAX);
        if id > MAX_ID || (is_negative && id != 0) {
            return Err(UserError::Range);
        }
        u32::try_from(id)
            .map(Self::Id)
            .map_err(|_| UserError::Range)
    }
}

/// What the group file says, found in one pass.
#[derive(Debug, Default)]
struct Groups {
    /// The group asked for.
    primary: Option<u32>,
    /// The groups that list the user, if no group is asked for.
    listing: Vec<u32>,
    /// The extra groups, in the order they are asked for.
    extra: Vec<u32>,
}

impl Groups {
    fn look_up(
        root: BorrowedFd<'_>,
        user: &PasswdEntry,
        wanted: Wanted<'_>,
        extra_groups: &[Wanted<'_>],
    ) -> Result<Self, UserError> {
        let file = database::open(root, database::GROUP)?;
        let is_missing = file.is_none();
        let known = |wanted: Wanted<'_>| match wanted {
            Wanted::Id(gid) => Some(gid),
            Wanted::Name("root") if is_missing => Some(0),
            Wanted::Name(_) | Wanted::Unsaid => None,
        };
        let mut primary = known(wanted);
        let mut listing = Vec::new();
        let mut extra: Vec<Option<u32>> = extra_groups.iter().map(|extra| known(*extra)).collect();

        if let Some(file) = file {
            let is_named = |wanted: Wanted<'_>, group: &Group<'_>| match wanted {
                Wanted::Name(name) => group.name == name.as_bytes(),
                Wanted::Id(_) | Wanted::Unsaid => false,
            };
            database::each_group(file, |group| {
                if wanted == Wanted::Unsaid {
                    // One more than a process can have is enough to refuse.
                    if listing.len() <= MAX_GROUPS && group.lists(&user.name) {
                        listing.push(group.gid);
                    }
                } else if primary.is_none() && is_named(wanted, &group) {
                    primary = Some(group.gid);
                }
                for (slot, extra) in extra.iter_mut().zip(extra_groups) {
                    if slot.is_none() && is_named(*extra, &group) {
                        *slot = Some(group.gid);
                    }
                }
            })?;
        }

        let no_group = |wanted: Wanted<'_>| UserError::NoGroup {
            group: match wanted {
                Wanted::Name(name) => name.to_owned(),
                Wanted::Id(_) | Wanted::Unsaid => String::new(),
            },
        };
        if primary.is_none() && wanted != Wanted::Unsaid {
            return Err(no_group(wanted));
        }
        let extra = extra
            .into_iter()
            .zip(extra_groups)
            .map(|(gid, wanted)| gid.ok_or_else(|| no_group(*wanted)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            primary,
            listing,
            extra,
        })
    }
}

#[cfg(test)]
mod tests;
