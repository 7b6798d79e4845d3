//! A data root on a small disk that is full: clear errors, an engine that
//! lives, and room again when things are removed.

use conex_tests::client::Client;
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::skip;

/// Mebibytes, too few for a Debian root and enough for a busybox.
const DISK_MIB: u64 = 48;

fn on_a_small_disk(case: impl FnOnce(&mut Engine)) {
    let Some(mut engine) = Engine::start_on_disk(DISK_MIB) else {
        return;
    };
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    engine
        .cli(Client::Conex)
        .ok(&["import", &tar.to_string_lossy(), "busybox"]);
    case(&mut engine);
}

/// An import that fails for lack of room says so and gives back what it took.
fn does_not_fit(engine: &Engine, archive: &std::path::Path) {
    let layers = engine.layer_directories();
    let free = engine.free_bytes();
    let cli = engine.cli(Client::Conex);
    let complaint = cli.fails(1, &["import", &archive.to_string_lossy(), "toolarge"]);
    assert!(
        complaint.to_lowercase().contains("no space left on device"),
        "{complaint}"
    );
    assert_eq!(engine.layer_directories(), layers);
    engine.settle();
    let lost = free.saturating_sub(engine.free_bytes());
    assert!(lost < 2 << 20, "{lost} bytes are lost");
}

#[test]
fn an_import_that_does_not_fit_leaves_the_room_it_took() {
    on_a_small_disk(|engine| {
        let tar = match fixture::make(Fixture::Debian) {
            Ok(tar) => tar,
            Err(reason) => return skip(&reason),
        };
        does_not_fit(engine, &tar);
        let cli = engine.cli(Client::Conex);
        assert_eq!(
            cli.ok(&[
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "echo",
                "alive"
            ]),
            "alive"
        );
        assert_eq!(
            cli.ok(&["images", "--format", "{{.Repository}}"]),
            "busybox"
        );
    });
}

#[test]
fn a_decompression_bomb_ends_where_the_disk_does_and_leaves_nothing() {
    on_a_small_disk(|engine| {
        // 400 MiB of one letter in less than half a MiB of gzip; zeros would become holes.
        let room = tempfile::tempdir().expect("a directory on the large disk");
        let (plain, bomb) = (room.path().join("plain"), room.path().join("bomb.tar.gz"));
        let mib = vec![b'a'; 1 << 20];
        let mut file = std::fs::File::create(&plain).expect("a file");
        for _ in 0..400 {
            std::io::Write::write_all(&mut file, &mib).expect("a letter can be written");
        }
        let made = std::process::Command::new("tar")
            .args(["-C", &room.path().to_string_lossy(), "-czf"])
            .arg(&bomb)
            .arg("plain")
            .status();
        assert!(made.is_ok_and(|status| status.success()));
        assert!(std::fs::metadata(&bomb).is_ok_and(|m| m.len() < 1 << 20));

        does_not_fit(engine, &bomb);
        let cli = engine.cli(Client::Conex);
        assert_eq!(
            cli.ok(&["images", "--format", "{{.Repository}}"]),
            "busybox"
        );
    });
}

#[test]
fn a_container_that_fills_the_disk_harms_only_itself() {
    on_a_small_disk(|engine| {
        let cli = engine.cli(Client::Conex);
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "bystander",
            "--network",
            "none",
            "busybox",
            "sleep",
            "1000",
        ]);
        let output = cli.run(&[
            "run",
            "--name",
            "greedy",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "dd if=/dev/zero of=/full bs=1M; echo after",
        ]);
        assert!(
            output.stderr.contains("No space left on device"),
            "{output}"
        );
        assert_eq!(output.stdout, "after\n");

        // What is asked of a full engine is answered, well or with a reason.
        assert_eq!(cli.inspect("bystander", "{{.State.Running}}"), "true");
        cli.run(&["run", "--rm", "--network", "none", "busybox", "true"]);
        cli.ok(&["rm", "greedy"]);
        assert_eq!(
            cli.ok(&[
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "echo",
                "room"
            ]),
            "room"
        );
        cli.ok(&["rm", "-f", "bystander"]);
        assert_eq!(engine.container_count(), 0);
    });
}

#[test]
fn a_log_that_finds_no_room_does_not_stop_its_container() {
    on_a_small_disk(|engine| {
        let cli = engine.cli(Client::Conex);
        let script = "dd if=/dev/zero of=/full bs=1M 2>/dev/null; echo start; head -c 500000 /dev/zero | tr '\\0' '\\n'; exit 3";
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "talker",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            script,
        ]);
        assert_eq!(cli.ok(&["wait", "talker"]), "3");
        cli.ok(&["logs", "-n", "1", "talker"]);
        cli.ok(&["rm", "talker"]);
        assert_eq!(engine.container_count(), 0);
    });
}

#[test]
fn a_full_engine_lets_go_of_what_filled_it() {
    on_a_small_disk(|engine| {
        let cli = engine.cli(Client::Conex);
        let signals = engine.root().join("signals");
        std::fs::create_dir(&signals).expect("a fresh directory");
        let fifo = signals.join("full");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .expect("a fifo can be made");
        // Block by block at the end, so that not even a record finds room.
        let script = "dd if=/dev/zero of=/a bs=1M; dd if=/dev/zero of=/b bs=512; echo full >/signals/full; sleep 1000";
        let volume = format!("{}:/signals", signals.display());
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "filler",
            "-v",
            &volume,
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            script,
        ]);
        assert_eq!(
            std::fs::read_to_string(&fifo).ok().as_deref(),
            Some("full\n")
        );
        let complaint = cli.fails(125, &["run", "--network", "none", "busybox", "true"]);
        assert!(
            complaint.to_lowercase().contains("no space left")
                || complaint.contains("disk is full"),
            "{complaint}"
        );
        cli.ok(&["rm", "-f", "filler"]);
        assert_eq!(
            cli.ok(&[
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "echo",
                "room"
            ]),
            "room"
        );
        assert_eq!(engine.container_count(), 0);
    });
}
