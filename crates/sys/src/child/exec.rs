//! The last step: try each candidate and say precisely why none ran; and the
//! same without executing, as far as that can be known.

use std::ffi::{CString, c_char};

use rustix::fs::{AtFlags, CWD, FileType};
use rustix::io::Errno;

use super::step::Reason;

/// Executes the first candidate that can be; returns only on failure, with
/// what Go's `exec.LookPath` (and so Docker) would have found wrong.
pub(super) fn exec_first(
    candidates: &[CString],
    argv: &[*const c_char],
    envp: &[*const c_char],
) -> (i32, Reason) {
    let mut worst = (libc::ENOENT, Reason::NotFound);
    for path in candidates {
        // SAFETY: argv and envp are nul-terminated arrays of pointers to C
        // strings that live in the plan.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
        let errno = crate::last_errno().raw_os_error();
        let searched = candidates.len() > 1;
        match errno {
            libc::ENOENT => {
                if rustix::fs::statat(CWD, path.as_c_str(), AtFlags::empty()).is_ok() {
                    return (errno, Reason::InterpreterMissing);
                }
            }
            libc::ENOTDIR if searched => {}
            libc::EACCES | libc::EPERM => {
                let directory = rustix::fs::statat(CWD, path.as_c_str(), AtFlags::empty())
                    .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
                if !searched {
                    let reason = if directory {
                        Reason::IsDirectory
                    } else {
                        Reason::Errno
                    };
                    return (errno, reason);
                }
                if !directory {
                    worst = (errno, Reason::Errno);
                }
            }
            _ => return (errno, Reason::Errno),
        }
    }
    worst
}

/// What [`exec_first`] would find wrong, but for rights that depend on the user.
pub(super) fn find_first(candidates: &[CString]) -> Option<(i32, Reason)> {
    let searched = candidates.len() > 1;
    let mut worst = (libc::ENOENT, Reason::NotFound);
    for path in candidates {
        let stat = match rustix::fs::statat(CWD, path.as_c_str(), AtFlags::empty()) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) if searched => continue,
            Err(Errno::NOENT) => return Some((libc::ENOENT, Reason::NotFound)),
            // Whether it is so for the user too, the exec tells.
            Err(_) => return None,
        };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match (directory, stat.st_mode & 0o111 != 0) {
            (false, true) => return None,
            (true, _) if !searched => return Some((libc::EACCES, Reason::IsDirectory)),
            (false, false) if !searched => return Some((libc::EACCES, Reason::Errno)),
            (true, _) => {}
            (false, false) => worst = (libc::EACCES, Reason::Errno),
        }
    }
    Some(worst)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn find(paths: &[&str]) -> Option<(i32, Reason)> {
        find_first(
            &paths
                .iter()
                .map(|p| CString::new(*p).unwrap())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn what_cannot_be_executed_is_known_before() {
        assert_eq!(find(&["/bin/sh"]), None);
        assert_eq!(find(&["/none/x", "/bin/sh"]), None);
        assert_eq!(find(&["/none"]), Some((libc::ENOENT, Reason::NotFound)));
        assert_eq!(
            find(&["/none/x", "/none/y"]),
            Some((libc::ENOENT, Reason::NotFound))
        );
        assert_eq!(find(&["/etc"]), Some((libc::EACCES, Reason::IsDirectory)));
        assert_eq!(find(&["/etc/passwd"]), Some((libc::EACCES, Reason::Errno)));
        assert_eq!(
            find(&["/etc/passwd", "/etc"]),
            Some((libc::EACCES, Reason::Errno))
        );
    }
}
