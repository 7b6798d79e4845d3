//! Files in and out of containers, as `cp` and through the archive API.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conex_tests::archive::{self, end, header};
use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::http::{self, Response};
use conex_tests::under_both_clients;

under_both_clients! {
    a_file_comes_out_and_goes_in_by_dockers_rules,
    directories_are_copied_by_the_ends_of_their_paths,
    links_are_copied_or_followed_as_asked,
    archives_go_through_pipes_both_ways,
    a_created_container_takes_files_before_its_first_start,
    volumes_binds_and_tmpfs_are_reached_as_from_inside,
    where_the_container_may_not_write_nobody_does,
    what_cannot_be_copied_is_refused_in_dockers_words,
    a_stopped_and_a_paused_container_give_and_take,
}

fn file(name: &str, text: &str) -> Vec<u8> {
    archive::file(name, text.as_bytes())
}

fn room(cli: &Cli<'_>) -> PathBuf {
    let room = cli.engine.root().join("room");
    fs::create_dir_all(&room).expect("a directory can be made");
    room
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// A container that runs until it is told to end.
fn running(cli: &Cli<'_>, name: &str, more: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name, "--network", "none"];
    args.extend_from_slice(more);
    args.extend_from_slice(&["busybox", "sleep", "1000"]);
    cli.ok(&args);
}

fn cat(cli: &Cli<'_>, name: &str, path: &str) -> String {
    cli.ok(&["exec", name, "cat", path])
}

fn a_file_comes_out_and_goes_in_by_dockers_rules(cli: &Cli<'_>) {
    let room = room(cli);
    let source = room.join("file");
    fs::write(&source, "content\n").expect("the room takes files");
    fs::set_permissions(&source, fs::Permissions::from_mode(0o640)).expect("it is ours");
    std::os::unix::fs::chown(&source, Some(1234), Some(56)).expect("it is ours");
    running(cli, "web", &[]);
    for (to, lands) in [
        ("web:/tmp", "/tmp/file"),
        ("web:/tmp/", "/tmp/file"),
        ("web:/tmp/new", "/tmp/new"),
        ("web:home/relative", "/home/relative"),
    ] {
        assert_eq!(cli.ok(&["cp", text(&source), to]), "");
        assert_eq!(cat(cli, "web", lands), "content", "{to}");
    }
    let looks = cli.ok(&["exec", "web", "stat", "-c", "%a %u %g", "/tmp/file"]);
    assert_eq!(looks, "640 1234 56");
    // Out again, into a directory, under a new name, over the old one.
    cli.ok(&["exec", "web", "chmod", "4711", "/tmp/new"]);
    for (to, lands) in [("out", "out"), (".", "new"), ("out", "out")] {
        let to = room.join(to);
        cli.ok(&["cp", "web:/tmp/new", text(&to)]);
        let lands = room.join(lands);
        assert_eq!(fs::read_to_string(&lands).expect("it arrived"), "content\n");
        let status = fs::metadata(&lands).expect("it arrived");
        assert_eq!((status.mode() & 0o7777, status.uid()), (0o4711, 0));
    }
    let output = cli.run(&["cp", "--quiet=false", text(&source), "web:/tmp/again"]);
    assert_eq!(output.code, Some(0), "{output}");
    assert!(
        output
            .stderr
            .ends_with("Successfully copied 2.05kB to web:/tmp/again\n"),
        "{output}"
    );
    let output = cli.run(&["cp", "--quiet=false", "web:/tmp/again", text(&room)]);
    assert!(
        output.stderr.ends_with(&format!(
            "Successfully copied 2.05kB to {}\n",
            room.display()
        )),
        "{output}"
    );
}

fn directories_are_copied_by_the_ends_of_their_paths(cli: &Cli<'_>) {
    let room = room(cli);
    fs::create_dir_all(room.join("dir/deep")).expect("the room takes files");
    fs::write(room.join("dir/deep/file"), "x\n").expect("the room takes files");
    fs::hard_link(room.join("dir/deep/file"), room.join("dir/other")).expect("same directory");
    running(cli, "web", &[]);
    let dir = room.join("dir");
    let content = format!("{}/.", dir.display());
    for (from, to, lands) in [
        (text(&dir), "web:/tmp", "/tmp/dir/deep/file"),
        (text(&dir), "web:/srv", "/srv/deep/file"),
        (&content, "web:/opt", "/opt/deep/file"),
        (&content, "web:/home", "/home/deep/file"),
    ] {
        cli.ok(&["cp", from, to]);
        assert_eq!(cat(cli, "web", lands), "x", "{from} {to}");
    }
    let links = cli.ok(&["exec", "web", "stat", "-c", "%h", "/srv/other"]);
    assert_eq!(links, "2");
    for (from, to, lands) in [
        ("web:/srv", "one", "one/deep/file"),
        ("web:/srv/.", "two", "two/deep/file"),
        ("web:/srv", "two", "two/srv/deep/file"),
        ("web:/srv/.", "three/", "three/deep/file"),
    ] {
        let to = format!("{}/{to}", room.display());
        cli.ok(&["cp", from, &to]);
        assert_eq!(
            fs::read_to_string(room.join(lands)).expect(lands),
            "x\n",
            "{from} {to}"
        );
    }
    let first = fs::metadata(room.join("one/other")).expect("it arrived");
    assert_eq!(first.nlink(), 2);
    // The whole root, without what the kernel shows in it.
    cli.ok(&["cp", "web:/", text(&room.join("root"))]);
    assert!(room.join("root/bin/busybox").is_file());
    for kernels in ["proc", "sys"] {
        let inside = fs::read_dir(room.join("root").join(kernels)).expect("its place is there");
        assert_eq!(inside.count(), 0, "{kernels}");
    }
}

fn links_are_copied_or_followed_as_asked(cli: &Cli<'_>) {
    let room = room(cli);
    fs::create_dir(room.join("real")).expect("the room takes files");
    fs::write(room.join("real/file"), "x\n").expect("the room takes files");
    symlink("real", room.join("link")).expect("the room takes links");
    running(cli, "web", &[]);
    cli.ok(&[
        "exec",
        "web",
        "sh",
        "-c",
        "mkdir /srv; echo y >/srv/file; ln -s /srv /tmp/way; ln -s file /srv/short",
    ]);
    let at = |path: &str| format!("{}/{path}", room.display());
    cli.ok(&["cp", &at("link"), "web:/home"]);
    assert_eq!(cli.ok(&["exec", "web", "readlink", "/home/link"]), "real");
    cli.ok(&["cp", "-L", &at("link"), "web:/root"]);
    assert_eq!(cat(cli, "web", "/root/link/file"), "x");
    // A link in the way is followed inside the container.
    cli.ok(&["cp", &at("real/file"), "web:/tmp/way"]);
    assert_eq!(cat(cli, "web", "/srv/file"), "x");
    cli.ok(&["cp", "web:/srv/short", &at("out")]);
    let link = fs::read_link(at("out")).expect("a link is copied as one");
    assert_eq!(link, Path::new("file"));
    cli.ok(&["cp", "-L", "web:/srv/short", &at("followed")]);
    assert_eq!(
        fs::read_to_string(at("followed")).expect("it arrived"),
        "x\n"
    );
    cli.ok(&["cp", "web:/tmp/way/", &at("by-slash")]);
    assert!(room.join("by-slash/file").is_file());
}

fn archives_go_through_pipes_both_ways(cli: &Cli<'_>) {
    running(cli, "web", &[]);
    let tar = [header("dir/", b'5', 0, ""), file("dir/file", "x\n"), end()].concat();
    let output = cli.run_with_input(&["cp", "-", "web:/srv"], &tar);
    assert_eq!(output.code, Some(1), "there is no such directory: {output}");
    let output = cli.run_with_input(&["cp", "-", "web:/tmp"], &tar);
    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(cat(cli, "web", "/tmp/dir/file"), "x");
    let output = cli.command(&["cp", "web:/tmp/dir", "-"]).output();
    let output = output.expect("a client can be started");
    assert!(output.status.success());
    let mut tar = Command::new("tar")
        .args(["-t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar can be started");
    let mut input = tar.stdin.take().expect("it is a pipe");
    std::io::Write::write_all(&mut input, &output.stdout).expect("tar reads");
    drop(input);
    let listed = tar.wait_with_output().expect("tar ends").stdout;
    assert_eq!(String::from_utf8_lossy(&listed), "dir/\ndir/file\n");
}

fn a_created_container_takes_files_before_its_first_start(cli: &Cli<'_>) {
    let room = room(cli);
    fs::write(
        room.join("script"),
        "#!/bin/sh\ncat /etc/conf.d/conf /vol/conf\n",
    )
    .expect("the room takes files");
    fs::set_permissions(room.join("script"), fs::Permissions::from_mode(0o755))
        .expect("it is ours");
    fs::create_dir(room.join("conf.d")).expect("the room takes files");
    fs::write(room.join("conf.d/conf"), "set\n").expect("the room takes files");
    for (name, more) in [("web", &[][..]), ("rm", &["--rm"])] {
        let mut args = vec!["create", "--name", name, "--network", "none", "-v", "/vol"];
        args.extend_from_slice(more);
        args.extend_from_slice(&["busybox", "/script"]);
        cli.ok(&args);
        let to = |path: &str| format!("{name}:{path}");
        cli.ok(&["cp", text(&room.join("script")), &to("/script")]);
        cli.ok(&["cp", text(&room.join("conf.d")), &to("/etc/")]);
        cli.ok(&["cp", text(&room.join("conf.d/conf")), &to("/vol/")]);
        cli.ok(&["cp", &to("/vol/conf"), text(&room.join("back"))]);
        assert_eq!(
            fs::read_to_string(room.join("back")).expect("it came back"),
            "set\n"
        );
        assert_eq!(cli.ok(&["start", "-a", name]), "set\nset");
    }
    assert_eq!(
        cli.ok(&["diff", "web"]),
        "C /etc\nA /etc/conf.d\nA /etc/conf.d/conf\nA /script"
    );
    // One more start, and then a copy that nobody starts.
    assert_eq!(cli.ok(&["start", "-a", "web"]), "set\nset");
    cli.ok(&["create", "--name", "never", "-v", "/vol", "busybox", "true"]);
    cli.ok(&["cp", text(&room.join("script")), "never:/vol"]);
    cli.ok(&["rm", "-v", "never"]);
    cli.engine.settle();
}

fn volumes_binds_and_tmpfs_are_reached_as_from_inside(cli: &Cli<'_>) {
    let room = room(cli);
    let bound = room.join("bound");
    fs::create_dir(&bound).expect("the room takes files");
    fs::write(room.join("file"), "x\n").expect("the room takes files");
    let bind = format!("{}:/bound", bound.display());
    running(
        cli,
        "web",
        &["-v", &bind, "-v", "named:/named", "--tmpfs", "/scratch"],
    );
    let source = room.join("file");
    for place in ["/bound", "/named", "/scratch", "/dev/shm"] {
        cli.ok(&["cp", text(&source), &format!("web:{place}")]);
        assert_eq!(cat(cli, "web", &format!("{place}/file")), "x");
        cli.ok(&["cp", &format!("web:{place}/file"), text(&room.join("back"))]);
    }
    assert_eq!(
        fs::read_to_string(bound.join("file")).expect("it is the host's"),
        "x\n"
    );
    cli.ok(&["stop", "-t", "0", "web"]);
    // At rest the tmpfs is gone, the others are there.
    for place in ["/bound", "/named"] {
        cli.ok(&["cp", &format!("web:{place}/file"), text(&room.join("rest"))]);
        cli.ok(&["cp", text(&source), &format!("web:{place}/again")]);
    }
    assert!(bound.join("again").is_file());
    cli.fails(1, &["cp", "web:/scratch/file", text(&room.join("gone"))]);
    // What lies in volumes is not in the container's own layer.
    assert_eq!(cli.ok(&["diff", "web"]), "");
    cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "named:/n",
        "busybox",
        "cat",
        "/n/again",
    ]);
}

