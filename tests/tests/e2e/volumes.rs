//! Volumes: named, anonymous, with a file system of their own, and what an
//! engine killed in the middle leaves of them.

use std::fs;
use std::io::BufRead as _;

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::{skip, under_both_clients};
use serde_json::json;

under_both_clients! {
    a_volume_is_made_listed_described_and_removed,
    a_volume_in_use_stays_and_says_who_has_it,
    prune_takes_anonymous_volumes_and_all_only_when_told,
    a_bind_and_a_tmpfs_volume_are_mounted_while_somebody_runs,
    a_volume_whose_device_is_missing_fails_the_start_and_says_why,
    an_empty_volume_is_filled_from_the_image,
    events_tell_of_volumes,
    a_part_of_a_volume_is_mounted_and_no_link_leads_out,
    what_is_missing_besides_the_image_pulls_none,
}

fn a_part_of_a_volume_is_mounted_and_no_link_leads_out(cli: &Cli<'_>) {
    let fill = "mkdir /all/part && echo inside >/all/part/file && ln -s /etc /all/out";
    let whole = ["run", "--rm", "--network", "none", "-v", "vol:/all"];
    cli.ok(&[&whole[..], &["busybox", "sh", "-c", fill]].concat());
    let part = |name: &str| format!("type=volume,src=vol,dst=/part,volume-subpath={name}");
    let flags = ["create", "--name", "some", "--network", "none", "--mount"];
    let cat = ["busybox", "cat", "/part/file"];
    cli.ok(&[&flags[..], &[&part("part")], &cat].concat());
    assert_eq!(cli.ok(&["start", "-a", "some"]), "inside");
    // For copies, and for those who have its volumes, it is the part too.
    let copied = cli.run(&["cp", "some:/part/file", "-"]);
    assert!(copied.stdout.contains("inside"), "{copied}");
    let taken = ["run", "--rm", "--network", "none", "--volumes-from", "some"];
    assert_eq!(
        cli.ok(&[&taken[..], &["busybox", "ls", "/part"]].concat()),
        "file"
    );
    let run = ["run", "--rm", "--network", "none", "--mount"];
    for (name, code, problem) in [
        ("out", 125, "path concatenation escapes the base directory"),
        ("none", 127, "cannot access path "),
        (
            "../x",
            125,
            "subpath must be a relative path within the volume",
        ),
    ] {
        let text = cli.fails(code, &[&run[..], &[&part(name)], &cat].concat());
        assert!(text.contains(problem), "{name}: {text}");
    }
}

fn what_is_missing_besides_the_image_pulls_none(cli: &Cli<'_>) {
    for (flags, problem) in [
        (["--volumes-from", "nobody"], "No such container: nobody"),
        (
            ["--mount", "type=volume,dst=/d,volume-driver=nosuch"],
            "error looking up volume plugin nosuch: plugin \"nosuch\" not found",
        ),
    ] {
        let text = cli.fails(125, &["run", "--rm", flags[0], flags[1], "busybox", "true"]);
        assert!(text.contains(problem), "{text}");
        assert!(!text.contains("Unable to find image"), "{text}");
    }
}

fn a_volume_is_made_listed_described_and_removed(cli: &Cli<'_>) {
    assert_eq!(
        cli.ok(&["volume", "create", "--label", "tier=1", "data"]),
        "data"
    );
    assert_eq!(cli.ok(&["volume", "create", "data"]), "data");
    let unnamed = cli.ok(&["volume", "create"]);
    assert_eq!(unnamed.len(), 64);
    let list = cli.ok(&["volume", "ls"]);
    let mut lines = list.lines();
    assert_eq!(lines.next(), Some("DRIVER    VOLUME NAME"));
    let mut rest: Vec<&str> = lines.collect();
    rest.sort_unstable();
    let mut expected = ["local     data".to_owned(), format!("local     {unnamed}")];
    expected.sort();
    assert_eq!(rest, expected);
    assert_eq!(
        cli.ok(&["volume", "ls", "-q", "-f", "label=tier=1"]),
        "data"
    );
    assert_eq!(cli.ok(&["volume", "ls", "-q", "-f", "name=dat"]), "data");
    let described = "{{.Name}} {{.Driver}} {{.Scope}} {{json .Labels}} {{json .Options}}";
    assert_eq!(
        cli.ok(&["volume", "inspect", "-f", described, "data"]),
        "data local local {\"tier\":\"1\"} null"
    );
    assert_eq!(
        cli.ok(&["volume", "inspect", "-f", "{{json .Labels}}", &unnamed]),
        "{\"com.docker.volume.anonymous\":\"\"}"
    );
    let mountpoint = cli.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]);
    assert!(
        fs::metadata(&mountpoint).is_ok_and(|m| m.is_dir()),
        "{mountpoint}"
    );
    assert_eq!(
        cli.ok(&["volume", "rm", "data", &unnamed]),
        format!("data\n{unnamed}")
    );
    let complaint = cli.fails(1, &["volume", "rm", "data"]);
    assert!(
        complaint.contains("get data: no such volume"),
        "{complaint}"
    );
    assert_eq!(cli.ok(&["volume", "rm", "-f", "data"]), "data");
    let volumes = cli.engine.data_root().join("volumes");
    assert_eq!(fs::read_dir(volumes).map_or(0, Iterator::count), 0);
    let complaint = cli.fails(1, &["volume", "create", "bad name!"]);
    assert!(complaint.contains("includes invalid characters for a local volume name"));
    let complaint = cli.fails(1, &["volume", "create", "-d", "nosuch", "x1"]);
    assert!(
        complaint.contains(
            "create x1: error looking up volume plugin nosuch: plugin \"nosuch\" not found"
        ),
        "{complaint}"
    );
}

