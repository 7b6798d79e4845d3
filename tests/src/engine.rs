//! A private engine: its own data root, run root, socket and cgroup parent, so
//! that tests neither meet each other nor the host's own engine.
//!
//! ```text
//! /tmp/cx-XXXXXX/        short, because sockets lie below it (108 bytes at most)
//!     d/  r/             data root, run root
//!     s                  the engine's socket
//!     pid  log           pid file, what the daemon printed
//!     home/              HOME of the clients
//! ```
//!
//! Dropping it removes its containers, ends the daemon and takes away whatever
//! that daemon should have taken away itself (`leftovers`).

mod disk;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::inotify;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Cli, Client};
use crate::http::{self, Response};
use crate::netns::Namespace;
use crate::process::{self, Output};
use crate::{leftovers, skip, workspace};

/// Past this a daemon counts as failed.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A running (or killed) engine of one test.
#[derive(Debug)]
pub struct Engine {
    root: TempDir,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    daemon: Option<Child>,
    /// Whether the data root is a file system of its own.
    disk: bool,
    /// What starts the daemon, if not the test itself.
    wrapper: Vec<String>,
    /// Its network namespace, if it is not the host's.
    namespace: Option<Namespace>,
}

impl Engine {
    /// Starts an engine; `None`, with the reason printed, where engines cannot run.
    pub fn start() -> Option<Engine> {
        Engine::start_with(&[], &[])
    }

    /// Starts an engine with more daemon flags and environment variables.
    pub fn start_with(flags: &[&str], environment: &[(&str, &str)]) -> Option<Engine> {
        let mut engine = Engine::prepare(flags, environment)?;
        engine.resume();
        Some(engine)
    }

    /// Starts an engine in a network namespace of its own, whose firewall and
    /// routes nobody else has.
    pub fn start_in_namespace(flags: &[&str]) -> Option<Engine> {
        let mut engine = Engine::prepare(flags, &[])?;
        engine.namespace = Some(Namespace::new()?);
        engine.resume();
        Some(engine)
    }

    /// The network namespace of an engine that has its own.
    pub fn namespace(&self) -> &Namespace {
        let namespace = self.namespace.as_ref();
        namespace.expect("this engine was started in a namespace of its own")
    }

    /// A room without a daemon, for cases that start one in another way; what
    /// they leave in it is taken away like an engine's.
    pub fn unstarted() -> Option<Engine> {
        Engine::prepare(&[], &[])
    }

    /// The daemons to come are started by this command, which ends with them.
    pub fn wrap(&mut self, command: &[String]) {
        self.wrapper = command.to_vec();
    }

    /// Waits until the daemon has ended by itself.
    pub fn await_end(&mut self, limit: Duration) -> bool {
        let daemon = self.daemon.as_mut().expect("there is a daemon");
        let ended = process::wait_limited(daemon, limit).expect("a child can be waited for");
        if ended.is_some() {
            self.daemon = None;
        }
        ended.is_some()
    }