fn where_the_container_may_not_write_nobody_does(cli: &Cli<'_>) {
    let room = room(cli);
    fs::write(room.join("file"), "x\n").expect("the room takes files");
    let source = room.join("file");
    let bind = format!("{}:/bound:ro", room.display());
    cli.ok(&[
        "create",
        "--name",
        "made",
        "--read-only",
        "-v",
        "/vol",
        "-v",
        &bind,
        "busybox",
        "true",
    ]);
    running(cli, "web", &["--read-only", "-v", "/vol", "-v", &bind]);
    for name in ["made", "web"] {
        let told = cli.fails(1, &["cp", text(&source), &format!("{name}:/tmp")]);
        assert!(
            told.contains("container rootfs is marked read-only"),
            "{told}"
        );
        let told = cli.fails(1, &["cp", text(&source), &format!("{name}:/bound/sub")]);
        assert!(
            told.contains("mounted volume is marked read-only"),
            "{told}"
        );
        cli.ok(&["cp", text(&source), &format!("{name}:/vol")]);
        cli.ok(&["cp", &format!("{name}:/vol/file"), text(&room.join("back"))]);
    }
    assert_eq!(
        put(cli, "made", "/tmp", &[file("x", ""), end()].concat()).status,
        403
    );
}

fn what_cannot_be_copied_is_refused_in_dockers_words(cli: &Cli<'_>) {
    let room = room(cli);
    fs::create_dir(room.join("dir")).expect("the room takes files");
    fs::write(room.join("file"), "x\n").expect("the room takes files");
    let (dir, file) = (room.join("dir"), room.join("file"));
    let (dir, file) = (text(&dir), text(&file));
    running(cli, "web", &[]);
    cli.ok(&["exec", "web", "mkdir", "-p", "/srv/file"]);
    let missing = format!("{}/missing", room.display());
    let slashed = format!("{file}/");
    for (args, expected) in [
        (
            ["web:/no/such", dir],
            "Could not find the file /no/such in container web",
        ),
        (["web:/etc/passwd/x", dir], "not a directory"),
        (["web:/etc/passwd/", dir], "not a directory"),
        (["nosuch:/x", dir], "No such container: nosuch"),
        ([file, "nosuch:/x"], "No such container: nosuch"),
        (
            [file, "web:/no/such/dir"],
            "Could not find the file /no/such in container web",
        ),
        ([file, "web:/srv/new/"], "no such directory"),
        ([dir, "web:/etc/passwd"], "cannot copy directory"),
        (
            [file, "web:/srv"],
            "cannot overwrite directory \"/srv/file\" with non-directory \"/srv\"",
        ),
        (["web:/etc", file], "cannot copy directory"),
        ([&missing, "web:/tmp"], "no such file or directory"),
        ([&slashed, "web:/tmp"], "not a directory"),
        (
            ["web:/etc/passwd", "/no/such/dir/x"],
            "invalid output path: directory \"/no/such/dir\" does not exist",
        ),
        (
            ["web:/a", "web:/b"],
            "copying between containers is not supported",
        ),
        ([file, dir], "must specify at least one container source"),
    ] {
        let told = cli.fails(1, &["cp", args[0], args[1]]);
        assert!(told.contains(expected), "{args:?}: {told}");
    }
    let answer = cli
        .engine
        .api("HEAD", "/containers/web/archive?path=/etc/passwd", None);
    assert_eq!(answer.status, 200);
    assert!(answer.header("x-docker-container-path-stat").is_some());
    let status = |method, path| cli.engine.api(method, path, None).status;
    assert_eq!(status("HEAD", "/containers/web/archive?path=/no"), 404);
    assert_eq!(status("GET", "/containers/web/archive"), 400);
    assert_eq!(status("GET", "/containers/web/archive?path="), 400);
    let told = put(cli, "web", "/etc/passwd", &end());
    assert_eq!(
        (told.status, told.message().as_str()),
        (400, "extraction point is not a directory")
    );
    assert_eq!(put(cli, "web", "/tmp", b"this is no archive").status, 400);
}

