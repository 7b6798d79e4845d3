//! Damage to what an image is on the disk, of every kind: it is found and named,
//! the rest works on, and the image can be removed and put here again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use conex_tests::archive::{self, config, docker, end, file, header};
use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::{skip, workspace};

/// A file with an extended attribute.
fn marked(name: &str) -> Vec<u8> {
    let record = |length: usize| format!("{length} SCHILY.xattr.trusted.mark=value\n");
    let length = record(10).len();
    let record = record(length).into_bytes();
    let mut entry = header("pax", b'x', record.len() as u64, "");
    entry.extend(&record);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry.extend(file(name, b"marked"));
    entry
}

/// Two layers: the upper one removes, hides, and links to what the lower one has.
fn image() -> Vec<u8> {
    let directory = |name: &str| header(name, b'5', 0, "");
    let lower = [
        directory("data/"),
        file("data/kept", b"kept"),
        file("data/gone", b"gone"),
        directory("hidden/"),
        file("hidden/old", b"old"),
        end(),
    ];
    let upper = [
        file("data/.wh.gone", b""),
        directory("hidden/"),
        file("hidden/.wh..wh..opq", b""),
        file("hidden/new", b"new"),
        header("again", b'1', 0, "data/kept"),
        marked("marked"),
        end(),
    ];
    let layers = [lower.concat(), upper.concat()];
    docker(&config(&layers), &layers, &["damaged:1"])
}

fn loaded(cli: &Cli<'_>, image: &[u8]) {
    let output = cli.run_with_input(&["load", "-q"], image);
    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(cli.ok(&["image", "verify"]), "2 layers verified");
    let said = cli.ok(&["system", "check"]);
    assert!(said.ends_with(": 0 problems"), "{said}");
}

/// The layer directory that has this file.
fn layer_with(engine: &Engine, name: &str) -> PathBuf {
    let home = engine.data_root().join("overlay2");
    let mut layers = engine.layer_directories().into_iter();
    let layer = layers.find(|layer| home.join(layer).join("diff").join(name).exists());
    home.join(layer.expect("one of the layers has it"))
}

#[test]
fn whatever_is_damaged_is_named_and_the_image_can_be_put_here_again() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    let image = image();
    type Damage = fn(&Path);
    // What is said by `image verify`, or by `system check`, of damage to the upper layer.
    let damages: [(&str, &str, &str, Damage); 9] = [
        ("verify", "hidden/new", "its content has changed", |layer| {
            fs::write(layer.join("diff/hidden/new"), "NEW").expect("it can be written");
        }),
        ("verify", "again", "it is missing", |layer| {
            fs::remove_file(layer.join("diff/again")).expect("it can go");
        }),
        ("verify", "data/.wh.gone", "shows again", |layer| {
            fs::remove_file(layer.join("diff/data/gone")).expect("it can go");
        }),
        (
            "verify",
            "hidden/.wh..wh..opq",
            "shows what lies below",
            |layer| {
                let hidden = layer.join("diff/hidden");
                rustix::fs::lremovexattr(hidden, "trusted.overlay.opaque").expect("it has it");
            },
        ),
        ("verify", "marked", "trusted.mark is gone", |layer| {
            rustix::fs::lremovexattr(layer.join("diff/marked"), "trusted.mark").expect("it has it");
        }),
        ("verify", "marked", "its owner is 7:0", |layer| {
            let marked = layer.join("diff/marked");
            std::os::unix::fs::chown(marked, Some(7), None).expect("it is ours");
        }),
        ("verify", "", "recipe", |layer| {
            let recipe = recipe_of(layer);
            let bytes = fs::read(&recipe).expect("there is one");
            fs::write(&recipe, &bytes[..bytes.len() / 2]).expect("it can be cut");
        }),
        ("check", "", "layer-without-recipe", |layer| {
            fs::remove_file(recipe_of(layer)).expect("there is one");
        }),
        ("check", "", "layer-without-directory", |layer| {
            fs::remove_dir_all(layer).expect("it can go");
        }),
    ];
    loaded(&cli, &image);
    for (command, file, problem, damage) in damages {
        damage(&layer_with(&engine, "marked"));
        let verified = cli.run(&["image", "verify", "damaged:1"]);
        assert_eq!(verified.code, Some(1), "{problem}: {verified}");
        let said = match command {
            "verify" => verified,
            _ => cli.run(&["system", "check", "--repair"]),
        };
        assert_eq!(said.code, Some(1), "{problem}: {said}");
        let heard = |text: &str| said.stdout.contains(text);
        assert!(heard(file) && heard(problem), "{file}, {problem}: {said}");
        cli.ok(&["rmi", "damaged:1"]);
        loaded(&cli, &image);
    }
}

