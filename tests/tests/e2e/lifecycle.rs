//! A container's life in single steps: create, start, wait, logs, stop, kill, rm.

use conex_tests::client::Cli;
use conex_tests::under_both_clients;

under_both_clients! {
    created_started_waited_for_and_removed,
    stop_sends_the_stop_signal_and_then_kills,
    kill_ends_at_once_or_delivers_a_signal,
    a_running_container_is_removed_by_force_only,
    a_name_is_free_again_when_run_returns,
    a_container_is_found_by_id_prefix_and_name,
    logs_follow_until_the_end_and_take_a_tail,
    events_tell_the_story_of_a_run,
    several_arguments_go_on_after_an_error,
    version_and_info_answer,
}

fn created_started_waited_for_and_removed(cli: &Cli<'_>) {
    let id = cli.ok(&[
        "create",
        "--name",
        "steps",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo done; exit 7",
    ]);
    assert_eq!(id.len(), 64);
    assert_eq!(
        cli.inspect("steps", "{{.State.Status}} {{.State.Pid}}"),
        "created 0"
    );
    assert_eq!(cli.ok(&["start", "steps"]), "steps");
    assert_eq!(cli.ok(&["wait", "steps"]), "7");
    assert_eq!(
        cli.inspect(
            "steps",
            "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}"
        ),
        "exited 7 false"
    );
    assert_eq!(cli.ok(&["logs", "steps"]), "done");
    assert_eq!(cli.ok(&["rm", "steps"]), "steps");
    let complaint = cli.fails(1, &["inspect", "steps"]);
    assert!(
        complaint.to_lowercase().contains("no such object: steps"),
        "{complaint}"
    );
    // The image's layer and its init layer.
    assert_eq!(cli.engine.layer_directories().len(), 2);
}

fn stop_sends_the_stop_signal_and_then_kills(cli: &Cli<'_>) {
    let trap = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "polite",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        trap,
    ]);
    cli.wait_for_line("polite", "ready");
    cli.ok(&["stop", "polite"]);
    assert_eq!(cli.inspect("polite", "{{.State.ExitCode}}"), "3");
    assert_eq!(cli.ok(&["logs", "polite"]), "ready\nasked");

    cli.ok(&[
        "run",
        "-d",
        "--name",
        "deaf",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ]);
    cli.ok(&["stop", "-t", "0", "deaf"]);
    assert_eq!(
        cli.inspect(
            "deaf",
            "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}"
        ),
        "exited 137 false"
    );
}

fn kill_ends_at_once_or_delivers_a_signal(cli: &Cli<'_>) {
    let trap = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.1; done";
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "target",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        trap,
    ]);
    cli.wait_for_line("target", "ready");
    cli.ok(&["kill", "-s", "USR1", "target"]);
    cli.wait_for_line("target", "usr1");
    assert_eq!(cli.inspect("target", "{{.State.Running}}"), "true");
    cli.ok(&["kill", "target"]);
    assert_eq!(cli.ok(&["wait", "target"]), "137");
    let complaint = cli.fails(1, &["kill", "target"]);
    assert!(complaint.contains("is not running"), "{complaint}");
}

fn a_running_container_is_removed_by_force_only(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "busy",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ]);
    let complaint = cli.fails(1, &["rm", "busy"]);
    assert!(complaint.contains("container is running"), "{complaint}");
    cli.ok(&["rm", "-f", "busy"]);
    assert_eq!(cli.engine.container_count(), 0);
}

fn a_name_is_free_again_when_run_returns(cli: &Cli<'_>) {
    for _ in 0..5 {
        cli.ok(&[
            "run",
            "--rm",
            "--name",
            "again",
            "--network",
            "none",
            "busybox",
            "true",
        ]);
    }
    assert_eq!(cli.engine.container_count(), 0);
}

fn a_container_is_found_by_id_prefix_and_name(cli: &Cli<'_>) {
    let id = cli.ok(&[
        "create",
        "--name",
        "found",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    for name in [&id, &id[..12], &id[..4], "found", "/found"] {
        assert_eq!(cli.inspect(name, "{{.Id}}"), id, "by {name}");
    }
}

fn logs_follow_until_the_end_and_take_a_tail(cli: &Cli<'_>) {
    let script = "for i in 1 2 3; do echo line $i; sleep 0.1; done; echo last >&2";
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "talker",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let followed = cli.run(&["logs", "-f", "talker"]);
    assert_eq!(
        (followed.stdout.as_str(), followed.stderr.as_str()),
        ("line 1\nline 2\nline 3\n", "last\n")
    );
    let tail = cli.run(&["logs", "-n", "2", "talker"]);
    assert_eq!(
        (tail.stdout.as_str(), tail.stderr.as_str()),
        ("line 3\n", "last\n")
    );
    let stamped = cli.run(&["logs", "-t", "-n", "1", "talker"]).stderr;
    let (stamp, rest) = stamped.split_once(' ').expect("a time and a line");
    assert!(stamp.len() >= 20 && stamp.ends_with('Z'), "{stamped}");
    assert_eq!(rest, "last\n");
}

fn events_tell_the_story_of_a_run(cli: &Cli<'_>) {
    let since = cli.ok(&["info", "-f", "{{.SystemTime}}"]);
    cli.run(&[
        "run",
        "--rm",
        "--name",
        "told",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "exit 5",
    ]);
    let until = cli.ok(&["info", "-f", "{{.SystemTime}}"]);
    let told = cli.ok(&[
        "events",
        "--since",
        &since,
        "--until",
        &until,
        "--filter",
        "type=container",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}",
    ]);
    let actions: Vec<&str> = told
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        actions,
        ["create", "attach", "start", "die", "destroy"],
        "{told}"
    );
    assert!(told.lines().any(|line| line == "die told 5"), "{told}");
}

fn several_arguments_go_on_after_an_error(cli: &Cli<'_>) {
    cli.ok(&[
        "create",
        "--name",
        "real",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    let output = cli.run(&["rm", "nosuch", "real"]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(1), "real\n"),
        "{output}"
    );
    assert!(
        output.stderr.contains("No such container: nosuch"),
        "{output}"
    );
}

fn version_and_info_answer(cli: &Cli<'_>) {
    let versions = cli.ok(&[
        "version",
        "--format",
        "{{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}}",
    ]);
    assert_eq!(versions, "1.56 1.24 linux");
    cli.ok(&["run", "-d", "--network", "none", "busybox", "sleep", "1000"]);
    let info = cli.ok(&[
        "info",
        "-f",
        "{{.Containers}} {{.ContainersRunning}} {{.Images}} {{.Driver}} {{.DockerRootDir}}",
    ]);
    assert_eq!(
        info,
        format!("1 1 1 overlay2 {}", cli.engine.data_root().display())
    );
}