fn a_stopped_and_a_paused_container_give_and_take(cli: &Cli<'_>) {
    let room = room(cli);
    fs::write(room.join("file"), "x\n").expect("the room takes files");
    let source = room.join("file");
    running(cli, "web", &[]);
    cli.ok(&["pause", "web"]);
    cli.ok(&["cp", text(&source), "web:/tmp/paused"]);
    cli.ok(&["cp", "web:/tmp/paused", text(&room.join("one"))]);
    cli.ok(&["unpause", "web"]);
    cli.ok(&["stop", "-t", "0", "web"]);
    cli.ok(&["cp", text(&source), "web:/tmp/stopped"]);
    cli.ok(&["cp", "web:/tmp/stopped", text(&room.join("two"))]);
    cli.ok(&["cp", "web:/etc/hostname", text(&room.join("name"))]);
    let name = fs::read_to_string(room.join("name")).expect("it arrived");
    assert_eq!(name.trim().len(), 12, "the file of its last run: {name:?}");
    cli.ok(&["start", "web"]);
    assert_eq!(cat(cli, "web", "/tmp/paused"), "x");
    assert_eq!(cat(cli, "web", "/tmp/stopped"), "x");
}

fn put(cli: &Cli<'_>, name: &str, path: &str, tar: &[u8]) -> Response {
    let path = format!("/containers/{name}/archive?path={path}");
    let kind = [("Content-Type", "application/x-tar")];
    http::request(&cli.engine.socket(), "PUT", &path, &kind, Some(tar))
        .unwrap_or_else(|e| panic!("{e}\n{}", cli.engine.log()))
}

