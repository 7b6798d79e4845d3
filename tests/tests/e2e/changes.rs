//! What a container changed: `diff`, `commit`, `export`, sizes.

use std::process::Command;

use conex_tests::archive;
use conex_tests::client::{Cli, Client, engine_for, with_busybox};
use conex_tests::fixture::{self, Fixture};
use conex_tests::{skip, under_both_clients};

under_both_clients! {
    changes_are_told_whether_it_runs_or_not,
    places_of_mounts_are_no_changes,
    a_commit_is_an_image_of_the_changes_and_the_configuration,
    a_commit_without_changes_makes_no_layer,
    a_running_container_stands_still_for_its_commit_and_goes_on,
    what_cannot_be_committed_is_refused_and_leaves_nothing,
    an_export_is_the_whole_root_without_its_volumes,
    sizes_are_those_of_the_changes_and_of_the_whole,
}

const CHANGE: &str = "mkdir -p /srv/deep && echo new >/srv/deep/file && rm /etc/group && \
                      chmod 700 /home && rm -r /usr && mkdir /usr";

fn changes_are_told_whether_it_runs_or_not(cli: &Cli<'_>) {
    let expected = "C /etc\nD /etc/group\nC /home\nA /srv\nA /srv/deep\nA /srv/deep/file\nC /usr\nD /usr/bin\nD /usr/sbin";
    let script = format!("{CHANGE}; echo done; read x");
    cli.ok(&[
        "run",
        "-d",
        "-i",
        "--name",
        "web",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        &script,
    ]);
    cli.wait_for_line("web", "done");
    assert_eq!(cli.ok(&["diff", "web"]), expected);
    cli.ok(&["pause", "web"]);
    assert_eq!(cli.ok(&["diff", "web"]), expected);
    cli.ok(&["unpause", "web"]);
    cli.ok(&["stop", "-t", "0", "web"]);
    assert_eq!(cli.ok(&["container", "diff", "web"]), expected);
    cli.ok(&["create", "--name", "made", "busybox", "true"]);
    assert_eq!(cli.ok(&["diff", "made"]), "");
    let told = cli.fails(1, &["diff", "nosuch"]);
    assert!(told.contains("No such container: nosuch"), "{told}");
}

fn places_of_mounts_are_no_changes(cli: &Cli<'_>) {
    let bound = cli.engine.root().join("bound");
    std::fs::create_dir(&bound).expect("a fresh directory takes a folder");
    let bind = format!("{}:/made/by/mount", bound.display());
    cli.ok(&[
        "run",
        "--name",
        "web",
        "--network",
        "none",
        "-v",
        &bind,
        "-v",
        "/vol",
        "--tmpfs",
        "/scratch",
        "busybox",
        "sh",
        "-c",
        "touch /vol/x /scratch/y /made/by/mount/z /real",
    ]);
    assert_eq!(cli.ok(&["diff", "web"]), "A /real");
}

