//! `stats`: the figures, how long they take, and who is shown.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::{http, under_both_clients};
use serde_json::Value;

under_both_clients! {
    the_table_shows_what_a_container_uses,
    many_containers_take_as_long_as_one,
    a_stream_goes_on_and_takes_in_who_is_started,
}

fn busy(cli: &Cli<'_>, name: &str) {
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; while :; do :; done";
    cli.ok(&[
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        "-m",
        "64m",
        "--pids-limit",
        "50",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
}

fn the_table_shows_what_a_container_uses(cli: &Cli<'_>) {
    busy(cli, "web");
    let id = cli.inspect("web", "{{.Id}}");
    let table = cli.ok(&["stats", "--no-stream", "web"]);
    let lines: Vec<&str> = table.lines().collect();
    let header: Vec<&str> = lines[0]
        .split("  ")
        .map(str::trim)
        .filter(|w| !w.is_empty())
        .collect();
    let names = [
        "CONTAINER ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
    ];
    assert_eq!(header, names);
    assert_eq!((lines.len(), &lines[1][..12]), (2, &id[..12]), "{table}");
    let format = "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.MemPerc}}|{{.NetIO}}|{{.PIDs}}";
    let row = cli.ok(&["stats", "--no-stream", "--format", format]);
    let fields: Vec<&str> = row.split('|').collect();
    let percent = |text: &str| -> f64 {
        text.trim_end_matches('%')
            .parse()
            .unwrap_or_else(|e| panic!("{text}: {e}"))
    };
    assert_eq!((fields[0], fields[5]), ("web", "1"), "{row}");
    assert!(percent(fields[1]) > 1.0, "{row}");
    assert!(fields[2].ends_with(" / 64MiB"), "{row}");
    assert!((12.0..50.0).contains(&percent(fields[3])), "{row}");
    assert_eq!(fields[4], "0B / 0B", "{row}");
    let json: Value =
        serde_json::from_str(&cli.ok(&["stats", "--no-stream", "--format", "json", "web"]))
            .expect("a line of JSON");
    assert_eq!(json["Container"], "web");

    cli.ok(&[
        "create",
        "--name",
        "idle",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    let all = cli.ok(&[
        "stats",
        "--no-stream",
        "-a",
        "--format",
        "{{.Name}} {{.MemUsage}}",
    ]);
    assert!(all.lines().any(|line| line == "idle 0B / 0B"), "{all}");
    let missing = cli.fails(1, &["stats", "--no-stream", "nosuch"]);
    assert!(missing.contains("No such container: nosuch"), "{missing}");
}

fn many_containers_take_as_long_as_one(cli: &Cli<'_>) {
    for number in 0..12 {
        let name = format!("c{number}");
        cli.ok(&[
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            "none",
            "busybox",
            "sleep",
            "1000",
        ]);
    }
    let began = Instant::now();
    let rows = cli.ok(&["stats", "--no-stream", "--format", "{{.Name}}"]);
    assert_eq!(rows.lines().count(), 12);
    // One after the other they would take twelve seconds at least.
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

fn a_stream_goes_on_and_takes_in_who_is_started(cli: &Cli<'_>) {
    let run = |name: &str| {
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
    };
    run("one");
    let mut client = cli
        .command(&["stats", "--format", "{{.Name}}"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client can be started");
    let output = client.stdout.take().expect("stdout is a pipe");
    let mut lines = BufReader::new(output)
        .lines()
        .map(|line| line.expect("text"));
    assert!(lines.any(|line| line.ends_with("one")));
    run("two");
    assert!(lines.any(|line| line.ends_with("two")));
    client.kill().expect("a child can be killed");
    client.wait().expect("a child can be reaped");
}

#[test]
fn samples_on_the_wire_are_dockers() {
    with_busybox(Client::Conex, |cli| {
        busy(cli, "web");
        let stats = |path: &str| cli.engine.api("GET", &format!("/containers/{path}"), None);
        let once = stats("web/stats?stream=0").json();
        assert_eq!(once["name"], "/web");
        assert_eq!(once["id"], cli.inspect("web", "{{.Id}}"));
        let cpu = |part: &str| {
            let usage = once[part]["cpu_usage"]["total_usage"].as_u64();
            (usage, once[part]["system_cpu_usage"].as_u64())
        };
        let (now, before) = (cpu("cpu_stats"), cpu("precpu_stats"));
        assert!(
            now.0 > before.0 && now.1 > before.1 && before.1 > Some(0),
            "{once}"
        );
        assert_eq!(once["memory_stats"]["limit"], 64 << 20);
        assert!(
            once["memory_stats"]["usage"].as_u64() >= Some(8 << 20),
            "{once}"
        );
        assert!(
            once["memory_stats"]["stats"]
                .as_object()
                .is_some_and(|s| s.len() > 10)
        );
        assert_eq!(once["pids_stats"]["limit"], 50);
        assert!(once["networks"].is_null(), "{once}");
        assert!(
            once["cpu_stats"]["throttling_data"]["periods"].is_u64(),
            "{once}"
        );
        let blkio = once["blkio_stats"].as_object().expect("an object");
        assert_eq!(blkio.len(), 8);

        let one_shot = stats("web/stats?stream=0&one-shot=1").json();
        assert_eq!(one_shot["precpu_stats"]["cpu_usage"]["total_usage"], 0);
        assert_eq!(one_shot["preread"], "0001-01-01T00:00:00Z");
        let refused = stats("web/stats?one-shot=1");
        assert_eq!(refused.status, 400);
        assert_eq!(
            refused.message(),
            "cannot have stream=true and one-shot=true"
        );
        assert_eq!(stats("nosuch/stats").status, 404);

        // A stream ends with its container.
        let mut stream = http::connect(&cli.engine.socket()).expect("the engine listens");
        std::io::Write::write_all(
            &mut stream,
            b"GET /containers/web/stats HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .expect("it takes a request");
        let mut reader = BufReader::new(stream);
        http::read_head(&mut reader).expect("it answers");
        for _ in 0..2 {
            let sample = http::read_chunk(&mut reader)
                .expect("a chunk")
                .expect("a sample");
            let sample: Value = serde_json::from_slice(&sample).expect("JSON");
            assert_eq!(sample["name"], "/web");
        }
        cli.ok(&["rm", "-f", "web"]);
        while http::read_chunk(&mut reader)
            .expect("a proper end")
            .is_some()
        {}
    });
}