fn a_volume_in_use_stays_and_says_who_has_it(cli: &Cli<'_>) {
    let id = cli.ok(&[
        "create",
        "-v",
        "data:/x",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    for force in [&[][..], &["-f"]] {
        let args = [&["volume", "rm"], force, &["data"]].concat();
        let complaint = cli.fails(1, &args);
        assert!(
            complaint.contains(&format!("remove data: volume is in use - [{id}]")),
            "{complaint}"
        );
    }
    assert_eq!(cli.ok(&["volume", "ls", "-q", "-f", "dangling=true"]), "");
    cli.ok(&["rm", "-v", &id]);
    assert_eq!(
        cli.ok(&["volume", "ls", "-q", "-f", "dangling=true"]),
        "data"
    );
    cli.ok(&["volume", "rm", "data"]);
}

fn prune_takes_anonymous_volumes_and_all_only_when_told(cli: &Cli<'_>) {
    cli.ok(&["volume", "create", "named"]);
    cli.ok(&["volume", "create", "--label", "keep", "kept"]);
    let write = "head -c 3000000 /dev/zero > /x/big; ln /x/big /x/again";
    let run = [
        "run",
        "--network",
        "none",
        "-v",
        "/x",
        "--name",
        "cc",
        "busybox",
        "sh",
        "-c",
        write,
    ];
    cli.ok(&run);
    assert_eq!(
        cli.ok(&["volume", "prune", "-f"]),
        "Total reclaimed space: 0B"
    );
    cli.ok(&["rm", "cc"]);
    let refused = cli.run_with_input(&["volume", "prune"], b"n\n");
    assert!(
        refused
            .stdout
            .contains("anonymous local volumes not used by at least one container")
    );
    assert_eq!(cli.ok(&["volume", "ls", "-q"]).lines().count(), 3);
    let pruned = cli.ok(&["volume", "prune", "-f"]);
    assert!(pruned.starts_with("Deleted Volumes:\n"), "{pruned}");
    // Counted once, as the disk does.
    assert!(pruned.contains("Total reclaimed space: 3.0"), "{pruned}");
    let all = cli.ok(&["volume", "prune", "-f", "-a", "--filter", "label!=keep"]);
    assert!(all.contains("Deleted Volumes:\nnamed\n"), "{all}");
    assert_eq!(cli.ok(&["volume", "ls", "-q"]), "kept");
}

fn a_bind_and_a_tmpfs_volume_are_mounted_while_somebody_runs(cli: &Cli<'_>) {
    let host = cli.engine.root().join("host");
    fs::create_dir(&host).expect("a fresh directory takes a folder");
    let device = format!("device={}", host.display());
    cli.ok(&[
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "o=bind,ro",
        "-o",
        &device,
        "bound",
    ]);
    cli.ok(&[
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=1m,uid=7",
        "small",
    ]);
    fs::write(host.join("file"), "from the host").expect("a fresh directory takes a file");
    let read = [
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "bound:/b",
        "busybox",
        "sh",
        "-c",
    ];
    assert_eq!(
        cli.ok(&[&read[..], &["cat /b/file"]].concat()),
        "from the host"
    );
    let denied = cli.run(&[&read[..], &["touch /b/new"]].concat());
    assert!(denied.stderr.contains("Read-only file system"), "{denied}");

    let small = ["-v", "small:/s", "--network", "none"];
    let sleep = ["busybox", "sleep", "1000"];
    cli.ok(&[&["run", "-d", "--name", "one"], &small[..], &sleep].concat());
    cli.ok(&["exec", "one", "touch", "/s/here"]);
    let again = [&["run", "--rm"], &small[..], &["busybox", "sh", "-c"]].concat();
    let look = "stat -c %u /s; df -k /s | tail -n 1 | awk '{print $2}'; ls /s";
    assert_eq!(cli.ok(&[&again[..], &[look]].concat()), "7\n1024\nhere");
    let mounted = || {
        let table = fs::read_to_string("/proc/self/mounts").expect("there is a mount table");
        let volumes = cli.engine.data_root().join("volumes");
        table.matches(&*volumes.to_string_lossy()).count()
    };
    assert_eq!(mounted(), 1);
    cli.ok(&["rm", "-f", "one"]);
    assert_eq!(mounted(), 0);
    // The last one took the content with it.
    assert_eq!(cli.ok(&[&again[..], &["ls /s"]].concat()), "");
    cli.ok(&["volume", "rm", "small", "bound"]);
    assert!(host.join("file").exists());
}

fn a_volume_whose_device_is_missing_fails_the_start_and_says_why(cli: &Cli<'_>) {
    let make = [
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "o=bind",
        "-o",
        "device=/nosuch",
        "gone",
    ];
    cli.ok(&make);
    let run = [
        "run",
        "--network",
        "none",
        "--name",
        "cc",
        "-v",
        "gone:/x:nocopy",
        "busybox",
        "true",
    ];
    let complaint = cli.fails(127, &run);
    assert!(
        complaint.contains("error while mounting volume '"),
        "{complaint}"
    );
    assert!(
        complaint.contains("_data, flags: 0x1000: no such file or directory"),
        "{complaint}"
    );
    let complaint = cli.fails(1, &["volume", "create", "-o", "type=nfs", "half"]);
    assert!(
        complaint.contains("create half: missing required option: \"device\""),
        "{complaint}"
    );
}

fn an_empty_volume_is_filled_from_the_image(cli: &Cli<'_>) {
    let etc = ["--network", "none", "-v", "conf:/etc", "busybox"];
    cli.ok(&[&["create", "--name", "aa"], &etc[..], &["true"]].concat());
    let mountpoint = cli.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "conf"]);
    let passwd = fs::read_to_string(format!("{mountpoint}/passwd")).expect("it was copied");
    assert!(passwd.starts_with("root:x:0:0"), "{passwd}");
    cli.ok(&[
        "create",
        "--network",
        "none",
        "-v",
        "bare:/etc:nocopy",
        "busybox",
        "true",
    ]);
    let bare = cli.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "bare"]);
    assert_eq!(fs::read_dir(bare).map_or(9, Iterator::count), 0);
}

