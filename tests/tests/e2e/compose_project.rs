//! Projects of Docker Compose, as Debian has it: the program speaks to the
//! engine itself, so what it relies on is proved without a client between.
//!
//! ```text
//! setup ──completed──► web ──healthy──► client          extra (a profile)
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::engine::write_file;
use conex_tests::fixture::{self, Fixture};
use conex_tests::process::{self, Output};
use conex_tests::skip;

const LIMIT: Duration = Duration::from_secs(60);

const FILE: &str = r#"
name: proj
services:
  setup:
    image: busybox
    command: sh -c 'echo setting up; echo page > /data/page'
    volumes: ["data:/data"]
    network_mode: none
  web:
    image: busybox
    command: httpd -f -p 80 -h /data
    init: true
    ports: ["127.0.0.1::80"]
    env_file: web.env
    environment: {MODE: first}
    volumes: ["data:/data:ro", "/kept"]
    configs: [{source: inline, target: /etc/inline}]
    depends_on:
      setup: {condition: service_completed_successfully}
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "-", "http://127.0.0.1/page"]
      interval: 30s
      start_period: 30s
      start_interval: 100ms
    networks: [front, back]
    restart: unless-stopped
  client:
    image: busybox
    command: sh -c 'echo "client is up"; exec sleep 1000'
    init: true
    stop_grace_period: 1s
    depends_on:
      web: {condition: service_healthy}
    networks: [back]
  extra:
    image: busybox
    command: sleep 1000
    init: true
    profiles: [more]
    network_mode: service:web
    volumes:
      - {type: volume, source: data, target: /part, volume: {subpath: page}}
networks:
  front:
  back: {internal: true}
volumes:
  data: {labels: {kind: data}}
configs:
  inline: {content: "said in the file"}
"#;

/// A directory with a compose file, on an engine that has busybox.
struct Project<'a> {
    cli: &'a Cli<'a>,
    program: PathBuf,
    dir: PathBuf,
}

impl Project<'_> {
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words.split(' '))
            .current_dir(&self.dir)
            .env("HOME", self.cli.engine.root().join("home"))
            .env("DOCKER_HOST", self.cli.engine.host())
            .env("COMPOSE_ANSI", "never");
        command
    }

    fn run(&self, words: &str) -> Output {
        process::output_limited(self.command(words), b"", LIMIT)
    }

    /// Runs, requires success and gives standard output.
    fn ok(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.code, Some(0), "{words}: {output}");
        output.stdout
    }

    /// The names of the project's containers and their states, sorted.
    fn states(&self) -> Vec<String> {
        let shown = self.ok("ps -a --format {{.Name}}={{.State}}");
        let mut all: Vec<String> = shown.lines().map(str::to_owned).collect();
        all.sort();
        all
    }

    fn id(&self, service: &str) -> String {
        self.ok(&format!("ps -q {service}")).trim().to_owned()
    }
}

