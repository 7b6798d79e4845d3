//! `conex exec`: runs a command in a running container and stays connected to it.
//!
//! Three round trips: create; start, which becomes the connection; inspect, for the exit code.

use std::process::ExitCode;

use conex_api::exec::{CreateRequest, Created, Inspect, StartRequest};
use conex_client::{Client, segment};

use super::session::{End, Session, Streams};
use super::{attach, options, signal, terminal};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Runs a command in a running container.
pub static COMMAND: Command = Command {
    about: "Execute a command in a running container",
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    spellings: &["container exec", "exec"],
    flags: &[FLAGS],
    args: Args::AtLeast(2),
    interspersed: false,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("detach", "Detached mode: run command in the background").short('d'),
    Flag::string(
        "detach-keys",
        "Override the key sequence for detaching a container",
    ),
    Flag::checked_list(
        "env",
        "list",
        options::check_env,
        "Set environment variables",
    )
    .short('e'),
    Flag::list("env-file", "Read in a file of environment variables"),
    Flag::bool("interactive", "Keep STDIN open even if not attached").short('i'),
    Flag::bool("privileged", "Give extended privileges to the command"),
    Flag::bool("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::string(
        "user",
        "Username or UID (format: \"<name|uid>[:<group|gid>]\")",
    )
    .short('u'),
    Flag::string("workdir", "Working directory inside the container").short('w'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let mut request = request(matches)?;
    if request.tty && request.attach_stdin && !terminal::stdin_is_terminal() {
        return Err(CliError::message("the input device is not a TTY"));
    }
    let client = Client::clone(&*ctx.client()?);
    let keys = attach::detach_keys(ctx, matches);
    request.detach_keys.clone_from(&keys);
    let size = terminal::size();
    if request.tty && size != [0, 0] {
        request.console_size = Some(size);
    }
    let container = &matches.args()[0];
    let runtime = ctx.runtime();
    runtime.block_on(exec(&client, container, &request, matches.bool("detach")))
}

/// What the flags and arguments ask for.
fn request(matches: &Matches) -> Result<CreateRequest, CliError> {
    let stays = !matches.bool("detach");
    let variables = options::variables(matches)?;
    Ok(CreateRequest {
        user: matches.str("user").to_owned(),
        privileged: matches.bool("privileged"),
        tty: matches.bool("tty"),
        console_size: None,
        attach_stdin: stays && matches.bool("interactive"),
        attach_stderr: stays,
        attach_stdout: stays,
        detach_keys: String::new(),
        env: Some(variables).filter(|variables| !variables.is_empty()),
        working_dir: matches.str("workdir").to_owned(),
        cmd: Some(matches.args()[1..].to_vec()),
    })
}

async fn exec(
    client: &Client,
    container: &str,
    request: &CreateRequest,
    detach: bool,
) -> Result<ExitCode, CliError> {
    let create = format!("/containers/{}/exec", segment(container));
    let Created { id } = client.post_json(&create, Some(request)).await?;
    let path = format!("/exec/{}", segment(&id));
    let start = StartRequest {
        detach,
        tty: request.tty,
        console_size: request.console_size,
    };
    if detach {
        client
            .post_discard(&format!("{path}/start"), &start)
            .await?;
        return Ok(ExitCode::SUCCESS);
    }
    let streams = Streams {
        stdin: request.attach_stdin,
        output: true,
        tty: request.tty,
        detach_keys: request.detach_keys.clone(),
    };
    let connection = client
        .hijack(&format!("{path}/start"), Some(&start))
        .await?;
    let session = Session::begin(connection, &streams)?;
    if request.tty && terminal::stdout_is_terminal() {
        signal::follow_size_of(client.clone(), path.clone());
    }
    if session.end().await? == End::Detached {
        // Unlike after `run` and `start`, leaving counts as a failure: so it does in Docker.
        return Err(CliError::message("read escape sequence"));
    }
    let ended: Inspect = client.get_json(&format!("{path}/json")).await?;
    if ended.running {
        // Its connection ends with it, unless whoever held that was killed.
        return Err(CliError::message("the connection to the command was lost"));
    }
    // A process has eight bits for its exit code.
    let code = ended.exit_code.unwrap_or_default() & 0xff;
    Ok(ExitCode::from(code as u8))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::flag::parse;

    fn of(words: &[&str]) -> CreateRequest {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        request(&parse(&[FLAGS], &words, false).unwrap()).unwrap()
    }

    #[test]
    fn only_a_client_that_stays_is_attached() {
        let request = of(&["-it", "c", "sh", "-l"]);
        assert_eq!(request.cmd.as_deref().unwrap(), ["sh", "-l"]);
        assert!(request.tty && request.attach_stdin && request.attach_stdout);
        let request = of(&["-dit", "c", "sh"]);
        assert!(request.tty && !request.attach_stdin);
        assert!(!request.attach_stdout && !request.attach_stderr);
        assert!(!of(&["c", "sh"]).attach_stdin);
    }

    #[test]
    fn flags_become_the_request() {
        let request = of(&[
            "-e",
            "A=b",
            "-u",
            "1:2",
            "-w",
            "/tmp",
            "--privileged",
            "c",
            "env",
            "-e",
            "X=y",
        ]);
        assert_eq!(request.env.unwrap(), ["A=b"]);
        assert_eq!(request.cmd.unwrap(), ["env", "-e", "X=y"]);
        assert_eq!(
            (request.user.as_str(), request.working_dir.as_str()),
            ("1:2", "/tmp")
        );
        assert!(request.privileged);
    }
}
