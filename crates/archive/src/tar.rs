//! Tar archives as a stream: v7, ustar, star, GNU and PAX, with sparse files
//! and extended attributes.
//!
//! ```text
//! archive  = { member } zero-block zero-block { anything }
//! member   = { extension } header [ sparse map blocks ] data padding-to-512
//! extension= 'x' PAX records for the next member | 'g' for all that follow
//!          | 'L' GNU long name | 'K' GNU long link target
//! ```
//!
//! Sources: POSIX.1-2017 pax "ustar Interchange Format" and "pax Extended
//! Header", the GNU tar manual's "Basic Tar Format" and "Sparse Formats",
//! star(5). Where readers disagree, what Docker accepts decides, because a
//! layer must unpack to the same tree in both.
//!
//! It must not know about paths' meaning: `..`, leading slashes and whiteout
//! names pass through untouched.

mod field;
mod member;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use reader::{Entry, Reader, Stored};
pub use sparse::Segment;
pub use writer::Writer;

use std::io;

/// Size of a tar block in bytes; headers and padding come in these.
pub const BLOCK_BYTES: usize = 512;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// An ordinary file, also a contiguous or a sparse one.
    Regular,
    /// Another name of the earlier member that `Header::link` names.
    HardLink,
    /// A symbolic link to `Header::link`.
    Symlink,
    /// A character device with `Header::device`.
    CharacterDevice,
    /// A block device with `Header::device`.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A type flag this reader has no meaning for; its data can be read.
    Other(u8),
}

impl EntryKind {
    /// Whether such a member is followed by data. The size field of the others
    /// is ignored, as Docker's reader does.
    #[must_use]
    pub fn has_data(self) -> bool {
        matches!(self, Self::Regular | Self::Other(_))
    }
}

/// A point in time relative to the epoch; `nanoseconds` counts forward also
/// before 1970 and is below 1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since the epoch, rounded down.
    pub seconds: i64,
    /// The rest.
    pub nanoseconds: u32,
}

/// The numbers of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Device {
    /// The driver.
    pub major: u32,
    /// The device of that driver.
    pub minor: u32,
}

/// Everything an archive says of one member, all extensions applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name as stored: may be absolute, contain `..` or end in a slash.
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link, otherwise usually empty.
    pub link: Vec<u8>,
    /// What the member is.
    pub kind: EntryKind,
    /// Permission bits with set-user-ID, set-group-ID and sticky (`07777`).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// Name of the owner, possibly empty.
    pub user: Vec<u8>,
    /// Name of the group, possibly empty.
    pub group: Vec<u8>,
    /// Last modification.
    pub mtime: Timestamp,
    /// Size in bytes once unpacked, holes included; 0 for kinds without data.
    pub size: u64,
    /// Device numbers; 0:0 unless the kind is a device.
    pub device: Device,
    /// Extended attributes by full name (`security.capability`), sorted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes of a sparse file belong, ascending and without
    /// overlap; the rest of the file is holes.
    pub sparse: Option<Vec<Segment>>,
}

impl Header {
    /// A header with that name and kind, owned by root, of the epoch, mode
    /// 0755 for directories and 0644 otherwise.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind) -> Self {
        Self {
            path: path.into(),
            link: Vec::new(),
            kind,
            mode: if kind == EntryKind::Directory {
                0o755
            } else {
                0o644
            },
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            mtime: Timestamp::default(),
            size: 0,
            device: Device::default(),
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}

/// How much of an archive's own bookkeeping a reader will hold in memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest single extension (PAX records, GNU long name), in bytes.
    pub extension_bytes: u64,
    /// Most segments in one sparse map.
    pub sparse_segments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            extension_bytes: 1 << 20,
            sparse_segments: 1 << 20,
        }
    }
}

/// Why an archive cannot be read or written. Offsets are bytes from the start
/// of the uncompressed archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream below failed.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// How far the archive was read.
        offset: u64,
        /// The stream's error.
        source: io::Error,
    },
    /// The stream written to failed.
    #[error("cannot write {path:?} to the archive")]
    Write {
        /// The member being written.
        path: String,
        /// The stream's error.
        source: io::Error,
    },
    /// The data given for a member could not be read.
    #[error("cannot read the content of {path:?}")]
    Content {
        /// The member being written.
        path: String,
        /// The stream's error.
        source: io::Error,
    },
    /// The data given for a member ended early.
    #[error("the content of {path:?} ended {missing_bytes} bytes before its size")]
    ShortContent {
        /// The member being written.
        path: String,
        /// How much is missing.
        missing_bytes: u64,
    },
    /// The archive ends within a header block.
    #[error("the archive ends inside the header at byte {offset}")]
    TruncatedHeader {
        /// Where the header starts.
        offset: u64,
    },
    /// The archive ends within the data of a member or extension.
    #[error("the archive ends inside {path:?}, {missing_bytes} bytes before its end")]
    Truncated {
        /// The member.
        path: String,
        /// How much is missing.
        missing_bytes: u64,
    },
    /// An extension that belongs to no member.
    #[error("the archive ends after the extension header at byte {offset}")]
    DanglingExtension {
        /// Where the last extension starts.
        offset: u64,
    },
    /// The block is no tar header.
    #[error("the block at byte {offset} is not a tar header: its checksum does not match")]
    Checksum {
        /// Where the block starts.
        offset: u64,
    },
    /// A number of a header is malformed, negative or too large.
    #[error("the header at byte {offset} has an invalid {field}")]
    Field {
        /// Where the header starts.
        offset: u64,
        /// Which number.
        field: &'static str,
    },
    /// An extension's records are malformed.
    #[error("the extension header at byte {offset} is malformed: {problem}")]
    Extension {
        /// Where the header starts.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// An extension is larger than [`Limits::extension_bytes`].
    #[error(
        "the extension header at byte {offset} takes {size_bytes} bytes, the limit is {limit_bytes}"
    )]
    ExtensionTooLarge {
        /// Where the header starts.
        offset: u64,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// A sparse map is malformed or has too many segments.
    #[error("the sparse map of {path:?} is invalid: {problem}")]
    Sparse {
        /// The member.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A continuation of a file from another volume, which alone means nothing.
    #[error("{path:?} continues a file from another volume")]
    MultiVolume {
        /// The member.
        path: String,
    },
    /// A value that no tar format can hold.
    #[error("the {field} of {path:?} cannot be stored in a tar archive")]
    Unstorable {
        /// The member.
        path: String,
        /// Which value.
        field: &'static str,
    },
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Read { source, .. } => source.kind(),
            Error::Truncated { .. } | Error::TruncatedHeader { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// A name for messages: lossy, because names are bytes.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