fn a_commit_is_an_image_of_the_changes_and_the_configuration(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "--name",
        "web",
        "--network",
        "none",
        "-e",
        "A=b",
        "--label",
        "x=y",
        "--expose",
        "80",
        "busybox",
        "sh",
        "-c",
        CHANGE,
    ]);
    let id = cli.ok(&[
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        "CMD [\"cat\", \"/srv/deep/file\"]",
        "-c",
        "ENV C=d",
        "web",
        "made:1",
    ]);
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let field = |template: &str| cli.ok(&["image", "inspect", "-f", template, "made:1"]);
    assert_eq!(field("{{.Id}}"), id);
    assert_eq!(field("{{.Author}} {{.Comment}}"), "me why");
    assert_eq!(
        field("{{json .Config.Cmd}} {{json .Config.Env}} {{json .Config.Labels}}"),
        r#"["cat","/srv/deep/file"] ["A=b","C=d"] {"x":"y"}"#
    );
    assert_eq!(field("{{json .Config.ExposedPorts}}"), r#"{"80/tcp":{}}"#);
    let parent = &cli
        .engine
        .api("GET", "/v1.44/images/made:1/json", None)
        .json()["Parent"];
    assert_eq!(
        parent,
        &cli.ok(&["image", "inspect", "-f", "{{.Id}}", "busybox"])
    );
    assert_eq!(field("{{len .RootFS.Layers}}"), "2");
    // It is what the container was.
    let run = |script: &str| {
        cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "made:1",
            "sh",
            "-c",
            script,
        ])
    };
    assert_eq!(
        cli.ok(&["run", "--rm", "--network", "none", "made:1"]),
        "new"
    );
    assert_eq!(
        run("ls /etc/group /usr/bin 2>/dev/null; stat -c %a /home; cat /srv/deep/file; echo $C"),
        "700\nnew\nd"
    );
    // And one more on top of it.
    cli.ok(&[
        "run",
        "--name",
        "two",
        "--network",
        "none",
        "made:1",
        "rm",
        "/srv/deep/file",
    ]);
    assert_eq!(
        cli.ok(&["diff", "two"]),
        "C /srv\nC /srv/deep\nD /srv/deep/file"
    );
    cli.ok(&["commit", "two", "made:2"]);
    let left = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "made:2",
        "ls",
        "/srv/deep",
    ]);
    assert_eq!(left, "");
    let second = cli.ok(&["image", "inspect", "-f", "{{.Id}}", "made:2"]);
    let expected = [
        ("why", id.as_str(), "made:1"),
        ("", second.as_str(), "made:2"),
    ];
    let told = commits(cli);
    let told: Vec<_> = told
        .iter()
        .map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str()))
        .collect();
    assert_eq!(told, expected);
    cli.fails(1, &["commit", "web", "Upper"]);
}

/// Message, image and name of every commit so far.
fn commits(cli: &Cli<'_>) -> Vec<(String, String, String)> {
    let now = cli.ok(&["info", "-f", "{{.SystemTime}}"]);
    let filter = "event=commit";
    let events = cli.ok(&[
        "events",
        "--since",
        "0",
        "--until",
        &now,
        "--filter",
        filter,
        "--format",
        "{{json .}}",
    ]);
    let told = events.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).expect("an event is JSON");
        let of = |key: &str| {
            let text = event["Actor"]["Attributes"][key].as_str();
            text.unwrap_or_default().to_owned()
        };
        (of("comment"), of("imageID"), of("imageRef"))
    });
    told.collect()
}

fn a_commit_without_changes_makes_no_layer(cli: &Cli<'_>) {
    cli.ok(&["create", "--name", "web", "busybox", "true"]);
    cli.ok(&["commit", "-c", "LABEL a=b", "web", "made"]);
    let field = |image: &str| {
        let template = "{{len .RootFS.Layers}} {{.Size}}";
        cli.ok(&["image", "inspect", "-f", template, image])
    };
    assert_eq!(field("made"), field("busybox"));
    let id = cli.ok(&["commit", "web"]);
    assert_ne!(id, "");
    cli.ok(&["run", "--rm", "--network", "none", "made", "true"]);
}

fn a_running_container_stands_still_for_its_commit_and_goes_on(cli: &Cli<'_>) {
    let script = "echo x >/ticks; echo ready; while :; do echo x >>/ticks; usleep 1000; done";
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    cli.wait_for_line("web", "ready");
    cli.ok(&["commit", "web", "made"]);
    cli.ok(&["commit", "--pause=false", "web", "other"]);
    assert_eq!(cli.inspect("web", "{{.State.Status}}"), "running");
    assert_eq!(cli.ok(&["exec", "web", "echo", "moves"]), "moves");
    cli.ok(&["pause", "web"]);
    cli.ok(&["commit", "web", "paused"]);
    assert_eq!(cli.inspect("web", "{{.State.Status}}"), "paused");
    cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "made",
        "test",
        "-s",
        "/ticks",
    ]);
}

fn what_cannot_be_committed_is_refused_and_leaves_nothing(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "--name",
        "web",
        "--network",
        "none",
        "busybox",
        "touch",
        "/x",
    ]);
    let before = cli.engine.layer_directories();
    for (args, text) in [
        (
            &["commit", "-c", "RUN true", "web"][..],
            "run is not a valid change command",
        ),
        (&["commit", "nosuch"], "No such container: nosuch"),
    ] {
        let told = cli.fails(1, args);
        assert!(told.contains(text), "{told}");
    }
    assert_eq!(cli.engine.layer_directories(), before);
    assert_eq!(cli.ok(&["images", "-q"]).lines().count(), 1);
}