fn events_tell_of_volumes(cli: &Cli<'_>) {
    let since = cli.ok(&["info", "-f", "{{.SystemTime}}"]);
    cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "ev:/data:ro",
        "busybox",
        "true",
    ]);
    cli.ok(&["volume", "rm", "ev"]);
    let until = cli.ok(&["info", "-f", "{{.SystemTime}}"]);
    let told = cli.ok(&[
        "events", "--since", &since, "--until", &until, "--filter", "type=volume", "--format",
        "{{.Action}} {{.Actor.ID}} {{index .Actor.Attributes \"destination\"}} {{index .Actor.Attributes \"read/write\"}}",
    ]);
    let told: Vec<&str> = told.lines().map(str::trim_end).collect();
    assert_eq!(
        told,
        [
            "create ev <no value> <no value>",
            "mount ev /data false",
            "unmount ev <no value> <no value>",
            "destroy ev <no value> <no value>"
        ]
        .map(|line| line.replace(" <no value>", ""))
    );
}

#[test]
fn an_engine_killed_while_it_fills_a_volume_leaves_it_empty_or_full() {
    let Some(mut engine) = engine_with_busybox() else {
        return;
    };
    many_files(&engine.cli(Client::Conex));
    let data = engine.data_root().join("volumes/big/_data");
    let files = || fs::read_dir(&data).map_or(0, Iterator::count);
    let draft = engine.data_root().join("volumes/big/filling");
    let create = [
        "create",
        "--network",
        "none",
        "-v",
        "big:/many",
        "many",
        "true",
    ];
    let mut child = engine
        .cli(Client::Conex)
        .command(&create)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a client can be started");
    // The kill comes in the middle of the copy, or this case proves less.
    while fs::read_dir(&draft).map_or(0, |entries| entries.take(9).count()) < 9 && files() == 0 {
        std::thread::yield_now();
    }
    engine.kill9();
    child.wait().expect("a child can be reaped");
    engine.resume();
    assert!([0, FILES].contains(&files()), "{} files", files());
    engine.cli(Client::Conex).ok(&create);
    assert_eq!(files(), FILES);
    assert!(!draft.exists());
}

/// Files in the image `many`.
const FILES: usize = 300;

fn engine_with_busybox() -> Option<Engine> {
    let engine = conex_tests::client::engine_for(Client::Conex)?;
    match fixture::make(Fixture::Busybox) {
        Ok(tar) => engine
            .cli(Client::Conex)
            .ok(&["import", &tar.to_string_lossy(), "busybox"]),
        Err(reason) => {
            skip(&reason);
            return None;
        }
    };
    Some(engine)
}

