//! The program of the built-in image: says what was done, and what the
//! container sees.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    let text = message();
    // A closed pipe is the reader's choice.
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn message() -> String {
    let mut out = String::from(
        "\nHello from Conex!\n\
         This message shows that your installation works.\n\n\
         To write it, conex took these steps:\n \
         1. The client asked the engine for a container of the image \"hello-world\".\n \
         2. The engine had no such image, so it unpacked the one it carries inside: no\n    \
         network was needed.\n \
         3. The engine put a writable layer on top of it and mounted both as one root.\n \
         4. A monitor made the namespaces, limited the cgroup, dropped rights, and executed\n    \
         this program as process 1.\n \
         5. Its output went to the log and, through the engine, to your terminal.\n\n\
         What this container sees:\n",
    );
    let host = rustix::system::uname();
    row(&mut out, "process id", &std::process::id().to_string());
    row(&mut out, "host name", &host.nodename().to_string_lossy());
    row(&mut out, "kernel", &host.release().to_string_lossy());
    row(
        &mut out,
        "user",
        &format!(
            "{}:{}",
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw()
        ),
    );
    row(&mut out, "capabilities", &status("CapEff"));
    row(
        &mut out,
        "seccomp",
        match status("Seccomp").as_str() {
            "2" => "filtered",
            "0" => "off",
            _ => "unknown",
        },
    );
    row(&mut out, "memory limit", &memory_limit());
    row(&mut out, "cpu limit", &cpu_limit());
    row(
        &mut out,
        "process limit",
        &first(&["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"]),
    );
    row(&mut out, "interfaces", &interfaces());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    row(&mut out, "mounts", &mounts.lines().count().to_string());
    for line in mounts.lines() {
        // mountinfo: id parent dev root target options … - type source …
        let mut fields = line.split(' ');
        let target = fields.nth(4).unwrap_or_default();
        let options = fields.next().unwrap_or_default();
        let kind = line
            .split(" - ")
            .nth(1)
            .and_then(|tail| tail.split(' ').next());
        let _infallible = writeln!(
            out,
            "    {target} ({}, {})",
            kind.unwrap_or("?"),
            mode(options)
        );
    }
    out.push_str(
        "\nTo go further, import a root file system and run a shell in it:\n  \
         $ conex import rootfs.tar mine\n  \
         $ conex run -it mine sh\n\n",
    );
    out
}

fn row(out: &mut String, name: &str, value: &str) {
    let _infallible = writeln!(out, "  {name:<14} {value}");
}

fn mode(options: &str) -> &str {
    if options.split(',').any(|o| o == "ro") {
        "read-only"
    } else {
        "writable"
    }
}

/// A line of `/proc/self/status`.
fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or("unknown").trim().to_owned()
}

fn first(paths: &[&str]) -> String {
    let text = paths.iter().find_map(|p| fs::read_to_string(p).ok());
    text.map_or_else(|| "none".into(), |t| t.trim().to_owned())
}

fn memory_limit() -> String {
    let text = first(&[
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]);
    match text.parse::<u64>() {
        // Version 1 says "no limit" with the largest multiple of a page.
        Ok(bytes) if bytes < 1 << 60 => format!("{} MiB", bytes >> 20),
        _ => "none".into(),
    }
}

fn cpu_limit() -> String {
    let v2 = fs::read_to_string("/sys/fs/cgroup/cpu.max").unwrap_or_default();
    let mut words = v2.split_whitespace().map(str::to_owned);
    let (quota, period) = match (words.next(), words.next()) {
        (Some(quota), Some(period)) => (quota, period),
        _ => (
            first(&["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"]),
            first(&["/sys/fs/cgroup/cpu/cpu.cfs_period_us"]),
        ),
    };
    match (quota.parse::<f64>(), period.parse::<f64>()) {
        (Ok(quota), Ok(period)) if quota > 0.0 && period > 0.0 => {
            format!("{:.2} CPUs", quota / period)
        }
        _ => "none".into(),
    }
}

fn interfaces() -> String {
    let entries = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names.join(" ")
}
