//! Storage drivers: whole lives of containers on each of them, and which one an
//! engine takes.

use std::process::Command;

use conex_tests::archive::{self, config, docker, end, file};
use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::{skip, workspace};

/// A driver, and the file system it is tried on.
const DRIVERS: [(&str, &str); 3] = [("overlay2", "ext4"), ("vfs", "ext4"), ("btrfs", "btrfs")];

fn on_each_driver(client: Client, case: impl Fn(&mut Engine, Client, &str)) {
    if client == Client::Docker && workspace::program("docker").is_none() {
        return skip("no docker command line here");
    }
    for (driver, file_system) in DRIVERS {
        let flags = ["--storage-driver", driver];
        let Some(mut engine) = Engine::start_on(file_system, 512, &flags) else {
            continue;
        };
        let tar = match fixture::make(Fixture::Busybox) {
            Ok(tar) => tar,
            Err(reason) => return skip(&reason),
        };
        let cli = engine.cli(client);
        cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
        case(&mut engine, client, driver);
    }
}

/// What is free when everything that was removed is given back.
fn free_bytes(engine: &Engine, driver: &str) -> u64 {
    engine.settle();
    let root = engine.data_root();
    let sync = || {
        let dir = std::fs::File::open(&root).expect("the data root can be opened");
        rustix::fs::syncfs(dir).expect("it can be synced");
    };
    sync();
    if driver == "btrfs" {
        // Deleted subvolumes are cleaned by the kernel behind the call.
        let program = workspace::program("btrfs").expect("it comes with mkfs.btrfs");
        let waited = Command::new(program)
            .args(["subvolume", "sync"])
            .arg(&root)
            .output();
        assert!(waited.is_ok_and(|output| output.status.success()));
    }
    sync();
    engine.free_bytes()
}

fn a_container_lives(engine: &mut Engine, client: Client, driver: &str) {
    let layers = engine.layer_directories();
    let free = free_bytes(engine, driver);
    {
        let cli = engine.cli(client);
        assert_eq!(cli.ok(&["info", "-f", "{{.Driver}}"]), driver);
        cli.ok(&[
            "run", "-d", "--name", "one", "--network", "none", "busybox", "sh", "-c",
            "test -f /kept || dd if=/dev/zero of=/kept bs=1M count=20 2>/dev/null; rm -f /etc/group; \
             echo ready; exec sleep 1000",
        ]);
        cli.wait_for_line("one", "ready");
        assert_eq!(cli.inspect("one", "{{.GraphDriver.Name}}"), driver);
        let merged = cli.inspect("one", "{{.GraphDriver.Data.MergedDir}}");
        assert_eq!(
            driver == "overlay2",
            merged.ends_with("/merged"),
            "{merged}"
        );
        let size = cli.ok(&["ps", "-s", "--format", "{{.Size}}"]);
        assert!(size.starts_with("21MB (virtual "), "{driver}: {size}");
        cli.ok(&["stop", "-t", "0", "one"]);
        cli.ok(&["start", "one"]);
        kept(&cli);
    }
    engine.kill9();
    engine.resume();
    let cli = engine.cli(client);
    kept(&cli);
    cli.ok(&["restart", "-t", "0", "one"]);
    kept(&cli);
    // Another container of the image sees nothing of it.
    let seen = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "ls /kept 2>/dev/null; ls /etc/group; touch /new; stat -c %a /tmp",
    ]);
    assert_eq!(seen, "/etc/group\n1777", "{driver}");
    cli.ok(&["rm", "-f", "one"]);
    let left = engine.layer_directories();
    let init = left.iter().filter(|name| !layers.contains(name)).count();
    assert_eq!(init, 1, "{driver}: {left:?}");
    let lost = free.saturating_sub(free_bytes(engine, driver));
    // The init layer of vfs is a copy of the image.
    assert!(lost < 6 << 20, "{driver}: {lost} bytes are lost");
    let cli = engine.cli(client);
    cli.ok(&["rmi", "busybox"]);
    assert_eq!(engine.layer_directories(), Vec::<String>::new(), "{driver}");
    let free_at_last = free_bytes(engine, driver);
    assert!(free_at_last > free, "{driver}: the image gave nothing back");
}

