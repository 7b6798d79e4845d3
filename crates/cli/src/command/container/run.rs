//! `conex run`: creates a container, starts it and stays connected to it.
//!
//! Three round trips one after the other: create; attach and wait side by side; start.

use std::io::Write;
use std::process::ExitCode;

use conex_api::container::CreateRequest;
use conex_client::{Client, segment};

use super::create::{self, check_pull};
use super::options::{self, flags};
use super::session::{End, Session, Streams};
use super::signal::{self, Forwarding};
use super::{attach, terminal, wait};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::{CliError, EXIT_STATUS};
use crate::flag::{Flag, Matches};

/// Creates and runs a container.
pub static COMMAND: Command = Command {
    about: "Create and run a new container from an image",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    spellings: &["container run", "run"],
    flags: FLAGS,
    args: Args::AtLeast(1),
    interspersed: false,
    run,
};

const FLAGS: &[&[Flag]] = &[flags::RUN, flags::AROUND, flags::REQUEST];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let usage = |text: &str| CliError::with_help(matches, EXIT_STATUS, text);
    check_pull(matches.str("pull")).map_err(|text| usage(&text))?;
    let mut request = options::create_request(matches)
        .map_err(|error| usage(&error.text().unwrap_or_default()))?;
    let config = &mut request.config;
    if matches.bool("detach") {
        if matches.is_set("attach") {
            return Err(CliError::message(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        config.attach_stdin = false;
        config.attach_stdout = false;
        config.attach_stderr = false;
        config.stdin_once = false;
    } else if config.attach_stdin && config.tty && !terminal::stdin_is_terminal() {
        return Err(CliError::message("the input device is not a TTY"));
    }

    let client = ctx
        .client()
        .map_err(|error| usage(&error.text().unwrap_or_default()))?;
    let client = Client::clone(&client);
    let runtime = ctx.runtime();
    runtime.block_on(create_and_start(ctx, &client, matches, request))
}

async fn create_and_start(
    ctx: &mut Context,
    client: &Client,
    matches: &Matches,
    mut request: CreateRequest,
) -> Result<ExitCode, CliError> {
    let refused = |error: CliError| refusal(matches, &error);
    let id = create::create(ctx, client, matches, &mut request)
        .await
        .map_err(refused)?;
    let config = &request.config;
    let attaches_output = config.attach_stdout || config.attach_stderr;
    if !attaches_output {
        writeln!(ctx.out, "{id}")?;
    }
    ctx.err.flush()?;
    let start = format!("/containers/{}/start", segment(&id));
    if !attaches_output && !config.attach_stdin {
        client
            .post_empty(&start)
            .await
            .map_err(|error| refused(error.into()))?;
        return Ok(ExitCode::SUCCESS);
    }

    let mut forwarding = if matches.bool("sig-proxy") {
        signal::forward_all(client.clone(), id.clone(), config.tty)
    } else {
        Forwarding::none()
    };
    let streams = Streams {
        stdin: config.attach_stdin,
        output: attaches_output,
        tty: config.tty,
        detach_keys: attach::detach_keys(ctx, matches),
    };
    let path = attach::path(&id, &streams, config.attach_stdout, config.attach_stderr);
    let condition = if request.host_config.auto_remove {
        "removed"
    } else {
        "next-exit"
    };
    let wait_path = wait::path(&id, condition);
    let (connection, waiting) = tokio::join!(
        client.hijack::<()>(&path, None),
        client.post_answer(&wait_path),
    );
    let (connection, waiting) = (connection?, waiting?);
    ctx.out.flush()?;
    let session = Session::begin(connection, &streams)?;

    if let Err(error) = client.post_empty(&start).await {
        drop(session);
        if request.host_config.auto_remove {
            // The name is free again when this command returns.
            wait::exit_code(waiting).await.ok();
        }
        return Err(refused(error.into()));
    }
    if config.tty && terminal::stdout_is_terminal() {
        signal::follow_size(client.clone(), id.clone());
    }
    if forwarding.unless_forced(session.end()).await? == End::Detached || !attaches_output {
        return Ok(ExitCode::SUCCESS);
    }
    forwarding.unless_forced(wait::exit_code(waiting)).await
}

/// A failure of `run` itself: Docker's exit codes, told apart by the engine's words.
fn refusal(matches: &Matches, error: &CliError) -> CliError {
    let Some(text) = error.text() else {
        return CliError::silent(error.exit_code());
    };
    CliError::with_help(matches, exit_code_for(&text), &text)
}

/// 127 for a command that does not exist, 126 for one that cannot be run, 125 for the rest.
fn exit_code_for(text: &str) -> u8 {
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if says(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        EXIT_STATUS
    }
}

#[cfg(test)]
mod tests;
