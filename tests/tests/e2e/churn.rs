//! Lives in great number, eight at a time, while the daemon is killed again and
//! again: whatever the moment, nothing of them stays and the daemon does not grow.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{RwLock, mpsc};
use std::time::{Duration, Instant};

use conex_tests::client::{Client, engine_for};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::process::{self, Output};
use conex_tests::{leftovers, skip};

const WIDTH: usize = 8;
const LIMIT: Duration = Duration::from_secs(120);

/// A crowd of lives on one engine.
struct Churn {
    /// Written to while there is no daemon.
    engine: RwLock<Engine>,
    /// How often the daemon was killed.
    kills: AtomicUsize,
    next: AtomicUsize,
}

impl Churn {
    fn new() -> Option<Churn> {
        let engine = engine_for(Client::Conex)?;
        let tar = match fixture::make(Fixture::Busybox) {
            Ok(tar) => tar,
            Err(reason) => {
                skip(&reason);
                return None;
            }
        };
        let cli = engine.cli(Client::Conex);
        cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
        // The image's init layer and the shared volume, which stay.
        cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            "shared:/s",
            "busybox",
            "true",
        ]);
        Some(Churn {
            engine: RwLock::new(engine),
            kills: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
        })
    }

    fn engine(&self) -> std::sync::RwLockReadGuard<'_, Engine> {
        self.engine.read().expect("nobody panics with the engine")
    }

    /// A command that is not held back while the daemon is killed.
    fn command(&self, args: &[&str]) -> Command {
        self.engine().cli(Client::Conex).command(args)
    }

    /// Whether it succeeded; it must, unless the daemon was killed meanwhile.
    fn tries(&self, args: &[&str]) -> bool {
        let before = self.kills.load(Ordering::SeqCst);
        let output: Output = process::output_limited(self.command(args), b"", LIMIT);
        // A kill that is under way has the lock.
        drop(self.engine());
        let killed = self.kills.load(Ordering::SeqCst) != before;
        assert!(output.code == Some(0) || killed, "{args:?}: {output}");
        output.code == Some(0)
    }

    /// One life of a kind, and its end.
    fn live(&self, number: usize) {
        let name = format!("life-{number}");
        let base = ["--name", &name, "--network", "none"];
        let run = |flags: &[&str], command: &[&str]| {
            let args = [&["run"], flags, &base, &["busybox"], command].concat();
            self.tries(&args)
        };
        match number % 4 {
            0 => {
                run(
                    &["--rm", "-v", "shared:/s"],
                    &["sh", "-c", "echo $$ > /s/last"],
                );
            }
            1 => {
                let _lives = run(&["-d"], &["sleep", "1000"])
                    && self.tries(&["exec", &name, "true"])
                    && self.tries(&["stop", "-t", "0", &name]);
            }
            2 => {
                let _lives = run(&["-d", "-v", "/anonymous"], &["sleep", "1000"])
                    && self.tries(&["exec", "-d", &name, "sleep", "1000"])
                    && self.tries(&["kill", &name]);
            }
            _ => {
                let _lives = run(
                    &["-d", "--restart", "on-failure:2", "--tmpfs", "/t"],
                    &["false"],
                ) && self.tries(&["logs", &name]);
            }
        }
        // Until it is certain that it is gone.
        while !self.tries(&["rm", "-f", "-v", &name]) {}
    }

    /// So many lives; the daemon is killed after every `kill_every` ends, about.
    fn run(&self, count: usize, kill_every: Option<usize>) {
        let end = self.next.load(Ordering::SeqCst) + count;
        let (ended, ends) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..WIDTH {
                let ended = ended.clone();
                scope.spawn(move || {
                    loop {
                        let number = self.next.fetch_add(1, Ordering::SeqCst);
                        if number >= end {
                            return;
                        }
                        self.live(number);
                        ended.send(()).expect("somebody counts");
                    }
                });
            }
            drop(ended);
            // Not in step with the lives: 1, 4, 3, 7, …, between half and one and a half.
            let mut random = 0x2545_f491_u32;
            let mut left = kill_every;
            for () in ends {
                left = left.map(|left| left.saturating_sub(1));
                if left != Some(0) {
                    continue;
                }
                let every = kill_every.unwrap_or(1);
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                left = Some(every / 2 + random as usize % every.max(1) + 1);
                let mut engine = self.engine.write().expect("nobody panics with the engine");
                self.kills.fetch_add(1, Ordering::SeqCst);
                engine.kill9();
                engine.resume();
            }
        });
        self.next.store(end, Ordering::SeqCst);
    }
}

