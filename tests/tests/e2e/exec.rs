//! `exec`: further programs in running containers, through both clients, on the
//! wire, and across the death of the daemon.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::fixture::{self, Fixture};
use conex_tests::{http, process, skip, terminal, under_both_clients};
use rustix::process::{Pid, PidfdFlags};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

under_both_clients! {
    the_exit_code_is_the_programs_or_says_why_there_is_none,
    the_end_of_input_reaches_the_program,
    megabytes_pass_through_an_exec_unharmed,
    variables_user_and_directory_are_as_asked,
    a_terminal_has_the_size_of_the_clients,
    a_detached_exec_runs_on_its_own,
    a_process_left_behind_does_not_hold_the_client,
    a_client_that_goes_does_not_end_its_exec,
    a_container_that_does_not_run_takes_no_exec,
    an_exec_ends_with_its_container,
    execs_side_by_side_keep_their_streams_apart,
}

/// A container that does nothing.
fn idle(cli: &Cli<'_>, name: &str) {
    cli.ok(&[
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ]);
}

fn sh<'a>(name: &'a str, script: &'a str) -> [&'a str; 5] {
    ["exec", name, "sh", "-c", script]
}

fn the_exit_code_is_the_programs_or_says_why_there_is_none(cli: &Cli<'_>) {
    idle(cli, "web");
    let output = cli.run(&sh("web", "echo out; echo err >&2; exit 5"));
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (Some(5), "out\n", "err\n")
    );
    assert_eq!(cli.run(&sh("web", "kill -9 $$")).code, Some(137));
    for (program, code, reason) in [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        let output = cli.run(&["exec", "web", program]);
        let expected = format!(
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \
             \"{program}\": {reason}\r\n"
        );
        assert_eq!((output.code, output.stdout), (Some(code), expected));
    }
    let missing = cli.fails(1, &["exec", "missing", "true"]);
    assert!(missing.contains("No such container: missing"), "{missing}");
}

fn the_end_of_input_reaches_the_program(cli: &Cli<'_>) {
    idle(cli, "web");
    let script = "cat; echo end; exit 3";
    let output = cli.run_with_input(&["exec", "-i", "web", "sh", "-c", script], b"one\ntwo");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(3), "one\ntwoend\n")
    );
    // Without -i there is nothing to read, and nobody waits for it.
    let output = cli.run_with_input(&["exec", "web", "cat"], b"unread");
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""));
}

fn megabytes_pass_through_an_exec_unharmed(cli: &Cli<'_>) {
    idle(cli, "web");
    let input: String = (0..400_000)
        .map(|number| format!("{number:09}\n"))
        .collect();
    let output = cli.run_with_input(&["exec", "-i", "web", "cat"], input.as_bytes());
    assert_eq!((output.code, output.stdout.len()), (Some(0), input.len()));
    assert!(output.stdout == input, "the bytes differ");
}

fn variables_user_and_directory_are_as_asked(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "-e",
        "KEPT=1",
        "-e",
        "CHANGED=old",
        "-w",
        "/usr",
        "busybox",
        "sleep",
        "1000",
    ]);
    let show = "echo $KEPT $CHANGED $NEW; id -u; id -g; pwd";
    assert_eq!(cli.ok(&sh("web", show)), "1 old\n0\n0\n/usr");
    let shown = cli.ok(&[
        "exec",
        "-e",
        "CHANGED=new",
        "-e",
        "NEW=2",
        "-u",
        "1000:1001",
        "-w",
        "/tmp",
        "web",
        "sh",
        "-c",
        show,
    ]);
    assert_eq!(shown, "1 new 2\n1000\n1001\n/tmp");
    let nobody = cli.run(&["exec", "-u", "nosuch", "web", "true"]);
    assert_eq!(nobody.code, Some(126), "{nobody}");
    assert!(
        nobody.stdout.contains("unable to find user nosuch"),
        "{nobody}"
    );

    let bounding = |args: &[&str]| {
        let text = cli.ok(&[args, &["web", "grep", "CapEff", "/proc/self/status"]].concat());
        let digits = text
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned();
        u64::from_str_radix(&digits, 16).unwrap_or_else(|e| panic!("{text}: {e}"))
    };
    assert_eq!(bounding(&["exec"]), 0xa804_25fb);
    assert_eq!(bounding(&["exec", "-u", "1000"]), 0);
    let sys_admin = 1 << 21;
    assert_ne!(bounding(&["exec", "--privileged"]) & sys_admin, 0);
    let filter = cli.ok(&[
        "exec",
        "--privileged",
        "web",
        "grep",
        "Seccomp:",
        "/proc/self/status",
    ]);
    assert!(
        filter.ends_with('2'),
        "the container's filter holds: {filter}"
    );
}

