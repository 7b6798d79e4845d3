//! Command lines to texts and exit codes, without an engine.

#![allow(clippy::unwrap_used)]

use super::*;

/// What a command line prints and its exit code.
fn run_line(program: &str, line: &str) -> (String, String, ExitCode) {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let mut ctx = Context::new(
        program.to_owned(),
        Output::keeping(),
        Output::keeping(),
        Globals::default(),
    );
    let result = root(&mut ctx, &words);
    let code = finish(&mut ctx, result);
    let text = |output: &Output| String::from_utf8(output.kept().to_vec()).unwrap();
    (text(&ctx.out), text(&ctx.err), code)
}

fn failure(line: &str) -> (String, ExitCode) {
    let (out, err, code) = run_line("docker", line);
    assert_eq!(out, "", "{line}");
    (err, code)
}

#[test]
fn wrong_flags_show_the_usage_and_exit_with_125() {
    let table = [
        (
            "ps --bad",
            "unknown flag: --bad\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information\n",
        ),
        (
            "container list --bad",
            "unknown flag: --bad\n\nUsage:  docker container ls [OPTIONS]\n\nRun 'docker container ls --help' for more information\n",
        ),
        (
            "ps -n x",
            "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information\n",
        ),
        (
            "ps -afq",
            "invalid argument \"q\" for \"-f, --filter\" flag: bad format of filter (expected name=value)\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information\n",
        ),
        (
            "--nosuch",
            "unknown flag: --nosuch\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]\n\nRun 'docker --help' for more information\n",
        ),
        (
            "ps -D",
            "unknown shorthand flag: 'D' in -D\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information\n",
        ),
    ];
    for (line, text) in table {
        assert_eq!(
            failure(line),
            (text.to_owned(), ExitCode::from(125)),
            "{line}"
        );
    }
}

#[test]
fn wrong_numbers_of_arguments_exit_with_1() {
    let table = [
        (
            "ps x",
            "docker: 'docker ps' accepts no arguments\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information\n",
        ),
        (
            "tag a",
            "docker: 'docker tag' requires 2 arguments\n\nUsage:  docker tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]\n\nRun 'docker tag --help' for more information\n",
        ),
        (
            "rmi",
            "docker: 'docker rmi' requires at least 1 argument\n\nUsage:  docker rmi [OPTIONS] IMAGE [IMAGE...]\n\nSee 'docker rmi --help' for more information\n",
        ),
        (
            "images a b",
            "docker: 'docker images' requires at most 1 argument\n\nUsage:  docker images [OPTIONS] [REPOSITORY[:TAG]]\n\nRun 'docker images --help' for more information\n",
        ),
    ];
    for (line, text) in table {
        assert_eq!(
            failure(line),
            (text.to_owned(), ExitCode::from(1)),
            "{line}"
        );
    }
}

#[test]
fn unknown_commands_exit_with_1() {
    assert_eq!(
        run_line("conex", "nosuchcommand").1,
        "conex: unknown command: conex nosuchcommand\n\nRun 'conex --help' for more information\n"
    );
    assert_eq!(
        failure("container nosuch"),
        (
            "docker: unknown command: docker container nosuch\n\nUsage:  docker container\n\nRun 'docker container --help' for more information\n".to_owned(),
            ExitCode::from(1)
        )
    );
    assert_eq!(failure("help nosuch").0, "unknown help topic: nosuch\n");
}

#[test]
fn help_names_the_program_it_was_called_as() {
    let (out, err, code) = run_line("conex", "images --help");
    let expected = "\
Usage:  conex images [OPTIONS] [REPOSITORY[:TAG]]

List images

Aliases:
  conex image ls, conex image list, conex images

Options:
  -a, --all ";
    assert!(out.starts_with(expected), "{out}");
    assert_eq!((err.as_str(), code), ("", ExitCode::SUCCESS));
    assert_eq!(run_line("conex", "help images").0, out);
    assert!(
        run_line("docker", "ps --help")
            .0
            .starts_with("Usage:  docker ps [OPTIONS]\n")
    );
}