/// What one engine has on the machine, by what it is.
fn holdings(engine: &Engine) -> BTreeMap<&'static str, Vec<String>> {
    let list = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let (data, exec) = (engine.data_root(), engine.exec_root());
    let cgroups = leftovers::parent_cgroups(&data);
    let children = cgroups.iter().flat_map(|dir| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    });
    BTreeMap::from([
        ("containers", list(&data.join("containers"))),
        ("layers", engine.layer_directories()),
        ("volumes", list(&data.join("volumes"))),
        ("drafts", list(&data.join("tmp"))),
        ("strangers", list(&data.join("lost"))),
        ("run directories", list(&exec.join("containers"))),
        (
            "mounts",
            leftovers::mounts(engine.root())
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
        ),
        (
            "cgroups",
            children
                .map(|entry| entry.path().display().to_string())
                .collect(),
        ),
        (
            "processes but the daemon",
            leftovers::processes(engine.root(), &[])
                .iter()
                .filter(|pid| **pid != engine.pid())
                .map(u32::to_string)
                .collect(),
        ),
    ])
}

/// Descriptors of the daemon, and its own memory in KiB.
fn size(engine: &Engine) -> (usize, u64) {
    let proc = format!("/proc/{}", engine.pid());
    let descriptors = fs::read_dir(format!("{proc}/fd")).map_or(0, Iterator::count);
    let rollup = fs::read_to_string(format!("{proc}/smaps_rollup")).unwrap_or_default();
    let private = rollup
        .lines()
        // Clean pages are the program's own, private or not as others run it.
        .filter(|line| line.starts_with("Private_Dirty"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    (descriptors, private)
}

/// Waits for what goes behind an answer: monitors that end, files that are deleted.
fn settle(engine: &Engine) {
    for pid in leftovers::processes(engine.root(), &[]) {
        if pid != engine.pid() {
            leftovers::await_end(pid);
        }
    }
    engine.settle();
}

fn churn(with_kills: usize, kill_every: usize, without: usize, most_growth_kib: u64) {
    let Some(churn) = Churn::new() else {
        return;
    };
    settle(&churn.engine());
    let before = holdings(&churn.engine());
    let begun = Instant::now();
    churn.run(with_kills, Some(kill_every));
    // Lives without a kill show the growth of one daemon; the first ones fill
    // what any daemon fills once.
    churn.run(without / 3, None);
    settle(&churn.engine());
    let (descriptors, memory_kib) = size(&churn.engine());
    churn.run(without - without / 3, None);
    let engine = churn.engine();
    assert_eq!(engine.container_count(), 0);
    settle(&engine);
    let (descriptors_after, memory_after_kib) = size(&engine);
    eprintln!(
        "{} lives in {:.1} s, {} kills; descriptors {descriptors} to {descriptors_after}, \
         private memory {memory_kib} to {memory_after_kib} KiB",
        with_kills + without,
        begun.elapsed().as_secs_f64(),
        churn.kills.load(Ordering::SeqCst),
    );
    assert_eq!(holdings(&engine), before);
    assert!(
        descriptors_after <= descriptors + 8,
        "{descriptors} to {descriptors_after}"
    );
    assert!(
        memory_after_kib <= memory_kib + most_growth_kib,
        "{memory_kib} KiB to {memory_after_kib} KiB"
    );
}

#[test]
fn a_hundred_and_fifty_lives_and_several_kills_leave_nothing() {
    churn(90, 15, 60, 4096);
}

#[test]
#[ignore = "soak: two thousand lives, minutes"]
fn two_thousand_lives_and_many_kills_leave_nothing() {
    churn(1200, 20, 800, 4096);
}
