//! Standard streams through clients: input, half-close, attach, long outputs.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use conex_tests::client::Cli;
use conex_tests::under_both_clients;

under_both_clients! {
    input_reaches_the_container_and_its_end_too,
    megabytes_pass_both_ways_unharmed,
    output_after_the_end_of_input_still_comes,
    an_attached_client_speaks_with_a_running_container,
    a_client_that_goes_takes_nothing_with_it,
    signals_to_the_client_reach_the_container,
    a_line_longer_than_the_logs_pieces_comes_back_whole,
}

fn input_reaches_the_container_and_its_end_too(cli: &Cli<'_>) {
    let output = cli.run_with_input(
        &[
            "run",
            "--rm",
            "-i",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "cat; echo end",
        ],
        b"one\ntwo",
    );
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), "one\ntwoend\n")
    );
    // Without -i there is nothing to read, and nobody waits for it.
    let output = cli.run_with_input(
        &["run", "--rm", "--network", "none", "busybox", "cat"],
        b"unread",
    );
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""));
}

fn megabytes_pass_both_ways_unharmed(cli: &Cli<'_>) {
    let mut input = String::new();
    for number in 0..400_000 {
        input.push_str(&format!("{number:09}\n"));
    }
    let output = cli.run_with_input(
        &["run", "--rm", "-i", "--network", "none", "busybox", "cat"],
        input.as_bytes(),
    );
    assert_eq!((output.code, output.stdout.len()), (Some(0), input.len()));
    assert!(output.stdout == input, "the bytes differ");
}

fn output_after_the_end_of_input_still_comes(cli: &Cli<'_>) {
    let script = "read line; while read more; do :; done; sleep 0.2; echo got $line";
    let output = cli.run_with_input(
        &[
            "run",
            "--rm",
            "-i",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            script,
        ],
        b"x\n",
    );
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "got x\n"));
}

fn an_attached_client_speaks_with_a_running_container(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "-d",
        "-i",
        "--name",
        "echo",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "while read x; do echo got $x; [ $x != bye ] || exit 9; done",
    ]);
    let mut attached = cli
        .command(&["attach", "echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client can be started");
    let mut input = attached.stdin.take().expect("stdin is a pipe");
    let mut output = BufReader::new(attached.stdout.take().expect("stdout is a pipe")).lines();
    for word in ["one", "two", "bye"] {
        writeln!(input, "{word}").expect("the client reads its input");
        let line = output.next().expect("an answer").expect("text");
        assert_eq!(line, format!("got {word}"));
    }
    assert_eq!(
        attached.wait().expect("a child can be reaped").code(),
        Some(9)
    );
}

fn a_client_that_goes_takes_nothing_with_it(cli: &Cli<'_>) {
    let mut client = cli
        .command(&[
            "run",
            "--name",
            "stays",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done; sleep 1000",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client can be started");
    let output = client.stdout.take().expect("stdout is a pipe");
    let first = BufReader::new(output)
        .lines()
        .next()
        .expect("a line")
        .expect("text");
    assert_eq!(first, "line 1");
    client.kill().expect("a child can be killed");
    client.wait().expect("a child can be reaped");
    cli.wait_for_line("stays", "line 2000");
    assert_eq!(cli.inspect("stays", "{{.State.Running}}"), "true");
    assert_eq!(cli.ok(&["logs", "stays"]).lines().count(), 2000);
}

fn signals_to_the_client_reach_the_container(cli: &Cli<'_>) {
    let script = "trap 'echo asked; exit 4' TERM; echo ready; while :; do sleep 0.1; done";
    let mut client = cli
        .command(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client can be started");
    let mut output = BufReader::new(client.stdout.take().expect("stdout is a pipe")).lines();
    assert_eq!(output.next().expect("a line").expect("text"), "ready");
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&client),
        rustix::process::Signal::TERM,
    )
    .expect("a child can be signalled");
    assert_eq!(output.next().expect("a line").expect("text"), "asked");
    assert_eq!(
        client.wait().expect("a child can be reaped").code(),
        Some(4)
    );
}

fn a_line_longer_than_the_logs_pieces_comes_back_whole(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "--name",
        "long",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "head -c 100000 /dev/zero | tr '\\0' x; echo",
    ]);
    let line = cli.ok(&["logs", "long"]);
    assert_eq!((line.len(), line.trim_matches('x')), (100_000, ""));
}
