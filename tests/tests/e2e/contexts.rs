//! Contexts, under both command lines, which share the place where they are kept.

use std::fs;
use std::time::Duration;

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::process::{self, Output};
use conex_tests::under_both_clients;

under_both_clients! {
    a_context_is_made_used_shown_and_removed,
    a_context_says_what_is_wrong_with_it,
}

/// Without the variable that would win over every context.
fn run(cli: &Cli<'_>, args: &[&str]) -> Output {
    let mut command = cli.command(args);
    command.env_remove("DOCKER_HOST");
    process::output_limited(command, b"", Duration::from_secs(60))
}

fn ok(cli: &Cli<'_>, args: &[&str]) -> String {
    let output = run(cli, args);
    assert_eq!(output.code, Some(0), "{args:?}: {output}");
    output.stdout.trim_end_matches('\n').to_owned()
}

fn a_context_is_made_used_shown_and_removed(cli: &Cli<'_>) {
    let host = format!("host={}", cli.engine.host());
    let create = [
        "context",
        "create",
        "--description",
        "of the test",
        "--docker",
        &host,
        "here",
    ];
    let made = run(cli, &create);
    assert_eq!(
        (made.code, made.stdout.as_str()),
        (Some(0), "here\n"),
        "{made}"
    );
    assert_eq!(made.stderr, "Successfully created context \"here\"\n");
    assert_eq!(ok(cli, &["context", "show"]), "default");
    assert_eq!(
        ok(cli, &["--context", "here", "images", "-q"])
            .lines()
            .count(),
        1
    );
    let used = run(cli, &["context", "use", "here"]);
    assert_eq!(
        (used.stdout.as_str(), used.stderr.as_str()),
        ("here\n", "Current context is now \"here\"\n")
    );
    assert_eq!(ok(cli, &["context", "show"]), "here");
    assert_eq!(ok(cli, &["images", "-q"]).lines().count(), 1);
    let list = ok(cli, &["context", "ls"]);
    let here = list
        .lines()
        .find(|line| line.starts_with("here *"))
        .expect("it is listed");
    assert!(
        here.contains("of the test") && here.contains(&cli.engine.host()),
        "{list}"
    );
    assert!(list.starts_with("NAME "), "{list}");
    let format = "{{.Name}} {{.Endpoints.docker.Host}} {{json .TLSMaterial}}";
    assert_eq!(
        ok(cli, &["context", "inspect", "-f", format]),
        format!("here {} {{}}", cli.engine.host())
    );
    ok(
        cli,
        &["context", "update", "--description", "changed", "here"],
    );
    assert_eq!(
        ok(
            cli,
            &[
                "context",
                "ls",
                "--format",
                "{{.Name}}/{{.Description}}/{{.Current}}"
            ]
        )
        .lines()
        .last(),
        Some("here/changed/true")
    );
    let refused = run(cli, &["context", "rm", "here"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(
        refused
            .stderr
            .contains("is in use, set -f flag to force remove"),
        "{refused}"
    );
    ok(cli, &["context", "use", "default"]);
    assert_eq!(ok(cli, &["context", "rm", "here"]), "here");
    assert_eq!(ok(cli, &["context", "ls", "-q"]), "default");
}

fn a_context_says_what_is_wrong_with_it(cli: &Cli<'_>) {
    for (args, problem) in [
        (
            &["context", "create", "--docker", "host=unix:///x", "default"][..],
            "\"default\" is a reserved context name",
        ),
        (
            &["context", "create", "--docker", "host=unix:///x", "a b"],
            "is invalid, names are validated against regexp",
        ),
        (
            &["context", "use", "nosuch"],
            "context \"nosuch\": context not found",
        ),
        (
            &["--context", "nosuch", "ps"],
            "context \"nosuch\": context not found",
        ),
        (
            &["context", "rm", "default"],
            "context \"default\" cannot be removed",
        ),
    ] {
        let output = run(cli, args);
        assert_eq!(output.code, Some(1), "{args:?}: {output}");
        assert!(output.stderr.contains(problem), "{args:?}: {output}");
    }
}

#[test]
fn each_client_finds_the_contexts_of_the_other() {
    with_busybox(Client::Conex, |ours| {
        if conex_tests::workspace::program("docker").is_none() {
            return conex_tests::skip("no docker command line here");
        }
        let theirs = ours.engine.cli(Client::Docker);
        let host = format!("host={}", ours.engine.host());
        ok(ours, &["context", "create", "--docker", &host, "ours"]);
        ok(&theirs, &["context", "create", "--docker", &host, "theirs"]);
        for cli in [ours, &theirs] {
            assert_eq!(ok(cli, &["context", "ls", "-q"]), "default\nours\ntheirs");
            assert_eq!(
                ok(cli, &["--context", "ours", "images", "-q"])
                    .lines()
                    .count(),
                1
            );
            assert_eq!(
                ok(cli, &["--context", "theirs", "images", "-q"])
                    .lines()
                    .count(),
                1
            );
        }
        // A setting of the other's stays when one of ours changes.
        let settings = ours.engine.root().join("home/.docker/config.json");
        fs::write(&settings, "{\"auths\":{\"x\":{}}}").expect("it can be written");
        ok(ours, &["context", "use", "theirs"]);
        assert_eq!(ok(&theirs, &["context", "show"]), "theirs");
        let text = fs::read_to_string(settings).expect("it can be read");
        assert!(text.contains("\"auths\""), "{text}");
    });
}
