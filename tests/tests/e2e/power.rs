//! Loss of power, and death at any system call, while images come and go: what
//! is left is consistent, and what was answered is there.
//!
//! The disk is a file behind a loop device. Whenever the device was written to,
//! the daemon is stopped for a moment and the file is copied: that is what a
//! machine without power would find. Each copy gets an engine of its own, which
//! has to find nothing wrong, and every image it lists has to be whole.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conex_tests::client::Client;
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::process::readable_within;
use conex_tests::{skip, workspace};
use rustix::process::{Pid, Signal, kill_process};

/// Commands that change images, and the names there are after each.
pub(super) const STEPS: [(&[&str], &[&str]); 8] = [
    (&["import", "BUSYBOX", "busybox"], &["busybox:latest"]),
    (
        &["load", "-q", "-i", "ARCHIVE"],
        &["busybox:latest", "one:1", "two:2"],
    ),
    (
        &["tag", "two:2", "three:3"],
        &["busybox:latest", "one:1", "three:3", "two:2"],
    ),
    (
        &[
            "create",
            "--name",
            "source",
            "--network",
            "none",
            "busybox",
            "true",
        ],
        &["busybox:latest", "one:1", "three:3", "two:2"],
    ),
    (
        &["commit", "-c", "ENV A=b", "source", "four:4"],
        &["busybox:latest", "four:4", "one:1", "three:3", "two:2"],
    ),
    (
        &["rm", "source"],
        &["busybox:latest", "four:4", "one:1", "three:3", "two:2"],
    ),
    (
        &["rmi", "one:1"],
        &["busybox:latest", "four:4", "three:3", "two:2"],
    ),
    (
        &["rmi", "-f", "two:2", "three:3", "four:4"],
        &["busybox:latest"],
    ),
];

/// The disk as it was at one moment.
pub(super) struct Cut {
    pub(super) image: PathBuf,
    /// How many steps had been answered.
    pub(super) answered: usize,
}

/// An archive of two images, made by another engine.
pub(super) fn archive(room: &Path, busybox: &str) -> Option<PathBuf> {
    let engine = Engine::start()?;
    let cli = engine.cli(Client::Conex);
    for (name, kibibytes) in [("one:1", 700), ("two:2", 300)] {
        let tree = room.join(name);
        fs::create_dir(&tree).expect("a fresh directory");
        fs::write(tree.join("file"), vec![kibibytes as u8; kibibytes << 10]).expect("a file");
        fs::write(tree.join("name"), name).expect("a file");
        let tar = room.join("tar");
        let made = Command::new("tar")
            .args([
                "-C",
                &tree.to_string_lossy(),
                "-cf",
                &tar.to_string_lossy(),
                ".",
            ])
            .status();
        assert!(made.is_ok_and(|status| status.success()));
        cli.ok(&["import", &tar.to_string_lossy(), name]);
    }
    let archive = room.join("archive");
    cli.ok(&["save", "-o", &archive.to_string_lossy(), "one:1", "two:2"]);
    assert!(Path::new(busybox).exists());
    Some(archive)
}

pub(super) fn words(step: usize, busybox: &str, archive: &Path) -> Vec<String> {
    let archive = archive.to_string_lossy();
    let word = |word: &&str| match *word {
        "BUSYBOX" => busybox.to_owned(),
        "ARCHIVE" => archive.clone().into_owned(),
        other => other.to_owned(),
    };
    STEPS[step].0.iter().map(word).collect()
}

/// Sectors written to the loop device of a file.
fn sectors_written(device: &str) -> u64 {
    let path = format!("/sys/block/{device}/stat");
    let text = fs::read_to_string(path).expect("a loop device has statistics");
    let field = text.split_whitespace().nth(6);
    field.and_then(|f| f.parse().ok()).expect("a number")
}

fn loop_device(data_root: &Path) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("there is a mount table");
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == data_root.to_str())
        .expect("the data root is mounted");
    let device = line.split(' ').find(|word| word.starts_with("/dev/loop"));
    device
        .expect("on a loop device")
        .trim_start_matches("/dev/")
        .to_owned()
}

