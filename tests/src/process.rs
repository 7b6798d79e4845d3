//! Children of the tests: waiting with a limit and ending them by descriptor.
//!
//! Only processes a test started itself are ever signalled from here.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Waits for the child at most `limit`; past it the child is killed and reaped
/// and the answer is `None`.
pub fn wait_limited(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
    if readable_within(&descriptor, limit)? {
        return child.wait().map(Some);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Waits until the descriptor is readable (for a pidfd: the process ended);
/// `false` when `limit` passed first.
pub fn readable_within(descriptor: impl AsFd, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a finished command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "exit {code}")?,
            None => write!(f, "ended by a signal")?,
        }
        write!(
            f,
            "\n--- stdout\n{}--- stderr\n{}---",
            self.stdout, self.stderr
        )
    }
}

/// Runs the command to its end with these bytes on its standard input; panics
/// with its output so far when it takes longer than `limit`.
pub fn output_limited(mut command: Command, input: &[u8], limit: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let stdout = read_aside(child.stdout.take().expect("stdout is a pipe"));
    let stderr = read_aside(child.stderr.take().expect("stderr is a pipe"));
    let input = input.to_vec();
    // A command may end without reading its input.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let status = wait_limited(&mut child, limit).expect("a child can be waited for");
    // What the command left running may hold its pipes: that is a bug of the
    // command, seen here as a test that nextest ends.
    let output = Output {
        code: status.and_then(|s| s.code()),
        stdout: stdout.join().expect("the reader does not panic"),
        stderr: stderr.join().expect("the reader does not panic"),
    };
    writer.join().expect("the writer does not panic");
    assert!(
        status.is_some(),
        "{command:?} took longer than {} s: {output}",
        limit.as_secs()
    );
    output
}

fn read_aside(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_child_that_ends_in_time_gives_its_status() {
        let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let status = wait_limited(&mut child, Duration::from_secs(20)).unwrap();
        assert_eq!(status.unwrap().code(), Some(3));
    }

    #[test]
    fn a_child_past_its_limit_is_killed() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let status = wait_limited(&mut child, Duration::from_millis(20)).unwrap();
        assert!(status.is_none());
    }
}
