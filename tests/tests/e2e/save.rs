//! Images saved as archives, and what others make of them.

use std::path::Path;
use std::process::Command;

use conex_tests::archive::digest;
use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::fixture::{self, Fixture};
use conex_tests::{http, skip, under_both_clients, workspace};
use serde_json::Value;

under_both_clients! {
    a_saved_image_loads_again_as_it_was,
    several_images_and_all_their_names_travel_in_one_archive,
    saving_twice_gives_the_same_bytes_and_the_layer_is_what_was_imported,
    an_unknown_image_is_not_saved_and_leaves_no_file,
    a_platform_that_the_image_is_not_for_is_refused,
}

fn path(cli: &Cli<'_>, name: &str) -> String {
    let path = cli.engine.root().join(name);
    path.to_string_lossy().into_owned()
}

/// A member of an archive, by the system's tar.
fn member(archive: &str, name: &str) -> Vec<u8> {
    let output = Command::new("tar")
        .args(["-xOf", archive, name])
        .output()
        .expect("a system has tar");
    assert!(output.status.success(), "{name} is not in {archive}");
    output.stdout
}

fn json(archive: &str, name: &str) -> Value {
    serde_json::from_slice(&member(archive, name)).expect("it is JSON")
}

fn a_saved_image_loads_again_as_it_was(cli: &Cli<'_>) {
    let id = cli.inspect("busybox", "{{.Id}}");
    let tar = path(cli, "saved.tar");
    assert_eq!(cli.ok(&["save", "-o", &tar, "busybox"]), "");
    cli.ok(&["rmi", "busybox"]);
    assert_eq!(cli.engine.layer_directories(), Vec::<String>::new());
    let said = cli.ok(&["load", "-i", &tar]);
    assert_eq!(said, "Loaded image: busybox:latest");
    assert_eq!(cli.inspect("busybox", "{{.Id}}"), id);
    // A file system puts a directory where its name says: the same layer is not to lie among the inodes it left.
    let before = cli.engine.layer_directories();
    cli.ok(&["rmi", "busybox"]);
    cli.ok(&["load", "-i", &tar]);
    let after = cli.engine.layer_directories();
    assert!(before.len() == 1 && after.len() == 1 && before != after);
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "echo",
        "back",
    ];
    assert_eq!(cli.ok(&run), "back");

    // What is here already is said again, and nothing grows.
    let layers = cli.engine.layer_directories();
    let archive = std::fs::read(&tar).expect("it was just written");
    let output = cli.run_with_input(&["load", "-q"], &archive);
    assert_eq!(output.stdout.trim_end(), "Loaded image: busybox:latest");
    assert_eq!(cli.engine.layer_directories(), layers);
}

fn several_images_and_all_their_names_travel_in_one_archive(cli: &Cli<'_>) {
    let tar = path(cli, "saved.tar");
    let root = fixture::make(Fixture::Busybox).expect("the busybox image was imported from it");
    cli.ok(&["import", "-m", "other", &root.to_string_lossy(), "other:1"]);
    cli.ok(&["tag", "busybox", "busybox:second"]);
    cli.ok(&["tag", "busybox", "reg.example:5000/a/b:3"]);
    let ids = ["busybox", "other:1"].map(|name| cli.inspect(name, "{{.Id}}"));
    // A repository means all its tags, and no other name of the image.
    cli.ok(&["save", "-o", &tar, "busybox", "other:1"]);
    cli.ok(&[
        "rmi",
        "busybox",
        "busybox:second",
        "reg.example:5000/a/b:3",
        "other:1",
    ]);
    let said = cli.ok(&["load", "-i", &tar]);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Loaded image: busybox:latest",
            "Loaded image: busybox:second",
            "Loaded image: other:1",
        ]
    );
    assert_eq!(
        ["busybox", "other:1"].map(|name| cli.inspect(name, "{{.Id}}")),
        ids
    );
    assert_eq!(
        cli.engine.layer_directories().len(),
        1,
        "the layer is shared"
    );

    // By its id an image travels without a name.
    cli.ok(&["save", "-o", &tar, &ids[1]]);
    cli.ok(&["rmi", "other:1"]);
    let said = cli.ok(&["load", "-i", &tar]);
    assert_eq!(said, format!("Loaded image ID: {}", ids[1]));
    assert_eq!(cli.inspect(&ids[1], "{{len .RepoTags}}"), "0");
}

