//! `conex completion …`: the script that makes a shell complete our command lines.
//!
//! The scripts know no command: they ask the program itself (`__complete`).

use std::io::Write;
use std::process::ExitCode;

use super::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// `conex completion bash`.
pub static BASH: Command = Command {
    about: "Generate the autocompletion script for bash",
    ..command(bash)
};
/// `conex completion fish`.
pub static FISH: Command = Command {
    about: "Generate the autocompletion script for fish",
    ..command(fish)
};
/// `conex completion powershell`.
pub static POWERSHELL: Command = Command {
    about: "Generate the autocompletion script for powershell",
    ..command(powershell)
};
/// `conex completion zsh`.
pub static ZSH: Command = Command {
    about: "Generate the autocompletion script for zsh",
    ..command(zsh)
};

const fn command(run: super::Run) -> Command {
    Command {
        about: "",
        usage: "",
        spellings: &[],
        flags: &[],
        args: Args::None,
        interspersed: true,
        run,
    }
}

fn bash(ctx: &mut Context, _: &Matches) -> Result<ExitCode, CliError> {
    print(ctx, include_str!("completion/conex.bash"))
}

fn fish(ctx: &mut Context, _: &Matches) -> Result<ExitCode, CliError> {
    print(ctx, include_str!("completion/conex.fish"))
}

fn powershell(ctx: &mut Context, _: &Matches) -> Result<ExitCode, CliError> {
    print(ctx, include_str!("completion/conex.ps1"))
}

fn zsh(ctx: &mut Context, _: &Matches) -> Result<ExitCode, CliError> {
    print(ctx, include_str!("completion/conex.zsh"))
}

/// The script for the name we go by.
fn print(ctx: &mut Context, script: &str) -> Result<ExitCode, CliError> {
    let script = script.replace("@PROGRAM@", &ctx.program);
    ctx.out.write_all(script.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
