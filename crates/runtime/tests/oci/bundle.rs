//! A bundle in a temporary directory and the runtime that is tested on it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use conex_spec::runtime::{Linux, Process, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use tempfile::TempDir;

/// What busybox is called inside.
const APPLETS: [&str; 22] = [
    "sh", "true", "false", "cat", "id", "ls", "sleep", "hostname", "stat", "env", "pwd", "touch",
    "mkdir", "mknod", "grep", "umask", "chmod", "dd", "readlink", "kill", "head", "date",
];

/// One bundle with its own runtime root; removes its containers when dropped.
pub(crate) struct Bundle {
    directory: TempDir,
    /// Written to config.json before each command.
    pub(crate) spec: Spec,
    /// The id all commands use.
    pub(crate) id: String,
}

/// A new bundle, or the end of the test where the machine cannot do what it needs.
macro_rules! bundle_or_skip {
    () => {
        match $crate::bundle::Bundle::new() {
            Some(bundle) => bundle,
            None => return,
        }
    };
}
pub(crate) use bundle_or_skip;

impl Bundle {
    /// A bundle that runs `true`; `None`, with a printed reason, without root or busybox.
    pub(crate) fn new() -> Option<Bundle> {
        let busybox = Path::new("/usr/bin/busybox");
        if !rustix::process::geteuid().is_root() || !busybox.exists() {
            eprintln!("skipped: needs root and a static {}", busybox.display());
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("conex-oci-")
            .tempdir()
            .unwrap();
        // Mapped users must get through.
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let root = directory.path().join("rootfs");
        for name in ["bin", "etc", "tmp", "var"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let made = Command::new(program())
            .args(["spec", "-b"])
            .arg(directory.path())
            .status();
        assert!(made.unwrap().success());
        let json = fs::read(directory.path().join("config.json")).unwrap();
        let mut spec = Spec::load(&json).unwrap();
        let process = spec.process.as_mut().unwrap();
        process.terminal = false;
        process.args = vec!["true".into()];
        spec.root.as_mut().unwrap().readonly = false;
        let name = directory.path().file_name().unwrap().to_str().unwrap();
        let id = name.to_owned();
        Some(Bundle {
            directory,
            spec,
            id,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// Makes a named pipe that the container finds as `/tmp/NAME`.
    pub(crate) fn fifo(&self, name: &str) -> Fifo {
        let path = self.root().join("tmp").join(name);
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        // Both ends, so that neither side waits for the other to open it.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Fifo(rustix::fs::open(&path, flags, Mode::empty()).unwrap())
    }

    /// The directory of the runtime's own files.
    pub(crate) fn state_root(&self) -> PathBuf {
        self.path().join("state")
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.spec.process.as_mut().unwrap()
    }

    pub(crate) fn linux(&mut self) -> &mut Linux {
        self.spec.linux.get_or_insert_default()
    }

    pub(crate) fn script(&mut self, script: &str) -> &mut Self {
        self.process().args = ["sh", "-c", script].map(str::to_owned).to_vec();
        self
    }

    /// A command of the runtime, not executed yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let json = serde_json::to_vec(&self.spec).unwrap();
        fs::write(self.path().join("config.json"), json).unwrap();
        let mut command = Command::new(program());
        command.arg("--root").arg(self.state_root()).args(args);
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Executes a command of the runtime that stays with its container, or has none.
    pub(crate) fn oci(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// As [`Bundle::oci`], for those that leave a process behind, which keeps
    /// the streams it was given. Their errors are in a file.
    pub(crate) fn detached(&self, args: &[&str]) -> Output {
        let stderr = self.path().join("stderr");
        let mut command = self.command(args);
        command
            .stdout(Stdio::null())
            .stderr(fs::File::create(&stderr).unwrap());
        let status = command.status().unwrap();
        Output {
            status,
            stdout: Vec::new(),
            stderr: fs::read(stderr).unwrap(),
        }
    }

    /// Runs the container in the foreground and returns its output.
    #[track_caller]
    pub(crate) fn run(&self) -> String {
        let output = self.oci(&["run", &self.id]);
        assert!(
            output.status.success(),
            "{}{}",
            stdout(&output),
            stderr(&output)
        );
        stdout(&output)
    }

    /// Runs a script in the foreground and returns its output.
    #[track_caller]
    pub(crate) fn run_script(&mut self, script: &str) -> String {
        self.script(script).run()
    }

    /// Runs the container, which must fail, and returns what was said.
    #[track_caller]
    pub(crate) fn run_fails(&self) -> String {
        let output = self.oci(&["run", &self.id]);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{}{}",
            stdout(&output),
            stderr(&output)
        );
        assert!(self.is_clean(), "a failed run left something");
        stderr(&output)
    }

    /// Runs `sleep` in the background and returns its process id.
    #[track_caller]
    pub(crate) fn sleeper(&mut self) -> i32 {
        self.process().args = vec!["sleep".into(), "1000".into()];
        let output = self.detached(&["run", "-d", &self.id]);
        assert!(output.status.success(), "{}", stderr(&output));
        self.pid()
    }

    /// The answer of `state`.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        let output = self.oci(&["state", &self.id]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap() as i32
    }

    /// Runs a script inside the running container and returns its output.
    #[track_caller]
    pub(crate) fn exec(&self, script: &str) -> String {
        let output = self.oci(&["exec", &self.id, "sh", "-c", script]);
        assert!(
            output.status.success(),
            "{}{}",
            stdout(&output),
            stderr(&output)
        );
        stdout(&output)
    }

    /// Nothing is left of any container: no record and no cgroup.
    pub(crate) fn is_clean(&self) -> bool {
        let records = fs::read_dir(self.state_root()).map_or(0, Iterator::count);
        records == 0 && cgroups(&self.id).is_empty()
    }
}

/// A named pipe between a test and its container.
pub(crate) struct Fifo(OwnedFd);

impl Fifo {
    /// Waits for a line; `None` if none comes for so long.
    pub(crate) fn read_within(&self, timeout_ms: i64) -> Option<String> {
        let timeout = Timespec {
            tv_sec: timeout_ms / 1000,
            tv_nsec: timeout_ms % 1000 * 1_000_000,
        };
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)).unwrap() == 0 {
            return None;
        }
        let mut buffer = [0; 256];
        let length = rustix::io::read(&self.0, &mut buffer).unwrap();
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Waits for a line that must come.
    #[track_caller]
    pub(crate) fn read(&self) -> String {
        self.read_within(10_000)
            .expect("the container writes a line")
    }

    pub(crate) fn write(&self, line: &str) {
        rustix::io::write(&self.0, line.as_bytes()).unwrap();
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.state_root())
            .into_iter()
            .flatten()
            .flatten()
        {
            let id = entry.file_name();
            let mut command = Command::new(program());
            command
                .arg("--root")
                .arg(self.state_root())
                .args(["delete", "--force"])
                .arg(id);
            drop(command.output());
        }
    }
}

/// The example program that is nothing but the runtime.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("examples/oci");
    assert!(
        program.exists(),
        "{} is built by `cargo test` without --test",
        program.display()
    );
    program
}

/// Every cgroup directory of a name at the top of a hierarchy.
pub(crate) fn cgroups(name: &str) -> Vec<PathBuf> {
    let unified = PathBuf::from("/sys/fs/cgroup").join(name);
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = hierarchies.map(|h| h.path().join(name)).collect();
    found.push(unified);
    found.retain(|path| path.is_dir());
    found
}

/// Waits for a process that is not ours to end.
pub(crate) fn wait_end(pid: i32) {
    let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else {
        return;
    };
    let ten_seconds = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let ended = poll(
        &mut [PollFd::new(&pidfd, PollFlags::IN)],
        Some(&ten_seconds),
    )
    .unwrap();
    assert_eq!(ended, 1, "process {pid} does not end");
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
