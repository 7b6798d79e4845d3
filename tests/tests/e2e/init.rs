//! `--init`: a process 1 of ours beside the program.

use std::time::{Duration, Instant};

use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::{process, skip, terminal, under_both_clients};

const LIMIT: Duration = Duration::from_secs(60);

under_both_clients! {
    the_program_runs_under_an_init_and_gives_it_its_exit_code,
    an_init_passes_signals_on,
    an_init_reaps_what_others_leave_behind,
    a_shell_under_an_init_has_the_terminal,
    nothing_in_a_container_can_write_the_init,
    an_init_needs_a_pid_namespace_of_the_containers_own,
}

fn with_init<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--init", "--network", "none"], more].concat()
}

fn the_program_runs_under_an_init_and_gives_it_its_exit_code(cli: &Cli<'_>) {
    let show =
        "tr '\\0' ' ' </proc/1/cmdline; cat /proc/1/comm; echo $$ $0; env | grep -c INIT; exit 7";
    let output = cli.run(&with_init(&["--rm", "busybox", "sh", "-c", show, "name"]));
    let expected = format!("/sbin/docker-init -- sh -c {show} name docker-init\n2 name\n0\n");
    assert_eq!((output.code, output.stdout), (Some(7), expected));
    assert_eq!(
        cli.run(&with_init(&["busybox", "sh", "-c", "kill -9 $$"]))
            .code,
        Some(137)
    );
    for (program, code, problem) in [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        let text = cli.fails(code, &with_init(&["busybox", program]));
        assert!(
            text.contains(&format!("exec: \"{program}\": {problem}")),
            "{text}"
        );
    }

    cli.ok(&with_init(&[
        "-d", "--name", "web", "busybox", "sleep", "1000",
    ]));
    let top = cli.ok(&["top", "web"]);
    let commands: Vec<_> = top
        .lines()
        .map(|l| l.split_whitespace().skip(7).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        commands,
        ["CMD", "/sbin/docker-init -- sleep 1000", "sleep 1000"]
    );
    assert_eq!(
        cli.inspect("web", "{{.HostConfig.Init}} {{.Path}}"),
        "true sleep"
    );
}

fn an_init_passes_signals_on(cli: &Cli<'_>) {
    // Process 1 would ignore it.
    cli.ok(&with_init(&[
        "-d", "--name", "idle", "busybox", "sleep", "1000",
    ]));
    let began = Instant::now();
    cli.ok(&["stop", "-t", "100", "idle"]);
    assert!(began.elapsed() < LIMIT);
    assert_eq!(cli.inspect("idle", "{{.State.ExitCode}}"), "143");

    let script = "trap 'echo usr1; exit 5' USR1; echo ready; while :; do usleep 10000; done";
    cli.ok(&with_init(&[
        "-d", "--name", "traps", "busybox", "sh", "-c", script,
    ]));
    cli.wait_for_line("traps", "ready");
    cli.ok(&["kill", "-s", "USR1", "traps"]);
    assert_eq!(cli.ok(&["wait", "traps"]), "5");
}

fn an_init_reaps_what_others_leave_behind(cli: &Cli<'_>) {
    let script = "for i in 1 2 3 4 5; do (sh -c 'exit 3' &); done; echo made; read x";
    cli.ok(&with_init(&[
        "-di", "--name", "web", "busybox", "sh", "-c", script,
    ]));
    cli.wait_for_line("web", "made");
    cli.ok(&["exec", "web", "sh", "-c", "(sleep 0 &)"]);
    let deadline = Instant::now() + LIMIT;
    loop {
        let top = cli.ok(&["top", "web", "-o", "pid,stat,args"]);
        if top.lines().count() == 3 {
            break;
        }
        assert!(Instant::now() < deadline, "{top}");
    }
}

fn a_shell_under_an_init_has_the_terminal(cli: &Cli<'_>) {
    let args = with_init(&["-it", "--rm", "busybox", "sh"]);
    let (mut client, master) = terminal::spawn(cli.command(&args));
    let mut seen = String::new();
    terminal::read_until(&master, &mut seen, "/ #");
    assert!(!seen.contains("job control turned off"), "{seen}");
    seen.clear();
    terminal::type_in(&master, "echo st''art; cat\n");
    terminal::read_until(&master, &mut seen, "start");
    // Once by the terminal, once by a cat that runs in the foreground by now.
    terminal::type_in(&master, "twice\n");
    terminal::read_until(&master, &mut seen, "twice\r\ntwice\r\n");
    terminal::type_in(&master, "\x03");
    // The shell drops what was typed before its prompt is back.
    terminal::read_until(&master, &mut seen, "/ #");
    terminal::type_in(&master, "exit 4\n");
    let status = process::wait_limited(&mut client, LIMIT).expect("a child can be waited for");
    assert_eq!(status.and_then(|s| s.code()), Some(4));
}

fn nothing_in_a_container_can_write_the_init(cli: &Cli<'_>) {
    let script = "for file in /proc/1/exe /proc/1/map_files/*; do \
                  if (: >>$file) 2>/dev/null; then echo opened $file; fi; done; \
                  ls /proc/self/fd | wc -l; echo done";
    let output = cli.run(&with_init(&[
        "--rm",
        "--privileged",
        "busybox",
        "sh",
        "-c",
        script,
    ]));
    // Nor is a descriptor of it left: three streams, and that of ls itself.
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), "4\ndone\n")
    );
}

fn an_init_needs_a_pid_namespace_of_the_containers_own(cli: &Cli<'_>) {
    let output = cli.run(&with_init(&[
        "--rm", "--pid", "host", "busybox", "echo", "ran",
    ]));
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "ran\n"));
    assert!(
        output.stderr.contains("init process is discarded"),
        "{output}"
    );
}

#[test]
fn an_engine_can_give_every_container_an_init() {
    let Some(engine) = Engine::start_with(&["--init"], &[]) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    match fixture::make(Fixture::Busybox) {
        Ok(tar) => cli.ok(&["import", &tar.to_string_lossy(), "busybox"]),
        Err(reason) => return skip(&reason),
    };
    // The init gives itself its name beside the program.
    let script = "until grep -qx docker-init /proc/1/comm; do usleep 1000; done; echo named";
    let args = ["--network", "none", "busybox", "sh", "-c", script];
    assert_eq!(cli.ok(&[&["run", "--rm"], &args[..]].concat()), "named");
    let args = ["--network", "none", "busybox", "cat", "/proc/1/comm"];
    let without = [&["run", "--rm", "--init=false"], &args[..]].concat();
    assert_eq!(cli.ok(&without), "cat");
}