    fn prepare(flags: &[&str], environment: &[(&str, &str)]) -> Option<Engine> {
        if !rustix::process::geteuid().is_root() {
            skip("an engine needs root");
            return None;
        }
        let root = tempfile::Builder::new()
            .prefix("cx-")
            .tempdir_in("/tmp")
            .expect("a temporary directory can be made");
        fs::create_dir(root.path().join("home")).expect("a fresh directory takes a folder");
        Some(Engine {
            root,
            flags: flags.iter().map(|&s| s.to_owned()).collect(),
            environment: environment
                .iter()
                .map(|&(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            daemon: None,
            disk: false,
            wrapper: Vec::new(),
            namespace: None,
        })
    }

    /// Starts the daemon of an engine that has none; `false` when it ended
    /// before it answered, as one that is killed on its way may.
    pub fn try_resume(&mut self) -> bool {
        let events = watch(self.root()).expect("a directory can be watched");
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let child = self.daemon_command(&flags).stderr(Stdio::null()).spawn();
        self.daemon = Some(child.expect("the daemon can be started"));
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(self.socket()).is_err() {
            let daemon = self.daemon.as_mut().expect("it was just started");
            if daemon.try_wait().expect("a child can be asked").is_some() {
                self.daemon = None;
                return false;
            }
            assert!(Instant::now() < deadline, "the daemon does not answer");
            let step = Duration::from_millis(50);
            if readable(&events, step) {
                drain(&events);
            }
        }
        true
    }

    /// Starts the daemon of an engine that has none, and waits until it answers.
    pub fn resume(&mut self) {
        assert!(self.daemon.is_none(), "the daemon already runs");
        let conex = workspace::conex();
        assert!(
            conex.is_file(),
            "{} is missing: run `cargo build` first, or name a binary in CONEX_BIN",
            conex.display()
        );
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log can be opened");
        let events = watch(self.root()).expect("a directory can be watched");
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let child = self
            .daemon_command(&flags)
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the daemon can be started");
        self.daemon = Some(child);
        self.wait_until_it_answers(&events);
    }

    /// Starts the daemon of an engine that has none, with other flags from now
    /// on.
    pub fn resume_with(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|&s| s.to_owned()).collect();
        self.resume();
    }

    /// Starts the daemon of an engine that has none with other flags, expects
    /// it to end by itself, and gives what it said.
    pub fn refuses_to_start(&self, flags: &[&str]) -> String {
        let output = self.daemon_command(flags).output();
        let output = output.expect("the daemon can be started");
        assert!(!output.status.success(), "it started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn daemon_command(&self, flags: &[&str]) -> Command {
        let mut words = self.wrapper.clone();
        if let Some(namespace) = &self.namespace {
            words.extend(namespace.entry());
        }
        words.push(workspace::conex().to_string_lossy().into_owned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg("daemon")
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(self.exec_root())
            .arg("--pidfile")
            .arg(self.root().join("pid"))
            .args(["-H", &self.host()])
            .args(flags)
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null());
        command
    }

    /// Waits for the socket to appear (an event of its directory), then for the
    /// first accepted connection.
    fn wait_until_it_answers(&mut self, events: &rustix::fd::OwnedFd) {
        let deadline = Instant::now() + START_LIMIT;
        let socket = self.socket();
        loop {
            if UnixStream::connect(&socket).is_ok() {
                break;
            }
            let daemon = self.daemon.as_mut().expect("it was just started");
            if let Some(status) = daemon.try_wait().expect("a child can be asked") {
                self.daemon = None;
                panic!("the daemon ended at its start ({status}):\n{}", self.log());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "the daemon does not answer:\n{}",
                self.log()
            );
            // A daemon that dies makes no event here: look again from time to time.
            let step = left.min(Duration::from_millis(500));
            if process::readable_within(events, step).expect("a watch can be polled") {
                drain(events);
            }
        }
        let ping = self.api("GET", "/_ping", None);
        assert_eq!((ping.status, ping.text().as_str()), (200, "OK"));
    }

    /// The next daemon gets none of the environment this engine was made with.
    pub fn forget_environment(&mut self) {
        self.environment.clear();
    }

    /// Kills the daemon as a crash would; its containers are left to themselves.
    pub fn kill9(&mut self) {
        let mut daemon = self.daemon.take().expect("there is a daemon to kill");
        daemon.kill().expect("a child can be killed");
        daemon.wait().expect("a child can be reaped");
    }

    /// Ends the daemon politely and gives its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().expect("there is a daemon to end");
        let pid = rustix::process::Pid::from_child(&daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("a child can be signalled");
        process::wait_limited(&mut daemon, STOP_LIMIT)
            .expect("a child can be waited for")
            .unwrap_or_else(|| panic!("the daemon ignores SIGTERM:\n{}", self.log()))
            .code()
    }

    /// The daemon's pid.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// Whether the daemon is still the one that was started.
    pub fn lives(&mut self) -> bool {
        self.daemon
            .as_mut()
            .is_some_and(|d| matches!(d.try_wait(), Ok(None)))
    }

    /// The engine's room; see the module's drawing.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Its data root.
    pub fn data_root(&self) -> PathBuf {
        self.root().join("d")
    }

    /// Its run root.
    pub fn exec_root(&self) -> PathBuf {
        self.root().join("r")
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.root().join("s")
    }

    /// Its address as clients take it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn log_path(&self) -> PathBuf {
        self.root().join("log")
    }

    /// Everything its daemons printed so far.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Where it says that its TCP socket is, `127.0.0.1:port`.
    pub fn tcp_address(&self) -> String {
        let log = self.log();
        let told = log
            .lines()
            .find_map(|line| line.split_once("API listen on "));
        told.expect("it says where it listens").1.trim().to_owned()
    }

    /// Waits until its daemons have printed this.
    pub fn wait_for_log(&self, text: &str) {
        let events = watch(self.root()).expect("a directory can be watched");
        self.wait(&events, text, || self.log().contains(text));
    }

    /// Waits until a file of this directory below the data root has so many bytes.
    pub fn wait_for_length(&self, directory: &str, bytes: u64) {
        let directory = self.data_root().join(directory);
        let events = watch(&directory).expect("a directory can be watched");
        self.wait(&events, "a file grows", || {
            let entries = fs::read_dir(&directory).into_iter().flatten();
            let mut lengths = entries.filter_map(|e| Some(e.ok()?.metadata().ok()?.len()));
            lengths.any(|length| length >= bytes)
        });
    }

    fn wait(&self, events: &rustix::fd::OwnedFd, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + START_LIMIT;
        while !is_so() {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = process::readable_within(events, left).expect("a watch can be polled");
            assert!(heard, "{what} does not come:\n{}", self.log());
            drain(events);
        }
    }

    /// A client of this engine.
    pub fn cli(&self, client: Client) -> Cli<'_> {
        Cli {
            engine: self,
            client,
        }
    }

    /// Runs our own command line.
    pub fn conex(&self, args: &[&str]) -> Output {
        self.cli(Client::Conex).run(args)
    }

