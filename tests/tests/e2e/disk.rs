//! What is used and given back: `history`, `system df`, prune, `system check`
//! and `image verify`, on each storage driver where that matters.

use std::fs;
use std::path::Path;

use conex_tests::client::{Cli, Client, engine_for};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::{skip, under_both_clients};
use serde_json::{Value, json};

under_both_clients! {
    history_tells_the_steps_of_an_image,
    disk_usage_agrees_with_what_lies_there,
    a_prune_takes_what_no_container_has_and_tells_the_bytes,
    a_prune_takes_images_that_stand_on_one_another,
    system_prune_takes_what_is_unused_of_every_kind,
}

fn history_tells_the_steps_of_an_image(cli: &Cli<'_>) {
    let table = cli.ok(&["history", "busybox"]);
    let mut lines = table.lines();
    assert_eq!(
        lines
            .next()
            .map(|l| l.split_whitespace().collect::<Vec<_>>()),
        Some(vec!["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"])
    );
    let step = lines.next().unwrap_or_default();
    let id = cli.ok(&["images", "-q", "busybox"]);
    assert!(
        step.starts_with(&id) && step.ends_with("Imported from -"),
        "{table}"
    );
    assert_eq!(
        cli.ok(&["history", "-q", "--no-trunc", "busybox"]).len(),
        71
    );
    let size = cli.ok(&[
        "history",
        "--human=false",
        "--format",
        "{{.Size}}",
        "busybox",
    ]);
    assert_eq!(size, cli.inspect("busybox", "{{.Size}}"));
    let answer = cli.engine.api("GET", "/v1.50/images/busybox/history", None);
    let steps = answer.json();
    assert_eq!(steps[0]["Tags"], json!(["busybox:latest"]));
    let names: Vec<&String> = steps[0].as_object().expect("an object").keys().collect();
    assert_eq!(
        names,
        ["Comment", "Created", "CreatedBy", "Id", "Size", "Tags"]
    );
    let complaint = cli.fails(1, &["history", "nosuch"]);
    assert!(
        complaint.contains("No such image: nosuch:latest"),
        "{complaint}"
    );
}

/// Bytes of the files in a tree, each once, as `du --apparent-size` counts
/// files.
fn apparent_bytes(dir: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut sum = 0;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            let status = fs::symlink_metadata(&path).expect("it is there");
            use std::os::unix::fs::MetadataExt;
            if status.is_dir() {
                left.push(path);
            } else if seen.insert(status.ino()) {
                sum += status.len();
            }
        }
    }
    sum
}

fn disk_usage_agrees_with_what_lies_there(cli: &Cli<'_>) {
    cli.ok(&["tag", "busybox", "again"]);
    cli.ok(&[
        "run",
        "--name",
        "writer",
        "--network",
        "none",
        "-v",
        "named:/data",
        "busybox",
        "sh",
        "-c",
        "dd if=/dev/zero of=/big bs=1k count=300 2>/dev/null; \
         dd if=/dev/zero of=/data/v bs=1k count=64 2>/dev/null",
    ]);
    let rows = cli.ok(&[
        "system",
        "df",
        "--format",
        "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Reclaimable}}",
    ]);
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0], "Images|1|1|0B (0%)");
    assert_eq!(rows[1], "Containers|1|0|307.2kB (100%)");
    assert!(rows[2].starts_with("Local Volumes|1|1|0B"), "{rows:?}");
    assert_eq!(rows[3], "Build Cache|0|0|0B");
    let detail = cli.ok(&["system", "df", "-v"]);
    for heading in [
        "Images space usage:",
        "Containers space usage:",
        "Local Volumes space usage:",
        "Build cache usage: 0B",
    ] {
        assert!(detail.contains(heading), "{detail}");
    }
    assert!(detail.contains("UNIQUE SIZE"), "{detail}");

    let engine = cli.engine;
    let usage = engine.api("GET", "/v1.50/system/df", None).json();
    let layers = engine.data_root().join("overlay2");
    let of = |wanted: &dyn Fn(&str) -> bool| -> u64 {
        let names = engine.layer_directories();
        let names = names.iter().filter(|name| wanted(name));
        names
            .map(|name| apparent_bytes(&layers.join(name).join("diff")))
            .sum()
    };
    let id = cli.inspect("writer", "{{.Id}}");
    let images = of(&|name| name != id && !name.ends_with("-init"));
    assert_eq!(usage["LayersSize"], json!(images));
    assert_eq!(usage["Images"][0]["Containers"], json!(1));
    // A list has told the number since 1.51, running or not.
    for (version, users) in [("v1.50", -1), ("v1.51", 1), ("v1.56", 1)] {
        let path = format!("/{version}/images/json");
        let listed = engine.api("GET", &path, None).json();
        assert_eq!(listed[0]["Containers"], json!(users), "{version}");
    }
    assert_eq!(usage["Images"][0]["Size"], json!(images));
    assert_eq!(usage["Images"][0]["SharedSize"], json!(0));
    assert_eq!(
        usage["Containers"][0]["SizeRw"],
        json!(of(&|name| name == id))
    );
    assert_eq!(usage["Volumes"][0]["UsageData"]["RefCount"], json!(1));
    let bytes = usage["Volumes"][0]["UsageData"]["Size"]
        .as_u64()
        .unwrap_or(0);
    assert!((64 << 10..96 << 10).contains(&bytes), "{usage}");
    assert_eq!(usage["BuildCache"], json!([]));

    let some = engine
        .api("GET", "/v1.50/system/df?type=volume", None)
        .json();
    assert_eq!(
        (&some["Images"], &some["LayersSize"]),
        (&Value::Null, &json!(0))
    );
    let bad = engine.api("GET", "/system/df?type=secret", None);
    assert_eq!(bad.status, 400);
    assert_eq!(bad.json()["message"], "unknown object type: secret");
    let new = engine.api("GET", "/v1.52/system/df", None).json();
    assert_eq!(new["ImageUsage"]["TotalSize"], json!(images));
    assert_eq!(new["ImageUsage"].get("Items"), None);
    assert_eq!(new.get("LayersSize"), None);
}

