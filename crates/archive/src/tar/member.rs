//! From a header block to a [`Header`]: the plain fields of every dialect.

use std::ops::Range;

use super::field::{self, Block, Dialect};
use super::pax::Overrides;
use super::{EntryKind, Error, Header, Timestamp};

/// The header's own fields under the PAX overrides; a field that is overridden
/// may hold anything.
pub(super) fn plain_header(
    block: &Block,
    offset: u64,
    pax: &mut Overrides,
) -> Result<Header, Error> {
    let mut header = Header::new(name(block), EntryKind::Regular);
    let mode = unsigned(block, field::MODE, offset, "mode")?;
    header.mode = u32::try_from(mode & 0o7777).expect("masked to twelve bits");
    header.uid = match pax.uid {
        Some(uid) => uid,
        None => unsigned(block, field::UID, offset, "uid")?,
    };
    header.gid = match pax.gid {
        Some(gid) => gid,
        None => unsigned(block, field::GID, offset, "gid")?,
    };
    header.mtime = match pax.mtime {
        Some(mtime) => mtime,
        None => Timestamp {
            seconds: field::number(&block[field::MTIME]).ok_or(Error::Field {
                offset,
                field: "mtime",
            })?,
            nanoseconds: 0,
        },
    };
    header.link = field::string(&block[field::LINK]).to_vec();
    if field::dialect(block) != Dialect::V7 {
        header.user = field::string(&block[field::USER]).to_vec();
        header.group = field::string(&block[field::GROUP]).to_vec();
    }
    if let Some(user) = pax.user.take() {
        header.user = user;
    }
    if let Some(group) = pax.group.take() {
        header.group = group;
    }
    Ok(header)
}

/// The name with the prefix that the dialect has for long ones.
fn name(block: &Block) -> Vec<u8> {
    let name = field::string(&block[field::NAME]);
    let prefix = match field::dialect(block) {
        Dialect::V7 => &[],
        Dialect::Ustar => field::string(&block[field::PREFIX]),
        Dialect::Star => field::string(&block[field::STAR_PREFIX]),
        Dialect::Gnu => misplaced_prefix(block),
    };
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// Go before 1.8, and so Docker before 1.13, put a prefix into GNU headers,
/// where times belong; text that is no number gives it away.
fn misplaced_prefix(block: &Block) -> &[u8] {
    let times = [field::GNU_ATIME, field::GNU_CTIME];
    if times
        .into_iter()
        .all(|time| field::number(&block[time]).is_some())
    {
        return &[];
    }
    let prefix = field::string(&block[field::PREFIX]);
    if prefix.is_ascii() { prefix } else { &[] }
}

/// The meaning of a type flag.
pub(super) fn kind(flag: u8, path: &[u8]) -> EntryKind {
    match flag {
        0 if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::Regular,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharacterDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => EntryKind::Other(other),
    }
}

/// A number field of the header at `offset`.
pub(super) fn unsigned(
    block: &Block,
    range: Range<usize>,
    offset: u64,
    field: &'static str,
) -> Result<u64, Error> {
    field::unsigned(&block[range]).ok_or(Error::Field { offset, field })
}

/// A device number; v7 has none.
pub(super) fn device_number(block: &Block, range: Range<usize>, offset: u64) -> Result<u32, Error> {
    if field::dialect(block) == Dialect::V7 {
        return Ok(0);
    }
    let number = unsigned(block, range, offset, "device number")?;
    u32::try_from(number).map_err(|_| Error::Field {
        offset,
        field: "device number",
    })
}
