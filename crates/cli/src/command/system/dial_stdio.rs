//! `conex system dial-stdio`: the engine's connection on standard input and
//! output, for a client at the other end of ssh.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Passes bytes to and from the engine.
pub static COMMAND: Command = Command {
    about: "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
    usage: "",
    spellings: &[],
    flags: &[],
    args: Args::None,
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, _: &Matches) -> Result<ExitCode, CliError> {
    // The engine is there, or is started, before the other end says anything.
    let client = ctx.client()?;
    let (mut from, mut to) = ctx.block_on(conex_client::dial(client.host()))?;
    // Ends with the process: the engine may close while nothing is typed.
    std::thread::spawn(move || {
        let copied = copy(&mut io::stdin().lock(), &mut to);
        let _gone = copied.and_then(|()| to.close()).is_err();
    });
    copy(&mut from, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// Passes on each piece at once, until the end.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