#[test]
fn archives_that_mean_harm_stay_in_the_container() {
    with_busybox(Client::Conex, |cli| {
        let outside = room(cli).join("victim");
        fs::write(&outside, "untouched").expect("the room takes files");
        let host = text(outside.parent().expect("it has one"));
        running(cli, "web", &[]);
        cli.ok(&["create", "--name", "made", "busybox", "true"]);
        for name in ["web", "made"] {
            let escape = [file("../../victim", "changed"), end()].concat();
            let told = put(cli, name, "/tmp", &escape);
            assert_eq!(told.status, 400, "{}", told.text());
            let links = [
                header("way", b'2', 0, host),
                file("way/victim", "changed"),
                header("direct", b'2', 0, text(&outside)),
                file("direct", "changed"),
                header("linked", b'1', 0, "/etc/passwd"),
                end(),
            ];
            put(cli, name, "/tmp", &links.concat());
            assert_eq!(
                fs::read_to_string(&outside).expect("it is there"),
                "untouched"
            );
        }
        // A link of the container in the way of the path itself.
        cli.ok(&["exec", "web", "ln", "-s", host, "/escape"]);
        let told = put(
            cli,
            "web",
            "/escape",
            &[file("victim", "changed"), end()].concat(),
        );
        assert_eq!(told.status, 404, "the host's path is not the container's");
        assert_eq!(
            fs::read_to_string(&outside).expect("it is there"),
            "untouched"
        );
        let answer = cli
            .engine
            .api("GET", "/containers/web/archive?path=/escape/victim", None);
        assert_eq!(answer.status, 404);
        let answer = cli
            .engine
            .api("GET", "/containers/web/archive?path=/proc/1/root/etc", None);
        assert_ne!(answer.status, 500);
    });
}