fn kept(cli: &Cli<'_>) {
    let said = cli.ok(&[
        "exec",
        "one",
        "sh",
        "-c",
        "stat -c %s /kept; ls /etc/group 2>&1; true",
    ]);
    assert_eq!(said.lines().next(), Some("20971520"));
    assert!(said.contains("No such file"), "{said}");
}

#[test]
fn a_container_lives_on_every_driver_with_conex() {
    on_each_driver(Client::Conex, a_container_lives);
}

#[test]
fn a_container_lives_on_every_driver_with_docker() {
    on_each_driver(Client::Docker, a_container_lives);
}

#[test]
fn a_size_is_limited_where_the_driver_can_and_refused_in_dockers_words_elsewhere() {
    on_each_driver(Client::Conex, |engine, client, driver| {
        let cli = engine.cli(client);
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "--storage-opt",
            "size=16m",
            "busybox",
            "sh",
            "-c",
            "dd if=/dev/zero of=/big bs=1M count=64 2>&1; stat -c %s /big",
        ];
        if driver == "btrfs" {
            let said = cli.ok(&run);
            assert!(said.to_lowercase().contains("quota exceeded"), "{said}");
            let size: u64 = said
                .lines()
                .last()
                .and_then(|l| l.parse().ok())
                .unwrap_or(0);
            assert!((1 << 20..16 << 20).contains(&size), "{said}");
            return;
        }
        let complaint = cli.fails(125, &run);
        let expected = match driver {
            "overlay2" => {
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
            }
            _ => "Filesystem does not support, or has not enabled quotas",
        };
        assert!(complaint.contains(expected), "{driver}: {complaint}");
        assert_eq!(engine.container_count(), 0);
    });
}

#[test]
fn an_engine_stays_with_its_driver_and_refuses_to_switch() {
    let Some(mut engine) = Engine::start_on("ext4", 64, &["-s", "vfs"]) else {
        return;
    };
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
    engine.terminate();
    let said = engine.refuses_to_start(&["-s", "overlay2"]);
    assert!(
        said.contains("storage driver overlay2 was asked for") && said.contains("are of vfs"),
        "{said}"
    );
    let said = engine.refuses_to_start(&["-s", "btrfs"]);
    assert!(said.contains("are of vfs"), "{said}");
    let said = engine.refuses_to_start(&["-s", "nothing"]);
    assert!(
        said.contains("unknown storage driver \"nothing\""),
        "{said}"
    );
    let said = engine.refuses_to_start(&["--storage-opt", "overlay2.size=1G"]);
    assert!(
        said.contains("storage option \"overlay2.size=1G\" is not supported"),
        "{said}"
    );
}

#[test]
fn without_a_word_the_prior_driver_is_taken_and_the_environment_is_heard() {
    let Some(mut engine) = Engine::start_with(&[], &[("DOCKER_DRIVER", "vfs")]) else {
        return;
    };
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    let cli = engine.cli(Client::Conex);
    assert_eq!(cli.ok(&["info", "-f", "{{.Driver}}"]), "vfs");
    cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
    engine.terminate();
    engine.forget_environment();
    engine.resume();
    let cli = engine.cli(Client::Conex);
    assert_eq!(cli.ok(&["info", "-f", "{{.Driver}}"]), "vfs");
    assert_eq!(
        cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "echo",
            "here"
        ]),
        "here"
    );
}

/// Layers on a root of one program, which each driver treats in its own way.
fn layers() -> Option<Vec<Vec<u8>>> {
    let program = workspace::program("busybox").and_then(|path| std::fs::read(path).ok());
    let Some(program) = program else {
        skip("busybox is missing");
        return None;
    };
    let of = |members: &[Vec<u8>]| [members.concat(), end()].concat();
    Some(vec![
        of(&[
            file("bin/busybox", &program),
            file("a/one", b"1"),
            file("home/old", b"old"),
            file("tmp/kept", b"kept"),
        ]),
        of(&[file("a/.wh.one", b""), file("a/two", b"2")]),
        of(&[file("home/.wh..wh..opq", b""), file("home/new", b"new")]),
        of(&[file(".wh.a", b"")]),
        of(&[
            file("a/three", b"3"),
            archive::header("again", b'1', 0, "a/three"),
        ]),
    ])
}

