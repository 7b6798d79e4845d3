//! The members of an archive of images, by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use conex_archive::compression;
use conex_archive::tar::{self, EntryKind};
use conex_layers::extract::Limits;
use conex_spec::digest::{Digest, Hasher};
use rustix::fs::{Mode, OFlags};

use super::super::ingest::Open;
use crate::Error;
use crate::error::chain;

/// Members up to this size stay in memory, as long as all of them together
/// are below [`MEMORY_BYTES`].
const SMALL_BYTES: u64 = 256 * 1024;
const MEMORY_BYTES: u64 = 16 << 20;
/// Most members; an image has three and some for each layer.
const MAX_MEMBERS: usize = 64 * 1024;
/// Most links followed to a member.
const MAX_LINKS: usize = 16;
const PIECE_BYTES: usize = 256 * 1024;

/// What an archive holds.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_name: HashMap<Vec<u8>, Member>,
}

#[derive(Debug, Clone)]
enum Member {
    Memory(Arc<[u8]>),
    /// A file without a name, and its length.
    Spooled(Arc<File>, u64),
    /// Older archives link a layer that several images have.
    Link(Vec<u8>),
}

/// A member that is to be read as a layer.
#[derive(Debug)]
pub(super) struct Blob {
    member: Member,
    /// What its bytes must have as a digest, if that is not the DiffID.
    digest: Option<Digest>,
}

impl Members {
    /// Reads the archive to its end.
    pub(super) fn read(stream: impl Read + Send + 'static, tmp: &Path) -> Result<Self, Error> {
        let invalid =
            |e: &dyn std::error::Error| Error::invalid(format!("invalid archive: {}", chain(e)));
        let stream = Box::new(BufReader::with_capacity(PIECE_BYTES, stream));
        let (_, stream) = compression::decompress(stream).map_err(|e| invalid(&e))?;
        let mut archive = tar::Reader::new(stream);
        let mut members = Self::default();
        let mut left = Limits::default().max_bytes;
        let mut memory = MEMORY_BYTES;
        let mut piece = vec![0; PIECE_BYTES];
        while let Some(mut entry) = archive.next_entry().map_err(|e| invalid(&e))? {
            let Some(name) = cleaned(&entry.header.path) else {
                let name = String::from_utf8_lossy(&entry.header.path).into_owned();
                return Err(Error::invalid(format!(
                    "invalid archive: the name {name:?} leads out of it"
                )));
            };
            let size = entry.header.size;
            let member = match entry.header.kind {
                EntryKind::Symlink => {
                    let (parent, _) = name.rsplit_once_slash();
                    let target = match entry.header.link.starts_with(b"/") {
                        true => entry.header.link.clone(),
                        false => [parent, b"/", &entry.header.link].concat(),
                    };
                    cleaned(&target).map(Member::Link)
                }
                EntryKind::HardLink => cleaned(&entry.header.link).map(Member::Link),
                EntryKind::Regular if size <= SMALL_BYTES && size <= memory => {
                    memory -= size;
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).map_err(|e| invalid(&e))?;
                    Some(Member::Memory(bytes.into()))
                }
                EntryKind::Regular => {
                    left = left.checked_sub(size).ok_or_else(|| {
                        Error::invalid("invalid archive: it is larger than any that is read")
                    })?;
                    let file = spool(&mut entry, tmp, &mut piece).map_err(|error| match error {
                        Spool::Archive(error) => invalid(&error),
                        Spool::Disk(error) => Error::system("keep the archive", &error),
                    })?;
                    Some(Member::Spooled(Arc::new(file), size))
                }
                _ => None,
            };
            if let Some(member) = member {
                members.by_name.insert(name, member);
            }
            if members.by_name.len() > MAX_MEMBERS {
                return Err(Error::invalid(format!(
                    "invalid archive: it has more than {MAX_MEMBERS} members"
                )));
            }
        }
        archive.finish().map_err(|e| invalid(&e))?;
        Ok(members)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<&Member> {
        let mut name = cleaned(name.as_bytes())?;
        for _ in 0..MAX_LINKS {
            match self.by_name.get(&name)? {
                Member::Link(target) => name.clone_from(target),
                member => return Some(member),
            }
        }
        None
    }

    fn get(&self, name: &str) -> Result<&Member, Error> {
        self.find(name)
            .ok_or_else(|| Error::invalid(format!("invalid archive: it has no file {name}")))
    }

    /// The content of a member that is no layer.
    pub(super) fn bytes(&self, name: &str, most: usize) -> Result<Vec<u8>, Error> {
        let member = self.get(name)?;
        if member.len() > most as u64 {
            return Err(Error::invalid(format!(
                "invalid archive: {name} is {} bytes long, more than {most}",
                member.len()
            )));
        }
        let mut bytes = Vec::new();
        member
            .clone()
            .reader()
            .read_to_end(&mut bytes)
            .map_err(|e| Error::system("read the archive", &e))?;
        Ok(bytes)
    }

    /// A member as a layer, with the digest its bytes must have.
    pub(super) fn blob(&self, name: &str, digest: Option<Digest>) -> Result<Blob, Error> {
        Ok(Blob {
            member: self.get(name)?.clone(),
            digest,
        })
    }
}

impl Member {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Spooled(_, length) => *length,
            Self::Link(_) => 0,
        }
    }

    fn reader(self) -> Spooled {
        Spooled {
            left: self.len(),
            member: self,
            offset: 0,
        }
    }
}