#[test]
fn an_engine_killed_in_a_copy_leaves_no_mount() {
    let Some(mut engine) = conex_tests::client::engine_for(Client::Conex) else {
        return;
    };
    let tar = match conex_tests::fixture::make(conex_tests::fixture::Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return conex_tests::skip(&reason),
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
    cli.ok(&[
        "create",
        "--name",
        "web",
        "--network",
        "none",
        "-v",
        "/vol",
        "busybox",
        "cat",
        "/vol/first",
    ]);
    let volume = PathBuf::from(cli.inspect("web", "{{(index .Mounts 0).Source}}"));
    // The engine has unpacked the first file and waits for the rest.
    let mut stream = http::connect(&engine.socket()).expect("it listens");
    let head = "PUT /containers/web/archive?path=/vol HTTP/1.1\r\nHost: x\r\n\
                Content-Type: application/x-tar\r\nContent-Length: 100000000\r\n\r\n";
    use std::io::Write as _;
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut first = file("first", "here\n");
    // More than what is read ahead before the first entry is looked at.
    first.extend_from_slice(&header("second", b'0', 90_000_000, ""));
    first.resize(4 << 20, 0);
    stream.write_all(&first).expect("it reads");
    let arrived = || volume.join("first").exists();
    conex_tests::engine::until(&volume, || (), arrived);
    engine.kill9();
    drop(stream);
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it is there");
    assert!(!mounts.contains(text(engine.root())), "{mounts}");
    engine.resume();
    let cli = engine.cli(Client::Conex);
    assert_eq!(cli.ok(&["start", "-a", "web"]), "here");
    cli.ok(&["rm", "-v", "web"]);
    engine.settle();
}

#[test]
fn copies_and_a_start_at_the_same_time_see_one_root() {
    with_busybox(Client::Conex, |cli| {
        let script = "echo up >/started; sleep 1000";
        for round in 0..4 {
            let name = format!("web{round}");
            let mut args = vec!["create", "--name", &name, "--network", "none"];
            // With volumes in their places and without.
            if round % 2 == 1 {
                args.extend(["-v", "/vol"]);
            }
            args.extend(["busybox", "sh", "-c", script]);
            cli.ok(&args);
            std::thread::scope(|scope| {
                for copy in 0..4 {
                    let name = &name;
                    scope.spawn(move || {
                        let tar = archive::layer(&format!("copy-{copy}"), b"x");
                        let answer = put(cli, name, "/tmp", &tar);
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    });
                }
                scope.spawn(|| cli.ok(&["start", &name]));
            });
            let seen = cli.ok(&["exec", &name, "sh", "-c", "ls /tmp | wc -l; cat /started"]);
            assert_eq!(seen, "4\nup", "round {round}");
            cli.ok(&["rm", "-f", "-v", &name]);
        }
        cli.engine.settle();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it is there");
        assert!(!mounts.contains(text(cli.engine.root())), "{mounts}");
    });
}

/// The mount of a container at rest ends behind the answer of a copy into it.
#[test]
fn what_follows_a_copy_into_a_stopped_container_does_not_wait_and_sees_it() {
    with_busybox(Client::Conex, |cli| {
        let script = "cat /tmp/* 2>/dev/null; echo written >/tmp/own";
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
        for round in 0..4 {
            for copy in ["a", "b"] {
                let tar = archive::layer(&format!("{round}{copy}"), format!("{copy}\n").as_bytes());
                assert_eq!(put(cli, "web", "/tmp", &tar).status, 200);
            }
            let seen = cli.ok(&["start", "-a", "web"]);
            assert_eq!(seen, format!("{}written", "a\nb\n".repeat(round + 1)));
        }
        let tar = archive::layer("last", b"x");
        assert_eq!(put(cli, "web", "/tmp", &tar).status, 200);
        cli.ok(&["rm", "web"]);
        cli.engine.settle();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it is there");
        assert!(!mounts.contains(text(cli.engine.root())), "{mounts}");
    });
}
