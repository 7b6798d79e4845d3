//! One call per container for commands that take several names: all are tried, failures told last.

use std::io::Write;
use std::process::ExitCode;

use conex_client::{Client, Error};
use futures_util::StreamExt;

use crate::context::Context;
use crate::error::CliError;

/// How many calls are under way at once.
const AT_ONCE: usize = 50;

/// Calls the engine for every name, prints the names that succeeded in order, and the errors.
///
/// `tolerated` errors are printed but leave the exit code 0.
pub(super) fn each<F>(
    ctx: &mut Context,
    names: &[String],
    call: impl Fn(Client, String) -> F,
    tolerated: impl Fn(&Error) -> bool,
) -> Result<ExitCode, CliError>
where
    F: Future<Output = Result<(), Error>>,
{
    let client = Client::clone(&*ctx.client()?);
    let runtime = ctx.runtime();
    runtime.block_on(async {
        let calls =
            futures_util::stream::iter(names).map(|name| call(client.clone(), name.clone()));
        let mut results = futures_util::stream::iter(names).zip(calls.buffered(AT_ONCE));
        let mut errors = Vec::new();
        while let Some((name, result)) = results.next().await {
            match result {
                Ok(()) => {
                    writeln!(ctx.out, "{name}")?;
                    ctx.out.flush()?;
                }
                Err(error) if tolerated(&error) => writeln!(ctx.err, "{error}")?,
                Err(error) => errors.push(CliError::from(error)),
            }
        }
        report(errors)
    })
}

/// Success, or every error on a line of its own.
pub(super) fn report(errors: Vec<CliError>) -> Result<ExitCode, CliError> {
    let texts: Vec<String> = errors.iter().filter_map(CliError::text).collect();
    if errors.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(CliError::message(texts.join("\n")))
    }
}