fn a_terminal_has_the_size_of_the_clients(cli: &Cli<'_>) {
    idle(cli, "web");
    let (master, peer) = terminal::open(33, 111);
    let end = || Stdio::from(peer.try_clone().expect("a descriptor can be shared"));
    let script = "trap 'stty size; exit 4' WINCH; while [ \"$(stty size)\" = '0 0' ]; do usleep \
                  10000; done; tty; stty size; while :; do usleep 10000; done";
    let mut client = cli
        .command(&[
            "exec",
            "-it",
            "web",
            "sh",
            "-c",
            "stty size; exec sh -c \"$0\"",
            script,
        ])
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .expect("a client can be started");
    drop(peer);
    let mut seen = String::new();
    terminal::read_until(&master, &mut seen, "/dev/pts/");
    terminal::read_until(&master, &mut seen, "33 111");
    seen.clear();
    terminal::resize(&master, 12, 34);
    // The terminal is nobody's controlling one, so the kernel tells nobody.
    terminal::tell_size(&master, &client, &mut seen, "12 34");
    let status = process::wait_limited(&mut client, LIMIT).expect("a child can be waited for");
    assert_eq!(status.and_then(|s| s.code()), Some(4));
}

fn a_detached_exec_runs_on_its_own(cli: &Cli<'_>) {
    idle(cli, "web");
    cli.ok(&["exec", "web", "mkfifo", "/tmp/go", "/tmp/done"]);
    let script = "read word </tmp/go; echo heard; echo got $word >/tmp/done";
    assert_eq!(cli.ok(&["exec", "-d", "web", "sh", "-c", script]), "");
    let ids = cli.inspect("web", "{{len .ExecIDs}}");
    assert_eq!(ids, "1");
    cli.ok(&sh("web", "echo hello >/tmp/go"));
    assert_eq!(cli.ok(&["exec", "web", "cat", "/tmp/done"]), "got hello");
    // Its output is nobody's, and not the log's.
    assert_eq!(cli.ok(&["logs", "web"]), "");
}

fn a_process_left_behind_does_not_hold_the_client(cli: &Cli<'_>) {
    idle(cli, "web");
    cli.ok(&["exec", "web", "mkfifo", "/tmp/go", "/tmp/done"]);
    let script = "(read word </tmp/go; echo late; echo $? >/tmp/done) & echo first";
    let began = Instant::now();
    assert_eq!(cli.ok(&sh("web", script)), "first");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the client waited"
    );
    // And it can go on writing: nobody closed its output.
    cli.ok(&sh("web", "echo x >/tmp/go"));
    assert_eq!(cli.ok(&["exec", "web", "cat", "/tmp/done"]), "0");
}

fn a_client_that_goes_does_not_end_its_exec(cli: &Cli<'_>) {
    idle(cli, "web");
    cli.ok(&["exec", "web", "mkfifo", "/tmp/go", "/tmp/done"]);
    let script = "echo here; read word </tmp/go; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo \
                  line $i; done; echo $i >/tmp/done";
    let mut client = cli
        .command(&sh("web", script))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client can be started");
    let mut word = [0; 5];
    let mut output = client.stdout.take().expect("stdout is a pipe");
    output.read_exact(&mut word).expect("the exec prints");
    assert_eq!(&word, b"here\n");
    client.kill().expect("a child can be killed");
    client.wait().expect("a child can be reaped");
    cli.ok(&sh("web", "echo x >/tmp/go"));
    assert_eq!(cli.ok(&["exec", "web", "cat", "/tmp/done"]), "20000");
}

