//! The test machine: a Debian kernel under qemu's software emulation, for what
//! the host's kernel cannot show (a pure cgroup v2 hierarchy, device eBPF).
//!
//! Nothing is installed into it: an initial RAM disk is written here from
//! busybox, our own static programs and the kernel modules they need.
//!
//! ```text
//! /init  /lib.sh  /suite/*.sh   tests/vm
//! /bin/busybox  /conex          the host's busybox, the binary under test
//! /tests/<package>              unit test programs to run inside
//! /modules/{order,*.ko}         load order and modules
//! /fixtures/busybox.tar         a root file system to import
//! ```
//!
//! The machine has no network and no disk; its console is the only way out, and
//! its last line is `VM-RESULT: <passed> <failed>`.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{self, Fixture};
use crate::{process, workspace};

/// Modules the suites use, by file name; what they depend on follows by itself.
const MODULES: &[&str] = &["overlay", "dm-mod", "loop"];

/// What a run of the machine left behind.
#[derive(Debug)]
pub struct Outcome {
    /// Checks that held and checks that did not, as counted inside; `None` when
    /// the machine ended without a verdict.
    pub counts: Option<(u32, u32)>,
    /// Everything the console showed.
    pub console: String,
    /// From power on to power off.
    pub took: Duration,
}

/// Boots the machine once with all suites and the given programs, each with its
/// place in the machine (`tests/name` to be run, `examples/name` to be there).
///
/// `Err` is the reason why there is no machine here (a skip, not a failure).
pub fn run(programs: &[(String, PathBuf)], limit: Duration) -> Result<Outcome, String> {
    let qemu = workspace::program("qemu-system-x86_64").ok_or("qemu-system-x86_64 is missing")?;
    fixture::make(Fixture::Kernel)?;
    let busybox_tar = fixture::make(Fixture::Busybox)?;
    let busybox = workspace::program("busybox").ok_or("busybox is missing")?;

    let vm = workspace::target().join("vm");
    let work = tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(&vm)
        .map_err(|e| format!("{}: {e}", vm.display()))?;
    let initramfs = work.path().join("initramfs");
    write_initramfs(&initramfs, &vm, &busybox, &busybox_tar, programs)
        .map_err(|e| format!("cannot write {}: {e}", initramfs.display()))?;

    let started = Instant::now();
    let mut machine = Command::new(qemu)
        .args(["-accel", "tcg", "-cpu", "max", "-m", "768", "-smp", "1"])
        .args(["-nodefaults", "-nographic", "-no-reboot", "-net", "none"])
        .args(["-serial", "stdio", "-monitor", "none"])
        .arg("-kernel")
        .arg(vm.join("kernel/vmlinuz"))
        .arg("-initrd")
        .arg(&initramfs)
        // A panic ends the machine at once instead of at the time limit.
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 cgroup_no_v1=all mitigations=off apparmor=1",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start qemu: {e}"))?;
    let mut console_pipe = machine.stdout.take().expect("the console is a pipe");
    let mut error_pipe = machine.stderr.take().expect("stderr is a pipe");
    let console = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // The pipe only breaks with the machine, and then the rest is what counts.
        drop(console_pipe.read_to_end(&mut bytes));
        bytes
    });
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        drop(error_pipe.read_to_string(&mut text));
        text
    });
    let ended = process::wait_limited(&mut machine, limit).map_err(|e| e.to_string())?;
    // The firmware's cursor movements do not belong in a test report.
    let mut text: String =
        String::from_utf8_lossy(&console.join().expect("the reader does not panic"))
            .chars()
            .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
            .collect();
    if ended.is_none() {
        text.push_str(&format!("\n(stopped after {} s)\n", limit.as_secs()));
    }
    text.push_str(&errors.join().expect("the reader does not panic"));
    Ok(Outcome {
        counts: verdict(&text),
        console: text,
        took: started.elapsed(),
    })
}

/// Reads `VM-RESULT: <passed> <failed>` off the console.
fn verdict(console: &str) -> Option<(u32, u32)> {
    let rest = console
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("VM-RESULT: "))?;
    let (passed, failed) = rest.split_once(' ')?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

