//! `conex attach`: connects to a running container.

use std::process::ExitCode;

use conex_api::container::Inspect;
use conex_client::{Client, query, segment};

use super::session::{End, Session, Streams};
use super::signal::{self, Forwarding};
use super::{terminal, wait};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Connects to a running container.
pub static COMMAND: Command = Command {
    about: "Attach local standard input, output, and error streams to a running container",
    usage: "[OPTIONS] CONTAINER",
    spellings: &["container attach", "attach"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string(
        "detach-keys",
        "Override the key sequence for detaching a container",
    ),
    Flag::bool("no-stdin", "Do not attach STDIN"),
    Flag::bool("sig-proxy", "Proxy all received signals to the process").default("true"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let client = Client::clone(&*ctx.client()?);
    let runtime = ctx.runtime();
    runtime.block_on(attach(ctx, &client, matches))
}

async fn attach(ctx: &Context, client: &Client, matches: &Matches) -> Result<ExitCode, CliError> {
    let name = matches.args()[0].as_str();
    let inspect = format!("/containers/{}/json", segment(name));
    // Waiting begins first: a container that ends meanwhile still has its exit code told.
    let wait_path = wait::path(name, "");
    let (waiting, container) = tokio::join!(
        client.post_answer(&wait_path),
        client.get_json::<Inspect>(&inspect),
    );
    let container = container?;
    let waiting = waiting?;
    check_state(&container)?;
    let tty = container.config.tty;
    if tty && !matches.bool("no-stdin") && !terminal::stdin_is_terminal() {
        return Err(CliError::message("the input device is not a TTY"));
    }
    let streams = Streams {
        stdin: !matches.bool("no-stdin") && container.config.open_stdin,
        output: true,
        tty,
        detach_keys: detach_keys(ctx, matches),
    };
    let mut forwarding = if matches.bool("sig-proxy") && !tty {
        signal::forward_all(client.clone(), container.id.clone(), tty)
    } else {
        Forwarding::none()
    };
    let connection = client
        .hijack::<()>(&path(&container.id, &streams, true, true), None)
        .await?;
    // It may have ended between the first look and the connection, which would then never speak.
    check_state(&client.get_json::<Inspect>(&inspect).await?)?;
    if tty && terminal::stdout_is_terminal() {
        // A terminal of another size makes the program draw its screen again.
        let [rows, columns] = terminal::size();
        signal::resize(client, &container.id, rows + 1, columns + 1).await;
        signal::follow_size(client.clone(), container.id.clone());
    }
    let session = Session::begin(connection, &streams)?;
    if forwarding.unless_forced(session.end()).await? == End::Detached {
        // Unlike after `run` and `start`, leaving counts as a failure: so it does in Docker.
        return Err(CliError::message("read escape sequence"));
    }
    forwarding.unless_forced(wait::exit_code(waiting)).await
}

fn check_state(container: &Inspect) -> Result<(), CliError> {
    let state = &container.state;
    let reason = if !state.running {
        "You cannot attach to a stopped container, start it first"
    } else if state.paused {
        "You cannot attach to a paused container, unpause it first"
    } else if state.restarting {
        "You cannot attach to a restarting container, wait until it is running"
    } else {
        return Ok(());
    };
    Err(CliError::message(reason))
}

/// `--detach-keys`, else the settings'; empty means the default.
pub(super) fn detach_keys(ctx: &Context, matches: &Matches) -> String {
    match matches.str("detach-keys") {
        "" => ctx.config().detach_keys.clone(),
        given => given.to_owned(),
    }
}

/// The call that connects to a container's streams.
pub(super) fn path(container: &str, streams: &Streams, stdout: bool, stderr: bool) -> String {
    let mut pairs = vec![("stream", "1")];
    for (wanted, stream) in [
        (streams.stdin, "stdin"),
        (stdout, "stdout"),
        (stderr, "stderr"),
    ] {
        if wanted {
            pairs.push((stream, "1"));
        }
    }
    if !streams.detach_keys.is_empty() {
        pairs.push(("detachKeys", &streams.detach_keys));
    }
    format!("/containers/{}/attach{}", segment(container), query(&pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_streams_are_asked_for() {
        let streams = Streams {
            stdin: true,
            detach_keys: "ctrl-a,b".into(),
            ..Streams::default()
        };
        assert_eq!(
            path("a b", &streams, true, false),
            "/containers/a%20b/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a%2Cb"
        );
        assert_eq!(
            path("x", &Streams::default(), false, true),
            "/containers/x/attach?stream=1&stderr=1"
        );
    }

    #[test]
    fn only_a_running_container_can_be_attached_to() {
        let mut container = Inspect::default();
        let text = |c: &Inspect| check_state(c).err().and_then(|e| e.text());
        assert_eq!(
            text(&container).as_deref(),
            Some("You cannot attach to a stopped container, start it first")
        );
        container.state.running = true;
        assert_eq!(text(&container), None);
        container.state.paused = true;
        assert_eq!(
            text(&container).as_deref(),
            Some("You cannot attach to a paused container, unpause it first")
        );
    }
}