fn an_export_is_the_whole_root_without_its_volumes(cli: &Cli<'_>) {
    let out = cli.engine.root().join("out.tar");
    let tree = cli.engine.root().join("tree");
    std::fs::create_dir(&tree).expect("a fresh directory takes a folder");
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "-v",
        "/vol",
        "busybox",
        "sh",
        "-c",
        "touch /vol/x; echo y >/home/y; rm /etc/passwd; ln /home/y /home/z; echo ready; sleep 1000",
    ]);
    cli.wait_for_line("web", "ready");
    cli.ok(&["export", "-o", &out.to_string_lossy(), "web"]);
    let unpacked = Command::new("tar")
        .args([
            "-xf".as_ref(),
            out.as_os_str(),
            "-C".as_ref(),
            tree.as_os_str(),
        ])
        .status();
    assert!(unpacked.expect("tar can be started").success());
    assert_eq!(
        std::fs::read_to_string(tree.join("home/z")).expect("it is there"),
        "y\n"
    );
    assert!(!tree.join("etc/passwd").exists());
    assert_eq!(
        std::fs::read_dir(tree.join("vol"))
            .expect("its place is there")
            .count(),
        0
    );
    assert!(tree.join("bin/busybox").is_file());
    // Through a pipe it is the same.
    let output = cli
        .command(&["export", "web"])
        .output()
        .expect("a client can be started");
    assert!(output.status.success());
    let file = std::fs::read(&out).expect("it was written");
    assert!(
        file == output.stdout,
        "{} and {} bytes",
        file.len(),
        output.stdout.len()
    );
    cli.ok(&["import", &out.to_string_lossy(), "again"]);
    assert_eq!(
        cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "again",
            "cat",
            "/home/y"
        ]),
        "y"
    );
    cli.fails(1, &["export", "-o", "/nosuch/dir/x", "web"]);
    let told = cli.fails(1, &["export", "-o", &out.to_string_lossy(), "nosuch"]);
    assert!(told.contains("No such container: nosuch"), "{told}");
    assert!(std::fs::read(&out).expect("the old one stays") == file);
}