    /// Runs the real docker command line.
    pub fn docker(&self, args: &[&str]) -> Output {
        self.cli(Client::Docker).run(args)
    }

    /// One raw API call; a body is sent as JSON.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let bytes = body.map(|v| v.to_string().into_bytes());
        http::request(&self.socket(), method, path, &[], bytes.as_deref())
            .unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.log()))
    }

    /// The number of containers, of all states.
    pub fn container_count(&self) -> usize {
        let list = self.api("GET", "/containers/json?all=1", None);
        assert_eq!(list.status, 200, "{}", list.text());
        list.json().as_array().map_or(0, Vec::len)
    }

    /// The directories of the layer store: a layer's, a container's and, from the
    /// first container of an image on, the image's `-init`.
    pub fn layer_directories(&self) -> Vec<String> {
        let mut names: Vec<String> = ["overlay2", "btrfs", "vfs"]
            .iter()
            .filter_map(|driver| fs::read_dir(self.data_root().join(driver)).ok())
            .flatten()
            .filter_map(Result::ok)
            .map(|e| e.file_name().to_string_lossy().into_owned())
            // The driver's own, made once.
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    /// Does something, and waits until a new directory appears in the layer
    /// store because of it.
    pub fn until_a_layer_appears<T>(&self, act: impl FnOnce() -> T) -> T {
        let before = self.layer_directories().len();
        let layers = self.data_root().join("overlay2");
        until(&layers, act, || self.layer_directories().len() > before)
    }

    /// Waits until the engine has deleted what it removed: it answers first and
    /// empties directories behind the answer.
    pub fn settle(&self) {
        let tmp = self.data_root().join("tmp");
        let events = watch(&tmp).expect("the engine has a directory for this");
        let deadline = Instant::now() + START_LIMIT;
        while fs::read_dir(&tmp).is_ok_and(|mut entries| entries.next().is_some()) {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = process::readable_within(&events, left).expect("a watch can be polled");
            assert!(heard, "{} does not empty", tmp.display());
            drain(&events);
        }
    }

    fn remove_containers(&self) -> io::Result<()> {
        let list = http::request(&self.socket(), "GET", "/containers/json?all=1", &[], None)?;
        let list: Value = serde_json::from_slice(&list.body)?;
        for container in list.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            let path = format!("/containers/{id}?force=1&v=1");
            http::request(&self.socket(), "DELETE", &path, &[], None)?;
        }
        http::request(&self.socket(), "POST", "/networks/prune", &[], None)?;
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let ids = leftovers::container_ids(&self.data_root());
        if self.lives()
            && let Err(error) = self.remove_containers()
        {
            eprintln!("while removing the containers: {error}");
        }
        if let Some(mut daemon) = self.daemon.take() {
            let pid = rustix::process::Pid::from_child(&daemon);
            // A daemon that is gone already is what is wanted.
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
            match process::wait_limited(&mut daemon, STOP_LIMIT) {
                Ok(Some(_)) => {}
                Ok(None) => eprintln!("the daemon had to be killed"),
                Err(error) => eprintln!("while ending the daemon: {error}"),
            }
        }
        if failing {
            eprintln!("--- the daemon's log\n{}---", self.log());
        }
        if self.disk
            && let Err(error) =
                rustix::mount::unmount(self.data_root(), rustix::mount::UnmountFlags::empty())
        {
            eprintln!("cannot unmount the data root: {error}");
        }
        let network = leftovers::Network::of(&self.data_root());
        leftovers::sweep(self.root(), &self.data_root(), &ids);
        // In a namespace of its own all of it goes with the namespace.
        if self.namespace.is_none() {
            network.sweep();
        }
    }
}

fn readable(events: &rustix::fd::OwnedFd, limit: Duration) -> bool {
    process::readable_within(events, limit).expect("a watch can be polled")
}

/// Forgets the events that woke a waiter: it looks for itself.
fn drain(events: &rustix::fd::OwnedFd) {
    let mut room = [const { std::mem::MaybeUninit::uninit() }; 4096];
    let mut reader = inotify::Reader::new(events, &mut room);
    while reader.next().is_ok() {}
}

fn watch(dir: &Path) -> io::Result<rustix::fd::OwnedFd> {
    let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(
        &events,
        dir,
        inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::DELETE,
    )?;
    Ok(events)
}

/// Does something, and waits until a directory's entries are as wanted.
pub fn until<T>(directory: &Path, act: impl FnOnce() -> T, wanted: impl Fn() -> bool) -> T {
    let events = watch(directory).expect("the directory can be watched");
    let acted = act();
    let deadline = Instant::now() + START_LIMIT;
    while !wanted() {
        let left = deadline.saturating_duration_since(Instant::now());
        let heard = process::readable_within(&events, left).expect("a watch can be polled");
        assert!(
            heard,
            "{} does not change as it should",
            directory.display()
        );
        drain(&events);
    }
    acted
}

/// A file of the test's own beside the engine's state, for binds and contexts.
pub fn write_file(path: &Path, text: &str) {
    use std::io::Write as _;
    File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
