//! `/etc/passwd` and `/etc/group` of a root file system whose owner may wish
//! us ill: opened without leaving it, read with limits, line by line; lines
//! that are not of the format are passed over. It must not know what is looked for.
//!
//! ```text
//! passwd   name:password:uid:gid:comment:home:shell
//! group    name:password:gid:user,user,…
//! ```
//!
//! Source: passwd(5), group(5).

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::UserError;

/// The users.
pub(super) const PASSWD: &str = "/etc/passwd";

/// The groups.
pub(super) const GROUP: &str = "/etc/group";

/// How much of a file is read.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// How long a line may be; that of a group may list thousands of users.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// How often an open is tried again that a rename elsewhere on the host disturbed.
const MAX_OPENS: usize = 64;

/// A file of the root file system that is there.
pub(super) struct Database {
    path: &'static str,
    reader: BufReader<std::io::Take<File>>,
}

/// Opens a file inside the root; `None` if there is no such regular file.
pub(super) fn open(
    root: BorrowedFd<'_>,
    path: &'static str,
) -> Result<Option<Database>, UserError> {
    let read = |errno: Errno| UserError::Read {
        path,
        source: errno.into(),
    };
    let file = match open_in_root(root, path) {
        Ok(file) => file,
        // What is there cannot be a database: ENXIO is a socket or a device without driver.
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::NXIO
            | Errno::NODEV
            | Errno::NAMETOOLONG,
        ) => return Ok(None),
        Err(errno) => return Err(read(errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(read)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    Ok(Some(Database {
        path,
        // One byte more than may be there, to see that it is too much.
        reader: BufReader::new(file.take(MAX_FILE_BYTES + 1)),
    }))
}

fn open_in_root(root: BorrowedFd<'_>, path: &str) -> Result<File, Errno> {
    // Never waits for a writer of a named pipe and never takes a terminal.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut opens = 0;
    loop {
        opens += 1;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Ok(descriptor) => return Ok(File::from(descriptor)),
            // EAGAIN: the kernel could not prove that `..` stayed inside.
            Err(Errno::AGAIN | Errno::INTR) if opens < MAX_OPENS => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PasswdEntry {
    /// Empty for a user the file does not have.
    pub(super) name: Vec<u8>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: PathBuf,
}

impl PasswdEntry {
    /// A user the file does not have.
    pub(super) fn nameless(uid: u32) -> Self {
        Self {
            name: Vec::new(),
            uid,
            gid: 0,
            home: PathBuf::from("/"),
        }
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.trim_ascii().split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let uid = parse_id(fields.next()?)?;
        let gid = parse_id(fields.next()?)?;
        let _comment = fields.next();
        let home = match fields.next() {
            Some(home) if !home.is_empty() => OsString::from_vec(home.to_vec()).into(),
            _ => PathBuf::from("/"),
        };
        Some(Self {
            name: name.to_vec(),
            uid,
            gid,
            home,
        })
    }
}

/// A group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group<'a> {
    pub(super) name: &'a [u8],
    pub(super) gid: u32,
    /// User names with commas between them.
    users: &'a [u8],
}

impl<'a> Group<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.trim_ascii().split(|byte| *byte == b':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with(b"#"))?;
        let _password = fields.next()?;
        let gid = parse_id(fields.next()?)?;
        let users = fields.next().unwrap_or_default();
        Some(Self { name, gid, users })
    }

    /// Whether a user is listed; one without a name never is.
    pub(super) fn lists(&self, user: &[u8]) -> bool {
        !user.is_empty()
            && self
                .users
                .split(|byte| *byte == b',')
                .any(|name| name == user)
    }
}

/// Reads an id; not the one (-1) that to the kernel means no change.
fn parse_id(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let id: u32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (id != u32::MAX).then_some(id)
}

