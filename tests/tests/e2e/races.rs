//! Images that come and go while containers are made of them: whoever is quicker,
//! never is there a container without its layers, nor a layer without an image.

use std::path::Path;

use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::process::Output;
use conex_tests::skip;

/// What may be said to whoever was not the quickest.
const EXCUSES: [&str; 5] = [
    "No such image",
    "No such container",
    "conflict: unable to",
    "a prune operation is already running",
    "is being removed",
];

/// Success, or an excuse.
fn went(output: &Output) -> bool {
    let excused = EXCUSES.iter().any(|text| output.stderr.contains(text));
    assert!(output.code == Some(0) || excused, "{output}");
    output.code == Some(0)
}

/// Makes a container of a whole stack of layers, an image of the container, and
/// starts both.
fn lives(cli: &Cli<'_>, image: &str, name: &str) {
    let create = ["create", "--pull", "never", "--network", "none", "--name"];
    let made = |name: &str, image: &str, script: &str| {
        let args = [&create[..], &[name, image, "sh", "-c", script]].concat();
        went(&cli.run(&args))
    };
    if !made(name, image, "echo new >/new; cat /etc/passwd") {
        return;
    }
    // It is there, so its layers are.
    assert!(cli.ok(&["start", "-a", name]).contains("root"));
    let committed = format!("made:{name}");
    let is_kept = went(&cli.run(&["commit", name, &committed]));
    let second = format!("{name}-2");
    if is_kept && made(&second, &committed, "cat /new /etc/passwd") {
        let said = cli.ok(&["start", "-a", &second]);
        assert!(said.starts_with("new\n") && said.contains("root"), "{said}");
        cli.ok(&["rm", &second]);
    }
    cli.ok(&["rm", name]);
    went(&cli.run(&["rmi", "-f", &committed]));
}

fn images_come_and_go(engine: &Engine, tar: &str, saved: &Path, rounds: usize) {
    let cli = engine.cli(Client::Conex);
    let saved = saved.to_string_lossy();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                went(&cli.run(&["load", "-q", "-i", &saved]));
                went(&cli.run(&["import", tar, "base"]));
            }
        });
        scope.spawn(|| {
            for _ in 0..rounds {
                went(&cli.run(&["rmi", "-f", "stack:1"]));
                went(&cli.run(&["rmi", "-f", "base"]));
                went(&cli.run(&["image", "prune", "-a", "-f"]));
            }
        });
        scope.spawn(|| {
            for round in 0..rounds {
                went(&cli.run(&["tag", "stack:1", &format!("other:{round}")]));
                went(&cli.run(&["rmi", &format!("other:{round}")]));
                went(&cli.run(&["system", "df", "-v"]));
            }
        });
        for image in ["base", "stack:1"] {
            let cli = &cli;
            scope.spawn(move || {
                let name = image.replace(':', "-");
                (0..rounds).for_each(|round| lives(cli, image, &format!("{name}-{round}")));
            });
        }
        scope.spawn(|| {
            let run = ["run", "--rm", "--pull", "never", "--network", "none"];
            for _ in 0..rounds {
                let output = cli.run(&[&run[..], &["stack:1", "cat", "/one", "/two"]].concat());
                if went(&output) {
                    assert_eq!(output.stdout, "1\n2\n");
                }
            }
        });
    });
    assert_eq!(cli.ok(&["ps", "-aq"]), "");
    let said = cli.ok(&["system", "check"]);
    assert!(said.ends_with(": 0 problems"), "{said}");
    cli.ok(&["image", "verify"]);
    cli.ok(&["image", "prune", "-a", "-f"]);
    engine.settle();
    assert_eq!(engine.layer_directories(), Vec::<String>::new());
    let recipes = std::fs::read_dir(engine.data_root().join("image/recipes"));
    assert_eq!(recipes.map_or(0, Iterator::count), 0);
    let said = cli.ok(&["system", "check"]);
    assert!(said.ends_with(": 0 problems"), "{said}");
}

fn races(file_system: &str, driver: &str, rounds: usize) {
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar.to_string_lossy().into_owned(),
        Err(reason) => return skip(&reason),
    };
    let Some(engine) = Engine::start_on(file_system, 1024, &["-s", driver]) else {
        return;
    };
    // An image of three layers, the lowest of which `base` has too.
    let cli = engine.cli(Client::Conex);
    cli.ok(&["import", &tar, "base"]);
    for (from, file, name) in [("base", "/one", "lower:1"), ("lower:1", "/two", "stack:1")] {
        let content = if file == "/one" { "1" } else { "2" };
        let script = format!("echo {content} >{file}");
        let run = [
            "run",
            "--name",
            "made",
            "--network",
            "none",
            from,
            "sh",
            "-c",
        ];
        cli.ok(&[&run[..], &[&script]].concat());
        cli.ok(&["commit", "made", name]);
        cli.ok(&["rm", "made"]);
    }
    let saved = engine.root().join("saved");
    cli.ok(&["save", "-o", &saved.to_string_lossy(), "stack:1"]);
    images_come_and_go(&engine, &tar, &saved, rounds);
}

#[test]
fn no_container_is_ever_without_its_layers() {
    races("ext4", "overlay2", 6);
}

#[test]
#[ignore = "soak: minutes on every driver"]
fn no_container_is_ever_without_its_layers_on_any_driver() {
    for (file_system, driver) in [("ext4", "overlay2"), ("ext4", "vfs"), ("btrfs", "btrfs")] {
        races(file_system, driver, 150);
    }
}
