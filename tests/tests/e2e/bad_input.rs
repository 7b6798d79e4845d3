//! Wrong requests through the clients: a clear error, the right exit code,
//! nothing left behind.

use conex_tests::client::Cli;
use conex_tests::under_both_clients;

/// The layer store once the image has been run: what only the first run makes
/// is there.
fn settled_layers(cli: &Cli<'_>) -> Vec<String> {
    cli.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
    cli.engine.layer_directories()
}

/// Nothing was made by what just failed, and the engine still works.
fn nothing_is_left(cli: &Cli<'_>, layers: &[String]) {
    assert_eq!(cli.engine.container_count(), 0);
    assert_eq!(cli.engine.layer_directories(), layers);
    assert_eq!(
        cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "echo",
            "alive"
        ]),
        "alive"
    );
}

under_both_clients! {
    an_unknown_image_is_an_error_of_the_engine,
    a_malformed_reference_is_named_so,
    a_command_that_is_not_there_gives_127,
    a_command_that_cannot_be_executed_gives_126,
    a_failed_start_is_remembered_in_the_container,
    a_name_is_taken_once,
    an_unknown_user_or_directory_does_not_start,
    unknown_flags_and_missing_arguments_are_usage_errors,
    unknown_containers_are_named,
}

fn an_unknown_image_is_an_error_of_the_engine(cli: &Cli<'_>) {
    let layers = settled_layers(cli);
    let complaint = cli.fails(125, &["run", "--rm", "--pull", "never", "nosuch", "true"]);
    assert!(
        complaint.contains("No such image: nosuch:latest"),
        "{complaint}"
    );
    let complaint = cli.fails(125, &["run", "--rm", "nosuch", "true"]);
    assert!(
        complaint.contains("Error response from daemon"),
        "{complaint}"
    );
    let complaint = cli.fails(1, &["rmi", "nosuch"]);
    assert!(
        complaint.contains("No such image: nosuch:latest"),
        "{complaint}"
    );
    nothing_is_left(cli, &layers);
}

fn a_malformed_reference_is_named_so(cli: &Cli<'_>) {
    let complaint = cli.fails(125, &["run", "Busybox", "true"]);
    assert!(
        complaint.contains(
            "invalid reference format: repository name (library/Busybox) must be lowercase"
        ),
        "{complaint}"
    );
    for name in ["bad::tag", "-dash", "a//b", "name:tag with space"] {
        let output = cli.run(&["create", "--", name, "true"]);
        assert_ne!(output.code, Some(0), "{name}");
        assert!(
            output.stderr.contains("invalid reference format"),
            "{name}: {output}"
        );
    }
}

fn a_command_that_is_not_there_gives_127(cli: &Cli<'_>) {
    let layers = settled_layers(cli);
    let complaint = cli.fails(
        127,
        &[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "nosuchcommand",
        ],
    );
    assert!(
        complaint.contains("exec: \"nosuchcommand\": executable file not found in $PATH"),
        "{complaint}"
    );
    let complaint = cli.fails(
        127,
        &[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "/no/such/file",
        ],
    );
    assert!(
        complaint.contains("no such file or directory"),
        "{complaint}"
    );
    nothing_is_left(cli, &layers);
}

fn a_command_that_cannot_be_executed_gives_126(cli: &Cli<'_>) {
    let layers = settled_layers(cli);
    let complaint = cli.fails(
        126,
        &["run", "--rm", "--network", "none", "busybox", "/etc/passwd"],
    );
    assert!(complaint.contains("permission denied"), "{complaint}");
    let complaint = cli.fails(
        126,
        &["run", "--rm", "--network", "none", "busybox", "/etc"],
    );
    assert!(
        complaint.contains("permission denied") || complaint.contains("is a directory"),
        "{complaint}"
    );
    nothing_is_left(cli, &layers);
}

fn a_failed_start_is_remembered_in_the_container(cli: &Cli<'_>) {
    cli.ok(&[
        "create",
        "--name",
        "broken",
        "--network",
        "none",
        "busybox",
        "nosuchcommand",
    ]);
    cli.fails(1, &["start", "broken"]);
    assert_eq!(
        cli.inspect(
            "broken",
            "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}"
        ),
        "created 127 false"
    );
    assert!(
        cli.inspect("broken", "{{.State.Error}}")
            .contains("executable file not found")
    );
    cli.ok(&["rm", "broken"]);
}

fn a_name_is_taken_once(cli: &Cli<'_>) {
    let id = cli.ok(&[
        "create",
        "--name",
        "taken",
        "--network",
        "none",
        "busybox",
        "true",
    ]);
    let complaint = cli.fails(
        125,
        &[
            "run",
            "--name",
            "taken",
            "--network",
            "none",
            "busybox",
            "true",
        ],
    );
    let wanted = format!(
        "Conflict. The container name \"/taken\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    assert!(complaint.contains(&wanted), "{complaint}");
    assert_eq!(cli.engine.container_count(), 1);
    cli.fails(125, &["run", "--name", "bad name", "busybox", "true"]);
    cli.fails(125, &["run", "--name", "x", "busybox", "true"]);
    assert_eq!(cli.engine.container_count(), 1);
}

fn an_unknown_user_or_directory_does_not_start(cli: &Cli<'_>) {
    let layers = settled_layers(cli);
    let complaint = cli.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-u",
        "nobodyknows",
        "busybox",
        "true",
    ]);
    assert_ne!(complaint.code, Some(0));
    assert!(
        complaint.stderr.contains("unable to find user nobodyknows"),
        "{complaint}"
    );
    let complaint = cli.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-w",
        "relative",
        "busybox",
        "true",
    ]);
    assert_ne!(complaint.code, Some(0), "{complaint}");
    let complaint = cli.fails(
        125,
        &[
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            "rel:x:y:z",
            "busybox",
            "true",
        ],
    );
    assert!(
        complaint.contains("invalid volume specification"),
        "{complaint}"
    );
    let complaint = cli.fails(
        125,
        &[
            "run",
            "--rm",
            "--network",
            "none",
            "--cap-add",
            "NO_SUCH",
            "busybox",
            "true",
        ],
    );
    assert!(
        complaint.to_lowercase().contains("capability"),
        "{complaint}"
    );
    nothing_is_left(cli, &layers);
}

fn unknown_flags_and_missing_arguments_are_usage_errors(cli: &Cli<'_>) {
    let complaint = cli.fails(125, &["run", "--nosuchflag", "busybox"]);
    assert!(
        complaint.starts_with("unknown flag: --nosuchflag"),
        "{complaint}"
    );
    let complaint = cli.fails(1, &["run"]);
    assert!(
        complaint.contains("requires at least 1 argument"),
        "{complaint}"
    );
    let complaint = cli.fails(1, &["nosuchcommand"]);
    assert!(complaint.contains("unknown command"), "{complaint}");
    let complaint = cli.fails(1, &["import", "/nosuch/file"]);
    assert!(
        complaint.contains("no such file or directory"),
        "{complaint}"
    );
}

fn unknown_containers_are_named(cli: &Cli<'_>) {
    for verb in ["start", "stop", "kill", "rm", "wait", "logs", "attach"] {
        let output = cli.run(&[verb, "nosuch"]);
        assert_eq!(output.code, Some(1), "{verb}: {output}");
        assert!(
            output.stderr.contains("No such container: nosuch"),
            "{verb}: {output}"
        );
    }
}
