//! Archives of images taken in: every form, every compression, and what is
//! wrong with them told in words and without a trace.

use std::io::Write;

use conex_tests::archive::{self, Layout, config, digest, docker, end, file, layer};
use conex_tests::client::{Cli, Client, engine_for, with_busybox};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::http;
use conex_tests::under_both_clients;
use serde_json::{Value, json};

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

under_both_clients! {
    a_name_that_was_anothers_is_told_and_moves,
    an_archive_without_images_is_refused_in_words,
}

fn load(cli: &Cli<'_>, bytes: &[u8]) -> String {
    let output = cli.run_with_input(&["load"], bytes);
    assert_eq!(output.code, Some(0), "{output}");
    output.stdout.trim_end().to_owned()
}

#[track_caller]
fn refused(cli: &Cli<'_>, bytes: &[u8]) -> String {
    let output = cli.run_with_input(&["load"], bytes);
    assert_eq!(output.code, Some(1), "{output}");
    output.stderr
}

/// Nothing of a load may be left: layer, recipe, image or spooled file.
#[track_caller]
fn nothing_is_left(engine: &Engine) {
    engine.settle();
    assert_eq!(engine.layer_directories(), Vec::<String>::new());
    let recipes = engine.data_root().join("image/recipes");
    let recipes = std::fs::read_dir(recipes).expect("the engine has it");
    assert_eq!(recipes.count(), 0, "a recipe is left");
    let images = engine.api("GET", "/images/json?all=1", None);
    assert_eq!(images.text().trim_end(), "[]");
}

