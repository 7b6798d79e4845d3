//! `conex start`: starts containers, and connects to one if asked to.

use std::io::Write;
use std::process::ExitCode;

use conex_api::container::Inspect;
use conex_client::{Client, segment};

use super::session::{End, Session, Streams};
use super::signal::{self, Forwarding};
use super::{attach, terminal, wait};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Starts containers.
pub static COMMAND: Command = Command {
    about: "Start one or more stopped containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    spellings: &["container start", "start"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
    Flag::string(
        "detach-keys",
        "Override the key sequence for detaching a container",
    ),
    Flag::bool("interactive", "Attach container's STDIN").short('i'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let attaches = matches.bool("attach") || matches.bool("interactive");
    if attaches && matches.args().len() > 1 {
        return Err(CliError::message(
            "you cannot start and attach multiple containers at once",
        ));
    }
    let client = Client::clone(&*ctx.client()?);
    let runtime = ctx.runtime();
    if attaches {
        runtime.block_on(start_attached(ctx, &client, matches))
    } else {
        runtime.block_on(start_all(ctx, &client, matches.args()))
    }
}

fn start_path(container: &str) -> String {
    format!("/containers/{}/start", segment(container))
}

/// Starts one container after the other; a later one may need an earlier one.
async fn start_all(
    ctx: &mut Context,
    client: &Client,
    names: &[String],
) -> Result<ExitCode, CliError> {
    let mut failed = Vec::new();
    for name in names {
        match client.post_empty(&start_path(name)).await {
            Ok(()) => writeln!(ctx.out, "{name}")?,
            Err(error) => {
                let text = CliError::from(error).text().unwrap_or_default();
                writeln!(ctx.err, "{text}")?;
                failed.push(name.as_str());
            }
        }
        ctx.out.flush()?;
        ctx.err.flush()?;
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::message(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}

async fn start_attached(
    ctx: &Context,
    client: &Client,
    matches: &Matches,
) -> Result<ExitCode, CliError> {
    let name = &matches.args()[0];
    let container: Inspect = client
        .get_json(&format!("/containers/{}/json", segment(name)))
        .await?;
    let (id, tty) = (&container.id, container.config.tty);
    let mut forwarding = if tty {
        Forwarding::none()
    } else {
        signal::forward_all(client.clone(), id.clone(), tty)
    };
    let streams = Streams {
        stdin: matches.bool("interactive") && container.config.open_stdin,
        output: true,
        tty,
        detach_keys: attach::detach_keys(ctx, matches),
    };
    let removed_on_exit = container.host_config.auto_remove;
    let condition = if removed_on_exit {
        "removed"
    } else {
        "next-exit"
    };
    let attach_path = attach::path(id, &streams, true, true);
    let wait_path = wait::path(id, condition);
    let (connection, waiting) = tokio::join!(
        client.hijack::<()>(&attach_path, None),
        client.post_answer(&wait_path),
    );
    let (connection, waiting) = (connection?, waiting?);
    let session = Session::begin(connection, &streams)?;
    if let Err(error) = client.post_empty(&start_path(id)).await {
        drop(session);
        if removed_on_exit {
            wait::exit_code(waiting).await.ok();
        }
        return Err(error.into());
    }
    if tty && terminal::stdout_is_terminal() {
        signal::follow_size(client.clone(), id.clone());
    }
    if forwarding.unless_forced(session.end()).await? == End::Detached {
        return Ok(ExitCode::SUCCESS);
    }
    forwarding.unless_forced(wait::exit_code(waiting)).await
}
