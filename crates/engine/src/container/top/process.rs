//! One process and its host as /proc describes them. Source: proc(5). It must
//! not know how any of it is shown.

use std::collections::HashMap;
use std::fs;

/// What of the host is needed to read its processes.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) users: HashMap<u32, String>,
    /// When it was started, seconds since the epoch.
    pub(super) boot_s: i64,
    /// Seconds since it was started.
    pub(super) uptime_s: f64,
    pub(super) memory_kib: u64,
    /// Clock ticks per second, the unit of times in /proc.
    pub(super) ticks: u64,
    pub(super) page_kib: u64,
}

impl Host {
    pub(super) fn read() -> Host {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name).map(str::to_owned));
            line.and_then(|line| line.split_whitespace().next().map(str::to_owned))
        };
        let number = |path: &str, name: &str| {
            field(&text(path), name)
                .and_then(|word| word.parse().ok())
                .unwrap_or(0)
        };
        let uptime = text("/proc/uptime");
        Host {
            users: users(&text("/etc/passwd")),
            boot_s: number("/proc/stat", "btime "),
            uptime_s: uptime
                .split(' ')
                .next()
                .and_then(|s| s.parse().ok())
                .unwrap_or(0.0),
            memory_kib: number("/proc/meminfo", "MemTotal:").unsigned_abs(),
            ticks: rustix::param::clock_ticks_per_second(),
            page_kib: rustix::param::page_size() as u64 / 1024,
        }
    }

    /// The name of a user, or its number.
    pub(super) fn user(&self, uid: u32) -> String {
        self.users
            .get(&uid)
            .cloned()
            .unwrap_or_else(|| uid.to_string())
    }
}

fn users(passwd: &str) -> HashMap<u32, String> {
    let mut users = HashMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        if let Some(uid) = fields.nth(1).and_then(|uid| uid.parse().ok()) {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

/// One process.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) ppid: i32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) state: char,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) terminal: u64,
    pub(super) foreground: i32,
    /// Time in user and kernel mode, in ticks.
    pub(super) cpu_ticks: u64,
    /// After the host's start, in ticks.
    pub(super) start_ticks: u64,
    pub(super) priority: i64,
    pub(super) nice: i64,
    pub(super) threads: u64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_pages: u64,
    pub(super) locked_kib: u64,
    /// The kernel's name for it, 15 bytes at most.
    pub(super) name: String,
    /// The command line; empty for a zombie.
    pub(super) arguments: String,
}

impl Process {
    /// Reads a process; `None` when it is gone.
    pub(super) fn read(pid: i32) -> Option<Process> {
        let text = |file: &str| {
            fs::read(format!("/proc/{pid}/{file}"))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let mut process = Process::parse_stat(&text("stat").ok()?)?;
        process.parse_status(&text("status").ok()?);
        let arguments = text("cmdline").unwrap_or_default();
        process.arguments = arguments.trim_end_matches('\0').replace(['\0', '\n'], " ");
        Some(process)
    }

    fn parse_stat(stat: &str) -> Option<Process> {
        // The name is anything, also brackets and blanks.
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Numbered as in proc(5), where the state is the third.
        let number = |at: usize| fields.get(at - 3).and_then(|f| f.parse::<i64>().ok());
        let small = |at: usize| number(at).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
        let count = |at: usize| {
            fields
                .get(at - 3)
                .and_then(|f| f.parse::<u64>().ok())
                .unwrap_or(0)
        };
        Some(Process {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            ppid: small(4),
            group: small(5),
            session: small(6),
            terminal: count(7),
            foreground: small(8),
            cpu_ticks: count(14) + count(15),
            priority: number(18)?,
            nice: number(19)?,
            threads: count(20),
            start_ticks: count(22),
            virtual_bytes: count(23),
            resident_pages: count(24),
            ..Process::default()
        })
    }

    fn parse_status(&mut self, status: &str) {
        for line in status.lines() {
            let Some((key, rest)) = line.split_once(':') else {
                continue;
            };
            let mut words = rest.split_whitespace();
            // Real, effective, saved, file system.
            match key {
                "Uid" => self.uid = words.nth(1).and_then(|w| w.parse().ok()).unwrap_or(0),
                "Gid" => self.gid = words.nth(1).and_then(|w| w.parse().ok()).unwrap_or(0),
                "VmLck" => self.locked_kib = words.next().and_then(|w| w.parse().ok()).unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "42 (a) R (b) S 7 42 42 34817 43 4194304 1 2 3 4 150 50 0 0 20 -5 3 0 900 \
                    8192000 250 18446744073709551615 1 1";
        let process = Process::parse_stat(stat).unwrap();
        assert_eq!(
            (process.pid, process.name.as_str(), process.state),
            (42, "a) R (b", 'S')
        );
        assert_eq!(
            (process.ppid, process.session, process.foreground),
            (7, 42, 43)
        );
        assert_eq!(
            (process.cpu_ticks, process.start_ticks, process.nice),
            (200, 900, -5)
        );
        assert_eq!(
            (process.virtual_bytes, process.resident_pages),
            (8_192_000, 250)
        );
        for cut in ["", "42", "42 (x", "42 (x) ", "x (y) S 1"] {
            assert_eq!(Process::parse_stat(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn users_have_names_where_the_host_knows_them() {
        let host = Host {
            users: users("root:x:0:0::/:/bin/sh\ntoor:x:0:0\nbad line\nx:y:z\nme:x:1000:1::"),
            ..Host::default()
        };
        assert_eq!(
            (host.user(0).as_str(), host.user(1000).as_str()),
            ("root", "me")
        );
        assert_eq!(host.user(7), "7");
    }

    #[test]
    fn this_process_can_be_read() {
        let own = Process::read(std::process::id() as i32).unwrap();
        assert!(own.resident_pages > 0 && !own.arguments.is_empty());
        assert!(Process::read(i32::MAX).is_none());
    }
}