/// An image `many` with [`FILES`] files in `/many`.
fn many_files(cli: &Cli<'_>) {
    let dir = cli.engine.root().join("image");
    fs::create_dir_all(dir.join("many")).expect("a directory can be made");
    for number in 0..FILES {
        fs::write(dir.join("many").join(number.to_string()), "x").expect("it takes files");
    }
    let tar = cli.engine.root().join("many.tar");
    let packed = std::process::Command::new("tar")
        .arg("-C")
        .arg(&dir)
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .status();
    assert!(packed.is_ok_and(|status| status.success()));
    cli.ok(&["import", &tar.to_string_lossy(), "many"]);
}

#[test]
fn the_volume_api_answers_as_docker_does() {
    with_busybox(Client::Conex, |cli| {
        let engine = cli.engine;
        let empty = engine.api("GET", "/v1.50/volumes", None);
        assert_eq!(empty.json(), json!({"Volumes": [], "Warnings": null}));
        let body = json!({"Name": "gvol", "Labels": {"l": "2"}});
        let created = engine.api("POST", "/v1.50/volumes/create", Some(&body));
        assert_eq!(created.status, 201);
        let mut volume = created.json();
        let time = volume["CreatedAt"].as_str().unwrap_or_default().to_owned();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
        volume
            .as_object_mut()
            .expect("an object")
            .remove("CreatedAt");
        let mountpoint = engine.data_root().join("volumes/gvol/_data");
        assert_eq!(
            volume,
            json!({
                "Driver": "local", "Labels": {"l": "2"}, "Mountpoint": mountpoint, "Name": "gvol",
                "Options": null, "Scope": "local"
            })
        );
        for (method, path, status, text) in [
            ("GET", "/volumes/no", 404, "get no: no such volume"),
            ("DELETE", "/volumes/no", 404, "get no: no such volume"),
            ("DELETE", "/volumes/no?force=1", 204, ""),
            (
                "GET",
                r#"/volumes?filters={"x":["1"]}"#,
                400,
                "invalid filter 'x'",
            ),
            (
                "POST",
                r#"/volumes/prune?filters={"until":["1"]}"#,
                400,
                "invalid filter 'until'",
            ),
        ] {
            let path = path
                .replace('"', "%22")
                .replace('{', "%7B")
                .replace('}', "%7D");
            let answer = engine.api(method, &path, None);
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
            if !text.is_empty() {
                assert_eq!(answer.json()["message"], text);
            }
        }
        // Before 1.42 a prune took named volumes too.
        let pruned = engine.api("POST", "/v1.42/volumes/prune", None);
        assert_eq!(
            pruned.json(),
            json!({"VolumesDeleted": [], "SpaceReclaimed": 0})
        );
        let pruned = engine.api("POST", "/v1.41/volumes/prune", None);
        assert_eq!(pruned.json()["VolumesDeleted"], json!(["gvol"]));
    });
}

#[test]
fn a_new_daemon_knows_who_has_which_volume_and_takes_idle_mounts_away() {
    let Some(mut engine) = engine_with_busybox() else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    for name in ["stays", "ends"] {
        cli.ok(&[
            "volume",
            "create",
            "-o",
            "type=tmpfs",
            "-o",
            "device=tmpfs",
            name,
        ]);
    }
    let trap = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    for name in ["stays", "ends"] {
        let volume = format!("{name}:/x");
        cli.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "none",
            "-v",
            &volume,
            "busybox",
            "sh",
            "-c",
            trap,
        ]);
        cli.wait_for_line(name, "ready");
    }
    let pid: i32 = cli
        .inspect("ends", "{{.State.Pid}}")
        .parse()
        .expect("a pid is a number");
    engine.kill9();
    let process = rustix::process::Pid::from_raw(pid).expect("it runs");
    let ended = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())
        .expect("it can be watched");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("it can be ended");
    conex_tests::process::readable_within(&ended, std::time::Duration::from_secs(30))
        .expect("a pidfd can be polled");
    engine.resume();
    let table = fs::File::open("/proc/self/mounts").expect("there is a mount table");
    let ours = engine.data_root().join("volumes");
    let mounted: Vec<String> = std::io::BufReader::new(table)
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains(&*ours.to_string_lossy()))
        .collect();
    assert!(
        mounted.len() == 1 && mounted[0].contains("/stays/_data"),
        "{mounted:?}"
    );
    let cli = engine.cli(Client::Conex);
    let complaint = cli.fails(1, &["volume", "rm", "ends"]);
    assert!(complaint.contains("volume is in use"), "{complaint}");
    cli.ok(&["rm", "-f", "stays"]);
    cli.ok(&["rm", "ends"]);
    cli.ok(&["volume", "rm", "stays", "ends"]);
}
