//! Loss of power on a disk with a cache: of what was written since the last flush
//! any part may be lost, later writes kept and earlier ones not. What is left is
//! consistent all the same, and what was answered is there.
//!
//! The same steps as in `power`, on a disk that remembers its writes. Which
//! moments and which writes is drawn; the seed is printed, and
//! `CONEX_TEST_SEED` sets it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use conex_tests::client::Client;
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::recorded::RecordedDisk;
use conex_tests::skip;

use super::power::{Cut, STEPS, archive, examine, words};

/// Marsaglia's xorshift.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn loses_unflushed_writes(
    file_system: &str,
    mebibytes: usize,
    driver: &str,
    cuts: usize,
    seed: u64,
) {
    let seed = match std::env::var("CONEX_TEST_SEED").map(|text| text.parse()) {
        Ok(Ok(seed)) => seed,
        _ => seed,
    };
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar.to_string_lossy().into_owned(),
        Err(reason) => return skip(&reason),
    };
    let Some(disk) = RecordedDisk::new(mebibytes) else {
        return;
    };
    let room = tempfile::tempdir().expect("a directory");
    let Some(archive) = archive(room.path(), &tar) else {
        return;
    };
    let flags = ["-s", driver];
    let Some(engine) = Engine::start_in(file_system, &disk.path(), &flags) else {
        return;
    };
    let first = disk.events();
    let mut answered = Vec::new();
    for step in 0..STEPS.len() {
        let words = words(step, &tar, &archive);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        engine.cli(Client::Conex).ok(&words);
        answered.push(disk.events());
    }
    drop(engine);
    let last = disk.events();
    eprintln!("{} writes and flushes, seed {seed}", last - first);
    assert!(last - first > 100, "the disk saw too little");
    let mut draw = Draw(seed.max(1));
    for number in 0..cuts {
        let events = first + draw.below(last - first + 1);
        // Of the unflushed: none, all, half, or a few.
        let odds = [0, 8, 4, 1][draw.below(4)];
        let image = room.path().join("cut");
        disk.after_power_loss(events, &image, &mut || draw.below(8) < odds)
            .expect("there is room for a copy of the disk");
        let cut = Cut {
            image,
            answered: answered.iter().filter(|at| **at <= events).count(),
        };
        eprintln!(
            "cut {number}: {events} of {last} events, {odds}/8 of the unflushed, {} steps",
            cut.answered
        );
        examine(&cut, &flags);
        fs::remove_file(&cut.image).expect("it is ours");
    }
}

#[test]
fn unflushed_writes_may_be_lost_in_any_order() {
    loses_unflushed_writes("ext4", 48, "overlay2", 5, 0x0c07_2611);
}

#[test]
#[ignore = "soak: two hundred states of three disks, minutes"]
fn unflushed_writes_may_be_lost_in_any_order_on_every_driver() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.expect("it is after 1970").as_nanos() as u64;
    for (file_system, mebibytes, driver, cuts) in [
        ("ext4", 48, "overlay2", 100),
        ("ext4", 96, "vfs", 50),
        ("btrfs", 160, "btrfs", 50),
    ] {
        loses_unflushed_writes(file_system, mebibytes, driver, cuts, seed);
    }
}
