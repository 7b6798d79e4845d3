//! `conex man DIRECTORY`: writes the manual pages, for `make man` and packagers.

use std::path::Path;
use std::process::ExitCode;

use super::{Args, Command, GLOBAL_FLAGS, ROOT};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;
use crate::man;

/// Writes the manual pages.
pub static COMMAND: Command = Command {
    about: "Write the manual pages into a directory",
    usage: "DIRECTORY",
    spellings: &[],
    flags: &[],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let directory = Path::new(&matches.args()[0]);
    std::fs::create_dir_all(directory).map_err(|error| CliError::open(directory, error))?;
    for (name, text) in man::pages(&ctx.program, ROOT, GLOBAL_FLAGS) {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|error| CliError::open(path, error))?;
    }
    Ok(ExitCode::SUCCESS)
}
