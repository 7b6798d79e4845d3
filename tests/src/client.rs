//! The command lines under test: ours and the real `docker`, side by side.
//!
//! A case written once runs under both (`under_both_clients!`), so whatever it
//! asserts holds for everybody who keeps his client and changes the engine.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::engine::Engine;
use crate::fixture::{self, Fixture};
use crate::process::{self, Output};
use crate::{skip, workspace};

/// Past this a command counts as hung.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// Which program plays the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The binary under test.
    Conex,
    /// The docker command line found on this machine.
    Docker,
}

impl Client {
    /// The name the program has in its own messages.
    pub fn name(self) -> &'static str {
        match self {
            Client::Conex => "conex",
            Client::Docker => "docker",
        }
    }
}

/// A client bound to one engine.
#[derive(Debug, Clone, Copy)]
pub struct Cli<'a> {
    /// The engine it speaks to.
    pub engine: &'a Engine,
    /// The program.
    pub client: Client,
}

impl Cli<'_> {
    /// The prepared command, for cases that need its pipes or its pid.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.client {
            Client::Conex => Command::new(workspace::conex()),
            Client::Docker => Command::new("docker"),
        };
        let home = self.engine.root().join("home");
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .env("HOME", &home)
            .env("DOCKER_CONFIG", home.join(".docker"))
            .env("DOCKER_HOST", self.engine.host())
            .env("CONEX_NO_AUTOSTART", "1");
        command
    }

    /// Runs to the end with nothing on standard input.
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with_input(args, b"")
    }

    /// Runs to the end with these bytes, then end of file, on standard input.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        process::output_limited(self.command(args), input, COMMAND_LIMIT)
    }

    /// Runs, requires success and gives standard output without its last newline.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(
            output.code,
            Some(0),
            "{} {}: {output}",
            self.client.name(),
            args.join(" ")
        );
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// Runs a container without a network to its end, and gives what it printed.
    pub fn run_once(&self, image: &str, words: &[&str]) -> String {
        self.ok(&[&["run", "--rm", "--network", "none", image], words].concat())
    }

    /// Runs, requires this exit code and gives standard error.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(
            output.code,
            Some(code),
            "{} {}: {output}",
            self.client.name(),
            args.join(" ")
        );
        output.stderr
    }

    /// Follows a container's log until it printed this line; panics when it ends
    /// without.
    pub fn wait_for_line(&self, name: &str, wanted: &str) {
        let mut follower = self
            .command(&["logs", "-f", name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a client can be started");
        let output = follower.stdout.take().expect("stdout is a pipe");
        let seen = BufReader::new(output)
            .lines()
            .any(|line| line.is_ok_and(|line| line == wanted));
        follower.kill().expect("a child can be killed");
        follower.wait().expect("a child can be reaped");
        assert!(seen, "{name} ended without printing {wanted:?}");
    }

    /// Follows both streams of a container's log until a line has this in it;
    /// panics with what was there when it ends without.
    pub fn wait_for_words(&self, name: &str, wanted: &str) {
        let (output, input) = std::io::pipe().expect("a pipe can be made");
        let mut command = self.command(&["logs", "-f", name]);
        let also = input.try_clone().expect("a pipe can be shared");
        command.stdin(Stdio::null()).stdout(also).stderr(input);
        let mut follower = command.spawn().expect("a client can be started");
        // Its ends of the pipe are the follower's alone, or it would never end.
        drop(command);
        let mut read = Vec::new();
        let seen = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .any(|line| {
                let is_it = line.contains(wanted);
                read.push(line);
                is_it
            });
        follower.kill().expect("a child can be killed");
        follower.wait().expect("a child can be reaped");
        assert!(
            seen,
            "{name} ended without {wanted:?}:\n{}",
            read.join("\n")
        );
    }

    /// One field of `inspect`.
    pub fn inspect(&self, name: &str, template: &str) -> String {
        self.ok(&["inspect", "-f", template, name])
    }
}

/// Starts an engine that has the image `busybox` and gives the case a client of
/// it; where that cannot be, the case is skipped with a reason.
pub fn with_busybox(client: Client, case: impl FnOnce(&Cli<'_>)) {
    with_busybox_on(client, engine_for(client), case);
}

/// The same on an engine in a network namespace of its own, started with these
/// flags.
pub fn with_busybox_in_namespace(client: Client, flags: &[&str], case: impl FnOnce(&Cli<'_>)) {
    if is_here(client) {
        with_busybox_on(client, Engine::start_in_namespace(flags), case);
    }
}

fn with_busybox_on(client: Client, engine: Option<Engine>, case: impl FnOnce(&Cli<'_>)) {
    let Some(engine) = engine else {
        return;
    };
    let cli = engine.cli(client);
    match fixture::make(Fixture::Busybox) {
        Ok(tar) => cli.ok(&["import", &tar.to_string_lossy(), "busybox"]),
        Err(reason) => return skip(&reason),
    };
    case(&cli);
}

/// A fresh engine, if this machine has the client and lets engines run.
pub fn engine_for(client: Client) -> Option<Engine> {
    is_here(client).then(Engine::start).flatten()
}

fn is_here(client: Client) -> bool {
    let is_here = client != Client::Docker || workspace::program("docker").is_some();
    if !is_here {
        skip("no docker command line here");
    }
    is_here
}

/// As [`under_both_clients!`], on engines in network namespaces of their own.
#[macro_export]
macro_rules! under_both_clients_in_namespaces {
    ($($case:ident),* $(,)?) => {
        mod conex {
            $(#[test]
            fn $case() {
                let client = $crate::client::Client::Conex;
                $crate::client::with_busybox_in_namespace(client, &[], super::$case);
            })*
        }
        mod docker {
            $(#[test]
            fn $case() {
                let client = $crate::client::Client::Docker;
                $crate::client::with_busybox_in_namespace(client, &[], super::$case);
            })*
        }
    };
}

/// Makes each named function, `fn(&Cli<'_>)`, two tests, `conex::<name>` and
/// `docker::<name>`, each on an engine of its own that has the image `busybox`.
#[macro_export]
macro_rules! under_both_clients {
    ($($case:ident),* $(,)?) => {
        mod conex {
            $(#[test]
            fn $case() {
                $crate::client::with_busybox($crate::client::Client::Conex, super::$case);
            })*
        }
        mod docker {
            $(#[test]
            fn $case() {
                $crate::client::with_busybox($crate::client::Client::Docker, super::$case);
            })*
        }
    };
}