/// Stops every thread of a process and waits until none runs.
fn freeze(pid: Pid, never: &impl AsFd) {
    kill_process(pid, Signal::STOP).expect("the daemon can be stopped");
    let stopped = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
        tasks.expect("it has threads").flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // pid (name) state: the name may have anything in it.
            let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
            state.is_empty() || state.starts_with(['T', 't'])
        })
    };
    // A thread inside the kernel finishes its call first; nothing tells when.
    for _ in 0..5000 {
        if stopped() {
            return;
        }
        readable_within(never, Duration::from_millis(1)).expect("a pipe can be polled");
    }
    panic!("the daemon does not stop");
}

/// Runs the steps on a disk and gives every state of it that was seen.
fn cuts(engine: &Engine, room: &Path, busybox: &str, archive: &Path) -> Vec<Cut> {
    let device = loop_device(&engine.data_root());
    let pid = Pid::from_raw(engine.pid().cast_signed()).expect("a daemon has a pid");
    let answered = AtomicUsize::new(0);
    let (ended, end) = std::io::pipe().expect("a pipe");
    let mut found: Vec<Cut> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = end;
            let cli = engine.cli(Client::Conex);
            for step in 0..STEPS.len() {
                let words = words(step, busybox, archive);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                cli.ok(&words);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            drop(end);
        });
        let mut last = 0;
        loop {
            let is_over = readable_within(&ended, Duration::from_millis(1)).expect("a pipe");
            freeze(pid, &ended);
            let before = answered.load(Ordering::SeqCst);
            let written = sectors_written(&device);
            // Once more at the end, when everything has been answered.
            if written != last || is_over {
                let image = room.join(format!("cut-{}", found.len()));
                let copied = Command::new("cp")
                    .arg("--sparse=always")
                    .args([&engine.disk_image(), &image])
                    .status();
                assert!(copied.is_ok_and(|status| status.success()));
                // The kernel's own writing may have come between: then again.
                if sectors_written(&device) == written {
                    last = written;
                    let answered = before;
                    found.push(Cut { image, answered });
                }
            }
            kill_process(pid, Signal::CONT).expect("the daemon can go on");
            if is_over {
                break;
            }
        }
    });
    found
}

/// Starts an engine on what a loss of power left and looks at everything.
pub(super) fn examine(cut: &Cut, flags: &[&str]) {
    let engine = Engine::start_on_copy(&cut.image, flags).expect("engines can run here");
    let cli = engine.cli(Client::Conex);
    let said = cli.run(&["system", "check"]);
    assert_eq!(said.code, Some(0), "after {} steps: {said}", cut.answered);
    let said = cli.run(&["image", "verify"]);
    assert_eq!(said.code, Some(0), "after {} steps: {said}", cut.answered);
    let listed = cli.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let listed: BTreeSet<&str> = listed.lines().filter(|l| *l != "<none>:<none>").collect();
    let names = |steps: usize| -> BTreeSet<&str> {
        let done = steps.checked_sub(1);
        done.map_or_else(BTreeSet::new, |last| {
            STEPS[last].1.iter().copied().collect()
        })
    };
    let (was, will) = (
        names(cut.answered),
        names((cut.answered + 1).min(STEPS.len())),
    );
    let context = format!("after {} steps: {listed:?}", cut.answered);
    assert!(
        was.intersection(&will).all(|name| listed.contains(name)),
        "{context}"
    );
    assert!(
        listed.iter().all(|n| was.contains(n) || will.contains(n)),
        "{context}"
    );
    if listed.contains("busybox:latest") {
        let said = cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "echo",
            "works",
        ]);
        assert_eq!(said, "works", "{context}");
    }
}

fn loses_power(file_system: &str, mebibytes: u64, driver: &str, most: usize) {
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar.to_string_lossy().into_owned(),
        Err(reason) => return skip(&reason),
    };
    let room = tempfile::tempdir().expect("a directory");
    let Some(archive) = archive(room.path(), &tar) else {
        return;
    };
    let flags = ["-s", driver];
    let Some(engine) = Engine::start_on(file_system, mebibytes, &flags) else {
        return;
    };
    let cuts = cuts(&engine, room.path(), &tar, &archive);
    drop(engine);
    assert!(
        cuts.len() >= STEPS.len(),
        "{} states are too few",
        cuts.len()
    );
    assert_eq!(cuts.last().map(|cut| cut.answered), Some(STEPS.len()));
    eprintln!("{} states of the disk", cuts.len());
    // Evenly over all of them, the last one always.
    let step = cuts.len().div_ceil(most);
    for cut in cuts.iter().rev().step_by(step) {
        examine(cut, &flags);
    }
}