fn saving_twice_gives_the_same_bytes_and_the_layer_is_what_was_imported(cli: &Cli<'_>) {
    let (one, two) = (path(cli, "1.tar"), path(cli, "2.tar"));
    cli.ok(&["save", "-o", &one, "busybox"]);
    cli.ok(&["save", "-o", &two, "busybox"]);
    let bytes = |path: &str| std::fs::read(path).expect("it was just written");
    assert!(bytes(&one) == bytes(&two));
    let manifest = json(&one, "manifest.json");
    let layer = manifest[0]["Layers"][0].as_str().expect("a path");
    let root = fixture::make(Fixture::Busybox).expect("the busybox image was imported from it");
    let root = std::fs::read(root).expect("a fixture can be read");
    assert!(member(&one, layer) == root, "the layer is another archive");
    assert_eq!(
        layer,
        format!("blobs/sha256/{}", &digest(&root)["sha256:".len()..])
    );

    // Both forms, as Docker writes them since version 25.
    let id = cli.inspect("busybox", "{{.Id}}");
    assert_eq!(
        manifest[0]["Config"],
        format!("blobs/sha256/{}", &id["sha256:".len()..])
    );
    assert_eq!(
        manifest[0]["RepoTags"],
        serde_json::json!(["busybox:latest"])
    );
    let index = json(&one, "index.json");
    let entry = &index["manifests"][0];
    let annotations = &entry["annotations"];
    assert_eq!(
        annotations["io.containerd.image.name"],
        "docker.io/library/busybox:latest"
    );
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "latest");
    let digest_of = entry["digest"].as_str().expect("a digest");
    let blob = member(
        &one,
        &format!("blobs/sha256/{}", &digest_of["sha256:".len()..]),
    );
    assert_eq!(digest(&blob), digest_of);
    assert_eq!(json(&one, "oci-layout")["imageLayoutVersion"], "1.0.0");
    assert!(json(&one, "repositories")["busybox"]["latest"].is_string());
}

fn an_unknown_image_is_not_saved_and_leaves_no_file(cli: &Cli<'_>) {
    let tar = path(cli, "saved.tar");
    let complaint = cli.fails(1, &["save", "-o", &tar, "busybox", "nosuch"]);
    assert!(
        complaint.contains("No such image: nosuch:latest"),
        "{complaint}"
    );
    assert!(!Path::new(&tar).exists());
    let missing = path(cli, "nosuch/saved.tar");
    let complaint = cli.fails(1, &["save", "-o", &missing, "busybox"]);
    assert!(
        complaint.contains("failed to save image: invalid output path: stat "),
        "{complaint}"
    );
}

fn a_platform_that_the_image_is_not_for_is_refused(cli: &Cli<'_>) {
    let tar = path(cli, "saved.tar");
    let complaint = cli.fails(
        1,
        &["save", "--platform", "linux/s390x", "-o", &tar, "busybox"],
    );
    assert!(complaint.contains("linux/s390x"), "{complaint}");
    let platform = cli.inspect("busybox", "{{.Os}}/{{.Architecture}}");
    cli.ok(&["save", "--platform", &platform, "-o", &tar, "busybox"]);
    cli.ok(&["rmi", "busybox"]);
    let complaint = cli.fails(1, &["load", "--platform", "linux/s390x", "-i", &tar]);
    assert!(complaint.contains("linux/s390x"), "{complaint}");
    cli.ok(&["load", "--platform", &platform, "-i", &tar]);
}