/// Another image, with content of its own.
fn import(cli: &Cli<'_>, name: &str, kibibytes: usize, changes: &[&str]) -> String {
    let room = tempfile::tempdir().expect("a directory");
    fs::write(room.path().join("file"), vec![7; kibibytes << 10]).expect("a file");
    fs::write(room.path().join("own"), name).expect("a file");
    let made = std::process::Command::new("tar")
        .args(["-C", &room.path().to_string_lossy(), "-cf", "-", "."])
        .output();
    let tar = made.expect("tar runs").stdout;
    let mut args = vec!["import"];
    for change in changes {
        args.extend(["-c", change]);
    }
    args.push("-");
    args.push(name);
    let output = cli.run_with_input(&args, &tar);
    assert_eq!(output.code, Some(0), "{output}");
    output.stdout.trim().to_owned()
}

fn a_prune_takes_what_no_container_has_and_tells_the_bytes(cli: &Cli<'_>) {
    let first = import(cli, "it:1", 500, &[]);
    import(cli, "it:2", 200, &["LABEL keep=yes"]);
    // The name moves on: the first image has none now.
    cli.ok(&["tag", "it:2", "it:1"]);
    cli.ok(&[
        "create",
        "--name",
        "user",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    let said = cli.ok(&["image", "prune", "-f"]);
    assert!(
        said.starts_with(&format!(
            "Deleted Images:\ndeleted: {first}\ndeleted: sha256:"
        )),
        "{said}"
    );
    assert!(said.ends_with("Total reclaimed space: 512kB"), "{said}");
    let said = cli.ok(&["image", "prune", "-f"]);
    assert_eq!(said, "Total reclaimed space: 0B");

    for filter in ["label!=keep", "label=other", "until=24h"] {
        let said = cli.ok(&["image", "prune", "-a", "-f", "--filter", filter]);
        assert_eq!(said, "Total reclaimed space: 0B", "{filter}");
    }
    let said = cli.ok(&["image", "prune", "-a", "-f", "--filter", "label=keep=yes"]);
    for line in ["untagged: it:1", "untagged: it:2"] {
        assert!(said.contains(line), "{said}");
    }
    assert!(said.ends_with("Total reclaimed space: 204.8kB"), "{said}");
    // What a container has stays, running or not.
    cli.ok(&["image", "prune", "-a", "-f"]);
    assert_eq!(
        cli.ok(&["images", "--format", "{{.Repository}}"]),
        "busybox"
    );
    let output = cli.run_with_input(&["image", "prune"], b"n\n");
    assert!(
        output
            .stdout
            .starts_with("WARNING! This will remove all dangling images."),
        "{output}"
    );
    let bad = cli.engine.api(
        "POST",
        "/images/prune?filters=%7B%22x%22%3A%5B%221%22%5D%7D",
        None,
    );
    assert_eq!(bad.status, 400, "{}", bad.text());
}

fn a_prune_takes_images_that_stand_on_one_another(cli: &Cli<'_>) {
    import(cli, "below:1", 100, &[]);
    let room = tempfile::tempdir().expect("a directory");
    // A parent without a name stays for its child and goes with it.
    for (below, own) in [("below:1", "one"), ("below:1", "two"), ("one:1", "three")] {
        let file = room.path().join(own);
        fs::write(&file, own).expect("a file");
        cli.ok(&["create", "--name", own, below, "true"]);
        cli.ok(&["cp", &file.to_string_lossy(), &format!("{own}:/")]);
        cli.ok(&["commit", own, &format!("{own}:1")]);
        cli.ok(&["rm", own]);
    }
    cli.ok(&["rmi", "one:1"]);
    assert_eq!(
        cli.ok(&["image", "prune", "-f"]),
        "Total reclaimed space: 0B"
    );
    let said = cli.ok(&["image", "prune", "-a", "-f"]);
    for line in ["untagged: below:1", "untagged: two:1", "untagged: three:1"] {
        assert!(said.contains(line), "{said}");
    }
    // Busybox and four more, each with a layer of its own.
    assert_eq!(said.matches("deleted: sha256:").count(), 5 + 5, "{said}");
    assert_eq!(cli.ok(&["images", "-aq"]), "");
    assert_eq!(cli.engine.layer_directories(), Vec::<String>::new());
}

fn system_prune_takes_what_is_unused_of_every_kind(cli: &Cli<'_>) {
    let routes = ["/containers/prune", "/networks/prune"];
    if routes
        .iter()
        .any(|path| cli.engine.api("POST", path, None).status == 404)
    {
        return skip("containers or networks cannot be pruned yet");
    }
    import(cli, "it:1", 100, &[]);
    cli.ok(&[
        "run",
        "--name",
        "ended",
        "--network",
        "none",
        "-v",
        "/data",
        "busybox",
        "true",
    ]);
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "stays",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ]);
    let said = cli.ok(&["system", "prune", "-a", "-f", "--volumes"]);
    for line in [
        "Deleted Containers:",
        "Deleted Volumes:",
        "untagged: it:1",
        "Total reclaimed space: ",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(cli.ok(&["ps", "-a", "--format", "{{.Names}}"]), "stays");
    assert_eq!(
        cli.ok(&["images", "--format", "{{.Repository}}"]),
        "busybox"
    );
    assert_eq!(cli.ok(&["volume", "ls", "-q"]), "");
    let complaint = cli.fails(
        1,
        &["system", "prune", "-f", "--volumes", "--filter", "until=1h"],
    );
    assert!(
        complaint.contains("The \"until\" filter is not supported with \"--volumes\""),
        "{complaint}"
    );
}

#[test]
fn a_removed_image_gives_its_disk_back_and_prune_too() {
    let Some(engine) = Engine::start_on_disk(64) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    let free = || {
        engine.settle();
        let root = fs::File::open(engine.data_root()).expect("the data root");
        rustix::fs::syncfs(root).expect("it can be synced");
        engine.free_bytes()
    };
    let before = free();
    import(&cli, "large:1", 20 << 10, &[]);
    assert!(before - free() >= 20 << 20);
    cli.ok(&["rmi", "large:1"]);
    assert!(before - free() < 1 << 20, "rmi");
    import(&cli, "large:1", 20 << 10, &[]);
    let said = cli.ok(&["image", "prune", "-a", "-f"]);
    assert!(said.ends_with("Total reclaimed space: 20.97MB"), "{said}");
    assert!(before - free() < 1 << 20, "prune");
}

#[test]
fn a_check_finds_what_does_not_agree_and_repairs_what_it_may() {
    let Some(mut engine) = engine_for(Client::Conex) else {
        return;
    };
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
    cli.ok(&[
        "run",
        "--name",
        "ended",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    let clean = cli.ok(&["system", "check"]);
    assert_eq!(
        clean,
        "1 images, 2 layers and 1 containers checked: 0 problems"
    );

    let root = engine.data_root();
    let make = |path: &str| fs::create_dir_all(root.join(path)).expect("a directory");
    make("overlay2/strange/diff");
    fs::write(root.join("overlay2/strange/lower"), "").expect("a file");
    make("overlay2/written/diff");
    make("overlay2/written/work");
    make("containers/nobody");
    make("somebody's");
    fs::write(root.join("image/recipes/astray"), "x").expect("a file");
    let cli = engine.cli(Client::Conex);
    let output = cli.run(&["system", "check", "--format", "json"]);
    assert_eq!(output.code, Some(1), "{output}");
    let kinds = |output: &str, repaired: bool| -> Vec<String> {
        let report: Value = serde_json::from_str(output).expect("JSON");
        let findings = report["Findings"].as_array().cloned().unwrap_or_default();
        let mut kinds: Vec<String> = findings
            .iter()
            .filter(|f| f["Repaired"] == json!(repaired) && f["Note"] == json!(false))
            .map(|f| f["Kind"].as_str().unwrap_or_default().to_owned())
            .collect();
        kinds.sort();
        kinds
    };
    let all = [
        "container-directory-without-record",
        "container-layer-without-record",
        "layer-without-record",
        "recipe-without-layer",
        "stranger",
    ];
    assert_eq!(kinds(&output.stdout, false), all);
    let output = cli.run(&["system", "check", "--repair", "--format", "json"]);
    assert_eq!(kinds(&output.stdout, true), all[..4]);
    assert_eq!(
        kinds(&output.stdout, false),
        ["stranger"],
        "it is told and left alone"
    );
    assert_eq!(output.code, Some(1));
    assert!(root.join("somebody's").is_dir());
    fs::remove_dir(root.join("somebody's")).expect("it is empty");
    let said = cli.ok(&["system", "check"]);
    assert!(
        said.contains("note: lost written") && said.ends_with(": 0 problems"),
        "{said}"
    );
    engine.settle();
    assert!(!root.join("overlay2/strange").exists());

    // What cannot be mended is said, and in which way it can be.
    let id = engine.conex(&["inspect", "-f", "{{.Id}}", "ended"]);
    let names = engine.layer_directories();
    let is_image = |name: &&String| !name.ends_with("-init") && **name != id.stdout.trim();
    let image = names.iter().find(is_image).expect("there is one");
    let layer = root.join("overlay2").join(image);
    let away = root.join("tmp/away");
    fs::rename(&layer, &away).expect("a layer can be moved");
    let cli = engine.cli(Client::Conex);
    let output = cli.run(&["system", "check"]);
    assert!(
        output.stdout.contains("layer-without-directory"),
        "{output}"
    );
    fs::rename(&away, &layer).expect("and back");
    engine.terminate();
}

#[test]
fn verification_names_the_layer_and_the_file_that_is_damaged() {
    for driver in ["overlay2", "vfs"] {
        let Some(engine) = Engine::start_with(&["-s", driver], &[]) else {
            return;
        };
        let tar = match fixture::make(Fixture::Busybox) {
            Ok(tar) => tar,
            Err(reason) => return skip(&reason),
        };
        let cli = engine.cli(Client::Conex);
        cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
        cli.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
        assert_eq!(
            cli.ok(&["image", "verify"]),
            "1 layers verified",
            "{driver}"
        );
        let names = engine.layer_directories();
        let layer = names
            .iter()
            .find(|n| !n.ends_with("-init"))
            .expect("a layer");
        let content = match driver {
            "vfs" => "root",
            _ => "diff",
        };
        let content = engine.data_root().join(driver).join(layer).join(content);
        let passwd = content.join("etc/passwd");
        let good = fs::read(&passwd).expect("the image has it");
        let times_of = |path: &std::path::Path| {
            let metadata = fs::metadata(path).expect("the image has it");
            let modified = metadata.modified().expect("a time");
            fs::FileTimes::new().set_modified(modified)
        };
        let etc = passwd.parent().expect("it is in a directory");
        let times = [(&*passwd, times_of(&passwd)), (etc, times_of(etc))];
        let mut bad = good.clone();
        bad[3] ^= 1;
        fs::write(&passwd, &bad).expect("a file can be changed");
        let output = cli.run(&["image", "verify", "busybox"]);
        assert_eq!(output.code, Some(1), "{output}");
        assert!(
            output.stdout.contains("etc/passwd") && output.stdout.contains("1 damaged"),
            "{output}"
        );
        let diff_id = cli.inspect("busybox", "{{index .RootFS.Layers 0}}");
        assert!(output.stdout.contains(&diff_id[7..19]), "{output}");
        fs::remove_file(&passwd).expect("a file can go");
        let output = cli.run(&["image", "verify", "--format", "json"]);
        let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
        assert_eq!(answer["Layers"][0]["File"], "etc/passwd", "{output}");
        fs::write(&passwd, &good).expect("a file can be written");
        // With the right content alone it is still another file.
        let output = cli.run(&["image", "verify"]);
        assert!(output.stdout.contains("its time is"), "{output}");
        for (path, times) in times {
            let opened = fs::File::open(path).expect("it is there");
            opened.set_times(times).expect("it is ours");
        }
        assert_eq!(
            cli.ok(&["image", "verify"]),
            "1 layers verified",
            "{driver}"
        );
    }
}
