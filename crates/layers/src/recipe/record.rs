//! Writing a recipe while its layer is being unpacked.
//!
//! What a later member of the same archive replaces is gone from the tree and
//! goes into the recipe. Whether it was content of this archive is told by its
//! inode, because through symbolic links one file has many paths.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use conex_spec::digest::Digest;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::format::{self, Content, Record};
use super::regenerate::open_in;
use crate::tree;

/// Quick, and most of a recipe is headers that differ little.
const LEVEL: i32 = 1;
/// Records are gathered up to this before they are compressed.
const GATHERED_BYTES: usize = 64 * 1024;

/// A recipe being written.
pub struct Recorder {
    /// The compressor; none between frames.
    frame: Option<zstd::stream::write::Encoder<'static, File>>,
    file: File,
    gathered: Vec<u8>,
    /// The inode of each FILE in order; 0 once its content is kept.
    inodes: Vec<u64>,
    indexes: HashMap<u64, u64>,
    amended: bool,
    /// Something on the way to a file may lead elsewhere now.
    rerouted: bool,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Recorder")
            .field("files", &self.inodes.len())
            .finish_non_exhaustive()
    }
}

impl Recorder {
    pub(super) fn begin(mut file: File) -> io::Result<Self> {
        let mut head = format::MAGIC.to_vec();
        head.extend_from_slice(&[format::VERSION, format::UNFINISHED]);
        head.resize(format::HEAD_BYTES, 0);
        file.write_all(&head)?;
        let frame = zstd::stream::write::Encoder::new(file.try_clone()?, LEVEL)?;
        Ok(Self {
            frame: Some(frame),
            file,
            gathered: Vec::with_capacity(GATHERED_BYTES),
            inodes: Vec::new(),
            indexes: HashMap::new(),
            amended: false,
            rerouted: false,
        })
    }

