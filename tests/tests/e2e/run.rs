//! `run`: what a container sees and what comes out of it.

use std::fs;

use conex_tests::client::Cli;
use conex_tests::under_both_clients;

under_both_clients! {
    the_embedded_hello_image_runs_without_a_network,
    the_exit_code_is_the_containers,
    output_and_errors_come_on_their_own_streams,
    environment_directory_and_user_are_as_asked,
    the_host_name_is_the_short_id_or_as_asked,
    the_entrypoint_can_be_replaced,
    a_missing_bind_directory_is_made,
    a_read_only_bind_refuses_writes_and_a_file_can_be_bound,
    a_read_only_root_refuses_writes,
    a_network_mode_is_loopback_alone_or_the_hosts,
    labels_and_names_are_found_again,
    what_a_container_writes_is_its_own,
}

fn the_embedded_hello_image_runs_without_a_network(cli: &Cli<'_>) {
    let said = cli.ok(&["run", "--rm", "hello-world"]);
    for word in ["Hello from Conex!", "process id     1", "host name"] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
}

fn the_exit_code_is_the_containers(cli: &Cli<'_>) {
    for code in [0, 1, 42, 255] {
        let script = format!("exit {code}");
        let output = cli.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            &script,
        ]);
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (Some(code), ""),
            "{output}"
        );
    }
    let killed = cli.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "sh -c 'kill -9 $$'; echo $?",
    ]);
    assert_eq!(killed.stdout.lines().last(), Some("137"), "{killed}");
}

fn output_and_errors_come_on_their_own_streams(cli: &Cli<'_>) {
    let output = cli.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2",
    ]);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

fn environment_directory_and_user_are_as_asked(cli: &Cli<'_>) {
    let said = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-e",
        "A=1",
        "-e",
        "B=two words",
        "-w",
        "/var/made/up",
        "-u",
        "daemon",
        "busybox",
        "sh",
        "-c",
        "echo $A $B $PWD $HOME $(id -u):$(id -g):$(id -G)",
    ]);
    assert_eq!(said, "1 two words /var/made/up /usr/sbin 1:1:1 29");
    let said = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-u",
        "1234:99",
        "busybox",
        "sh",
        "-c",
        "echo $(id -u):$(id -g) $HOME",
    ]);
    assert_eq!(said, "1234:99 /");
    let path = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo $PATH",
    ]);
    assert_eq!(
        path,
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    );
}

fn the_host_name_is_the_short_id_or_as_asked(cli: &Cli<'_>) {
    let id = cli.ok(&[
        "run",
        "-d",
        "--name",
        "named",
        "--network",
        "none",
        "busybox",
        "hostname",
    ]);
    assert_eq!(cli.ok(&["wait", "named"]), "0");
    assert_eq!(cli.ok(&["logs", "named"]), id[..12]);
    let said = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--hostname",
        "box",
        "busybox",
        "sh",
        "-c",
        "hostname; cat /etc/hostname",
    ]);
    assert_eq!(said, "box\nbox");
}

fn the_entrypoint_can_be_replaced(cli: &Cli<'_>) {
    let said = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        "/bin/echo",
        "busybox",
        "a",
        "b",
    ]);
    assert_eq!(said, "a b");
}

fn a_missing_bind_directory_is_made(cli: &Cli<'_>) {
    let place = cli.engine.root().join("made/by/bind");
    let volume = format!("{}:/data", place.display());
    cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        "echo kept >/data/file",
    ]);
    assert_eq!(
        fs::read_to_string(place.join("file")).ok().as_deref(),
        Some("kept\n")
    );
    assert!(place.is_dir());
}

fn a_read_only_bind_refuses_writes_and_a_file_can_be_bound(cli: &Cli<'_>) {
    let dir = cli.engine.root().join("bound");
    fs::create_dir(&dir).expect("a fresh directory");
    conex_tests::engine::write_file(&dir.join("file"), "from the host\n");
    let (whole, file) = (
        format!("{}:/dir:ro", dir.display()),
        format!("{}:/etc/motd", dir.join("file").display()),
    );
    let output = cli.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &whole,
        "-v",
        &file,
        "busybox",
        "sh",
        "-c",
        "cat /dir/file /etc/motd; echo new >/etc/motd; echo x >/dir/file",
    ]);
    assert_ne!(output.code, Some(0));
    assert_eq!(output.stdout, "from the host\nfrom the host\n");
    assert!(output.stderr.contains("Read-only file system"), "{output}");
    assert_eq!(
        fs::read_to_string(dir.join("file")).ok().as_deref(),
        Some("new\n")
    );
}

fn a_read_only_root_refuses_writes(cli: &Cli<'_>) {
    let output = cli.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--read-only",
        "busybox",
        "sh",
        "-c",
        "echo x >/dev/shm/y && echo x >/file",
    ]);
    assert_ne!(output.code, Some(0));
    assert!(
        output.stderr.contains("Read-only file system") && output.stderr.contains("/file"),
        "{output}"
    );
}

fn a_network_mode_is_loopback_alone_or_the_hosts(cli: &Cli<'_>) {
    let none = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "ls /sys/class/net; ping -c 1 -W 2 127.0.0.1 >/dev/null && echo up",
    ]);
    assert_eq!(none, "lo\nup");
    let host = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "readlink",
        "/proc/self/ns/net",
    ]);
    let ours = fs::read_link("/proc/self/ns/net").expect("a process has a network namespace");
    assert_eq!(host, ours.to_string_lossy());
}

fn labels_and_names_are_found_again(cli: &Cli<'_>) {
    cli.ok(&[
        "create",
        "--name",
        "one",
        "--label",
        "a=b",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    cli.ok(&[
        "create",
        "--name",
        "two",
        "--label",
        "a=c",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    assert_eq!(
        cli.ok(&[
            "ps",
            "-a",
            "--filter",
            "label=a=b",
            "--format",
            "{{.Names}}"
        ]),
        "one"
    );
    assert_eq!(
        cli.ok(&["ps", "-a", "--filter", "label=a", "--format", "{{.Names}}"]),
        "two\none"
    );
    assert_eq!(
        cli.inspect(
            "one",
            "{{.Name}} {{index .Config.Labels \"a\"}} {{.State.Status}}"
        ),
        "/one b created"
    );
}

fn what_a_container_writes_is_its_own(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "--name",
        "writer",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo mine >/file",
    ]);
    let output = cli.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "cat",
        "/file",
    ]);
    assert_eq!(output.code, Some(1), "{output}");
    // Started again, it finds what it wrote.
    cli.ok(&["start", "-a", "writer"]);
}
