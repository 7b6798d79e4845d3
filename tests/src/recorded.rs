//! A disk that remembers every write and flush: one file in a file system of its
//! own (FUSE, served by a thread), for a loop device to stand on.
//!
//! From the record comes what a machine finds that lost power at some moment:
//! everything up to the last flush, and of what was written since then any part,
//! because a disk writes its cache out in the order it likes.
//!
//! ```text
//! write write FLUSH write write write │ power goes
//! └── on the disk ──┘ └── some of ──┘ │
//! ```
//!
//! Source: `include/uapi/linux/fuse.h` of the kernel.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

/// What is lost or kept as one: the size of a page and of a file system's block.
const BLOCK: usize = 4096;

/// The largest write of one request.
const MAX_WRITE: usize = 1 << 20;

/// The file's number; the directory is 1.
const FILE: u64 = 2;

enum Event {
    Write { offset: usize, bytes: Vec<u8> },
    Flush,
}

struct State {
    content: Vec<u8>,
    events: Vec<Event>,
}

/// The disk; unmounted when dropped.
pub struct RecordedDisk {
    directory: TempDir,
    state: Arc<Mutex<State>>,
}

impl RecordedDisk {
    /// An empty disk of so many MiB; `None`, with the reason printed, where
    /// there is no FUSE.
    pub fn new(mebibytes: usize) -> Option<RecordedDisk> {
        let skipped = |error: io::Error| crate::skip(&format!("no FUSE here: {error}"));
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(skipped).ok()?;
        let directory = tempfile::Builder::new().prefix("cx-disk-").tempdir();
        let directory = directory.expect("a temporary directory can be made");
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let data = std::ffi::CString::new(data).expect("it has no zero");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("disk", directory.path(), "fuse", flags, &*data)
            .map_err(|error| skipped(error.into()))
            .ok()?;
        let state = State {
            content: vec![0; mebibytes << 20],
            events: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        // It ends with the mount.
        std::thread::spawn(move || serve(&device, &served));
        Some(RecordedDisk { directory, state })
    }

    /// The file that is the disk.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// How many writes and flushes there have been.
    pub fn events(&self) -> usize {
        lock(&self.state).events.len()
    }

    /// Writes down what a machine finds that lost power after so many events.
    /// `keeps` is asked for each block written since the last flush.
    pub fn after_power_loss(
        &self,
        events: usize,
        image: &Path,
        keeps: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let state = lock(&self.state);
        let past = &state.events[..events];
        let flushed = past.iter().rposition(|event| matches!(event, Event::Flush));
        let mut content = vec![0; state.content.len()];
        for (index, event) in past.iter().enumerate() {
            let Event::Write { offset, bytes } = event else {
                continue;
            };
            let is_safe = flushed.is_some_and(|flush| index < flush);
            for (number, block) in bytes.chunks(BLOCK).enumerate() {
                if is_safe || keeps() {
                    let at = offset + number * BLOCK;
                    content[at..at + block.len()].copy_from_slice(block);
                }
            }
        }
        let mut file = File::create(image)?;
        file.set_len(content.len() as u64)?;
        for (number, block) in content.chunks(1 << 16).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                std::os::unix::fs::FileExt::write_all_at(&file, block, (number << 16) as u64)?;
            }
        }
        file.flush()
    }
}