fn a_container_that_does_not_run_takes_no_exec(cli: &Cli<'_>) {
    let id = cli.ok(&[
        "create",
        "--name",
        "made",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    let text = cli.fails(1, &["exec", "made", "true"]);
    assert_eq!(
        text,
        format!("Error response from daemon: container {id} is not running\n")
    );
}

fn an_exec_ends_with_its_container(cli: &Cli<'_>) {
    idle(cli, "web");
    let mut client = cli
        .command(&sh("web", "echo here; exec sleep 1000"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client can be started");
    let mut word = [0; 5];
    let mut output = client.stdout.take().expect("stdout is a pipe");
    output.read_exact(&mut word).expect("the exec prints");
    cli.ok(&["rm", "-f", "web"]);
    let status = process::wait_limited(&mut client, LIMIT).expect("a child can be waited for");
    assert_eq!(status.and_then(|s| s.code()), Some(137));
}

fn execs_side_by_side_keep_their_streams_apart(cli: &Cli<'_>) {
    idle(cli, "web");
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..16)
            .map(|number| {
                scope.spawn(move || {
                    let script = format!("read x; echo {number} $x; exit {number}");
                    let args = ["exec", "-i", "web", "sh", "-c", &script];
                    cli.run_with_input(&args, format!("in{number}\n").as_bytes())
                })
            })
            .collect();
        for (number, run) in runs.into_iter().enumerate() {
            let output = run.join().expect("the client does not panic");
            assert_eq!(
                (output.code, output.stdout),
                (Some(number as i32), format!("{number} in{number}\n"))
            );
        }
    });
    assert_eq!(cli.inspect("web", "{{json .ExecIDs}}"), "null");
}

fn create(cli: &Cli<'_>, body: &Value) -> String {
    let made = cli
        .engine
        .api("POST", "/v1.50/containers/web/exec", Some(body));
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["Id"].as_str().expect("an id").to_owned()
}

fn inspect(cli: &Cli<'_>, id: &str) -> Value {
    let answer = cli
        .engine
        .api("GET", &format!("/v1.50/exec/{id}/json"), None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn start(cli: &Cli<'_>, id: &str, body: &Value) -> http::Response {
    cli.engine
        .api("POST", &format!("/v1.50/exec/{id}/start"), Some(body))
}

#[test]
fn an_exec_on_the_wire_is_dockers() {
    with_busybox(Client::Conex, |cli| {
        idle(cli, "web");
        let body = json!({
            "Cmd": ["sh", "-c", "echo hi; exit 3"], "AttachStdout": true, "AttachStderr": true
        });
        let id = create(cli, &body);
        let mut before = json!({
            "ID": id, "Running": false, "ExitCode": null,
            "ProcessConfig": {
                "tty": false, "entrypoint": "sh", "arguments": ["-c", "echo hi; exit 3"],
                "privileged": false
            },
            "OpenStdin": false, "OpenStderr": true, "OpenStdout": true, "CanRemove": false,
            "ContainerID": cli.inspect("web", "{{.Id}}"), "DetachKeys": "", "Pid": 0
        });
        assert_eq!(inspect(cli, &id), before);
        assert_eq!(cli.inspect("web", "{{index .ExecIDs 0}}"), id);

        // A client that does not ask for the socket is given it all the same.
        let output = start(cli, &id, &json!({"Detach": false}));
        assert_eq!(
            (output.status, output.header("content-type")),
            (200, Some("application/vnd.docker.raw-stream"))
        );
        assert_eq!(output.body, b"\x01\0\0\0\0\0\0\x03hi\n");
        let after = inspect(cli, &id);
        assert_ne!(after["Pid"], json!(0));
        before["Pid"] = after["Pid"].clone();
        before["ExitCode"] = json!(3);
        assert_eq!(after, before);

        let again = start(cli, &id, &json!({"Detach": false}));
        let text = format!("exec command {id} has already run\r\n");
        let length = u8::try_from(text.len()).expect("a short text");
        let frame = [&[1, 0, 0, 0, 0, 0, 0, length], text.as_bytes()].concat();
        assert_eq!((again.status, again.body), (200, frame));
        let again = start(cli, &id, &json!({"Detach": true}));
        assert_eq!(again.status, 409, "{}", again.text());
    });
}

#[test]
fn an_exec_that_cannot_be_is_refused_in_dockers_words() {
    with_busybox(Client::Conex, |cli| {
        idle(cli, "web");
        let refused = |method: &str, path: &str, body: Option<&Value>| {
            let answer = cli.engine.api(method, path, body);
            (answer.status, answer.message())
        };
        let empty = json!({"Cmd": []});
        assert_eq!(
            refused("POST", "/containers/web/exec", Some(&empty)),
            (400, "No exec command specified".into())
        );
        let unknown = (404, "No such exec instance: nosuch".to_owned());
        assert_eq!(refused("GET", "/exec/nosuch/json", None), unknown);
        assert_eq!(
            refused("POST", "/exec/nosuch/start", Some(&json!({}))),
            unknown
        );
        assert_eq!(
            refused("POST", "/exec/nosuch/resize?h=1&w=1", None),
            unknown
        );
        let id = create(cli, &json!({"Cmd": ["nosuch"]}));
        let (status, message) = refused(
            "POST",
            &format!("/exec/{id}/start"),
            Some(&json!({"Detach": true})),
        );
        assert_eq!(status, 400, "{message}");
        assert!(
            message.ends_with("executable file not found in $PATH"),
            "{message}"
        );
        assert_eq!(inspect(cli, &id)["ExitCode"], json!(127));
        // With its container an exec is gone.
        let id = create(cli, &json!({"Cmd": ["true"]}));
        cli.ok(&["rm", "-f", "web"]);
        let path = format!("/exec/{id}/json");
        assert_eq!(refused("GET", &path, None).0, 404);
    });
}

#[test]
fn an_exec_is_told_in_events() {
    with_busybox(Client::Conex, |cli| {
        idle(cli, "web");
        cli.run(&sh("web", "exit 7"));
        let template = "{{.Action}} {{.Actor.Attributes.exitCode}}";
        let now = cli.ok(&["info", "-f", "{{.SystemTime}}"]);
        let filter = "container=web";
        let args = [
            "events", "--since", "0", "--until", &now, "--filter", filter,
        ];
        let args = [&args[..], &["--format", template]].concat();
        let events = cli.ok(&args);
        let own: Vec<&str> = events
            .lines()
            .filter(|line| line.starts_with("exec_"))
            .collect();
        assert_eq!(
            own,
            [
                "exec_create: sh -c exit 7 <no value>",
                "exec_start: sh -c exit 7 <no value>",
                "exec_die 7"
            ]
        );
    });
}

#[test]
fn execs_outlive_their_daemon_and_their_ends_are_not_lost() {
    let Some(mut engine) = conex_tests::engine::Engine::start() else {
        return;
    };
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&["import", &tar.to_string_lossy(), "busybox"]);
    idle(&cli, "web");
    cli.ok(&["exec", "web", "mkfifo", "/tmp/short", "/tmp/long"]);
    let begin = |fifo: &str, code: i32| {
        let script = format!("read x </tmp/{fifo}; exit {code}");
        let id = create(
            &cli,
            &json!({"Cmd": ["sh", "-c", script], "Env": ["A=secret"]}),
        );
        assert_eq!(start(&cli, &id, &json!({"Detach": true})).status, 200);
        id
    };
    let (short, long) = (begin("short", 9), begin("long", 8));
    let pidfd = |id: &str| {
        let pid = inspect(&cli, id)["Pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        let pid = pid
            .and_then(Pid::from_raw)
            .expect("a running exec has a pid");
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("it runs")
    };
    let (short_process, long_process) = (pidfd(&short), pidfd(&long));
    let root = format!("/proc/{}/root/tmp", cli.inspect("web", "{{.State.Pid}}"));
    let release = |fifo: &str| {
        let mut fifo = fs::File::options()
            .write(true)
            .open(format!("{root}/{fifo}"))
            .expect("somebody reads the fifo");
        fifo.write_all(b"x\n").expect("a fifo takes a word");
    };

    engine.kill9();
    release("short");
    let ended = |process: &OwnedFd| process::readable_within(process, LIMIT).expect("a pidfd");
    assert!(ended(&short_process), "an exec hangs without the daemon");
    engine.resume();

    let cli = engine.cli(Client::Conex);
    assert_eq!(cli.ok(&["exec", "web", "echo", "back"]), "back");
    let after = inspect(&cli, &short);
    assert_eq!(
        (&after["Running"], &after["ExitCode"]),
        (&json!(false), &json!(9))
    );
    assert_eq!(after["ProcessConfig"]["entrypoint"], json!("sh"));
    assert_eq!(inspect(&cli, &long)["Running"], json!(true));
    assert_eq!(
        cli.inspect("web", "{{json .ExecIDs}}"),
        json!([long]).to_string()
    );
    let events = cli
        .command(&["events", "--filter", "event=exec_die", "--since", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut events = events.expect("a client can be started");
    release("long");
    assert!(ended(&long_process));
    let mut output = std::io::BufReader::new(events.stdout.take().expect("stdout is a pipe"));
    let mut seen = String::new();
    while !seen.contains(&long) {
        let read = std::io::BufRead::read_line(&mut output, &mut seen).expect("text");
        assert_ne!(read, 0, "the events ended: {seen}");
    }
    events.kill().expect("a child can be killed");
    events.wait().expect("a child can be reaped");
    assert_eq!(inspect(&cli, &long)["ExitCode"], json!(8));
}