/// The first user of the file that is the one.
pub(super) fn find_user(
    database: Database,
    is_the_one: impl Fn(&PasswdEntry) -> bool,
) -> Result<Option<PasswdEntry>, UserError> {
    let mut found = None;
    each_line(database.path, database.reader, |line| {
        found = PasswdEntry::parse(line).filter(&is_the_one);
        match found {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    })?;
    Ok(found)
}

/// Hands over every group of the file, in its order.
pub(super) fn each_group(
    database: Database,
    mut take: impl FnMut(Group<'_>),
) -> Result<(), UserError> {
    each_line(database.path, database.reader, |line| {
        if let Some(group) = Group::parse(line) {
            take(group);
        }
        ControlFlow::Continue(())
    })
}

fn each_line(
    path: &'static str,
    mut reader: impl BufRead,
    mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), UserError> {
    let mut line = Vec::new();
    let mut total_bytes = 0;
    loop {
        line.clear();
        let line_bytes = reader
            .by_ref()
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut line)
            .map_err(|source| UserError::Read { path, source })? as u64;
        total_bytes += line_bytes;
        for (bytes, max, unit) in [
            (line_bytes, MAX_LINE_BYTES, "one line"),
            (total_bytes, MAX_FILE_BYTES, "all"),
        ] {
            if bytes > max {
                return Err(UserError::TooLong { path, max, unit });
            }
        }
        if line_bytes == 0 || take(&line).is_break() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn passwd(line: &str) -> Option<(String, u32, u32, String)> {
        let entry = PasswdEntry::parse(line.as_bytes())?;
        Some((
            String::from_utf8(entry.name).unwrap(),
            entry.uid,
            entry.gid,
            entry.home.into_os_string().into_string().unwrap(),
        ))
    }

    #[test]
    fn a_passwd_line_is_read_as_far_as_it_is_needed() {
        let entry = |name: &str, uid, gid, home: &str| Some((name.into(), uid, gid, home.into()));
        for (line, expected) in [
            (
                "root:x:0:0:root:/root:/bin/bash\n",
                entry("root", 0, 0, "/root"),
            ),
            ("  app:x:1:2:::\r\n", entry("app", 1, 2, "/")),
            ("app::1:2", entry("app", 1, 2, "/")),
            (
                "big:x:4294967294:1::/b:",
                entry("big", 4_294_967_294, 1, "/b"),
            ),
            ("a:x:1:2:c:/h:/s:more:still", entry("a", 1, 2, "/h")),
        ] {
            assert_eq!(passwd(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_passwd_line_is_no_user() {
        for line in [
            "",
            "\n",
            "app",
            "app:x",
            "app:x:1",
            "app:x::1",
            "app:x:1:",
            "app:x:one:1",
            "app:x:-1:1",
            "app:x:+1:1",
            "app:x:1 :1",
            "app:x:4294967295:1",
            "app:x:4294967296:1",
            "app:x:99999999999999999999:1",
            ":x:0:0:::",
            "+::::::",
            "# comment",
        ] {
            assert_eq!(passwd(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_group_line_lists_its_users_by_their_whole_names() {
        let group = Group::parse(b"wheel:x:10:root,app,\n").unwrap();
        assert_eq!((group.name, group.gid), (&b"wheel"[..], 10));
        for (user, is_listed) in [("root", true), ("app", true), ("ap", false), ("", false)] {
            assert_eq!(group.lists(user.as_bytes()), is_listed, "{user:?}");
        }
        assert!(!Group::parse(b"empty:x:11").unwrap().lists(b"root"));
        for line in [
            "",
            "#g:x:1:",
            " #g:x:1:",
            "g",
            "g:x",
            "g:x:",
            "g:x:a:root",
            ":x:1:root",
        ] {
            assert_eq!(Group::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn no_line_makes_the_parsers_panic() {
        // Lines of the bytes that matter to the format, from a fixed xorshift sequence.
        const BYTES: &[u8] = b"::::,0194ax# \n\0\xff-+";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        let mut users = 0;
        for _ in 0..200_000 {
            let line: Vec<u8> = (0..next(24)).map(|_| BYTES[next(BYTES.len())]).collect();
            if let Some(entry) = PasswdEntry::parse(&line) {
                users += 1;
                assert!(!entry.name.is_empty() && !entry.name.contains(&b':'));
                assert_ne!(entry.uid, u32::MAX);
            }
            if let Some(group) = Group::parse(&line) {
                assert!(!group.name.is_empty() && !group.lists(b""));
            }
        }
        assert!(users > 0);
    }

    #[test]
    fn lines_and_files_beyond_the_limits_are_refused() {
        let lines = |bytes: &[u8]| {
            let mut count = 0;
            each_line(PASSWD, bytes, |_| {
                count += 1;
                ControlFlow::Continue(())
            })
            .map(|()| count)
        };
        assert_eq!(lines(b"a\nb\n\nc").unwrap(), 4);
        assert_eq!(lines(b"").unwrap(), 0);
        let max = usize::try_from(MAX_LINE_BYTES).unwrap();
        assert_eq!(lines(&vec![b'a'; max]).unwrap(), 1);
        let error = lines(&vec![b'a'; max + 1]).unwrap_err().to_string();
        assert_eq!(
            error,
            "/etc/passwd of the root file system has more than 1048576 bytes in one line"
        );

        let endless = BufReader::new(Endless);
        let error = each_line(GROUP, endless, |_| ControlFlow::Continue(())).unwrap_err();
        assert!(
            matches!(error, UserError::TooLong { unit: "all", .. }),
            "{error}"
        );
    }

    /// Short lines for ever.
    struct Endless;

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            buffer.fill(b'a');
            for newline in buffer.iter_mut().step_by(1024) {
                *newline = b'\n';
            }
            Ok(buffer.len())
        }
    }
}