fn on_an_engine(case: impl FnOnce(&Cli<'_>)) {
    if let Some(engine) = engine_for(Client::Conex) {
        case(&engine.cli(Client::Conex));
    }
}

fn a_name_that_was_anothers_is_told_and_moves(cli: &Cli<'_>) {
    let before = cli.inspect("busybox", "{{.Id}}");
    let layers = [layer("a", b"x")];
    let said = load(cli, &docker(&config(&layers), &layers, &["busybox:latest"]));
    assert_eq!(
        said,
        format!(
            "The image busybox:latest already exists, renaming the old one with ID {before} to \
             empty string\nLoaded image: busybox:latest"
        )
    );
    assert_eq!(cli.inspect(&before, "{{len .RepoTags}}"), "0");
    assert_ne!(cli.inspect("busybox", "{{.Id}}"), before);
}

fn an_archive_without_images_is_refused_in_words(cli: &Cli<'_>) {
    let stranger = [file("readme", b"text"), end()].concat();
    let complaint = refused(cli, &stranger);
    assert!(
        complaint.contains("invalid archive: does not contain a manifest.json"),
        "{complaint}"
    );
    let empty = [file("manifest.json", b"null"), end()].concat();
    let complaint = refused(cli, &empty);
    assert!(complaint.contains("manifest cannot be null"), "{complaint}");
    assert_eq!(
        load(cli, &[file("manifest.json", b"[]"), end()].concat()),
        ""
    );
    cli.fails(1, &["load", "-i", "/nosuch"]);
}

#[test]
fn archives_and_layers_may_be_compressed_in_every_way() {
    on_an_engine(|cli| {
        let through = |program: &str, bytes: &[u8]| {
            let mut child = std::process::Command::new(program)
                .arg("-c")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .ok()?;
            let mut stdin = child.stdin.take().expect("a pipe");
            let bytes = bytes.to_vec();
            let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
            let output = child.wait_with_output().expect("it ends");
            feeder.join().expect("no panic").expect("it takes it all");
            Some(output.stdout)
        };
        let layers = [layer("lower", &[b'l'; 3000]), layer("upper", b"u")];
        let config = config(&layers);
        let id = digest(config.to_string().as_bytes());
        let packed: Vec<Vec<u8>> = ["gzip", "zstd"]
            .iter()
            .zip(&layers)
            .map(|(program, layer)| through(program, layer).unwrap_or_else(|| layer.clone()))
            .collect();
        let tag = ["packed:1"];
        let archive = docker(&config, &packed, &tag);
        for program in ["cat", "gzip", "bzip2", "xz", "zstd"] {
            let whole = match program {
                "cat" => Some(archive.clone()),
                // Two members, as pigz and others write them.
                "gzip" => {
                    let (one, two) = archive.split_at(archive.len() / 2);
                    let both = through(program, one).zip(through(program, two));
                    both.map(|(one, two)| [one, two].concat())
                }
                _ => through(program, &archive),
            };
            let Some(whole) = whole else {
                conex_tests::skip(&format!("no {program} here"));
                continue;
            };
            assert_eq!(load(cli, &whole), "Loaded image: packed:1", "{program}");
            assert_eq!(cli.inspect("packed:1", "{{.Id}}"), id);
            cli.ok(&["rmi", "packed:1"]);
            nothing_is_left(cli.engine);
        }
    });
}

#[test]
fn of_an_index_the_platform_that_runs_here_is_taken_and_attestations_are_not() {
    on_an_engine(|cli| {
        let mut layout = Layout::default();
        let layers = [layer("here", b"x")];
        let mut here = layout.image(&config(&layers), &[(PLAIN, layers[0].clone())]);
        let foreign = [layer("there", b"y")];
        let mut other = config(&foreign);
        other["architecture"] = json!("s390x");
        let mut there = layout.image(&other, &[(PLAIN, foreign[0].clone())]);
        let about = layout.image(
            &json!({}),
            &[("application/vnd.in-toto+json", b"{}".to_vec())],
        );
        let platform = |descriptor: &mut Value, architecture: &str| {
            descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        };
        let config = config(&layers);
        platform(&mut here, config["architecture"].as_str().expect("a word"));
        platform(&mut there, "s390x");
        let mut attestation = about;
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        let mut index = layout.index(&[attestation, there, here]);
        index["annotations"] = json!({
            "io.containerd.image.name": "docker.io/library/many:1",
            "org.opencontainers.image.ref.name": "1",
        });
        let archive = layout.finish(&[index]);
        assert_eq!(load(cli, &archive), "Loaded image: many:1");
        assert_eq!(
            cli.inspect("many:1", "{{.Id}}"),
            digest(config.to_string().as_bytes())
        );
        cli.ok(&["rmi", "many:1"]);
        let output = cli.run_with_input(&["load", "--platform", "linux/s390x"], &archive);
        assert_eq!(output.stdout.trim_end(), "Loaded image: many:1", "{output}");
        assert_eq!(cli.inspect("many:1", "{{.Architecture}}"), "s390x");
        let output = cli.run_with_input(&["load", "--platform", "linux/mips64le"], &archive);
        assert_eq!(output.code, Some(1), "{output}");
    });
}

#[test]
fn what_an_archive_lies_about_is_found_and_nothing_is_left() {
    on_an_engine(|cli| {
        let layers = [layer("a", b"first"), layer("b", b"second")];
        let good = config(&layers);
        let whole = docker(&good, &layers, &["lie:1"]);

        let mut swapped = layers.clone();
        swapped.reverse();
        let complaint = refused(cli, &docker(&good, &swapped, &["lie:1"]));
        assert!(
            complaint.contains("invalid diffID for layer"),
            "{complaint}"
        );
        nothing_is_left(cli.engine);

        let complaint = refused(cli, &docker(&good, &layers[..1], &["lie:1"]));
        assert!(
            complaint.contains("layers length mismatch: expected 2, got 1"),
            "{complaint}"
        );

        let manifest = json!([{
            "Config": "config.json", "RepoTags": ["lie:1"], "Layers": ["0/layer.tar", "gone.tar"],
        }]);
        let missing = [
            file("0/layer.tar", &layers[0]),
            file("config.json", good.to_string().as_bytes()),
            file("manifest.json", manifest.to_string().as_bytes()),
            end(),
        ]
        .concat();
        let complaint = refused(cli, &missing);
        assert!(complaint.contains("it has no file gone.tar"), "{complaint}");

        for cut in [700, whole.len() / 2, whole.len() - 1600] {
            refused(cli, &whole[..cut]);
            nothing_is_left(cli.engine);
        }
        refused(cli, b"");

        let climbing = json!([{
            "Config": "../../../../etc/passwd", "RepoTags": [], "Layers": [],
        }]);
        let archive = [
            file("manifest.json", climbing.to_string().as_bytes()),
            end(),
        ]
        .concat();
        refused(cli, &archive);

        let mut bad = layers.clone();
        bad[1] = [archive::header("../../evil", b'0', 0, ""), end()].concat();
        let complaint = refused(cli, &docker(&config(&bad), &bad, &["lie:1"]));
        assert!(complaint.contains("outside of the root"), "{complaint}");
        nothing_is_left(cli.engine);

        let complaint = refused(cli, &docker(&good, &layers, &["UPPER:1"]));
        assert!(complaint.contains("must be lowercase"), "{complaint}");
        nothing_is_left(cli.engine);

        assert_eq!(load(cli, &whole), "Loaded image: lie:1");
    });
}

#[test]
fn blobs_of_a_layout_are_what_their_names_say() {
    on_an_engine(|cli| {
        let layers = [layer("a", &[b'x'; 5000])];
        let packed = {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&layers[0]).expect("memory takes it");
            encoder.finish().expect("memory takes it")
        };
        let archive = |harm: &dyn Fn(&mut Value, &mut Vec<u8>)| {
            let mut layout = Layout::default();
            let config = config(&layers).to_string();
            let config = layout.blob(
                "application/vnd.oci.image.config.v1+json",
                config.as_bytes(),
            );
            let mut stored = packed.clone();
            let mut descriptor = json!({
                "mediaType": GZIP, "digest": digest(&packed), "size": packed.len(),
            });
            harm(&mut descriptor, &mut stored);
            let name = descriptor["digest"]
                .as_str()
                .expect("text")
                .replace(':', "/");
            let mut manifest = layout.blob(
                "application/vnd.oci.image.manifest.v1+json",
                json!({"schemaVersion": 2, "config": config, "layers": [descriptor]})
                    .to_string()
                    .as_bytes(),
            );
            manifest["annotations"] = json!({"io.containerd.image.name": "layout.example/a:1"});
            let blob = file(&format!("blobs/{name}"), &stored);
            [blob, layout.finish(&[manifest])].concat()
        };
        let complaint = refused(
            cli,
            &archive(&|descriptor, _| {
                descriptor["digest"] = json!(digest(b"something else"));
            }),
        );
        assert!(complaint.contains("has the digest sha256:"), "{complaint}");
        nothing_is_left(cli.engine);
        let complaint = refused(
            cli,
            &archive(&|descriptor, _| {
                descriptor["size"] = json!(5);
            }),
        );
        assert!(complaint.contains("bytes instead of 5"), "{complaint}");
        let complaint = refused(
            cli,
            &archive(&|descriptor, stored| {
                // The same archive, compressed otherwise.
                let at = stored.len() - 1;
                stored.truncate(at);
                descriptor["size"] = json!(at);
            }),
        );
        assert!(complaint.contains("cannot unpack layer"), "{complaint}");
        nothing_is_left(cli.engine);
        let said = load(cli, &archive(&|_, _| {}));
        assert_eq!(said, "Loaded image: layout.example/a:1");
    });
}