#[test]
fn a_damaged_layer_is_never_saved_as_another_one() {
    with_busybox(Client::Conex, |cli| {
        let tar = path(cli, "saved.tar");
        let layer = cli.engine.layer_directories().remove(0);
        let file = cli.engine.data_root().join("overlay2").join(layer);
        let file = file.join("diff/etc/passwd");
        let mut content = std::fs::read(&file).expect("the layer has it");
        content[0] ^= 1;
        std::fs::write(&file, content).expect("root may damage it");
        cli.fails(1, &["save", "-o", &tar, "busybox"]);
        assert!(!Path::new(&tar).exists());
        let log = cli.engine.log();
        assert!(
            log.contains("etc/passwd") && log.contains("is damaged"),
            "{log}"
        );
    });
}

#[test]
fn one_image_is_saved_by_its_path_too() {
    with_busybox(Client::Conex, |cli| {
        let answer = cli.engine.api("GET", "/images/busybox/get", None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/x-tar"));
        let many = cli.engine.api("GET", "/images/get?names=busybox", None);
        assert!(many.body == answer.body);
        let missing = cli.engine.api("GET", "/images/nosuch/get", None);
        assert_eq!(missing.status, 404);
        assert_eq!(missing.message(), "No such image: nosuch:latest");
        // And what it says while it is loaded again.
        let load = |quiet: &str| {
            http::request(
                &cli.engine.socket(),
                "POST",
                &format!("/images/load?quiet={quiet}"),
                &[("Content-Type", "application/x-tar")],
                Some(&answer.body),
            )
            .expect("the engine answers")
        };
        cli.ok(&["rmi", "busybox"]);
        let told = load("0").text();
        assert!(told.contains(r#""status":"Loading layer""#), "{told}");
        assert!(
            told.contains(r#"{"stream":"Loaded image: busybox:latest\n"}"#),
            "{told}"
        );
        cli.ok(&["rmi", "busybox"]);
        let told = load("1").text();
        assert_eq!(
            told.trim_end(),
            r#"{"stream":"Loaded image: busybox:latest\n"}"#
        );
    });
}

/// Runs a tool of others in a world of its own; `None`, with the reason
/// printed, where it is missing.
fn foreign(program: &str, root: &Path, arguments: &[&str]) -> Option<String> {
    let Some(path) = workspace::program(program) else {
        skip(&format!("no {program} here"));
        return None;
    };
    let output = Command::new(path)
        .args(arguments)
        .env("HOME", root)
        .env("TMPDIR", root)
        .output()
        .expect("it can be started");
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn skopeo_reads_both_forms_and_what_it_writes_is_loaded() {
    with_busybox(Client::Conex, |cli| {
        let root = cli.engine.root();
        let tar = path(cli, "saved.tar");
        cli.ok(&["save", "-o", &tar, "busybox"]);
        let id = cli.inspect("busybox", "{{.Id}}");
        let layers = cli.inspect("busybox", "{{json .RootFS.Layers}}");
        let layers: Value = serde_json::from_str(&layers).expect("it is JSON");
        for source in [
            format!("docker-archive:{tar}"),
            format!("oci-archive:{tar}"),
        ] {
            let Some(config) = foreign("skopeo", root, &["inspect", "--config", "--raw", &source])
            else {
                return;
            };
            assert_eq!(digest(config.as_bytes()), id, "{source}");
            let seen = foreign("skopeo", root, &["inspect", &source]).expect("it was there");
            let seen: Value = serde_json::from_str(&seen).expect("it is JSON");
            assert_eq!(seen["Layers"], layers, "{source}");
        }
        let archive = format!("docker-archive:{tar}");
        for (form, compressed) in [("docker-archive", false), ("oci-archive", true)] {
            let copy = path(cli, form);
            let target = format!("{form}:{copy}:example.com/copied/{form}:1");
            foreign("skopeo", root, &["copy", "-q", &archive, &target]);
            let said = cli.ok(&["load", "-i", &copy]);
            let name = format!("example.com/copied/{form}:1");
            assert_eq!(said, format!("Loaded image: {name}"));
            let copied = cli.inspect(&name, "{{json .RootFS.Layers}}");
            assert_eq!(copied, layers.to_string(), "{form}");
            if !compressed {
                assert_eq!(cli.inspect(&name, "{{.Id}}"), id);
            }
        }
        assert_eq!(cli.engine.layer_directories().len(), 1, "one layer for all");
    });
}

#[test]
fn a_debian_root_travels_through_skopeo_and_back_unchanged() {
    with_busybox(Client::Conex, |cli| {
        let debian = match fixture::make(Fixture::Debian) {
            Ok(debian) => debian.to_string_lossy().into_owned(),
            Err(reason) => return skip(&reason),
        };
        let root = cli.engine.root();
        cli.ok(&["import", &debian, "debian:12"]);
        let layers = "{{json .RootFS.Layers}}";
        let before = cli.inspect("debian:12", layers);
        let tar = path(cli, "saved.tar");
        cli.ok(&["save", "-o", &tar, "debian:12"]);
        // skopeo hashes every blob it copies, and compresses them for the layout.
        let (copy, from) = (path(cli, "copy.tar"), format!("docker-archive:{tar}"));
        let to = format!("oci-archive:{copy}:example.com/debian:12");
        if foreign("skopeo", root, &["copy", "-q", &from, &to]).is_none() {
            return;
        }
        cli.ok(&["rmi", "debian:12"]);
        let said = cli.ok(&["load", "-i", &copy]);
        assert_eq!(said, "Loaded image: example.com/debian:12");
        assert_eq!(cli.inspect("example.com/debian:12", layers), before);
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "example.com/debian:12",
            "stat",
            "-c",
            "%a %u",
            "/bin/su",
        ];
        assert_eq!(cli.ok(&run), "4755 0");
        // And the archive that comes out is the one that went in.
        cli.ok(&["save", "-o", &tar, "example.com/debian:12"]);
        let layer = json(&tar, "manifest.json")[0]["Layers"][0].clone();
        let saved = member(&tar, layer.as_str().expect("a path"));
        assert!(saved == std::fs::read(&debian).expect("a fixture can be read"));
    });
}

#[test]
fn podman_loads_ours_and_we_load_podmans() {
    with_busybox(Client::Conex, |cli| {
        let root = cli.engine.root().join("podman");
        std::fs::create_dir_all(&root).expect("a fresh directory takes a folder");
        let world = |name: &str| root.join(name).to_string_lossy().into_owned();
        let (storage, run) = (world("storage"), world("run"));
        let podman = |arguments: &[&str]| {
            let own = [
                "--root",
                &storage,
                "--runroot",
                &run,
                "--storage-driver",
                "vfs",
            ];
            foreign("podman", &root, &[&own[..], arguments].concat())
        };
        let tar = path(cli, "saved.tar");
        cli.ok(&["save", "-o", &tar, "busybox"]);
        let id = cli.inspect("busybox", "{{.Id}}");
        if podman(&["load", "-q", "-i", &tar]).is_none() {
            return;
        }
        let seen = podman(&[
            "image",
            "inspect",
            "-f",
            "{{.Id}}",
            "docker.io/library/busybox",
        ]);
        assert_eq!(seen, Some(id["sha256:".len()..].to_owned()));
        cli.ok(&["rmi", "busybox"]);
        for form in ["docker-archive", "oci-archive"] {
            let back = path(cli, form);
            let name = "docker.io/library/busybox:latest";
            podman(&["save", "-q", "--format", form, "-o", &back, name]);
            let said = cli.ok(&["load", "-i", &back]);
            assert_eq!(said, "Loaded image: busybox:latest", "{form}");
            let run = ["run", "--rm", "--network", "none", "busybox", "echo", form];
            assert_eq!(cli.ok(&run), form);
            cli.ok(&["rmi", "busybox"]);
        }
        podman(&["rmi", "-a", "-f"]);
    });
}
