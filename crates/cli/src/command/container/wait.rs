//! `conex wait`: prints how containers end; and the waiting of other commands.

use std::io::Write;
use std::process::ExitCode;

use conex_api::container::WaitResponse;
use conex_client::{Answer, Client, query, segment};

use super::several::report;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::{CliError, EXIT_STATUS};
use crate::flag::Matches;

/// Waits for containers to stop.
pub static COMMAND: Command = Command {
    about: "Block until one or more containers stop, then print their exit codes",
    usage: "CONTAINER [CONTAINER...]",
    spellings: &["container wait", "wait"],
    flags: &[],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let client = Client::clone(&*ctx.client()?);
    let runtime = ctx.runtime();
    let mut errors = Vec::new();
    // One after the other: the codes come out in the order of the names.
    for name in matches.args() {
        let waited = runtime.block_on(client.post_json::<(), WaitResponse>(&path(name, ""), None));
        match waited {
            Ok(end) => {
                writeln!(ctx.out, "{}", end.status_code)?;
                ctx.out.flush()?;
            }
            Err(error) => errors.push(error.into()),
        }
    }
    report(errors)
}

/// The call that waits for a container; an empty condition means "does not run".
pub(super) fn path(container: &str, condition: &str) -> String {
    let pairs = [("condition", condition)];
    let pairs = if condition.is_empty() {
        &[]
    } else {
        &pairs[..]
    };
    format!("/containers/{}/wait{}", segment(container), query(pairs))
}

/// The exit code a wait that was begun earlier comes to; 125 when waiting itself fails.
pub(super) async fn exit_code(waiting: Answer) -> Result<ExitCode, CliError> {
    let failed = |text: String| CliError::Status {
        code: EXIT_STATUS,
        text,
    };
    let end: WaitResponse = waiting
        .json()
        .await
        .map_err(|error| failed(format!("error waiting for container: {error}")))?;
    match end.error {
        Some(error) => Err(failed(format!(
            "Error waiting for container: {}",
            error.message
        ))),
        // A process has eight bits for its exit code.
        None => Ok(ExitCode::from((end.status_code & 0xff) as u8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_left_out_when_it_is_the_default() {
        assert_eq!(path("x", ""), "/containers/x/wait");
        assert_eq!(path("x", "removed"), "/containers/x/wait?condition=removed");
    }
}