fn recipe_of(layer: &Path) -> PathBuf {
    let data_root = layer
        .ancestors()
        .nth(2)
        .expect("it lies below the data root");
    let name = layer.file_name().expect("a layer has a name");
    data_root.join("image/recipes").join(name)
}

/// Replaces the configuration of the only image behind a stopped engine's back.
fn overwrite_config(engine: &Engine, config: &str) {
    let script = "import sqlite3, sys\n\
                  db = sqlite3.connect(sys.argv[1])\n\
                  db.execute('UPDATE images SET config = ?', (sys.argv[2].encode(),))\n\
                  db.commit()";
    let database = engine.data_root().join("image/image.db");
    let output = Command::new("python3")
        .args(["-c", script, &database.to_string_lossy(), config])
        .output()
        .expect("python3 can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn an_image_with_a_damaged_record_hinders_nobody_and_comes_back_or_goes() {
    if workspace::program("python3").is_none() {
        return skip("python3 is missing");
    }
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar.to_string_lossy().into_owned(),
        Err(reason) => return skip(&reason),
    };
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&["import", &tar, "busybox"]);
    let saved = engine.root().join("saved");
    cli.ok(&["save", "-o", &saved.to_string_lossy(), "busybox"]);
    let create = ["create", "--name", "stays", "--network", "none"];
    cli.ok(&[&create[..], &["busybox", "echo", "works"]].concat());
    let other = archive::config(&[archive::layer("a", b"b")]).to_string();
    for config in ["{", &other] {
        engine.terminate();
        overwrite_config(&engine, config);
        engine.resume();
        let cli = engine.cli(Client::Conex);
        assert_eq!(cli.ok(&["images", "-q"]), "", "{config}");
        let said = cli.run(&["system", "check"]);
        assert_eq!(said.code, Some(1), "{said}");
        let heard = |text: &str| said.stdout.contains(text);
        assert!(heard("image-damaged") && heard("busybox:latest"), "{said}");
        assert_eq!(cli.ok(&["start", "-a", "stays"]), "works");
        // The same image once more has its record and its names again.
        cli.ok(&["load", "-q", "-i", &saved.to_string_lossy()]);
        assert_eq!(
            cli.ok(&["images", "--format", "{{.Repository}}"]),
            "busybox"
        );
        let said = cli.ok(&["system", "check"]);
        assert!(said.ends_with(": 0 problems"), "{said}");
        engine.terminate();
        engine.resume();
        assert_eq!(
            engine.cli(Client::Conex).ok(&["image", "verify"]),
            "1 layers verified"
        );
    }
    // Or it is forgotten, and its layers go with the last container on them.
    engine.terminate();
    overwrite_config(&engine, "[]");
    engine.resume();
    let cli = engine.cli(Client::Conex);
    let said = cli.run(&["system", "check", "--repair"]);
    assert!(said.stdout.contains("image-damaged"), "{said}");
    assert_eq!(cli.ok(&["start", "-a", "stays"]), "works");
    cli.ok(&["rm", "stays"]);
    cli.run(&["system", "check", "--repair"]);
    engine.settle();
    assert_eq!(engine.layer_directories(), Vec::<String>::new());
    let said = engine.cli(Client::Conex).ok(&["system", "check"]);
    assert!(said.ends_with(": 0 problems"), "{said}");
}