#[test]
fn an_image_of_127_layers_runs_and_one_more_is_refused_in_a_sentence() {
    with_busybox(Client::Conex, |cli| {
        let root = fixture::make(Fixture::Busybox).expect("the busybox image was imported from it");
        let mut layers = vec![std::fs::read(root).expect("a fixture can be read")];
        layers.extend((1..128).map(|n| layer(&format!("layer-{n}"), b"x")));
        let of = |count: usize| {
            let layers = &layers[..count];
            docker(&config(layers), layers, &["deep:1"])
        };
        let before = cli.engine.layer_directories();
        let complaint = refused(cli, &of(128));
        assert!(
            complaint.contains(
                "max depth exceeded: the image has 128 layers, and 127 is the most an image can \
                 have"
            ),
            "{complaint}"
        );
        assert_eq!(cli.engine.layer_directories(), before);
        assert_eq!(load(cli, &of(127)), "Loaded image: deep:1");
        let count = [
            "run",
            "--rm",
            "--network",
            "none",
            "deep:1",
            "sh",
            "-c",
            "ls / | grep -c layer-",
        ];
        assert_eq!(cli.ok(&count), "126");
        cli.ok(&["rmi", "deep:1"]);
        assert_eq!(cli.engine.layer_directories(), before);
    });
}

#[test]
fn directories_a_layer_implies_look_as_they_do_below() {
    on_an_engine(|cli| {
        let mut sticky = archive::header("tmp/", b'5', 0, "");
        sticky[100..107].copy_from_slice(b"0001777");
        sticky[148..156].fill(b' ');
        let sum: u32 = sticky.iter().map(|&b| u32::from(b)).sum();
        sticky[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let layers = [
            [sticky, end()].concat(),
            layer("tmp/file", b"x"),
            layer("tmp/other", b"y"),
        ];
        load(cli, &docker(&config(&layers), &layers, &["implied:1"]));
        use std::os::unix::fs::MetadataExt;
        let mut seen = 0;
        for name in cli.engine.layer_directories() {
            let tmp = cli
                .engine
                .data_root()
                .join("overlay2")
                .join(name)
                .join("diff/tmp");
            let mode = std::fs::metadata(tmp).expect("each layer has it").mode();
            assert_eq!(mode & 0o7777, 0o1777);
            seen += 1;
        }
        assert_eq!(seen, 3);
    });
}

#[test]
fn a_hard_link_to_a_file_of_a_lower_layer_is_that_file() {
    with_busybox(Client::Conex, |cli| {
        let root = fixture::make(Fixture::Busybox).expect("the busybox image was imported from it");
        let layers = [
            std::fs::read(root).expect("a fixture can be read"),
            [archive::header("again", b'1', 0, "bin/busybox"), end()].concat(),
        ];
        let archive = docker(&config(&layers), &layers, &["linked:1"]);
        load(cli, &archive);
        let said = cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "linked:1",
            "sh",
            "-c",
            "stat -c %i /again /bin/busybox | uniq | wc -l; stat -c %h /again",
        ]);
        assert_eq!(said, "1\n2");
        // The archive has the link alone, and comes back so.
        let saved = cli.engine.api("GET", "/images/linked:1/get", None);
        assert!(
            saved
                .body
                .windows(layers[1].len())
                .any(|it| it == layers[1])
        );
        cli.ok(&["rmi", "linked:1"]);

        let alone = [layers[1].clone()];
        let complaint = refused(cli, &docker(&config(&alone), &alone, &["linked:1"]));
        assert!(complaint.contains("there is no such file"), "{complaint}");
    });
}