#[test]
fn the_help_of_run_is_dockers() {
    let (out, _, _) = run_line("docker", "run --help");
    let head = "\
Usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]

Create and run a new container from an image

Aliases:
  docker container run, docker run

Options:
      --add-host list                    Add a custom host-to-IP mapping
                                         (host:ip)
      --annotation map                   Add an annotation to the
                                         container (passed through to the
                                         OCI runtime) (default map[])
  -a, --attach list                      Attach to STDIN, STDOUT or STDERR
";
    assert!(out.starts_with(head), "{out}");
    for line in [
        "      --help                             Print usage\n",
        "  -m, --memory bytes                     Memory limit\n",
        "                                         (\"always\", \"missing\", \"never\")\n                                         (default \"missing\")\n",
        "  -w, --workdir string                   Working directory inside the\n                                         container\n",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    assert_eq!(out.replace("docker run", "docker container run"), {
        let (long, _, _) = run_line("docker", "container run --help");
        long.replace("docker run", "docker container run")
    });
}

#[test]
fn the_programs_help_lists_commands_under_headings() {
    let (out, _, _) = run_line("conex", "--help");
    for line in [
        "Usage:  conex [OPTIONS] COMMAND\n",
        "\nCommon Commands:\n",
        "\n  ps          List containers\n",
        "\nManagement Commands:\n",
        "\n  container   Manage containers\n",
        "\nCommands:\n",
        "\nGlobal Options:\n      --config string      Location of client config files (default\n",
        "\nRun 'conex COMMAND --help' for more information on a command.\n",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    assert_eq!(run_line("conex", "-D").1, out);
    assert_eq!(run_line("conex", "help").0, out);
}

#[test]
fn a_group_alone_shows_its_commands() {
    let (_, err, code) = run_line("conex", "image");
    assert!(
        err.starts_with("Usage:  conex image COMMAND\n\nManage images\n\nCommands:\n"),
        "{err}"
    );
    assert!(
        err.contains("\n  rm          Remove one or more images\n"),
        "{err}"
    );
    assert_eq!(code, ExitCode::SUCCESS);
}

#[test]
fn the_version_is_told_without_an_engine() {
    assert!(
        run_line("conex", "--version")
            .0
            .starts_with("Conex version ")
    );
    assert!(run_line("docker", "-v").0.starts_with("Docker version "));
}

#[test]
fn an_unknown_log_level_is_refused() {
    assert_eq!(failure("-l xx ps").0, "Unable to parse logging level: xx\n");
}

/// Every entry of the tree with its full name.
fn every_entry(entries: &'static [Entry], path: &str, found: &mut Vec<(String, &'static Entry)>) {
    for entry in entries {
        let path = format!("{path} {}", entry.name).trim().to_owned();
        if let Node::Group { entries, .. } = &entry.node {
            every_entry(entries, &path, found);
        }
        found.push((path, entry));
    }
}

#[test]
fn the_tree_is_consistent() {
    let mut found = Vec::new();
    every_entry(ROOT, "", &mut found);
    for (path, entry) in &found {
        let Node::Command(command) = &entry.node else {
            continue;
        };
        if !command.spellings.is_empty() {
            assert!(
                command.spellings.contains(&path.as_str()),
                "{path} is not among its spellings"
            );
        }
        for spelling in command.spellings {
            let mut entries = ROOT;
            let mut last = None;
            for word in spelling.split(' ') {
                let entry = entries.iter().find(|entry| entry.is_called(word));
                let entry = entry.unwrap_or_else(|| panic!("{spelling} leads nowhere"));
                if let Node::Group { entries: inner, .. } = &entry.node {
                    entries = inner;
                }
                last = Some(entry);
            }
            assert!(
                matches!(last.unwrap().node, Node::Command(other) if std::ptr::eq(other, *command)),
                "{spelling}"
            );
        }
        let flags: Vec<&Flag> = command
            .flags
            .iter()
            .flat_map(|table| table.iter())
            .collect();
        for (index, flag) in flags.iter().enumerate() {
            for other in &flags[index + 1..] {
                assert_ne!(flag.long, other.long, "{path}");
                assert!(
                    flag.short.is_none() || flag.short != other.short,
                    "{path}: -{:?}",
                    flag.short
                );
            }
        }
    }
}