impl Blob {
    /// Its length as it is in the archive.
    pub(super) fn bytes(&self) -> u64 {
        self.member.len()
    }

    /// For the ingest.
    pub(super) fn into_open(self) -> Open {
        Box::new(move || {
            let reader = self.member.reader();
            Ok(match self.digest {
                None => buffered(reader),
                Some(digest) => buffered(Checked {
                    reader,
                    hasher: Some(Hasher::new(digest.algorithm())),
                    digest,
                }),
            })
        })
    }
}

fn buffered(reader: impl Read + Send + 'static) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::with_capacity(PIECE_BYTES, reader))
}

/// Reads one member; several readers of one do not disturb each other.
struct Spooled {
    member: Member,
    offset: u64,
    left: u64,
}

impl Read for Spooled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        let read = match &self.member {
            Member::Memory(bytes) => {
                let rest = &bytes[bytes.len() - usize::try_from(self.left).unwrap_or(0)..];
                buffer[..wanted].copy_from_slice(&rest[..wanted]);
                wanted
            }
            Member::Spooled(file, _) => file.read_at(&mut buffer[..wanted], self.offset)?,
            Member::Link(_) => 0,
        };
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Fails at the end of a stream that is not what its name says.
struct Checked {
    reader: Spooled,
    hasher: Option<Hasher>,
    digest: Digest,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        if read == 0
            && !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish();
            if found != self.digest {
                let text = format!("the blob {} has the digest {found}", self.digest);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}

enum Spool {
    Archive(io::Error),
    Disk(io::Error),
}

/// Copies a member into a file that has no name and goes with its last user.
fn spool(source: &mut impl Read, tmp: &Path, piece: &mut [u8]) -> Result<File, Spool> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(tmp, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| Spool::Disk(errno.into()))?;
    let file = File::from(file);
    let mut offset = 0;
    loop {
        let read = match source.read(piece) {
            Ok(0) => return Ok(file),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Spool::Archive(error)),
        };
        file.write_all_at(&piece[..read], offset)
            .map_err(Spool::Disk)?;
        offset += read as u64;
    }
}

/// A name without `.`, `..` and doubled slashes; `None` if it leads out.
fn cleaned(name: &[u8]) -> Option<Vec<u8>> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop()?;
            }
            component => components.push(component),
        }
    }
    Some(components.join(&b'/'))
}

trait Split {
    fn rsplit_once_slash(&self) -> (&[u8], &[u8]);
}

impl Split for Vec<u8> {
    fn rsplit_once_slash(&self) -> (&[u8], &[u8]) {
        match self.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self[..slash], &self[slash + 1..]),
            None => (b"", self),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_archive::tar::{Header, Writer};

    fn archive(members: &[(&str, EntryKind, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = Header::new(*name, *kind);
            if *kind == EntryKind::Regular {
                header.size = content.len() as u64;
                writer.append(&header, &mut &**content).unwrap();
            } else {
                header.link = content.to_vec();
                writer.append_empty(&header).unwrap();
            }
        }
        writer.finish().unwrap()
    }

    fn read(bytes: Vec<u8>) -> Result<Members, Error> {
        let tmp = tempfile::tempdir().unwrap();
        Members::read(io::Cursor::new(bytes), tmp.path())
    }

    #[test]
    fn members_are_found_through_links_and_large_ones_are_spooled_without_a_name() {
        let large = vec![7; SMALL_BYTES as usize + 1];
        let bytes = archive(&[
            ("./a/layer.tar", EntryKind::Regular, &large),
            ("b/layer.tar", EntryKind::Symlink, b"../a/layer.tar"),
            ("c", EntryKind::HardLink, b"b/layer.tar"),
            ("loop", EntryKind::Symlink, b"loop"),
            ("away", EntryKind::Symlink, b"../../etc/passwd"),
        ]);
        let tmp = tempfile::tempdir().unwrap();
        let members = Members::read(io::Cursor::new(bytes), tmp.path()).unwrap();
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
        for name in ["a/layer.tar", "/b//layer.tar", "c"] {
            assert!(members.bytes(name, large.len()).unwrap() == large, "{name}");
        }
        for name in ["loop", "away", "nosuch", "../a"] {
            assert!(!members.has(name), "{name}");
        }
        assert_eq!(
            members.bytes("c", 5).unwrap_err().to_string(),
            "invalid archive: c is 262145 bytes long, more than 5"
        );
    }

    #[test]
    fn a_blob_of_another_digest_fails_at_its_end() {
        let members = read(archive(&[("x", EntryKind::Regular, b"content")])).unwrap();
        let read = |digest| {
            let open = members.blob("x", digest).unwrap().into_open();
            let mut bytes = Vec::new();
            open().unwrap().read_to_end(&mut bytes).map(|_| bytes)
        };
        assert_eq!(read(None).unwrap(), b"content");
        assert_eq!(read(Some(Digest::of(b"content"))).unwrap(), b"content");
        let error = read(Some(Digest::of(b"other"))).unwrap_err();
        assert!(error.to_string().contains("has the digest sha256:"));
    }

    #[test]
    fn archives_that_are_cut_or_lead_out_are_refused() {
        let whole = archive(&[("x", EntryKind::Regular, &[1; 5000])]);
        assert!(read(whole[..3000].to_vec()).is_err());
        assert!(read(b"no archive at all, but some text".to_vec()).is_err());
        let error = read(archive(&[("../x", EntryKind::Regular, b"")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid archive: the name \"../x\" leads out of it"
        );
        assert!(read(Vec::new()).unwrap().by_name.is_empty());
    }
}
