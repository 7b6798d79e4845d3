//! Health checks: what they say, when they are asked, and what shows of it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::{skip, under_both_clients};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

under_both_clients! {
    a_container_is_as_healthy_as_its_check_says,
    a_probe_that_takes_too_long_is_ended,
    failures_of_the_start_period_do_not_count,
    a_check_can_be_disabled,
}

/// Follows the events of health.
struct Listener {
    client: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Listener {
    fn start(cli: &Cli<'_>) -> Listener {
        let format = "{{.Actor.Attributes.name}} {{.Action}}";
        let filter = "event=health_status";
        let mut client = cli
            .command(&[
                "events", "--since", "0", "--filter", filter, "--format", format,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a client can be started");
        let output = client.stdout.take().expect("stdout is a pipe");
        Listener {
            client,
            lines: BufReader::new(output).lines(),
        }
    }

    /// Waits for the next event.
    fn hear(&mut self) -> String {
        let line = self.lines.next().expect("the engine goes on");
        line.expect("events are text")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.client.kill().expect("a child can be killed");
        self.client.wait().expect("a child can be reaped");
    }
}

fn run<'a>(flags: &[&'a str], program: &[&'a str]) -> Vec<&'a str> {
    [
        &["run", "-d", "--network", "none"],
        flags,
        &["busybox"],
        program,
    ]
    .concat()
}

fn health(engine: &Engine, name: &str) -> Value {
    let path = format!("/containers/{name}/json");
    engine.api("GET", &path, None).json()["State"]["Health"].clone()
}

fn a_container_is_as_healthy_as_its_check_says(cli: &Cli<'_>) {
    let check = "cat /tmp/well && yes | head -c 5000";
    cli.ok(&run(
        &[
            "--name",
            "web",
            "--health-cmd",
            check,
            "--health-interval",
            "500ms",
            "--health-retries",
            "2",
        ],
        &["sleep", "1000"],
    ));
    let status = || cli.ok(&["ps", "--format", "{{.Status}}"]);
    assert!(status().ends_with(" (health: starting)"), "{}", status());
    assert_eq!(cli.ok(&["ps", "-q", "--filter", "health=healthy"]), "");
    cli.ok(&["exec", "web", "touch", "/tmp/well"]);

    let mut listener = Listener::start(cli);
    assert_eq!(listener.hear(), "web health_status: healthy");
    assert!(status().ends_with(" (healthy)"), "{}", status());
    assert_ne!(cli.ok(&["ps", "-q", "--filter", "health=healthy"]), "");
    let healthy = health(cli.engine, "web");
    assert_eq!(
        (&healthy["Status"], &healthy["FailingStreak"]),
        (&"healthy".into(), &0.into())
    );
    let results = healthy["Log"].as_array().expect("a list");
    let last = results.last().expect("a result");
    assert_eq!(last["ExitCode"], 0);
    let output = last["Output"].as_str().expect("text");
    assert!(
        output.len() == 4099 && output.ends_with("y\n..."),
        "{output}"
    );

    cli.ok(&["exec", "web", "rm", "/tmp/well"]);
    assert_eq!(listener.hear(), "web health_status: unhealthy");
    assert!(status().ends_with(" (unhealthy)"), "{}", status());
    let ill = health(cli.engine, "web");
    assert!(ill["FailingStreak"].as_i64() >= Some(2), "{ill}");
    assert!(ill["Log"].as_array().expect("a list").len() <= 5, "{ill}");
    // Nothing else follows from it.
    assert_eq!(
        cli.inspect("web", "{{.State.Running}} {{.RestartCount}}"),
        "true 0"
    );

    cli.ok(&["exec", "web", "touch", "/tmp/well"]);
    assert_eq!(listener.hear(), "web health_status: healthy");
    cli.ok(&["stop", "-t", "0", "web"]);
    assert_eq!(cli.inspect("web", "{{.State.Health.Status}}"), "unhealthy");
    cli.ok(&["start", "web"]);
    assert_eq!(cli.inspect("web", "{{.State.Health.Status}}"), "starting");
}

fn a_probe_that_takes_too_long_is_ended(cli: &Cli<'_>) {
    cli.ok(&run(
        &[
            "--name",
            "web",
            "--health-cmd",
            "echo slow; exec sleep 1000",
            "--health-interval",
            "200ms",
            "--health-timeout",
            "300ms",
            "--health-retries",
            "3",
        ],
        &["sleep", "1000"],
    ));
    let mut listener = Listener::start(cli);
    assert_eq!(listener.hear(), "web health_status: unhealthy");
    let log = health(cli.engine, "web")["Log"].clone();
    assert_eq!(log[2]["ExitCode"], -1, "{log}");
    assert_eq!(
        log[2]["Output"], "Health check exceeded timeout (300ms): slow\n",
        "{log}"
    );
    // Three were started, and at most the fourth is there.
    let top = cli.ok(&["top", "web"]);
    assert!(top.lines().count() <= 3, "{top}");

    let missing = [
        "--name",
        "none",
        "--health-cmd",
        "x",
        "--health-interval",
        "100ms",
    ];
    let missing = [&missing[..], &["--health-retries", "1"]].concat();
    cli.ok(&run(&missing, &["sleep", "1000"]));
    assert_eq!(listener.hear(), "none health_status: unhealthy");
    let log = health(cli.engine, "none")["Log"].clone();
    assert_eq!(log[0]["ExitCode"], 127, "{log}");
}

fn failures_of_the_start_period_do_not_count(cli: &Cli<'_>) {
    let check = "echo x >>/tmp/probes; test -e /tmp/well";
    cli.ok(&run(
        &[
            "--name",
            "web",
            "--health-cmd",
            check,
            "--health-interval",
            "1h",
            "--health-retries",
            "1",
            "--health-start-period",
            "10m",
            "--health-start-interval",
            "50ms",
        ],
        &["sleep", "1000"],
    ));
    let count = || {
        cli.ok(&[
            "exec",
            "web",
            "sh",
            "-c",
            "cat /tmp/probes 2>/dev/null | wc -l",
        ])
    };
    let deadline = Instant::now() + LIMIT;
    while count().parse::<u32>().expect("a number") < 5 {
        assert!(Instant::now() < deadline, "nobody asks");
    }
    assert_eq!(cli.inspect("web", "{{.State.Health.Status}}"), "starting");
    cli.ok(&["exec", "web", "touch", "/tmp/well"]);
    assert_eq!(Listener::start(cli).hear(), "web health_status: healthy");
    // From now on once an hour.
    let settled = count();
    for _ in 0..5 {
        assert_eq!(count(), settled);
    }
}

fn a_check_can_be_disabled(cli: &Cli<'_>) {
    cli.ok(&run(
        &["--name", "web", "--no-healthcheck"],
        &["sleep", "1000"],
    ));
    let state = cli.engine.api("GET", "/containers/web/json", None).json()["State"].clone();
    assert!(
        state["Running"] == true && state["Health"] == Value::Null,
        "{state}"
    );
    assert!(!cli.ok(&["ps"]).contains("health"), "{}", cli.ok(&["ps"]));
    assert_ne!(cli.ok(&["ps", "-q", "--filter", "health=none"]), "");
    assert_eq!(cli.ok(&["top", "web"]).lines().count(), 2);
}

#[test]
fn a_paused_container_is_not_asked_and_a_new_daemon_goes_on_asking() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    match fixture::make(Fixture::Busybox) {
        Ok(tar) => engine.conex(&["import", &tar.to_string_lossy(), "busybox"]),
        Err(reason) => return skip(&reason),
    };
    let flags = [
        "--name",
        "web",
        "--health-cmd",
        "echo x >>/tmp/probes",
        "--health-interval",
        "50ms",
    ];
    let id = engine
        .cli(Client::Conex)
        .ok(&run(&flags, &["sleep", "1000"]));
    let pid = engine.cli(Client::Conex).inspect("web", "{{.State.Pid}}");
    let count = || {
        let file = format!("/proc/{pid}/root/tmp/probes");
        std::fs::read(file).map_or(0, |probes| probes.len())
    };
    let more = |engine: &Engine| {
        // The second to begin shows that the first has a result.
        let (before, deadline) = (count(), Instant::now() + LIMIT);
        while count() <= before + 2 {
            assert!(Instant::now() < deadline, "nobody asks");
            engine.api("GET", "/_ping", None);
        }
    };
    more(&engine);
    engine.cli(Client::Conex).ok(&["pause", "web"]);
    let paused = count();
    for _ in 0..10 {
        // Each takes longer than the interval of the check.
        let other = [
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "usleep",
            "50000",
        ];
        engine.cli(Client::Conex).ok(&other);
    }
    assert_eq!(count(), paused);
    engine.cli(Client::Conex).ok(&["unpause", "web"]);
    more(&engine);
    let state = || {
        engine
            .api("GET", &format!("/containers/{id}/json"), None)
            .json()
    };
    assert_eq!(state()["State"]["Health"]["Status"], "healthy");

    engine.kill9();
    engine.resume();
    more(&engine);
    let state = engine
        .api("GET", &format!("/containers/{id}/json"), None)
        .json();
    assert_eq!(state["State"]["Health"]["Status"], "healthy");
}

#[test]
fn without_a_check_nothing_is_said_of_health() {
    with_busybox(Client::Conex, |cli| {
        cli.ok(&run(&["--name", "web"], &["sleep", "1000"]));
        let list = cli.engine.api("GET", "/containers/json", None).json();
        assert_eq!(list[0]["Health"]["Status"], "none");
        let old = cli.engine.api("GET", "/v1.51/containers/json", None).json();
        assert_eq!(old[0]["Health"], Value::Null);
    });
}
