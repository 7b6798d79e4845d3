//! What daemon and monitor say to each other: JSON in seqpacket messages.
//!
//! A daemon must understand the monitors of the release before it, since they
//! live on through its upgrade; [`VERSION`] grows when a message changes its
//! meaning. Unknown fields are ignored on both sides.

mod exec;

use std::path::PathBuf;

use conex_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::exit::ExitRecord;
pub use exec::{ExecExit, ExecFailed, ExecRequest, ExecStarted, MAX_NOTE};

/// The protocol's version, said in every hello.
pub const VERSION: u32 = 1;

/// The largest message. Larger things travel as a memory descriptor.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// The first request. Its JSON travels in a memfd, its descriptors beside it:
/// the root mount, the listening socket `monitor.sock`, the network namespace
/// if there is one, then one socket per entry of `attach`. The daemon listens before there is a monitor, so that a
/// new daemon never takes one that is just starting for none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartRequest {
    /// Protocol version of the daemon.
    pub version: u32,
    /// Container id.
    pub id: String,
    /// What to run.
    pub spec: Spec,
    /// Where `monitor.sock` and `exit.json` live.
    pub run_dir: PathBuf,
    /// Standard input: none, or a pipe, and whether it ends with the first
    /// attacher that had it.
    pub stdin: Stdin,
    /// Process 1 is an init of ours, beside the program.
    #[serde(default)]
    pub init: bool,
    /// Where output is written down.
    pub log: Option<LogFile>,
    /// Whether a network namespace comes along: the container enters it,
    /// whatever path the configuration has for it.
    #[serde(default)]
    pub network: bool,
    /// Attachers that were there before the start.
    pub attach: Vec<Attach>,
    /// Symbolic links to make into `/proc/<pid>`: path of the link, and the
    /// file below `/proc/<pid>` it leads to. Removed before PID 1 is reaped.
    pub proc_links: Vec<(PathBuf, String)>,
}

/// How standard input behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`.
    Closed,
    /// A pipe that stays open for later attachers.
    Open,
    /// A pipe that closes when the first attacher's input ends.
    Once,
}

/// A log file, as the `logs` crate writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
    /// Sizes, rotation and attributes.
    pub options: conex_logs::driver::Options,
}

/// Which streams an attacher wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Its bytes go to the container's standard input.
    pub stdin: bool,
    /// It gets standard output.
    pub stdout: bool,
    /// It gets standard error.
    pub stderr: bool,
}

/// One attacher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// What it wants.
    #[serde(flatten)]
    pub streams: Streams,
    /// Where there is a terminal, the keys by which it leaves; none means never.
    #[serde(default)]
    pub detach_keys: Vec<u8>,
    /// It is shown the log: it gets the beginning of a line that is not there
    /// yet from the monitor.
    #[serde(default)]
    pub reads_log: bool,
}

/// What a daemon asks of a running container's monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// One more attacher; its socket travels with the message. Answered by
    /// [`Event::Attached`].
    Attach(Attach),
    /// New size of the terminal.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// One more program: an [`ExecRequest`] in a memfd, and the attacher's
    /// socket. Answered by [`Event::ExecStarted`] or [`Event::ExecFailed`].
    Exec,
    /// New size of an exec's terminal.
    ExecResize {
        /// The exec's id.
        id: String,
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// A signal for an exec's process, while it runs.
    ExecSignal {
        /// The exec's id.
        id: String,
        /// Its number.
        signal: i32,
    },
    /// The daemon knows how an exec ended.
    ExecTaken {
        /// The exec's id.
        id: String,
    },
}

/// What a monitor says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Event {
    /// First message to a daemon that connected to `monitor.sock`; the pidfd
    /// of PID 1 travels with it.
    Hello(Started),
    /// The program runs; the pidfd of PID 1 travels with it.
    Started(Started),
    /// The program could not be started, nothing is left of it.
    Failed(StartFailure),
    /// An attacher is served. `log_bytes` is the length of the current log
    /// file at that moment: what is before it was not and will not be sent to
    /// this attacher. The file travels with the message, since it may be
    /// another one's turn by now.
    Attached {
        /// Size of the log file in bytes.
        log_bytes: u64,
    },
    /// An attacher typed its detach keys, and was let go.
    Detached {
        /// The exec it was attached to; `None` for the container itself.
        exec: Option<String>,
    },
    /// The kernel killed a process of the container for lack of memory.
    OutOfMemory,
    /// Something the user should hear of.
    Warning(String),
    /// An exec runs; also said of each to a daemon that connects.
    ExecStarted(ExecStarted),
    /// An exec could not be started.
    ExecFailed(ExecFailed),
    /// An exec ended. Kept until [`Request::ExecTaken`].
    ExecExited(ExecExit),
    /// The container ended; the same record is on disk already.
    Exited(ExitRecord),
}

/// A running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// Protocol version of the monitor.
    pub version: u32,
    /// Container id.
    pub id: String,
    /// PID 1 in the daemon's pid namespace.
    pub pid: i32,
    /// Process id of the monitor.
    pub monitor_pid: i32,
    /// When the program was executed, nanoseconds since the epoch.
    pub started_ns: i64,
    /// What could not be had, one sentence each.
    pub warnings: Vec<String>,
}

/// Why a start failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// The sentence for the user.
    pub message: String,
    /// Exit code to record: 126, 127 or 128.
    pub exit_code: i32,
}
