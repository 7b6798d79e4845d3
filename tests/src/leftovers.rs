//! What an engine can leave on a machine and how a test takes it away: processes,
//! mounts, cgroups, interfaces and firewall tables that name the engine's own room.
//!
//! Nothing is touched that does not carry the room's path or one of the
//! engine's container ids, so engines side by side are safe from each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};

/// Ids of the containers the data root knows, finished ones too.
pub fn container_ids(data_root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(data_root.join("containers")) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| is_id(name))
        .collect()
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Processes whose command line names the room or one of the containers (as
/// monitors do), and those in a cgroup of one of the containers; never the caller's own.
pub fn processes(room: &Path, ids: &[String]) -> Vec<u32> {
    let room = room.as_os_str().as_encoded_bytes();
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let file = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let (command, cgroups) = (file("cmdline"), file("cgroup"));
        let of_a_container = |text: &[u8]| ids.iter().any(|id| contains(text, id.as_bytes()));
        if pid != own
            && (contains(&command, room) || of_a_container(&command) || of_a_container(&cgroups))
        {
            found.push(pid);
        }
    }
    found
}

/// Waits until a process that is on its way out has ended; panics when it does
/// not.
pub fn await_end(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    // It may be gone already.
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    let ended = crate::process::readable_within(&pidfd, std::time::Duration::from_secs(10));
    assert!(ended.is_ok_and(|ended| ended), "process {pid:?} stays");
}

/// Waits for the monitors of these containers, which take the cgroup and the root
/// back behind the answer to a removal; panics when anything else of them runs.
pub fn await_monitors(ids: &[String]) {
    for pid in processes(Path::new("/nonexistent"), ids) {
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(words.is_empty() || words.contains("\0monitor\0"), "{words}");
        await_end(pid);
    }
}

/// Mount points below the room, in the order in which they can be unmounted.
pub fn mounts(room: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(room) && point != room)
        .collect();
    points.reverse();
    points
}

/// Cgroup directories, deepest first, that carry one of the containers' ids.
pub fn cgroups(ids: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect_cgroups(Path::new("/sys/fs/cgroup"), 0, ids, false, &mut found);
    found
}

fn collect_cgroups(dir: &Path, depth: usize, ids: &[String], ours: bool, found: &mut Vec<PathBuf>) {
    if depth > 8 {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let path = entry.path();
        let name = entry.file_name();
        let ours = ours
            || ids
                .iter()
                .any(|id| name.to_string_lossy().contains(id.as_str()));
        collect_cgroups(&path, depth + 1, ids, ours, found);
        if ours {
            found.push(path);
        }
    }
}

/// The cgroup under which the engine of this data root puts its containers, in
/// every hierarchy that has it.
pub fn parent_cgroups(data_root: &Path) -> Vec<PathBuf> {
    let name = parent_name(data_root);
    let top = Path::new("/sys/fs/cgroup");
    fs::read_dir(top)
        .into_iter()
        .flatten()
        .flatten()
        .map(|hierarchy| hierarchy.path().join(&name))
        .chain([top.join(&name)])
        .filter(|dir| dir.is_dir())
        .collect()
}

/// The name that an engine gives its cgroup and its default bridge.
fn parent_name(data_root: &Path) -> String {
    let digest = Sha256::digest(data_root.as_os_str().as_encoded_bytes());
    digest[..4]
        .iter()
        .fold(String::from("conex-"), |name, byte| {
            name + &format!("{byte:02x}")
        })
}

/// What an engine has in the host's network, by the names it gives its things.
#[derive(Debug)]
pub struct Network {
    /// How the host's ends of containers' interfaces begin.
    prefix: String,
    /// The nftables tables.
    table: String,
    /// Bridges that it made.
    bridges: Vec<String>,
}

impl Network {
    /// Of the engine of this data root.
    pub fn of(data_root: &Path) -> Network {
        let id = fs::read_to_string(data_root.join("engine-id")).unwrap_or_default();
        let owner = conex_network::Owner::new(id.trim());
        let mut bridges = vec![parent_name(data_root)];
        for file in ["network.db", "network.db-wal"] {
            let bytes = fs::read(data_root.join("network").join(file)).unwrap_or_default();
            bridges.extend(bridge_names(&bytes));
        }
        bridges.sort_unstable();
        bridges.dedup();
        Network {
            prefix: owner.prefix,
            table: owner.table,
            bridges,
        }
    }