impl Drop for RecordedDisk {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        if let Err(error) = rustix::mount::unmount(self.directory.path(), flags) {
            eprintln!(
                "cannot unmount {}: {error}",
                self.directory.path().display()
            );
        }
        let _emptied = fs::remove_dir(self.directory.path()).is_ok();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Bytes of an answer, put together number by number.
#[derive(Default)]
struct Answer(Vec<u8>);

impl Answer {
    fn u16(mut self, number: u16) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    /// `struct fuse_attr`.
    fn attributes(self, node: u64, size: usize) -> Self {
        let (mode, size) = match node {
            FILE => (0o100_600, size as u64),
            _ => (0o040_700, 0),
        };
        let it = self.u64(node).u64(size).u64(size / 512);
        // Times, and their nanoseconds.
        let it = it.u64(0).u64(0).u64(0).u32(0).u32(0).u32(0);
        it.u32(mode)
            .u32(1)
            .u32(0)
            .u32(0)
            .u32(0)
            .u32(BLOCK as u32)
            .u32(0)
    }
}

/// Answers the kernel until the file system is gone.
fn serve(mut device: &File, state: &Mutex<State>) {
    let mut buffer = vec![0; MAX_WRITE + 4096];
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A request that was taken back.
            Err(error) if error.raw_os_error() == Some(2) => continue,
            Err(_) => return,
        };
        let request = &buffer[..length];
        let (opcode, unique) = (u32_at(request, 4), u64_at(request, 8));
        let node = u64_at(request, 16);
        let Some(answer) = answered(opcode, node, &request[40..], &mut lock(state)) else {
            continue;
        };
        let (error, body) = match answer {
            Ok(Answer(body)) => (0, body),
            Err(errno) => (-errno, Vec::new()),
        };
        let head = Answer::default().u32(16 + body.len() as u32);
        let head = head.u32(error.cast_unsigned()).u64(unique);
        if device.write_all(&[head.0, body].concat()).is_err() {
            return;
        }
    }
}

/// `None` for what is not answered.
fn answered(opcode: u32, node: u64, body: &[u8], state: &mut State) -> Option<Result<Answer, i32>> {
    const NO_SUCH: i32 = 2;
    const NOT_KNOWN: i32 = 38;
    let size = state.content.len();
    let empty = Answer::default();
    // A second for names and attributes: nothing changes them.
    let valid = |answer: Answer| answer.u64(1);
    Some(Ok(match opcode {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // LOOKUP
        1 if body == b"disk\0" => {
            let it = valid(valid(empty.u64(FILE).u64(0))).u32(0).u32(0);
            it.attributes(FILE, size)
        }
        1 => return Some(Err(NO_SUCH)),
        // GETATTR, SETATTR
        3 | 4 => valid(empty).u32(0).u32(0).attributes(node, size),
        // OPEN, OPENDIR
        14 | 27 => empty.u64(0).u32(0).u32(0),
        // READ
        15 => {
            let start = usize::try_from(u64_at(body, 8)).unwrap_or(size).min(size);
            let end = (start + u32_at(body, 16) as usize).min(size);
            Answer(state.content[start..end].to_vec())
        }
        // WRITE
        16 => {
            let offset = usize::try_from(u64_at(body, 8)).unwrap_or(size);
            let bytes = &body[40..40 + u32_at(body, 16) as usize];
            if offset.saturating_add(bytes.len()) > size {
                return Some(Err(28));
            }
            state.content[offset..offset + bytes.len()].copy_from_slice(bytes);
            let bytes = bytes.to_vec();
            let written = bytes.len() as u32;
            state.events.push(Event::Write { offset, bytes });
            empty.u32(written).u32(0)
        }
        // STATFS
        17 => Answer(vec![0; 80]),
        // FSYNC
        20 => {
            state.events.push(Event::Flush);
            empty
        }
        // RELEASE, FLUSH, RELEASEDIR, ACCESS, DESTROY
        18 | 25 | 29 | 34 | 38 => empty,
        // INIT, answered as version 7.31 with large writes in one piece
        26 => {
            let (big_writes, max_pages) = (1 << 5, 1 << 22);
            let it = empty
                .u32(7)
                .u32(31)
                .u32(1 << 17)
                .u32(big_writes | max_pages);
            let it = it.u16(16).u16(12).u32(MAX_WRITE as u32).u32(1);
            let it = it.u16((MAX_WRITE / 4096) as u16).u16(0);
            Answer([it.0, vec![0; 32]].concat())
        }
        _ => return Some(Err(NOT_KNOWN)),
    }))
}