fn sh<'a>(image: &'a str, script: &'a str) -> [&'a str; 9] {
    let shell = ["/bin/busybox", "sh", "-c"];
    let [program, name, flag] = shell;
    [
        "run",
        "--rm",
        "--network",
        "none",
        image,
        program,
        name,
        flag,
        script,
    ]
}

#[test]
fn an_image_of_several_layers_comes_in_and_goes_out_the_same_on_every_driver() {
    let Some(layers) = layers() else { return };
    on_each_driver(Client::Conex, |engine, client, driver| {
        let cli = engine.cli(client);
        let image = docker(&config(&layers), &layers, &["several:1"]);
        let load = |bytes: &[u8]| {
            let output = cli.run_with_input(&["load", "-q"], bytes);
            assert_eq!(output.code, Some(0), "{driver}: {output}");
        };
        load(&image);
        let look = "/bin/busybox ls /a /home /tmp; /bin/busybox cat /again; \
                    /bin/busybox stat -c %h /a/three";
        let expected = "/a:\nthree\n\n/home:\nnew\n\n/tmp:\nkept\n32";
        assert_eq!(cli.ok(&sh("several:1", look)), expected, "{driver}");
        assert_eq!(
            cli.ok(&["image", "verify"]),
            "6 layers verified",
            "{driver}"
        );
        let saved = engine.root().join("saved");
        cli.ok(&["save", "-o", &saved.to_string_lossy(), "several:1"]);
        let id = cli.inspect("several:1", "{{.Id}}");
        cli.ok(&["rmi", "several:1"]);
        load(&std::fs::read(&saved).expect("it was just saved"));
        assert_eq!(cli.inspect("several:1", "{{.Id}}"), id, "{driver}");
        assert_eq!(cli.ok(&sh("several:1", look)), expected, "{driver}");
        assert_eq!(
            cli.ok(&["system", "check"]).split(": ").last(),
            Some("0 problems")
        );
    });
}

#[test]
fn what_a_container_changed_is_told_and_committed_on_every_driver() {
    on_each_driver(Client::Conex, |engine, client, driver| {
        let cli = engine.cli(client);
        cli.ok(&[
            "run",
            "--name",
            "changer",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "echo new > /etc/new; rm /etc/group; echo more >> /etc/passwd; mkdir /srv",
        ]);
        let told = cli.ok(&["diff", "changer"]);
        let mut told: Vec<&str> = told.lines().collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [
                "A /etc/new",
                "A /srv",
                "C /etc",
                "C /etc/passwd",
                "D /etc/group"
            ],
            "{driver}"
        );
        cli.ok(&["commit", "changer", "changed:1"]);
        cli.ok(&["rm", "changer"]);
        let said = cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "changed:1",
            "sh",
            "-c",
            "cat /etc/new; ls /etc/group 2>/dev/null; tail -n 1 /etc/passwd; ls -d /srv",
        ]);
        assert_eq!(said, "new\nmore\n/srv", "{driver}");
        let history = cli.ok(&["history", "-q", "--no-trunc", "changed:1"]);
        let busybox = cli.inspect("busybox", "{{.Id}}");
        assert_eq!(history.lines().last(), Some(busybox.as_str()), "{driver}");
        assert_eq!(
            cli.ok(&["image", "verify"]),
            "2 layers verified",
            "{driver}"
        );
        cli.ok(&["rmi", "changed:1"]);
    });
}