/// Runs a case in a project of this file; it is skipped where there is no compose.
fn with_project(file: &str, case: impl FnOnce(&Project<'_>)) {
    let program = match fixture::make(Fixture::Compose2) {
        Ok(program) => program,
        Err(reason) => return skip(&reason),
    };
    with_busybox(Client::Conex, |cli| {
        let dir = cli.engine.root().join("project");
        fs::create_dir(&dir).expect("a fresh directory takes a folder");
        write_file(&dir.join("compose.yaml"), file);
        write_file(&dir.join("web.env"), "FROM_FILE=yes\n");
        case(&Project { cli, program, dir });
    });
}

#[test]
fn a_project_comes_up_in_order_is_worked_with_and_goes() {
    with_project(FILE, |project| {
        project.ok("up -d --wait");
        let client = "proj-client-1=running";
        assert_eq!(
            project.states(),
            [client, "proj-setup-1=exited", "proj-web-1=running"]
        );
        assert!(project.ok("ps web").contains("(healthy)"));
        let logs = project.ok("logs --no-log-prefix setup client");
        assert!(
            logs.contains("setting up") && logs.contains("client is up"),
            "{logs}"
        );
        assert_eq!(
            project.ok("exec -T web cat /etc/inline"),
            "said in the file"
        );
        let env = project.ok("exec -T web env");
        assert!(
            env.contains("FROM_FILE=yes\n") && env.contains("MODE=first\n"),
            "{env}"
        );
        let fetched = project.ok("exec -T client wget -q -O - http://web/page");
        assert_eq!(fetched, "page\n");
        let address = project.ok("port web 80");
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        assert!(project.ok("top client").contains("sleep 1000"));

        let once = project.run("run --rm -T --no-deps --name once -e ONE=off client env");
        assert_eq!(once.code, Some(0), "{once}");
        assert!(once.stdout.contains("ONE=off\n"), "{once}");
        let failed = project.run("run --rm -T --no-deps client false");
        assert_eq!(failed.code, Some(1), "{failed}");

        project.ok("--profile more up -d --no-recreate extra");
        assert_eq!(project.ok("exec -T extra cat /part"), "page\n");
        project.ok("up -d --scale client=3 --no-recreate");
        assert_eq!(project.ok("ps -q client").lines().count(), 3);
        project.ok("scale client=1");
        assert_eq!(project.ok("ps -q client").lines().count(), 1);

        for (verb, state) in [
            ("pause", "paused"),
            ("unpause", "running"),
            ("stop", "exited"),
            ("start", "running"),
            ("restart", "running"),
            ("kill", "exited"),
        ] {
            project.ok(&format!("{verb} client"));
            let wanted = format!("proj-client-1={state}");
            assert!(
                project.states().contains(&wanted),
                "{verb}: {:?}",
                project.states()
            );
        }
        assert!(
            project.ok("ls -a").contains("exited(2), running(2)"),
            "{}",
            project.ok("ls -a")
        );
        project.ok("--profile more down -v -t 1");
        let engine = project.cli;
        assert_eq!(engine.ok(&["ps", "-aq"]), "");
        assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
        assert_eq!(
            engine.ok(&["network", "ls", "-q", "--filter", "type=custom"]),
            ""
        );
    });
}

#[test]
fn a_changed_service_is_made_anew_and_keeps_its_anonymous_volume() {
    with_project(FILE, |project| {
        project.ok("up -d");
        let (web, client) = (project.id("web"), project.id("client"));
        project.ok("exec -T web touch /kept/file");
        project.ok("up -d");
        assert_eq!(
            (project.id("web"), project.id("client")),
            (web.clone(), client)
        );

        write_file(
            &project.dir.join("compose.yaml"),
            &FILE.replace("MODE: first", "MODE: second"),
        );
        project.ok("up -d");
        assert_ne!(project.id("web"), web);
        assert!(project.ok("exec -T web env").contains("MODE=second\n"));
        project.ok("exec -T web test -f /kept/file");
        // By its old name, which the new one had to wait for.
        let name = project.cli.inspect("proj-web-1", "{{.Id}}");
        assert_eq!(name, project.id("web"));
        project.ok("down -v -t 0");
    });
}

#[test]
fn a_project_in_the_foreground_ends_with_a_service() {
    const FILE: &str = r#"
name: fore
services:
  long:
    image: busybox
    network_mode: none
    command: sleep 1000
    init: true
  short:
    image: busybox
    network_mode: none
    command: sh -c 'exit 7'
"#;
    with_project(FILE, |project| {
        let ended = project.run("up --exit-code-from short");
        assert_eq!(ended.code, Some(7), "{ended}");
        assert_eq!(
            project.states(),
            ["fore-long-1=exited", "fore-short-1=exited"]
        );
    });
}

#[test]
fn compose_is_a_command_of_ours_where_it_is_a_plugin() {
    with_project(FILE, |project| {
        let plugins = project.cli.engine.root().join("home/.docker/cli-plugins");
        fs::create_dir_all(&plugins).expect("a directory can be made");
        symlink(&project.program, plugins.join("docker-compose")).expect("a link can be made");
        let mut command = project.cli.command(&["compose", "up", "-d", "setup"]);
        command.current_dir(&project.dir);
        let output = process::output_limited(command, b"", LIMIT);
        assert_eq!(output.code, Some(0), "{output}");
        assert_eq!(project.cli.ok(&["wait", "proj-setup-1"]), "0");
    });
}