#[test]
fn the_same_image_loaded_many_times_at_once_is_there_once() {
    on_an_engine(|cli| {
        let layers: Vec<Vec<u8>> = (0..6)
            .map(|n| layer(&format!("file-{n}"), &vec![n; 300_000]))
            .collect();
        let mut other = layers[..4].to_vec();
        other.push(layer("another", b"x"));
        let archives = [
            docker(&config(&layers), &layers, &["one:1"]),
            docker(&config(&other), &other, &["two:1"]),
        ];
        std::thread::scope(|scope| {
            for n in 0..8 {
                let archive = &archives[n % 2];
                scope.spawn(move || load(cli, archive));
            }
        });
        assert_eq!(cli.engine.layer_directories().len(), 7);
        cli.ok(&["rmi", "one:1"]);
        assert_eq!(cli.engine.layer_directories().len(), 5);
        cli.ok(&["rmi", "two:1"]);
        nothing_is_left(cli.engine);
    });
}

#[test]
fn a_load_that_fails_leaves_those_who_share_its_layers_alone() {
    on_an_engine(|cli| {
        let layers: Vec<Vec<u8>> = (0..4)
            .map(|n| layer(&format!("file-{n}"), &vec![n; 400_000]))
            .collect();
        let good = docker(&config(&layers), &layers, &["good:1"]);
        let mut broken = layers.clone();
        broken.push(layer("last", b"x"));
        let promise = config(&broken);
        broken[4] = layer("last", b"not what was promised");
        let bad = docker(&promise, &broken, &["bad:1"]);
        for _ in 0..5 {
            std::thread::scope(|scope| {
                for n in 0..6 {
                    let (good, bad) = (&good, &bad);
                    scope.spawn(move || match n % 2 {
                        0 => drop(refused(cli, bad)),
                        _ => drop(load(cli, good)),
                    });
                }
            });
            assert_eq!(cli.engine.layer_directories().len(), 4);
            cli.ok(&["rmi", "good:1"]);
            nothing_is_left(cli.engine);
        }
    });
}

#[test]
fn a_client_that_vanishes_and_an_engine_that_is_killed_leave_nothing() {
    use std::io::{Read, Write};
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let layers: Vec<Vec<u8>> = (0..5)
        .map(|n| layer(&format!("file-{n}"), &vec![n; 2_000_000]))
        .collect();
    let archive = docker(&config(&layers), &layers, &["cut:1"]);
    let begin = |engine: &Engine, bytes: &[u8]| {
        let mut stream = http::connect(&engine.socket()).expect("the engine listens");
        let head = format!(
            "POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n\
             Content-Length: {}\r\n\r\n",
            archive.len()
        );
        stream.write_all(head.as_bytes()).expect("it listens");
        stream.write_all(bytes).expect("it reads");
        stream
    };
    drop(begin(&engine, &archive[..archive.len() / 2]));
    nothing_is_left(&engine);
    // The head and the first progress come once layers are being filled.
    let mut stream = begin(&engine, &archive);
    let mut first = [0; 300];
    stream.read_exact(&mut first).expect("it answers");
    engine.kill9();
    engine.resume();
    let images = engine.api("GET", "/images/json?all=1", None).text();
    if images.trim_end() == "[]" {
        nothing_is_left(&engine);
    } else {
        assert_eq!(engine.layer_directories().len(), 5, "{images}");
    }
    let cli = engine.cli(Client::Conex);
    assert_eq!(load(&cli, &archive), "Loaded image: cut:1");
}