    /// The archive's own bytes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let record = Record::Raw {
            bytes: bytes.len() as u64,
        };
        self.put(&record)?;
        self.write(bytes)
    }

    /// Stored content that went into the file of that path and inode.
    pub(crate) fn file(
        &mut self,
        path: &[u8],
        inode: u64,
        bytes: u64,
        crc: u32,
        segments: Vec<(u64, u64)>,
    ) -> io::Result<()> {
        let index = self.inodes.len() as u64;
        self.inodes.push(inode);
        self.indexes.insert(inode, index);
        self.put(&Record::File(Content {
            path: path.to_vec(),
            bytes,
            crc,
            segments,
        }))
    }

    /// Takes over the content of whatever `name` is before it is removed.
    pub(crate) fn keep(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        if self.inodes.is_empty() {
            return Ok(());
        }
        let status = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            status => status?,
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => self.keep_file(parent, name, status.st_ino),
            FileType::Symlink => {
                self.rerouted = true;
                Ok(())
            }
            FileType::Directory => {
                self.rerouted = true;
                self.keep_below(parent, name)
            }
            _ => Ok(()),
        }
    }

    fn keep_below(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let mut failed = None;
        let walked = tree::visit(
            tree::open_directory(parent, name)?,
            &mut |directory, name, kind| {
                if kind != FileType::RegularFile {
                    return Ok(());
                }
                let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                self.keep_file(directory, name.to_bytes(), status.st_ino)
                    .map_err(|error| {
                        failed = Some(error);
                        Errno::CANCELED
                    })
            },
        );
        match failed {
            Some(error) => Err(error),
            None => Ok(walked?),
        }
    }

    fn keep_file(&mut self, parent: BorrowedFd<'_>, name: &[u8], inode: u64) -> io::Result<()> {
        let Some(index) = self.indexes.remove(&inode) else {
            return Ok(());
        };
        self.inodes[index as usize] = 0;
        self.amended = true;
        let mut file = open_in(parent, name)?;
        let mut piece = vec![0; GATHERED_BYTES];
        loop {
            let read = match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = read as u64;
            self.put(&Record::Kept { index, bytes })?;
            self.write(&piece[..read])?;
        }
    }

    /// Finds the files again that the way recorded does not lead to any more;
    /// to be called when the tree is complete.
    pub(crate) fn relocate(&mut self, layer: BorrowedFd<'_>) -> io::Result<()> {
        if !self.rerouted {
            return Ok(());
        }
        let mut lost = self.lost(layer)?;
        let mut directories = vec![Vec::new()];
        while let Some(directory) = directories.pop() {
            if lost.is_empty() {
                break;
            }
            let shown: &[u8] = if directory.is_empty() {
                b"."
            } else {
                &directory
            };
            let opened = tree::open_directory_in(layer, shown)?;
            let mut moved = Vec::new();
            tree::for_each(opened.as_fd(), &mut |name, kind| {
                let path = match directory.as_slice() {
                    b"" => name.to_bytes().to_vec(),
                    parent => [parent, b"/", name.to_bytes()].concat(),
                };
                match kind {
                    FileType::Directory => directories.push(path),
                    FileType::RegularFile => {
                        let status = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW)?;
                        if let Some(index) = lost.remove(&status.st_ino) {
                            moved.push(Record::Moved { index, path });
                        }
                    }
                    _ => {}
                }
                Ok(())
            })?;
            for record in moved {
                self.amended = true;
                self.put(&record)?;
            }
        }
        if lost.is_empty() {
            Ok(())
        } else {
            Err(io::Error::other("a file just unpacked is not in the layer"))
        }
    }

    /// Inodes of the files that are not where their records say, with their
    /// indexes. Ends the frame and begins another.
    fn lost(&mut self, layer: BorrowedFd<'_>) -> io::Result<HashMap<u64, u64>> {
        self.end_frame()?;
        let end = self.file.stream_position()?;
        self.file.seek(SeekFrom::Start(format::HEAD_BYTES as u64))?;
        let decoder = zstd::stream::read::Decoder::new(self.file.try_clone()?.take(end))?;
        let mut stream = BufReader::with_capacity(GATHERED_BYTES, decoder);
        let mut lost = HashMap::new();
        let mut index = 0;
        while index < self.inodes.len() as u64 {
            match Record::decode(&mut stream)? {
                Record::File(content) => {
                    let inode = self.inodes[index as usize];
                    let found = open_in(layer, &content.path)
                        .and_then(|file| Ok(rustix::fs::fstat(&file).map(|status| status.st_ino)?));
                    if inode != 0 && found.ok() != Some(inode) {
                        lost.insert(inode, index);
                    }
                    index += 1;
                }
                Record::Raw { bytes } | Record::Kept { bytes, .. } => {
                    io::copy(&mut stream.by_ref().take(bytes), &mut io::sink())?;
                }
                Record::Moved { .. } | Record::End { .. } => {}
            }
        }
        self.file.seek(SeekFrom::Start(end))?;
        self.frame = Some(zstd::stream::write::Encoder::new(
            self.file.try_clone()?,
            LEVEL,
        )?);
        Ok(lost)
    }

    /// Closes the recipe of an archive of that length and digest. What is
    /// written becomes durable with the layer.
    pub fn finish(mut self, bytes: u64, digest: &Digest) -> io::Result<()> {
        let digest =
            sum(digest).ok_or_else(|| io::Error::other("a recipe needs a sha256 digest"))?;
        self.put(&Record::End { bytes, digest })?;
        self.end_frame()?;
        let state = if self.amended {
            format::AMENDED
        } else {
            format::PLAIN
        };
        let mut head = vec![state];
        head.extend_from_slice(&bytes.to_le_bytes());
        self.file.write_all_at(&head, format::STATE_AT)
    }

    fn put(&mut self, record: &Record) -> io::Result<()> {
        record.encode(&mut self.gathered);
        self.flush_if(GATHERED_BYTES)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.gathered.extend_from_slice(bytes);
        self.flush_if(GATHERED_BYTES)
    }

    fn flush_if(&mut self, reached: usize) -> io::Result<()> {
        if self.gathered.len() >= reached
            && let Some(frame) = &mut self.frame
        {
            frame.write_all(&self.gathered)?;
            self.gathered.clear();
        }
        Ok(())
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.flush_if(0)?;
        if let Some(frame) = self.frame.take() {
            frame.finish()?;
        }
        Ok(())
    }
}

/// The 32 bytes of a SHA-256 digest.
fn sum(digest: &Digest) -> Option<[u8; 32]> {
    let digits = digest.hex().as_bytes();
    let mut sum = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(sum)
}

/// What follows an archive goes into the recipe as it is.
impl Write for &mut Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.raw(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