#[test]
fn a_loss_of_power_leaves_a_consistent_store_on_ext4() {
    loses_power("ext4", 48, "overlay2", 8);
}

#[test]
fn a_loss_of_power_leaves_a_consistent_store_on_btrfs() {
    loses_power("btrfs", 160, "btrfs", 5);
}

#[test]
#[ignore = "soak: every state of the disk, a minute"]
fn a_loss_of_power_at_any_write_leaves_a_consistent_store() {
    for (file_system, mebibytes, driver) in [
        ("ext4", 48, "overlay2"),
        ("ext4", 96, "vfs"),
        ("btrfs", 160, "btrfs"),
    ] {
        loses_power(file_system, mebibytes, driver, usize::MAX);
    }
}

/// Calls at which the daemon is killed: whatever makes, moves, removes, writes
/// or syncs a file of records, and the directories of layers. Not the hundreds
/// of links of the busybox root, and what empties `tmp`.
const CALLS: &str = "mkdir,mkdirat,rename,renameat,renameat2,unlink,rmdir,link,fsync,fdatasync,\
                     syncfs,pwrite64,ftruncate,mount,fsmount";

/// Kills the daemon at the n-th of these calls of one of its threads while it
/// carries out the steps; `false` when it lived through all of them.
fn dies_at(engine: &mut Engine, number: usize, busybox: &str, archive: &Path) -> bool {
    let strace = workspace::program("strace").expect("the caller has looked");
    let words_of = |text: String| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    engine.wrap(&words_of(format!(
        "{} -f -qqq -o /dev/null -e trace={CALLS} \
         -e inject={CALLS}:signal=SIGKILL:when={number}",
        strace.display()
    )));
    let started = engine.try_resume();
    if started {
        for step in 0..STEPS.len() {
            let words = words(step, busybox, archive);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            engine.cli(Client::Conex).run(&words);
        }
    }
    let died = !started || engine.await_end(Duration::from_millis(50));
    engine.wrap(&[]);
    if died {
        engine.resume();
    }
    died
}

fn survives_kills(numbers: impl Iterator<Item = usize>) {
    if workspace::program("strace").is_none() {
        return skip("strace is missing");
    }
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar.to_string_lossy().into_owned(),
        Err(reason) => return skip(&reason),
    };
    let room = tempfile::tempdir().expect("a directory");
    let Some(archive) = archive(room.path(), &tar) else {
        return;
    };
    let mut deaths = 0;
    for number in numbers {
        let Some(mut engine) = Engine::unstarted() else {
            return;
        };
        if !dies_at(&mut engine, number, &tar, &archive) {
            break;
        }
        deaths += 1;
        let cli = engine.cli(Client::Conex);
        for command in ["check", "verify"] {
            let group = if command == "check" {
                "system"
            } else {
                "image"
            };
            let said = cli.run(&[group, command]);
            assert_eq!(said.code, Some(0), "killed at call {number}: {said}");
        }
        engine.settle();
        // And it works on: everything once more.
        for step in 0..STEPS.len() {
            let words = words(step, &tar, &archive);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // What a killed step had done already is no longer there to be done.
            cli.run(&words);
        }
        let said = cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "echo",
            "works",
        ]);
        assert_eq!(said, "works", "killed at call {number}");
        cli.run(&["rm", "-f", "source"]);
        cli.ok(&["image", "prune", "-a", "-f"]);
        engine.settle();
        assert_eq!(
            engine.layer_directories(),
            Vec::<String>::new(),
            "killed at call {number}"
        );
        let recipes = fs::read_dir(engine.data_root().join("image/recipes"));
        assert_eq!(
            recipes.map_or(0, Iterator::count),
            0,
            "killed at call {number}"
        );
    }
    eprintln!("{deaths} deaths");
    assert!(deaths > 0, "it was never killed");
}

#[test]
fn a_daemon_killed_at_some_of_its_calls_leaves_nothing_behind() {
    survives_kills([2, 5, 9, 14, 21, 30].into_iter());
}

#[test]
#[ignore = "soak: kills at every call, minutes"]
fn a_daemon_killed_at_any_of_its_calls_leaves_nothing_behind() {
    survives_kills(1..);
}
