//! Network namespaces: the machines of the network cases. An engine can have one
//! for itself, whose firewall and routes are then its alone, and an "outside
//! host" is another one at the end of a cable.
//!
//! ```text
//!   outside (10.99.0.2) ──veth── engine's namespace (10.99.0.1) ──bridge── containers
//! ```

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{skip, workspace};

/// A namespace that is gone, with everything in it, when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Namespace {
    /// A namespace with loopback alone; `None`, with the reason printed, where
    /// there can be none.
    pub fn new() -> Option<Namespace> {
        if !rustix::process::geteuid().is_root() {
            skip("a network namespace needs root");
            return None;
        }
        if workspace::program("ip").is_none() {
            skip("ip is missing (Debian: iproute2)");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cx-{}-{number}", std::process::id());
        if let Err(reason) = ip(&["netns", "add", &name]) {
            skip(&format!("no network namespace can be made: {reason}"));
            return None;
        }
        let namespace = Namespace { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        Some(namespace)
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Runs `ip` in it; panics where it fails.
    pub fn ip(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend_from_slice(args);
        ip(&all).unwrap_or_else(|e| panic!("ip {}: {e}", all.join(" ")))
    }

    /// Runs any program in it and gives its output.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output();
        let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{program} {args:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// A program that will run in it.
    pub fn command(&self, program: &str) -> Command {
        let [enter, net] = self.entry();
        let mut command = Command::new(enter);
        command.arg(net).arg(program);
        command
    }

    /// The words that come before a command to have it run in here.
    pub fn entry(&self) -> [String; 2] {
        let net = format!("--net={}", self.path().display());
        ["nsenter".to_owned(), net]
    }

    /// Lays a cable to another namespace: `(name, address with prefix)` of both
    /// ends.
    pub fn cable(&self, own: (&str, &str), other: &Namespace, far: (&str, &str)) {
        self.ip(&[
            "link",
            "add",
            own.0,
            "type",
            "veth",
            "peer",
            "name",
            far.0,
            "netns",
            &other.name,
        ]);
        for (namespace, (name, address)) in [(self, own), (other, far)] {
            namespace.ip(&["address", "add", address, "dev", name, "nodad"]);
            namespace.ip(&["link", "set", name, "up"]);
        }
    }

    /// Does something in it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.path(), work)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("cannot remove the namespace {}: {error}", self.name);
        }
    }
}

/// Does something in the network namespace of a file, on a thread that ends
/// with it.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(namespace).unwrap_or_else(|e| panic!("{}: {e}", namespace.display()));
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a network namespace");
            work()
        });
        match worker.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn ip(args: &[&str]) -> Result<String, String> {
    let program = workspace::program("ip").ok_or("ip is missing")?;
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|e: io::Error| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
