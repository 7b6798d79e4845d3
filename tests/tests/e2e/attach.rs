//! Attaching: leaving by the detach keys, the log before the streams, and clients
//! that vanish.

use std::io::{BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::engine::Engine;
use conex_tests::{http, process, terminal, under_both_clients};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

under_both_clients! {
    detach_keys_leave_a_container_running_however_one_came_to_it,
}

/// Starts a client in a terminal, waits for a text, types, and waits for its end.
fn visit(cli: &Cli<'_>, args: &[&str], greeting: &str, typed: &str) -> (Option<i32>, String) {
    let (mut client, master) = terminal::spawn(cli.command(args));
    let mut seen = String::new();
    if !greeting.is_empty() {
        terminal::type_in(&master, "\n");
        terminal::read_until(&master, &mut seen, greeting);
    }
    terminal::type_in(&master, typed);
    let status = process::wait_limited(&mut client, LIMIT).expect("a child can be waited for");
    let mut rest = [0; 4096];
    let left = process::readable_within(&master, Duration::ZERO).unwrap_or(false);
    if left && let Ok(n) = rustix::io::read(&master, &mut rest) {
        seen.push_str(&String::from_utf8_lossy(&rest[..n]));
    }
    (status.and_then(|s| s.code()), seen)
}

fn detach_keys_leave_a_container_running_however_one_came_to_it(cli: &Cli<'_>) {
    let run = [
        "run",
        "-it",
        "--name",
        "web",
        "--network",
        "none",
        "busybox",
        "sh",
    ];
    let (code, seen) = visit(cli, &run, "/ #", "echo o$((1+1))o\n\x10\x11");
    assert_eq!(code, Some(0), "{seen}");
    assert_eq!(cli.inspect("web", "{{.State.Running}}"), "true");
    cli.wait_for_line("web", "o2o");

    let attach = ["attach", "--detach-keys", "ctrl-a,x", "web"];
    // Keys of another sequence, and a begun one, are the program's.
    let typed = "echo t\x01\x7fwo\n\x01x";
    let (code, seen) = visit(cli, &attach, "/ #", typed);
    assert_eq!(code, Some(1), "{seen}");
    assert!(seen.contains("read escape sequence"), "{seen}");
    assert_eq!(cli.inspect("web", "{{.State.Running}}"), "true");

    let exec = ["exec", "-it", "web", "sh"];
    let (code, seen) = visit(cli, &exec, "/ #", "\x10\x11");
    assert_eq!(code, Some(1), "{seen}");
    assert!(seen.contains("read escape sequence"), "{seen}");
    assert_eq!(cli.inspect("web", "{{len .ExecIDs}}"), "1");
}

/// Opens a hijacked connection; what the container says comes next.
fn hijack(engine: &Engine, path: &str, body: &str) -> (UnixStream, BufReader<UnixStream>) {
    let mut stream = http::connect(&engine.socket()).expect("the engine listens");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .expect("it takes a request");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket can be shared"));
    let (status, _) = http::read_head(&mut reader).expect("it answers");
    assert_eq!(status, 101);
    (stream, reader)
}

/// Reads this text and no more.
fn hear(reader: &mut impl Read, text: &str) {
    let mut bytes = vec![0; text.len()];
    reader.read_exact(&mut bytes).expect("it speaks");
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

fn to_the_end(mut reader: impl Read) -> String {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("it ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Actions of a container's events so far, those of `names` only.
fn actions(engine: &Engine, names: &[&str]) -> Vec<String> {
    let now = jiff::Timestamp::now();
    let until = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
    let answer = engine.api("GET", &format!("/events?since=1&until={until}"), None);
    let text = answer.text();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|event| event["Action"].as_str().map(str::to_owned))
        .filter(|action| names.contains(&action.as_str()))
        .collect()
}

#[test]
fn the_engine_itself_knows_detach_keys_and_tells_of_them() {
    with_busybox(Client::Conex, |cli| {
        let engine = cli.engine;
        cli.ok(&[
            "run",
            "-dit",
            "--name",
            "web",
            "--network",
            "none",
            "busybox",
            "cat",
        ]);
        let path = "/containers/web/attach?stream=1&stdin=1&stdout=1";
        let (mut input, mut output) = hijack(engine, path, "");
        input.write_all(b"one\n\x10").expect("it is connected");
        hear(&mut output, "one\r\none\r\n");
        input.write_all(b"\x11ignored\n").expect("it is connected");
        assert_eq!(to_the_end(output), "");

        // A begun sequence that was none is replayed; other keys can be chosen.
        let (mut input, mut output) = hijack(engine, &format!("{path}&detachKeys=a,b"), "");
        input.write_all(b"xa").expect("it is connected");
        input.write_all(b"c\n").expect("it is connected");
        hear(&mut output, "xac\r\nxac\r\n");
        input.write_all(b"ab").expect("it is connected");
        assert_eq!(to_the_end(output), "");

        let refused = engine.api("POST", &format!("{path}&detachKeys=ctrl-P"), None);
        assert_eq!(refused.status, 400);
        assert_eq!(refused.message(), "Invalid detach keys (ctrl-P) provided");

        let exec = json!({
            "Cmd": ["cat"], "Tty": true, "AttachStdin": true, "AttachStdout": true,
            "DetachKeys": "ctrl-x",
        });
        let made = engine
            .api("POST", "/containers/web/exec", Some(&exec))
            .json();
        let id = made["Id"].as_str().expect("an id").to_owned();
        let start = format!("/exec/{id}/start");
        let (mut input, mut output) = hijack(engine, &start, r#"{"Tty":true}"#);
        input.write_all(b"three\n").expect("it is connected");
        hear(&mut output, "three\r\nthree\r\n");
        input.write_all(b"\x18").expect("it is connected");
        assert_eq!(to_the_end(output), "");
        let exec = engine.api("GET", &format!("/exec/{id}/json"), None).json();
        assert_eq!(exec["Running"], json!(true));

        assert_eq!(cli.inspect("web", "{{.State.Running}}"), "true");
        assert!(!cli.ok(&["logs", "web"]).contains("ignored"));
        let told = actions(engine, &["detach", "exec_detach"]);
        assert_eq!(told, ["detach", "detach", "exec_detach"]);
    });
}

#[test]
fn detach_keys_mean_nothing_without_a_terminal() {
    with_busybox(Client::Conex, |cli| {
        let output = cli.run_with_input(
            &[
                "run",
                "--rm",
                "-i",
                "--network",
                "none",
                "busybox",
                "od",
                "-c",
            ],
            b"\x10\x11",
        );
        assert!(output.stdout.contains("020 021"), "{output}");
    });
}

#[test]
fn the_log_is_followed_by_the_streams_without_gap_or_repeat() {
    with_busybox(Client::Conex, |cli| {
        let engine = cli.engine;
        let script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo $i; done; read x; echo end";
        cli.ok(&[
            "run",
            "-di",
            "--name",
            "web",
            "--network",
            "none",
            "--log-opt",
            "max-size=20k",
            "--log-opt",
            "max-file=1000",
            "--log-opt",
            "compress=true",
            "busybox",
            "sh",
            "-c",
            script,
        ]);
        let path = "/containers/web/attach?logs=1&stream=1&stdout=1";
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let (_, reader) = hijack(engine, path, "");
                std::thread::spawn(move || payload(reader))
            })
            .collect();
        let (mut input, output) = hijack(engine, &format!("{path}&stdin=1"), "");
        cli.wait_for_line("web", "30000");
        input.write_all(b"go\n").expect("it is connected");
        let expected: String = (1..=30000).map(|n| format!("{n}\n")).collect::<String>() + "end\n";
        assert!(payload(output) == expected);
        for client in clients {
            let seen = client.join().expect("a reader does not panic");
            assert!(seen == expected, "{} of {}", seen.len(), expected.len());
        }
    });
}

#[test]
fn a_prompt_without_an_end_of_line_is_shown_with_the_log() {
    with_busybox(Client::Conex, |cli| {
        let script = "echo first; printf 'name? '; read name; echo hello $name";
        cli.ok(&[
            "run",
            "-di",
            "--name",
            "web",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            script,
        ]);
        cli.wait_for_line("web", "first");
        let path = "/containers/web/attach?logs=1&stream=1&stdin=1&stdout=1";
        let (mut input, mut output) = hijack(cli.engine, path, "");
        let mut asked = String::new();
        while asked != "first\nname? " {
            asked.push_str(&frame(&mut output));
            assert!("first\nname? ".starts_with(&asked), "{asked:?}");
        }
        input.write_all(b"you\n").expect("it is connected");
        assert_eq!(payload(output), "hello you\n");
    });
}

#[test]
fn attaching_before_the_start_shows_the_last_run_once() {
    with_busybox(Client::Conex, |cli| {
        cli.ok(&[
            "run",
            "--name",
            "web",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "echo a line",
        ]);
        let path = "/containers/web/attach?logs=1&stream=1&stdout=1";
        let (_, output) = hijack(cli.engine, path, "");
        cli.ok(&["start", "web"]);
        assert_eq!(payload(output), "a line\na line\n");
    });
}

/// The payload of the next frame; nothing at the end.
fn frame(reader: &mut impl Read) -> String {
    let mut head = [0; 8];
    match reader.read_exact(&mut head) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return String::new(),
        other => other.expect("a frame or an end"),
    }
    let mut payload = vec![0; u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize];
    reader.read_exact(&mut payload).expect("a whole frame");
    String::from_utf8_lossy(&payload).into_owned()
}

/// The payloads of all frames to the end.
fn payload(mut reader: impl Read) -> String {
    std::iter::repeat_with(|| frame(&mut reader))
        .take_while(|text| !text.is_empty())
        .collect()
}

#[test]
fn a_client_that_vanishes_from_a_silent_container_gives_its_descriptors_back() {
    with_busybox(Client::Conex, |cli| {
        let engine = cli.engine;
        cli.ok(&[
            "run",
            "-di",
            "--name",
            "web",
            "--network",
            "none",
            "busybox",
            "sleep",
            "1000",
        ]);
        let open = || {
            let fds = format!("/proc/{}/fd", engine.pid());
            std::fs::read_dir(fds).expect("the daemon runs").count()
        };
        engine.api("GET", "/_ping", None);
        let before = open();
        let path = "/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1";
        let mut clients: Vec<_> = (0..20).map(|_| hijack(engine, path, "")).collect();
        assert!(open() >= before + 40);
        for (stream, _) in &clients[..10] {
            // Half of them end their input first, as clients do that only watch.
            stream.shutdown(Shutdown::Write).expect("it is connected");
        }
        engine.api("GET", "/_ping", None);
        assert!(open() >= before + 40, "a half-closed client still listens");
        clients.clear();
        let deadline = Instant::now() + LIMIT;
        while open() > before + 3 {
            assert!(Instant::now() < deadline, "{} after {before}", open());
            // One round trip of the daemon's own loop, instead of a clock.
            engine.api("GET", "/_ping", None);
        }
    });
}