#[test]
fn the_deepest_image_runs_on_every_driver() {
    let Some(mut layers) = layers() else { return };
    layers.truncate(1);
    layers.extend((1..127).map(|n| archive::layer(&format!("layer-{n}"), b"x")));
    on_each_driver(Client::Conex, |engine, client, driver| {
        let cli = engine.cli(client);
        let image = docker(&config(&layers), &layers, &["deep:1"]);
        let output = cli.run_with_input(&["load", "-q"], &image);
        assert_eq!(output.code, Some(0), "{driver}: {output}");
        let count = "/bin/busybox ls / | /bin/busybox grep -c layer-; echo x > /layer-1";
        assert_eq!(cli.ok(&sh("deep:1", count)), "126", "{driver}");
        cli.ok(&["rmi", "deep:1"]);
        assert_eq!(engine.layer_directories().len(), 1, "{driver}");
    });
}

#[test]
fn what_is_said_to_be_given_back_is_given_back_on_every_driver() {
    on_each_driver(Client::Conex, |engine, client, driver| {
        let free = |engine: &Engine| free_bytes(engine, driver);
        let cli = engine.cli(client);
        let noise =
            |file: &str, mebibytes: usize| format!("head -c {mebibytes}m /dev/urandom >{file}");
        // Two images that share a layer of 12 MiB, and a volume.
        for (image, script, name) in [
            ("busybox", noise("/low", 12), "low:1"),
            ("low:1", noise("/one", 6), "one:1"),
            ("low:1", noise("/two", 4), "two:1"),
        ] {
            let run = [
                "run",
                "--name",
                "made",
                "--network",
                "none",
                image,
                "sh",
                "-c",
            ];
            cli.ok(&[&run[..], &[&script]].concat());
            cli.ok(&["commit", "made", name]);
            cli.ok(&["rm", "made"]);
        }
        let script = noise("/vol/file", 8);
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            "vol:/vol",
            "busybox",
            "sh",
            "-c",
        ];
        cli.ok(&[&run[..], &[&script]].concat());
        let usage = engine.api("GET", "/v1.50/system/df", None).json();
        let of = |name: &str, member: &str| {
            let images = usage["Images"].as_array().cloned().unwrap_or_default();
            let has_name = |image: &&serde_json::Value| image["RepoTags"][0] == name;
            let image = images.iter().find(has_name).cloned().unwrap_or_default();
            image[member].as_u64().unwrap_or_default()
        };
        let base = of("busybox:latest", "Size");
        let low = base + (12 << 20);
        for (name, own) in [("one:1", 6 << 20), ("two:1", 4 << 20)] {
            assert_eq!(of(name, "SharedSize"), low, "{driver}: {usage}");
            assert_eq!(of(name, "Size"), low + own, "{driver}: {usage}");
        }
        assert_eq!(usage["LayersSize"], low + (10 << 20), "{driver}: {usage}");
        let volume = usage["Volumes"][0]["UsageData"]["Size"].as_u64();
        let room = 8 << 20..(8 << 20) + (64 << 10);
        assert!(
            volume.is_some_and(|bytes| room.contains(&bytes)),
            "{driver}: {usage}"
        );
        // What is said, and what the file system has more of then.
        let before = free(engine);
        let gives = |args: &[&str], said: u64, at_most: u64| {
            let start = free(engine);
            let output = engine.cli(client).ok(args);
            let gained = free(engine).saturating_sub(start);
            let shown = format!("{driver}, {args:?}: {gained} of {said}: {output}");
            assert!(gained + (1 << 20) >= said && gained <= at_most, "{shown}");
        };
        let exact = |bytes: u64| bytes + (2 << 20);
        // Layers of vfs are whole trees.
        let most = |bytes: u64, whole: u64| match driver {
            "vfs" => exact(whole),
            _ => exact(bytes),
        };
        gives(&["rmi", "two:1"], 4 << 20, most(4 << 20, low + (4 << 20)));
        let said = low + (6 << 20);
        // With the trees of both layers and of the init layer over the lower one.
        gives(
            &["image", "prune", "-a", "-f"],
            said,
            most(said, 4 * (low + (6 << 20))),
        );
        gives(&["volume", "prune", "-a", "-f"], 8 << 20, exact(8 << 20));
        assert!(free(engine) > before, "{driver}");
    });
}