fn sizes_are_those_of_the_changes_and_of_the_whole(cli: &Cli<'_>) {
    let script = "dd if=/dev/zero of=/x bs=1000 count=5 2>/dev/null";
    cli.ok(&[
        "run",
        "--name",
        "web",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let shown = cli.ok(&["ps", "-a", "-s", "--format", "{{.Size}}"]);
    assert!(shown.starts_with("5kB (virtual "), "{shown}");
    let answer = cli
        .engine
        .api("GET", "/containers/web/json?size=1", None)
        .json();
    assert_eq!(answer["SizeRw"], 5000);
    let image = cli.ok(&["image", "inspect", "-f", "{{.Size}}", "busybox"]);
    let whole = 5000 + image.parse::<i64>().expect("a number");
    assert_eq!(answer["SizeRootFs"], whole);
}

#[test]
fn the_127th_layer_runs_and_the_128th_is_refused() {
    with_busybox(Client::Conex, |cli| {
        cli.ok(&["tag", "busybox", "deep"]);
        for layer in 2..=127 {
            cli.ok(&["create", "--name", "top", "deep", "true"]);
            let tar = archive::layer(&format!("layer-{layer}"), b"x");
            let put = conex_tests::http::request(
                &cli.engine.socket(),
                "PUT",
                "/containers/top/archive?path=/",
                &[("Content-Type", "application/x-tar")],
                Some(&tar),
            );
            assert_eq!(put.expect("the engine answers").status, 200);
            cli.ok(&["commit", "top", "deep"]);
            cli.ok(&["rm", "top"]);
        }
        let layers = cli.ok(&["image", "inspect", "-f", "{{len .RootFS.Layers}}", "deep"]);
        assert_eq!(layers, "127");
        let seen = cli.ok(&[
            "run",
            "--name",
            "last",
            "--network",
            "none",
            "deep",
            "sh",
            "-c",
            "ls / | grep -c layer-; touch /x",
        ]);
        assert_eq!(seen, "126");
        let before = cli.engine.layer_directories();
        let told = cli.fails(1, &["commit", "last", "deeper"]);
        assert_eq!(
            told.trim(),
            "Error response from daemon: max depth exceeded: the image has 128 layers, and 127 is the most an image can have"
        );
        assert_eq!(cli.engine.layer_directories(), before);
        // Without a layer it is no deeper.
        cli.ok(&["create", "--name", "none", "deep", "true"]);
        cli.ok(&["commit", "-c", "CMD true", "none", "deep:2"]);
    });
}

#[test]
fn an_engine_killed_in_a_commit_leaves_nothing_and_the_container_goes_on() {
    let Some(mut engine) = engine_for(Client::Conex) else {
        return;
    };
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
    let script = "dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null; echo ready; \
                  while :; do echo x >>/ticks; usleep 10000; done";
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    cli.wait_for_line("web", "ready");
    let before = engine.layer_directories();
    let mut commit = engine.until_a_layer_appears(|| {
        cli.command(&["commit", "web", "made"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("a client can be started")
    });
    engine.kill9();
    commit.wait().expect("a child can be waited for");
    engine.resume();
    engine.settle();
    let cli = engine.cli(Client::Conex);
    let images = cli.ok(&["images", "-q"]).lines().count();
    // It may have been quicker than the kill; then it is there as a whole.
    if images == 1 {
        assert_eq!(engine.layer_directories(), before);
    }
    assert_eq!(cli.inspect("web", "{{.State.Status}}"), "running");
    assert_eq!(cli.ok(&["exec", "web", "echo", "moves"]), "moves");
    cli.ok(&["commit", "web", "made"]);
    cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "made",
        "test",
        "-s",
        "/big",
    ]);
}

#[test]
fn holes_of_a_file_stay_holes_in_images_volumes_and_copies() {
    use std::os::unix::fs::MetadataExt;
    with_busybox(Client::Conex, |cli| {
        const BYTES: u64 = (200 << 20) + 3;
        let script = "mkdir /data; echo start >/data/sparse; \
                      printf end | dd of=/data/sparse bs=1M seek=200 2>/dev/null; \
                      dd of=/data/hole bs=1M seek=64 count=0 2>/dev/null";
        cli.ok(&[
            "run",
            "--name",
            "made",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            script,
        ]);
        let is_sparse = |data: &std::path::Path| {
            let sparse = std::fs::metadata(data.join("sparse")).expect("it is there");
            let hole = std::fs::metadata(data.join("hole")).expect("it is there");
            assert_eq!((sparse.len(), hole.len()), (BYTES, 64 << 20), "{data:?}");
            let stored = (sparse.blocks() + hole.blocks()) * 512;
            assert!(stored < 1 << 20, "{stored} bytes in {data:?}");
        };
        let before = cli.engine.layer_directories();
        cli.ok(&["commit", "made", "sparse:1"]);
        let names = cli.engine.layer_directories();
        let layer = names.iter().find(|name| !before.contains(name));
        let layer = layer.expect("the commit made a layer");
        is_sparse(
            &cli.engine
                .data_root()
                .join("overlay2")
                .join(layer)
                .join("diff/data"),
        );
        // Its archive is the same to the byte.
        assert_eq!(
            cli.ok(&["image", "verify", "sparse:1"]),
            "2 layers verified"
        );

        let copy = cli.engine.root().join("copy");
        cli.ok(&["cp", "made:/data", &copy.to_string_lossy()]);
        is_sparse(&copy);
        cli.ok(&["create", "--name", "other", "busybox", "true"]);
        cli.ok(&["cp", &copy.to_string_lossy(), "other:/data"]);
        let upper = cli.inspect("other", "{{.GraphDriver.Data.UpperDir}}");
        is_sparse(&std::path::Path::new(&upper).join("data"));

        let tail = "tail -c 4 /data/sparse; head -n 1 /data/sparse";
        let volume = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            "full:/data",
            "sparse:1",
        ];
        let read = cli.ok(&[&volume[..], &["sh", "-c", tail]].concat());
        assert_eq!(read, "\0endstart");
        is_sparse(&cli.engine.data_root().join("volumes/full/_data"));
    });
}