fn write_initramfs(
    to: &Path,
    vm: &Path,
    busybox: &Path,
    busybox_tar: &Path,
    programs: &[(String, PathBuf)],
) -> io::Result<()> {
    let rig = workspace::root().join("tests/vm");
    let mut archive = Cpio::create(to)?;
    for dir in [
        "bin", "dev", "examples", "fixtures", "modules", "suite", "tests",
    ] {
        archive.directory(dir)?;
    }
    // The kernel opens the console before anything could make it.
    archive.character_device("dev/console", 5, 1)?;
    archive.file("bin/busybox", busybox, 0o755)?;
    archive.file("init", &rig.join("init"), 0o755)?;
    archive.file("lib.sh", &rig.join("lib.sh"), 0o644)?;
    archive.file("fixtures/busybox.tar", busybox_tar, 0o644)?;
    let mut suites: Vec<PathBuf> = fs::read_dir(rig.join("suite"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<_>>()?;
    suites.sort();
    for suite in suites {
        let name = suite.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("suite/{name}"), &suite, 0o644)?;
    }
    let modules = load_order(&vm.join("kernel/modules"), MODULES)?;
    let mut order = String::new();
    for module in &modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{name}"), module, 0o644)?;
        order.push_str(&format!("{name}\n"));
    }
    archive.bytes("modules/order", order.as_bytes(), 0o644)?;
    let conex = workspace::conex();
    if conex.is_file() {
        archive.file("conex", &stripped(&conex, vm)?, 0o755)?;
    }
    for (name, program) in programs {
        archive.file(name, &stripped(program, vm)?, 0o755)?;
    }
    archive.finish()
}

/// The program without its symbols where binutils is there: half the memory
/// and boot time go into them otherwise.
fn stripped(program: &Path, vm: &Path) -> io::Result<PathBuf> {
    let Some(strip) = workspace::program("strip") else {
        return Ok(program.to_path_buf());
    };
    let name = program.file_name().unwrap_or_default();
    let to = vm.join("stripped").join(name);
    fs::create_dir_all(vm.join("stripped"))?;
    let done = Command::new(strip)
        .arg("-o")
        .arg(&to)
        .arg(program)
        .status()?;
    Ok(if done.success() {
        to
    } else {
        program.to_path_buf()
    })
}

/// The wanted modules' files, each after those it depends on.
fn load_order(modules: &Path, wanted: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut by_name = HashMap::new();
    let mut folders = vec![modules.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "ko") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                // The kernel knows a module by its name with underscores.
                by_name.insert(name.replace('-', "_"), path);
            }
        }
    }
    let mut order = Vec::new();
    for name in wanted {
        add_module(&name.replace('-', "_"), &by_name, &mut order)?;
    }
    Ok(order)
}

fn add_module(
    name: &str,
    by_name: &HashMap<String, PathBuf>,
    order: &mut Vec<PathBuf>,
) -> io::Result<()> {
    // What is not a file is built into the kernel.
    let Some(path) = by_name.get(name) else {
        return Ok(());
    };
    if order.contains(path) {
        return Ok(());
    }
    for dependency in dependencies(&fs::read(path)?) {
        add_module(&dependency.replace('-', "_"), by_name, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// The `depends=` entry of a module's `.modinfo` section.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|w| w == KEY) else {
        return Vec::new();
    };
    let rest = &module[at + KEY.len()..];
    let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
    String::from_utf8_lossy(&rest[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A writer of the "new ASCII" cpio format the kernel unpacks at boot
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
struct Cpio {
    out: io::BufWriter<fs::File>,
    inode: u32,
}

impl Cpio {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Cpio {
            out: io::BufWriter::with_capacity(1 << 20, fs::File::create(path)?),
            inode: 0,
        })
    }

    fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, 0o040_755, (0, 0), &[])
    }

    fn character_device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(name, 0o020_600, (major, minor), &[])
    }

    fn file(&mut self, name: &str, from: &Path, mode: u32) -> io::Result<()> {
        let bytes = fs::read(from)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", from.display())))?;
        self.bytes(name, &bytes, mode)
    }

    fn bytes(&mut self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.entry(name, 0o100_000 | mode, (0, 0), bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
        // magic, then 13 fields: ino mode uid gid nlink mtime filesize
        // devmajor devminor rdevmajor rdevminor namesize check
        write!(self.out, "070701")?;
        for field in [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ] {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.wrapping_neg() & 3])
    }

    fn finish(mut self) -> io::Result<()> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_verdict_on_the_console_counts() {
        assert_eq!(
            verdict("ok a\nVM-RESULT: 1 2\nx\nVM-RESULT: 12 0\nbye"),
            Some((12, 0))
        );
        assert_eq!(verdict("ok a\nVM-RESULT: twelve 0\n"), None);
        assert_eq!(verdict("Kernel panic"), None);
    }

    #[test]
    fn dependencies_are_read_from_the_modinfo_section() {
        let module = b"\x7fELF..\0license=GPL\0depends=dm-bufio,dm-persistent-data\0name=x\0";
        assert_eq!(dependencies(module), ["dm-bufio", "dm-persistent-data"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"no such entry").is_empty());
    }

    #[test]
    fn cpio_entries_are_padded_to_four_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cpio");
        let mut archive = Cpio::create(&path).unwrap();
        archive.bytes("abc", b"12345", 0o644).unwrap();
        archive.finish().unwrap();
        let bytes = fs::read(path).unwrap();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[110..114], b"abc\0");
        assert_eq!(&bytes[116..124], b"12345\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }
}
