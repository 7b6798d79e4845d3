//! Images beyond four gibibytes and files beyond eight: through load, run, commit
//! and save, on a driver of overlays and on one of snapshots.

use std::io::{self, Write};
use std::process::Stdio;

use conex_tests::archive::{self, end};
use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::registry::noise;
use conex_tests::skip;

/// More than 32 bits can count.
const DENSE_MIB: u64 = (4 << 10) + 200;

/// More than the eleven octal digits of an old archive can.
const SPARSE_BYTES: u64 = (9 << 30) + 5;

/// What all of it takes at a time, with some room.
const ROOM: u64 = 14 << 30;

/// Writes the archive of a tree with a large file of noise, all of it different.
fn write_tree(busybox: &std::path::Path, sink: &mut impl Write) -> io::Result<()> {
    let mut source = std::fs::read(busybox)?;
    // Without its end, so that more can follow.
    while source.ends_with(&[0; 512]) {
        source.truncate(source.len() - 512);
    }
    sink.write_all(&source)?;
    sink.write_all(&archive::header("dense", b'0', DENSE_MIB << 20, ""))?;
    let mut block = noise(1 << 20, 7);
    for number in 0..DENSE_MIB {
        block[..8].copy_from_slice(&number.to_le_bytes());
        sink.write_all(&block)?;
    }
    sink.write_all(&end())
}

fn large_images_live(cli: &Cli<'_>, other: &Cli<'_>, busybox: &std::path::Path) {
    let mut importing = cli
        .command(&["import", "-", "large:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a client can be started");
    let mut sink = importing.stdin.take().expect("a pipe");
    write_tree(busybox, &mut sink).expect("it is read");
    drop(sink);
    assert!(importing.wait().expect("a child").success());
    let size: u64 = cli
        .inspect("large:1", "{{.Size}}")
        .parse()
        .expect("a number");
    assert!(size > DENSE_MIB << 20, "{size}");
    let run = |cli: &Cli<'_>, name: &str, image: &str, script: &str| -> String {
        let run = [
            "run",
            "--name",
            name,
            "--network",
            "none",
            image,
            "sh",
            "-c",
        ];
        let output = cli.ok(&[&run[..], &[script]].concat());
        cli.ok(&["rm", name]);
        output
    };
    let said = run(
        cli,
        "reads",
        "large:1",
        "stat -c %s /dense; tail -c 1048576 /dense | head -c 8 | od -An -tu8",
    );
    let numbers: Vec<u64> = said
        .split_whitespace()
        .filter_map(|it| it.parse().ok())
        .collect();
    assert_eq!(numbers, [DENSE_MIB << 20, DENSE_MIB - 1]);
    // A sparse file beyond 8 GiB, committed, and out and in again.
    let seek = SPARSE_BYTES - 5;
    let script = format!("printf 12345 | dd of=/sparse bs=1 seek={seek} 2>/dev/null");
    let made = [
        "run",
        "--name",
        "made",
        "--network",
        "none",
        "large:1",
        "sh",
        "-c",
    ];
    cli.ok(&[&made[..], &[&script]].concat());
    cli.ok(&["commit", "made", "large:2"]);
    cli.ok(&["rm", "made"]);
    let read =
        "stat -c %s /sparse; tail -c 5 /sparse; [ $(stat -c %b /sparse) -lt 8192 ] && echo sparse";
    let expected = format!("{SPARSE_BYTES}\n12345sparse");
    assert_eq!(run(cli, "again", "large:2", read), expected);
    assert_eq!(cli.ok(&["image", "verify", "large:2"]), "2 layers verified");
    let id = cli.inspect("large:2", "{{.Id}}");
    // Out of this engine and into the other one, without a file between.
    let mut saving = cli.command(&["save", "large:2"]);
    let mut saving = saving
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client can be started");
    let archive = saving.stdout.take().expect("a pipe");
    let loading = other.command(&["load", "-q"]).stdin(archive).status();
    assert!(loading.is_ok_and(|status| status.success()));
    assert!(saving.wait().expect("a child").success());
    for name in ["large:2", "large:1"] {
        cli.ok(&["rmi", name]);
    }
    cli.engine.settle();
    assert_eq!(cli.engine.layer_directories(), Vec::<String>::new());
    assert_eq!(other.inspect("large:2", "{{.Id}}"), id);
    assert_eq!(run(other, "last", "large:2", read), expected);
    assert_eq!(
        other.ok(&["image", "verify", "large:2"]),
        "2 layers verified"
    );
    other.ok(&["rmi", "large:2"]);
}

fn on(file_system: &str, driver: &str) {
    let busybox = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    let free = rustix::fs::statvfs("/tmp").map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if free < ROOM {
        return skip("there is no room for large images");
    }
    let Some(engine) = Engine::start_on(file_system, 24 << 10, &["-s", driver]) else {
        return;
    };
    let Some(other) = Engine::start_on(file_system, 24 << 10, &["-s", driver]) else {
        return;
    };
    let client = |engine| Engine::cli(engine, Client::Conex);
    large_images_live(&client(&engine), &client(&other), &busybox);
}

#[test]
#[ignore = "soak: ten gigabytes, minutes"]
fn images_beyond_four_gibibytes_and_files_beyond_eight_live_on_overlay2() {
    on("ext4", "overlay2");
}

#[test]
#[ignore = "soak: ten gigabytes, minutes"]
fn images_beyond_four_gibibytes_and_files_beyond_eight_live_on_btrfs() {
    on("btrfs", "btrfs");
}
