//! The command line in a shell: completion in real shells, manual pages, and
//! commands that other programs bring.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::engine::write_file;
use conex_tests::process::{self, Output};
use conex_tests::{skip, workspace};

const LIMIT: Duration = Duration::from_secs(60);

/// A directory in which our program has its name, to go before the path.
fn with_program_in_path(cli: &Cli<'_>, command: &mut Command) {
    let bin = cli.engine.root().join("bin");
    fs::create_dir_all(&bin).expect("a directory can be made");
    let link = bin.join("conex");
    if !link.exists() {
        std::os::unix::fs::symlink(workspace::conex(), link).expect("a link can be made");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", bin.display()));
}

/// A line completed by bash: what stands in `COMPREPLY`.
fn bash(cli: &Cli<'_>, line: &str) -> Vec<String> {
    // As readline does it: bash cuts words at `:` and `=` too.
    let script = r#"
        source <(conex completion bash)
        COMP_LINE=$1 COMP_POINT=${#1}
        COMP_WORDS=(conex) COMP_CWORD=1 COMPREPLY=()
        _conex_complete
        (( ${#COMPREPLY[@]} )) && printf '%s\n' "${COMPREPLY[@]}"
        exit 0
    "#;
    let command = cli.command(&[]);
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash", line]);
    for (name, value) in command.get_envs() {
        bash.env(name, value.unwrap_or_default());
    }
    with_program_in_path(cli, &mut bash);
    let output = process::output_limited(bash, b"", LIMIT);
    assert_eq!(output.code, Some(0), "{line}: {output}");
    output.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_the_names_of_objects() {
    with_busybox(Client::Conex, |cli| {
        cli.ok(&[
            "create",
            "--name",
            "web-one",
            "--network",
            "none",
            "busybox",
            "true",
        ]);
        cli.ok(&[
            "create",
            "--name",
            "web-two",
            "--network",
            "none",
            "busybox",
            "true",
        ]);
        cli.ok(&["volume", "create", "data"]);
        cli.ok(&["tag", "busybox", "host.test:5000/repo/name:v1"]);
        assert_eq!(bash(cli, "conex vol"), ["volume"]);
        assert_eq!(bash(cli, "conex volume pr"), ["prune"]);
        assert_eq!(
            bash(cli, "conex run --mem"),
            [
                "--memory",
                "--memory-reservation",
                "--memory-swap",
                "--memory-swappiness"
            ]
        );
        assert_eq!(bash(cli, "conex rm -f web"), ["web-one", "web-two"]);
        assert_eq!(bash(cli, "conex volume rm "), ["data"]);
        assert_eq!(bash(cli, "conex run -it --rm busy"), ["busybox:latest"]);
        assert_eq!(bash(cli, "conex run --restart=un"), ["unless-stopped"]);
        assert_eq!(
            bash(cli, "conex run --pull "),
            ["always", "missing", "never"]
        );
        // bash has what stands before the last colon already.
        assert_eq!(
            bash(cli, "conex rmi host.test:5000/re"),
            ["5000/repo/name:v1"]
        );
        assert_eq!(bash(cli, "conex rmi busybox:"), ["latest"]);
        assert!(bash(cli, "conex rename web-one ").is_empty());
        // An engine that is not there leaves a shell as it was.
        assert!(bash(cli, "conex -H unix:///nonexistent rm ").is_empty());
    });
}

#[test]
fn the_scripts_of_the_other_shells_are_read_by_them() {
    with_busybox(Client::Conex, |cli| {
        let mut tried = false;
        for (shell, check) in [("zsh", "-n"), ("fish", "--no-execute")] {
            let Some(program) = workspace::program(shell) else {
                continue;
            };
            tried = true;
            let script = cli.engine.root().join("script");
            write_file(&script, &cli.ok(&["completion", shell]));
            let mut command = Command::new(program);
            command.arg(check).arg(script);
            let output = process::output_limited(command, b"", LIMIT);
            assert_eq!(output.code, Some(0), "{shell}: {output}");
        }
        if let Some(fish) = workspace::program("fish") {
            let script = "conex completion fish | source; complete -C 'conex volume pr'";
            let mut command = Command::new(fish);
            command.args(["-c", script]);
            command.env("HOME", cli.engine.root().join("home"));
            with_program_in_path(cli, &mut command);
            let output = process::output_limited(command, b"", LIMIT);
            assert_eq!(
                output.stdout, "prune\tRemove unused local volumes\n",
                "{output}"
            );
        }
        assert!(
            cli.ok(&["completion", "powershell"])
                .contains("Register-ArgumentCompleter")
        );
        if !tried {
            skip("neither zsh nor fish here");
        }
    });
}

#[test]
fn manual_pages_are_made_for_every_command_and_can_be_read() {
    with_busybox(Client::Conex, |cli| {
        let man = cli.engine.root().join("man");
        cli.ok(&["man", &man.to_string_lossy()]);
        let pages = fs::read_dir(&man).map_or(0, Iterator::count);
        assert!(pages > 60, "{pages} pages");
        let page = man.join("conex-container-run.1");
        let Some(groff) = workspace::program("groff") else {
            return skip("no groff here");
        };
        let mut command = Command::new(groff);
        command
            .args(["-man", "-Tascii", "-P-cbou", "-ww", "-z"])
            .arg(&page);
        let checked = process::output_limited(command, b"", LIMIT);
        assert_eq!(
            (checked.code, checked.stderr.as_str()),
            (Some(0), ""),
            "{checked}"
        );
    });
}

/// Puts an executable script at a path.
fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("it is below a directory"))
        .expect("a directory can be made");
    write_file(path, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
}

#[test]
fn a_plugin_is_a_command_and_knows_the_engine() {
    with_busybox(Client::Conex, |cli| {
        let plugins = cli.engine.root().join("home/.docker/cli-plugins");
        let metadata = r#"{"SchemaVersion":"0.1.0","Vendor":"us","Version":"1","ShortDescription":"Says hello"}"#;
        let text = format!(
            "#!/bin/sh\nif [ \"$1\" = docker-cli-plugin-metadata ]; then echo '{metadata}'; exit; fi\n\
             echo \"$DOCKER_HOST $*\"; exit 7\n"
        );
        program(&plugins.join("docker-greet"), &text);
        let output = cli.run(&["-D", "greet", "--loud", "you"]);
        assert_eq!(output.code, Some(7), "{output}");
        let host = cli.engine.host();
        assert_eq!(output.stdout, format!("{host} -D greet --loud you\n"));
        assert!(cli.ok(&["--help"]).contains("\n  greet       Says hello\n"));
        let help = cli.run(&["help", "greet"]);
        assert_eq!(help.stdout, format!("{host} greet --help\n"));
        // Told by our own variable, a plugin still finds the engine.
        let mut command = cli.command(&["greet"]);
        command.env_remove("DOCKER_HOST").env("CONEX_HOST", &host);
        let output = process::output_limited(command, b"", LIMIT);
        assert_eq!(output.stdout, format!("{host} greet\n"));
        let complaint = cli.fails(1, &["nosuch"]);
        assert!(
            complaint.starts_with("conex: unknown command: conex nosuch\n"),
            "{complaint}"
        );
    });
}

/// A client that thinks it goes to another machine.
fn by_ssh(cli: &Cli<'_>, args: &[&str], input: &[u8]) -> Output {
    let ssh = cli.engine.root().join("bin/ssh");
    // Everything up to `--` and the host is for ssh; the rest is the other machine's.
    let script = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nexec env DOCKER_HOST=unix://SOCKET sh -c \"$3\"\n";
    program(
        &ssh,
        &script.replace("SOCKET", &cli.engine.socket().to_string_lossy()),
    );
    let mut command = cli.command(&[]);
    command.env("DOCKER_HOST", "ssh://me@far");
    command.args(args);
    with_program_in_path(cli, &mut command);
    process::output_limited(command, input, LIMIT)
}

#[test]
fn an_engine_is_reached_through_ssh() {
    with_busybox(Client::Conex, |cli| {
        let listed = by_ssh(cli, &["images", "-q"], b"");
        assert_eq!(
            (listed.code, listed.stdout.lines().count()),
            (Some(0), 1),
            "{listed}"
        );
        let run = [
            "run",
            "--rm",
            "-i",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "cat; echo oops >&2; exit 6",
        ];
        let output = by_ssh(cli, &run, b"through ssh\n");
        assert_eq!(output.code, Some(6), "{output}");
        assert_eq!(
            (&*output.stdout, &*output.stderr),
            ("through ssh\n", "oops\n")
        );
    });
}