    /// Interfaces of the caller's namespace that are the engine's.
    pub fn links(&self) -> Vec<String> {
        let entries = fs::read_dir("/sys/class/net").into_iter().flatten();
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let is_ours = |name: &String| name.starts_with(&self.prefix) || self.bridges.contains(name);
        names.filter(is_ours).collect()
    }

    /// Tables of the caller's namespace that are the engine's, as `nft` names
    /// them: `inet conex-…`.
    pub fn tables(&self) -> Vec<String> {
        let Some(nft) = crate::workspace::program("nft") else {
            return Vec::new();
        };
        let output = Command::new(nft).args(["list", "tables"]).output();
        let text = output.map_or(String::new(), |o| {
            String::from_utf8_lossy(&o.stdout).into_owned()
        });
        text.lines()
            .filter_map(|line| line.strip_prefix("table "))
            .filter(|name| name.ends_with(&self.table))
            .map(str::to_owned)
            .collect()
    }

    /// Takes away what is left and says what there was.
    pub fn sweep(&self) {
        for link in self.links() {
            eprintln!("left behind: the interface {link}");
            run("ip", &["link", "del", &link]);
        }
        for table in self.tables() {
            eprintln!("left behind: the table {table}");
            let (family, name) = table.split_once(' ').unwrap_or(("inet", &table));
            run("nft", &["delete", "table", family, name]);
        }
    }
}

/// Names of the form `br-` and twelve hexadecimal digits.
fn bridge_names(bytes: &[u8]) -> Vec<String> {
    const LENGTH: usize = 15;
    let mut names = Vec::new();
    for window in bytes.windows(LENGTH) {
        if window.starts_with(b"br-") && window[3..].iter().all(u8::is_ascii_hexdigit) {
            names.push(String::from_utf8_lossy(window).into_owned());
        }
    }
    names
}

fn run(program: &str, args: &[&str]) {
    let Some(path) = crate::workspace::program(program) else {
        return eprintln!("{program} is missing: it stays");
    };
    match Command::new(path).args(args).output() {
        Ok(output) if output.status.success() => {}
        // It went by itself meanwhile, or somebody is told.
        Ok(output) => eprintln!("{}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => eprintln!("{program}: {error}"),
    }
}

/// Takes everything away and says on standard error what there was to take.
pub fn sweep(room: &Path, data_root: &Path, ids: &[String]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = processes(room, ids);
        if left.is_empty() || Instant::now() > deadline {
            break;
        }
        eprintln!("left behind: processes {left:?}");
        for pid in left {
            end(pid, deadline);
        }
    }
    for point in mounts(room) {
        eprintln!("left behind: a mount on {}", point.display());
        if let Err(error) = rustix::mount::unmount(&point, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", point.display());
        }
    }
    for dir in cgroups(ids) {
        eprintln!("left behind: the cgroup {}", dir.display());
        if let Err(error) = fs::remove_dir(&dir) {
            eprintln!("cannot remove {}: {error}", dir.display());
        }
    }
    for dir in parent_cgroups(data_root) {
        if let Err(error) = fs::remove_dir(&dir) {
            eprintln!("cannot remove {}: {error}", dir.display());
        }
    }
}

/// Kills a process and waits for its end through its descriptor.
fn end(pid: u32, deadline: Instant) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let Ok(descriptor) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
    else {
        return;
    };
    if kill_process(pid, Signal::KILL).is_ok() {
        let left = deadline.saturating_duration_since(Instant::now());
        drop(crate::process::readable_within(&descriptor, left));
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && haystack.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_directories_named_like_ids_are_containers() {
        let dir = tempfile::tempdir().unwrap();
        let id = "ab".repeat(32);
        for name in [id.as_str(), "tmp", "abcdef"] {
            fs::create_dir_all(dir.path().join("containers").join(name)).unwrap();
        }
        assert_eq!(container_ids(dir.path()), [id]);
        assert!(container_ids(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn a_process_that_names_the_room_is_found_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("echo; read x; : {}", dir.path().display());
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its first word says that it has been executed.
        let mut word = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        assert_eq!(processes(dir.path(), &[]), [child.id()]);
        end(child.id(), Instant::now() + Duration::from_secs(10));
        assert!(!child.wait().unwrap().success());
        assert!(processes(dir.path(), &[]).is_empty());
        assert!(mounts(dir.path()).is_empty());
    }
}
